"""A part of the plane in view: what a rectangle marks, or what the canvas shows, in pixels of an Image layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import InputError
from napari_vae_repair.image.axes import axes_letters
from napari_vae_repair.image.record import Image
from napari_vae_repair.plugin.damage_mask import type_of
from napari_vae_repair.plugin.snapshot import Snapshot, in_memory

Region = tuple[slice, slice]


def shapes_rectangle(shapes_layer: Any, layer: Any) -> Region:
    """The pixels inside a rectangle; of several shapes the selected one, else the one drawn last.

    Parameters
    ----------
    shapes_layer : napari.layers.Shapes
        Any shape will do; its bounding box counts, which a turned rectangle fills in part.
    layer : napari.layers.Image
        Whose pixels are meant.

    Returns
    -------
    tuple of slice
        Along the two dimensions of the layer's planes in their order, at full resolution; start and stop are set.

    Raises
    ------
    InputError
        It is no Shapes layer, it holds no shape, or the shape lies beside the image.
    """
    if type_of(shapes_layer) != "shapes" or not len(shapes_layer.data):
        raise InputError(
            f"The layer {shapes_layer.name!r} holds no rectangle.",
            "The region is a rectangle in a Shapes layer.",
            f"Select {shapes_layer.name!r}, press R and draw one over {layer.name!r}.",
        )
    selected = sorted(shapes_layer.selected_data)
    vertices = shapes_layer.data[selected[-1] if selected else -1]
    there = np.array([layer.world_to_data(shapes_layer.data_to_world(vertex)) for vertex in vertices])
    corners = there[:, list(_plane(layer))]
    # the middle of pixel i lies at i
    region = _clipped(np.ceil(corners.min(axis=0)), np.floor(corners.max(axis=0)) + 1, layer)
    if region is None:
        raise InputError(
            f"The shape in {shapes_layer.name!r} lies beside the image {layer.name!r}.",
            "It must cover some of its pixels.",
            "Move it over the image, or draw another.",
        )
    return region


def visible_region(viewer: Any, layer: Any) -> Region:
    """The pixels that the canvas shows; the whole plane where that is unknown: before the first draw, and in 3D.

    Parameters
    ----------
    viewer : napari.Viewer
        Which shows the layer. Of a multiscale layer the tile that napari has loaded counts, which can be somewhat
        larger than what is seen.
    layer : napari.layers.Image
        Whose pixels are meant.

    Returns
    -------
    tuple of slice
        As `shapes_rectangle`.

    Raises
    ------
    InputError
        Nothing of the image is in view.
    """
    plane = _plane(layer)
    missing = viewer.dims.ndim - layer.ndim
    displayed = {d - missing for d in viewer.dims.displayed}
    first, last = (np.asarray(corner, dtype=float)[list(plane)] for corner in layer.corner_pixels)
    if viewer.dims.ndisplay != 2 or not layer.corner_pixels.any():
        return _whole(layer)
    stop = last + 1
    if layer.multiscale:
        factors = np.asarray(layer.downsample_factors[layer.data_level])[list(plane)]
        first, stop = np.floor(first * factors), np.ceil(stop * factors)
    whole = _whole(layer)
    for place, d in enumerate(plane):
        if d not in displayed:
            first[place], stop[place] = whole[place].start, whole[place].stop
    region = _clipped(first, stop, layer)
    # beside the image napari tells one of its edges
    if region is None or any(last[i] == first[i] and whole[i].stop > 1 for i in range(2) if plane[i] in displayed):
        raise InputError(
            f"Nothing of the image {layer.name!r} is in view.",
            "Some of its pixels must be.",
            "Press the button Home below the layer list, or pan back to the image.",
        )
    return region


def cropped(image: Image, region: Region) -> Image:
    """The region of an image of one plane."""
    mask = None if image.mask is None else image.mask[region]
    return replace(image, pixels=image.pixels[region], mask=mask)


def cut(plane: Snapshot, region: Region) -> Snapshot:
    """The region of a snapshot of one plane; of a lazy array no more than that is read."""
    mask = None if plane.mask is None else plane.mask[region]
    if in_memory(plane.data):
        return replace(plane, data=plane.data[region], mask=mask)
    parts = iter(region)
    index = tuple(next(parts) if isinstance(item, slice) else item for item in plane.index)
    return replace(plane, index=index, mask=mask)


def moved(space: dict[str, Any], region: Region) -> dict[str, Any]:
    """Where a region lies: `Snapshot.space` of its plane with another `translate`, as keywords for a new layer."""
    from napari.utils.transforms import Affine

    own = Affine(**{name: space[name] for name in ("scale", "translate", "rotate", "shear")}, ndim=2)
    return space | {"translate": np.asarray(own([part.start for part in region]))}


def _plane(layer: Any) -> tuple[int, int]:
    """The dimensions Y and X of a layer, in their order."""
    letters = axes_letters(layer.axis_labels)
    first, second = sorted((letters.index("Y"), letters.index("X")))
    return first, second


def _whole(layer: Any) -> Region:
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    rows, columns = (slice(0, int(shape[d])) for d in _plane(layer))
    return rows, columns


def _clipped(first: NDArray[np.float64], stop: Sequence[float] | NDArray[np.float64], layer: Any) -> Region | None:
    """Within the plane; None where nothing is left."""
    rows, columns = (
        slice(int(np.clip(low, 0, part.stop)), int(np.clip(high, 0, part.stop)))
        for low, high, part in zip(first, stop, _whole(layer), strict=True)
    )
    return (rows, columns) if rows.stop > rows.start and columns.stop > columns.start else None
