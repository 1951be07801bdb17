"""Layer to `Snapshot`, `Restoration` to layers: restored, residual, uncertainty, samples; and their provenance."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.plugin.snapshot import LayerData, Snapshot, take_snapshot

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration

__all__ = [
    "FILLED_KEY",
    "METADATA_KEY",
    "LayerData",
    "Snapshot",
    "add_results",
    "largest_value",
    "layers_of_ours",
    "our_facts",
    "our_layer",
    "percentile_limits",
    "place_layer",
    "provenance",
    "remove_left_over",
    "result_layers",
    "take_snapshot",
    "versions",
]

METADATA_KEY = "napari-vae-repair"
FILLED_KEY = "napari-vae-repair filled"  # its mask is an array, and what lies under METADATA_KEY is for JSON
# what one restoration, and what is derived from it, may add to a viewer
OUR_ROLES = {"samples", "uncertainty", "residual", "segmentation", "filled", "restored", "probability", "cast"}
OUTLINE_PX = 1
RESIDUAL_COLORMAP = "coolwarm"  # diverging: blue below zero, light grey at zero, red above
STD_COLORMAP = "inferno"
LIMIT_PERCENTILE = 99.5
LIMIT_SAMPLE_PX = 1_000_000
_UPDATED = {"scale", "translate", "rotate", "shear", "affine", "units", "axis_labels", "contrast_limits"}


def result_layers(restoration: Restoration, source: Snapshot, source_crc32: int | None = None) -> list[LayerData]:
    """Layers in the order in which they are added: samples, uncertainty, residual, labels, restored on top.

    All but the restored one start hidden, so that its eye button compares it with the source. Its metadata hold, under
    `FILLED_KEY`, where pixels were damaged and filled, if any were; a Labels layer outlines the same pixels. Samples
    have a leading axis "sample" to scrub. Of a multiscale layer all but samples and labels are multiscale, too.
    """
    report, colour = restoration.report, restoration.axes.endswith("S")
    own_limits = source.look.get("contrast_limits")
    limits = own_limits if report.in_source_units and own_limits else percentile_limits(restoration.restored)
    look: dict[str, Any] = {"rgb": colour} | source.look | {"contrast_limits": limits}
    hidden: dict[str, Any] = {"rgb": colour, "visible": False}
    results: list[tuple[str, Any, dict[str, Any], str]] = []
    if restoration.samples is not None:
        stacked = look | _below_axis(source.space, "sample", restoration.damaged.ndim) | {"visible": False}
        results.append(("samples", restoration.samples, stacked, "image"))
    if report.samples > 1:
        spread = {"colormap": STD_COLORMAP, "contrast_limits": [0.0, largest_value(restoration.std)]}
        results.append(("uncertainty", restoration.std, hidden | spread, "image"))
    largest = largest_value(restoration.residual)
    diverging = {"colormap": RESIDUAL_COLORMAP, "contrast_limits": [-largest, largest]}
    results.append(("residual", restoration.residual, hidden | diverging, "image"))
    if restoration.segmentation is not None:
        results.append(("segmentation", restoration.segmentation.astype(np.uint8), {"visible": False}, "labels"))
    filled = {FILLED_KEY: restoration.damaged} if restoration.damaged.any() else {}
    if filled:
        results.append(("filled", restoration.damaged.astype(np.uint8), {"visible": False}, "labels"))
    results.append(("restored", restoration.restored, look, "image"))
    facts = provenance(restoration, source.name) | {"source_crc32": source_crc32, "source_dtype": source.dtype}
    return [
        (
            data,
            {
                "name": f"{source.name} {role}",
                "metadata": {METADATA_KEY: facts | {"role": role}} | (filled if role == "restored" else {}),
                **source.space,
                **meta,
            },
            kind,
        )
        for role, data, meta, kind in (_in_levels(result, source.levels, colour) for result in results)
    ]


def _in_levels(
    result: tuple[str, Any, dict[str, Any], str], levels: tuple[tuple[int, ...], ...], colour: bool
) -> tuple[str, Any, dict[str, Any], str]:
    """A result of a multiscale layer with the layer's own lower levels."""
    role, data, meta, kind = result
    if not levels or kind != "image" or role == "samples":
        return result
    from napari_vae_repair.image.pyramid import pyramid

    shapes = [(*shape, data.shape[-1]) if colour else shape for shape in levels]
    return role, pyramid(data, shapes), meta | {"multiscale": True}, kind


def _below_axis(space: dict[str, Any], label: str, ndim: int) -> dict[str, Any]:
    """The same place for data of one more, leading axis with steps of 1."""

    def widened(matrix: Any) -> NDArray[np.float64]:
        wide = np.eye(len(matrix) + 1)
        wide[1:, 1:] = matrix
        return wide

    wider: dict[str, Callable[[Any], Any]] = {
        "scale": lambda steps: np.array([1.0, *steps]),
        "translate": lambda steps: np.array([0.0, *steps]),
        "rotate": widened,
        "shear": lambda upper: np.array([*[0.0] * ndim, *upper]),
        "affine": widened,
        "units": lambda units: ("pixel", *units),
        "axis_labels": lambda labels: (label, *labels),
    }
    return {key: wider[key](value) for key, value in space.items()}


