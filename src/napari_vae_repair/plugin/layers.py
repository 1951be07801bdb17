"""Layer to `Snapshot`, `Restoration` to layers: restored, residual, uncertainty, and the provenance that marks them."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.plugin.snapshot import LayerData, Snapshot, take_snapshot

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration

__all__ = [
    "METADATA_KEY",
    "LayerData",
    "Snapshot",
    "add_results",
    "our_facts",
    "percentile_limits",
    "provenance",
    "result_layers",
    "take_snapshot",
]

METADATA_KEY = "napari-vae-repair"
RESIDUAL_COLORMAP = "coolwarm"  # diverging: blue below zero, light grey at zero, red above
STD_COLORMAP = "inferno"
LIMIT_PERCENTILE = 99.5
LIMIT_SAMPLE_PX = 1_000_000
_UPDATED = {"scale", "translate", "rotate", "shear", "affine", "units", "axis_labels", "contrast_limits"}


def result_layers(restoration: Restoration, source: Snapshot, source_crc32: int | None = None) -> list[LayerData]:
    """Layers in the order in which they are added: uncertainty, residual, segmentation, restored on top.

    All but the restored one start hidden, so that its eye button compares it with the source.
    """
    facts = provenance(restoration, source.name) | {"source_crc32": source_crc32}
    colour = restoration.axes.endswith("S")
    kept_limits = restoration.report.in_source_units
    own_limits = source.look.get("contrast_limits")
    limits = own_limits if kept_limits and own_limits else percentile_limits(restoration.restored)
    results: list[tuple[str, Any, dict[str, Any], str]] = []
    if restoration.report.samples > 1:
        look: dict[str, Any] = {"colormap": STD_COLORMAP, "contrast_limits": [0.0, _largest(restoration.std)]}
        results.append(("uncertainty", restoration.std, {"rgb": colour, "visible": False} | look, "image"))
    largest = _largest(restoration.residual)
    look = {"colormap": RESIDUAL_COLORMAP, "contrast_limits": [-largest, largest]}
    results.append(("residual", restoration.residual, {"rgb": colour, "visible": False} | look, "image"))
    if restoration.segmentation is not None:
        results.append(("segmentation", restoration.segmentation.astype(np.uint8), {"visible": False}, "labels"))
    look = {"rgb": colour} | source.look | {"contrast_limits": limits}
    results.append(("restored", restoration.restored, look, "image"))
    return [
        (
            data,
            {
                "name": f"{source.name} {role}",
                "metadata": {METADATA_KEY: facts | {"role": role}},
                **source.space,
                **meta,
            },
            kind,
        )
        for role, data, meta, kind in results
    ]


def provenance(restoration: Restoration, source_name: str) -> dict[str, Any]:
    """Report, settings and versions behind a result, as plain values that JSON can hold."""
    return {
        "source": source_name,
        "report": restoration.report.to_dict(),
        "settings": restoration.settings.model_dump(mode="json"),
        "axes": restoration.axes,
        "in_source_units": bool(restoration.report.in_source_units),
        "inverted_to": str(restoration.report.inverted_to),
        "versions": {name: _version(name) for name in ("napari-vae-repair", "torch", "scikit-image", "numpy", "napari")}
        | {"python": platform.python_version()},
    }


def percentile_limits(values: NDArray[np.generic]) -> list[float]:
    """Contrast limits that leave 0.5 % of the values out at either end."""
    low, high = np.nanpercentile(_some(values), [100 - LIMIT_PERCENTILE, LIMIT_PERCENTILE])
    return [float(low), float(high)] if high > low else [float(low), float(low) + 1.0]


def _largest(values: NDArray[np.generic]) -> float:
    largest = float(np.nanpercentile(np.abs(_some(values)), LIMIT_PERCENTILE))
    return largest if math.isfinite(largest) and largest > 0 else 1.0


def _some(values: NDArray[np.generic]) -> NDArray[np.float64]:
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // LIMIT_SAMPLE_PX)].astype(np.float64)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def add_results(viewer: Any, results: Sequence[LayerData]) -> list[Any]:
    """Add results to a viewer; one of an earlier run that still bears our name for it takes the new values.

    Such a layer keeps what the user set on it (colormap, visibility, place in the list). A layer of the user's that
    happens to bear a result's name is left alone: napari then numbers ours.
    """
    shown = []
    for data, meta, kind in results:
        layer = _earlier(viewer, meta["metadata"][METADATA_KEY])
        if layer is not None and getattr(layer, "rgb", None) == meta.get("rgb") and layer.ndim == len(meta["scale"]):
            layer.data = data
            for name in _UPDATED & meta.keys():
                setattr(layer, name, meta[name])
        else:
            if layer is not None:  # its kind of image cannot be changed
                viewer.layers.remove(layer)
            layer = getattr(viewer, f"add_{kind}")(data, **meta)
        layer.metadata = {METADATA_KEY: meta["metadata"][METADATA_KEY] | {"layer_name": layer.name}}
        shown.append(layer)
    return shown


def our_facts(layer: Any) -> dict[str, Any] | None:
    """The provenance that marks a layer as a result of ours; None for any other layer."""
    facts = layer.metadata.get(METADATA_KEY)
    return facts if isinstance(facts, dict) and "role" in facts else None


def _earlier(viewer: Any, facts: dict[str, Any]) -> Any:
    """Our result of the same source and role, unless the user renamed it to keep it."""
    for layer in viewer.layers:
        ours = our_facts(layer)
        if (
            ours
            and ours.get("layer_name") == layer.name
            and (ours["source"], ours["role"]) == (facts["source"], facts["role"])
        ):
            return layer
    return None
