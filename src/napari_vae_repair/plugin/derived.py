"""Layers derived from a restoration that lies in the viewer: the probability above a threshold, the source's dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import InputError
from napari_vae_repair.plugin.desk import Placed
from napari_vae_repair.plugin.layers import METADATA_KEY, our_facts, provenance
from napari_vae_repair.plugin.snapshot import LayerData

PROBABILITY_COLORMAP = "viridis"


def probability_layer(placed: Placed, threshold: float, values: NDArray[np.float32]) -> LayerData:
    """The layer "NAME probability" of a restoration in the viewer.

    Parameters
    ----------
    placed : Placed
    threshold : float
        Kept in the layer's provenance.
    values : ndarray of float32
        As `probability_above` gives them.
    """
    restoration, source = placed.restoration, placed.source
    assert restoration is not None
    facts = provenance(restoration, source.name) | {"role": "probability", "threshold": threshold}
    meta = {
        "name": f"{source.name} probability",
        "metadata": {METADATA_KEY: facts},
        "rgb": restoration.axes.endswith("S"),
        "colormap": PROBABILITY_COLORMAP,
        "contrast_limits": [0.0, 1.0],
        **source.space,
    }
    return values, meta, "image"


def cast_like_source(restored: Any, dtype: str | None = None) -> tuple[LayerData, int]:
    """A restored layer in the dtype of its source, rounded; clipped only where a value leaves the dtype's range.

    Parameters
    ----------
    restored : napari.layers.Image
        A layer "NAME restored" of ours; never changed.
    dtype : str, optional
        None = the source's, which the layer's provenance remembers.

    Returns
    -------
    LayerData
        "NAME restored DTYPE", in its place and with its look.
    int
        How many values were clipped.

    Raises
    ------
    InputError
        The layer is no restored layer of ours, lies in files, is not in the source's units, or the source's dtype is
        its own or unknown.
    """
    from napari_vae_repair.image.files import to_dtype

    facts = our_facts(restored) or {}
    if facts.get("role") != "restored":
        raise InputError(
            f"The layer {restored.name!r} is not a result of this plugin.",
            "A layer that Restore has added can be cast.",
            "Press Restore, and choose the layer that ends in 'restored'.",
        )
    if "store" in facts:
        raise InputError(
            f"The layer {restored.name!r} lies in files and is larger than memory.",
            "Layers in memory can be cast.",
            "Restore its file with vae-repair restore IN OUT.ome.zarr, which keeps the dtype of the image.",
        )
    if not facts["in_source_units"]:
        raise InputError(
            f"The layer {restored.name!r} is in the units after the step {facts['inverted_to']!r}.",
            "Only values in the units of the source fit its dtype.",
            "Restore with steps that can be undone, such as the preset standard.",
        )
    target = str(dtype or facts.get("source_dtype") or "")
    if target in ("", str(restored.data.dtype)):
        raise InputError(
            f"The source's dtype is {target or 'unknown'}, and the restored layer has {restored.data.dtype}.",
            "There is something to cast where the two differ.",
            "Use the restored layer as it is.",
        )
    _, meta, kind = restored.as_layer_data_tuple()
    levels = [np.asarray(level) for level in (restored.data if restored.multiscale else [restored.data])]
    cast = [to_dtype(level, target) for level in levels]
    clipped = count_clipped(levels[0], cast[0].dtype)
    facts = {key: value for key, value in facts.items() if key != "layer_name"} | {"role": "cast", "clipped": clipped}
    meta = meta | {
        "name": f"{facts['source']} restored {target}",
        "metadata": {METADATA_KEY: facts},
        "visible": True,
    }
    return (cast if restored.multiscale else cast[0], meta, kind), clipped


def count_clipped(values: NDArray[np.generic], dtype: np.dtype[Any]) -> int:
    """How many values `to_dtype` has to change by more than rounding; NaN, which becomes 0, counts."""
    if dtype.kind not in "ui":
        return 0
    limits, whole = np.iinfo(dtype), np.rint(values)
    return int(np.count_nonzero(~((whole >= limits.min) & (whole <= limits.max))))