def provenance(restoration: Restoration, source_name: str) -> dict[str, Any]:
    """Report, settings and versions behind a result, as plain values that JSON can hold."""
    return {
        "source": source_name,
        "report": restoration.report.to_dict(),
        "settings": restoration.settings.model_dump(mode="json"),
        "axes": restoration.axes,
        "in_source_units": bool(restoration.report.in_source_units),
        "inverted_to": str(restoration.report.inverted_to),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of this package, of those that decide about a result, and of Python."""
    names = ("napari-vae-repair", "torch", "scikit-image", "numpy", "napari")
    return {name: _version(name) for name in names} | {"python": platform.python_version()}


def percentile_limits(values: NDArray[np.generic]) -> list[float]:
    """Contrast limits that leave 0.5 % of the values out at either end."""
    low, high = np.nanpercentile(_some(values), [100 - LIMIT_PERCENTILE, LIMIT_PERCENTILE])
    return [float(low), float(high)] if high > low else [float(low), float(low) + 1.0]


def largest_value(values: NDArray[np.generic]) -> float:
    """Absolute value that half a percent exceed; 1 where that is 0 or not finite."""
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
    """Add the results of a restoration to a viewer, each as `place_layer` does; what is left of an earlier one goes."""
    shown = [place_layer(viewer, result) for result in results]
    remove_left_over(viewer, shown)
    return shown


def remove_left_over(viewer: Any, shown: Sequence[Any], *, whole: bool = False) -> None:
    """Remove what a restoration that has now been replaced by these layers had more of.

    Layers of ours of the same source, such as the samples or a probability of an earlier run, would pass for parts of
    the new result: they are removed, unless the user renamed them to keep them. By `whole` these are all that there is
    of a result, of which the user may have removed the restored layer; else only a restored layer tells so.
    """
    facts = [our_facts(layer) or {} for layer in shown]
    if facts and (whole or any(fact["role"] == "restored" for fact in facts)):
        for role in OUR_ROLES - {fact["role"] for fact in facts}:
            layer = our_layer(viewer, facts[0]["source"], role)
            if layer is not None:
                viewer.layers.remove(layer)


def place_layer(viewer: Any, result: LayerData) -> Any:
    """Add a result to a viewer; an earlier one of its source and role that still bears our name takes the new values.

    Such a layer keeps what the user set on it (colormap, visibility, place in the list). A layer of the user's that
    happens to bear a result's name is left alone: napari then numbers ours.
    """
    data, meta, kind = result
    facts = meta["metadata"][METADATA_KEY]
    layer = our_layer(viewer, facts["source"], facts["role"])
    if layer is not None and _takes(layer, data, meta):
        layer.data = data
        for name in _UPDATED & meta.keys():
            if not _is_so(layer, name, meta[name]):  # napari slices and draws anew for each that is set
                setattr(layer, name, meta[name])
    else:
        if layer is not None:  # its kind of image cannot be changed
            viewer.layers.remove(layer)
        layer = getattr(viewer, f"add_{kind}")(data, **meta)
        if facts["role"] == "filled":
            layer.contour = OUTLINE_PX
    layer.metadata = meta["metadata"] | {METADATA_KEY: facts | {"layer_name": layer.name}}
    return layer


def _is_so(layer: Any, name: str, value: Any) -> bool:
    there = getattr(layer, name)
    return np.array_equal(getattr(there, "affine_matrix", there), value)


def _takes(layer: Any, data: Any, meta: dict[str, Any]) -> bool:
    levels = bool(meta.get("multiscale"))
    ndim = (data[0] if levels else data).ndim - bool(meta.get("rgb"))
    same_kind = getattr(layer, "rgb", None) == meta.get("rgb") and getattr(layer, "multiscale", False) == levels
    return bool(same_kind and layer.ndim == ndim)


def our_facts(layer: Any) -> dict[str, Any] | None:
    """The provenance that marks a layer as a result of ours; None for any other layer."""
    facts = layer.metadata.get(METADATA_KEY)
    return facts if isinstance(facts, dict) and "role" in facts else None


def layers_of_ours(viewer: Any, source: str) -> list[LayerData]:
    """What our results of a source hold now, for `add_results` to put back; not those that the user renamed."""
    found = []
    for layer in viewer.layers:
        ours = our_facts(layer)
        if ours and ours.get("layer_name") == layer.name and ours["source"] == source and ours["role"] in OUR_ROLES:
            data, meta, kind = layer.as_layer_data_tuple()
            found.append((data, meta | {"metadata": dict(meta["metadata"])}, kind))  # napari keeps and refills its own
    return found


def our_layer(viewer: Any, source: str, role: str) -> Any:
    """Our result of this source and role, None without one; one that the user renamed to keep it is no longer ours."""
    for layer in viewer.layers:
        ours = our_facts(layer)
        if ours and ours.get("layer_name") == layer.name and (ours["source"], ours["role"]) == (source, role):
            return layer
    return None
