"""Layers to and from the named images of an OME-TIFF: where they lie, how they look, and their provenance."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.axes import axes_letters, default_axes
from napari_vae_repair.image.files import StoredImage
from napari_vae_repair.image.opened import OpenedImage
from napari_vae_repair.image.record import Image
from napari_vae_repair.plugin.layers import METADATA_KEY
from napari_vae_repair.plugin.snapshot import LayerData, Snapshot, lengths_um

_SPACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
_LOOK = ("opacity", "blending", "visible")
_IMAGE_LOOK = ("gamma", "contrast_limits")
_WRITTEN = {*_SPACE, *_LOOK, *_IMAGE_LOOK, "rgb", "colormap"}


def never() -> bool:
    """False, always."""
    return False


def snapshot_of(data: Any, meta: dict[str, Any]) -> Snapshot:
    """A `Snapshot` of an image's layer data tuple, as writers get it; the data are not copied."""
    data = data[0] if meta.get("multiscale") else data
    axes = axes_of(data, meta)
    space = {key: meta[key] for key in _SPACE if meta.get(key) is not None}
    sizes = lengths_um(space["scale"], space["units"], axes) if {"scale", "units"} <= set(space) else {}
    look = {key: meta[key] for key in ("colormap", *_LOOK[1:2], *_IMAGE_LOOK) if meta.get(key) is not None}
    index = (slice(None),) * (len(axes) - axes.endswith("S"))
    return Snapshot(data, index, axes, None, str(meta.get("name", "image")), sizes, space, look, str(data.dtype))


def axes_of(data: Any, meta: dict[str, Any]) -> str:
    """The axes' letters of a layer data tuple, by its labels where it has them, else by its shape."""
    labels = meta.get("axis_labels")
    if labels is None:
        rgb = meta.get("rgb")
        return (
            default_axes(tuple(data.shape)) if rgb is None else axes_letters([""] * (len(data.shape) - rgb)) + "S" * rgb
        )
    return axes_letters(labels) + ("S" if meta.get("rgb") else "")


def to_stored(data: Any, meta: dict[str, Any], kind: str, should_stop: Callable[[], bool] = never) -> StoredImage:
    """An image or labels layer as a named image that `from_stored` turns back into the same layer.

    Raises
    ------
    Cancelled
        When `should_stop` turns true while a lazy array is read.
    """
    snapshot = snapshot_of(data, meta if kind == "image" else meta | {"rgb": False})
    keys = (*_SPACE, *_LOOK, *(_IMAGE_LOOK if kind == "image" else ()))
    layer = {key: _plain(meta[key]) for key in keys if meta.get(key) is not None}
    if kind == "image":
        layer["rgb"] = snapshot.axes.endswith("S")
        if meta.get("colormap") is not None:
            layer["colormap"] = _plain_colormap(meta["colormap"])
    facts = (meta.get("metadata") or {}).get(METADATA_KEY)
    note = {"kind": kind, "layer": layer, "facts": facts}
    return StoredImage(snapshot.name, snapshot.pixels(should_stop), snapshot.axes, snapshot.pixel_size_um, note)


def from_stored(stored: StoredImage) -> LayerData:
    """The layer that a named image of a file is; one that was not written from a layer gets its pixel sizes.

    Raises
    ------
    ImageFileError
        What stands beside the image was not written by `to_stored`.
    """
    if "layer" not in stored.meta:
        image = Image(stored.pixels, stored.axes, name=stored.name, pixel_size_um=stored.pixel_size_um)
        return image_layer(image)
    layer, kind, facts = (stored.meta.get(key) for key in ("layer", "kind", "facts"))
    if not isinstance(layer, dict) or not layer.keys() <= _WRITTEN or kind not in ("image", "labels"):
        raise _not_ours(stored.name)
    if facts is not None and not _are_facts(facts):
        raise _not_ours(stored.name)
    meta = dict(layer) | {"name": stored.name}
    try:
        for key in ("scale", "translate", "rotate", "shear", "affine"):
            if key in meta:
                meta[key] = np.array(meta[key], dtype=float)
    except (TypeError, ValueError) as error:
        raise _not_ours(stored.name) from error
    if facts is not None:
        meta["metadata"] = {METADATA_KEY: facts}
    return stored.pixels, meta, str(kind)


def _are_facts(facts: Any) -> bool:
    """Whether they are a record and, where they tell of a result of ours, name its source and role."""
    named = isinstance(facts, dict) and all(isinstance(facts.get(key), str) for key in ("source", "role"))
    return named or (isinstance(facts, dict) and "role" not in facts)


def _not_ours(name: str) -> ImageFileError:
    return ImageFileError(
        f"The file's note on the layer {name!r} is none of this version.",
        "A note tells of an image or labels, how it lies and how it looks.",
        "Open the file as an image, or save the layers again.",
    )


def image_layer(image: Image) -> LayerData:
    """An image as it comes from a file, as a layer with its pixel sizes, units and axis labels."""
    return image.pixels, _place(image.name, image.axes, image.pixel_size_um), "image"


def lazy_layer(opened: OpenedImage) -> LayerData:
    """An image that stays in its file, as a layer of dask arrays: multiscale where the file holds a pyramid."""
    import dask.array as da

    levels = []
    for level in opened.levels:
        chunks = tuple(min(c, n) for c, n in zip(opened.chunks, level.shape, strict=True))
        levels.append(da.from_array(level, chunks=chunks, name=False))
    meta = _place(opened.name, opened.axes, opened.pixel_size_um) | {"multiscale": len(levels) > 1}
    return levels if len(levels) > 1 else levels[0], meta, "image"


def _place(name: str, axes: str, pixel_size_um: dict[str, float]) -> dict[str, Any]:
    dimensions = axes.replace("S", "")
    meta: dict[str, Any] = {"name": name, "rgb": axes.endswith("S"), "axis_labels": tuple(dimensions.lower())}
    if {"Y", "X"} <= set(pixel_size_um):
        meta["scale"] = [pixel_size_um.get(axis, 1.0) for axis in dimensions]
        meta["units"] = tuple("um" if axis in pixel_size_um else "pixel" for axis in dimensions)
    return meta


def _plain_colormap(colormap: Any) -> Any:
    """A colormap's name, or the colours and controls of its record."""
    record = colormap if isinstance(colormap, dict) else getattr(colormap, "model_dump", lambda: colormap)()
    if not isinstance(record, dict):
        return str(record)
    return {key: _plain(record[key]) for key in ("name", "colors", "controls", "interpolation") if key in record}


def _plain(value: Any) -> Any:
    """A value as JSON holds it: arrays as lists, units and enumerations as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
