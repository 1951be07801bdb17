"""Damage that the user marked in a Labels or Shapes layer, as a mask of an Image layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import InputError


def type_of(layer: Any) -> str:
    """The kind of a layer, in lower case: "image", "labels", ...; subclasses count as their parent."""
    names = [kind.__name__.lower() for kind in type(layer).__mro__ if kind.__module__.startswith("napari.layers")]
    return next((name for name in names if name in ("image", "labels", "shapes")), names[0] if names else "none")


def damage_mask(mask_layer: Any, layer: Any, axes: str) -> NDArray[np.bool_]:
    """True where a Labels or Shapes layer marks an Image layer.

    Parameters
    ----------
    mask_layer : napari.layers.Labels or napari.layers.Shapes
        Labels count where they are not zero, shapes inside; a mask of fewer dimensions counts in every plane.
    layer : napari.layers.Image
        The layer whose pixels are marked.
    axes : str
        A letter for each dimension of `layer`, without ``S``.

    Returns
    -------
    ndarray of bool
        In the shape of the layer's data, without the colour samples; not a view of the mask layer.

    Raises
    ------
    InputError
        The mask layer is of another kind, or its shape does not fit.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    shape = tuple(data.shape[: layer.ndim])
    kind = type_of(mask_layer)
    if kind == "labels":
        labels = np.asarray(mask_layer.data[0] if mask_layer.multiscale else mask_layer.data)
        missing = len(shape) - labels.ndim
        if missing > 0 and labels.shape == shape[missing:]:  # one mask for all planes
            labels = np.broadcast_to(labels, shape)
        if labels.shape == shape:
            return np.asarray(labels != 0)
        raise InputError(
            f"The Labels layer {mask_layer.name!r} has shape {labels.shape}.",
            f"A mask for the layer {layer.name!r} must have its shape, {shape}, or that of its last dimensions.",
            f"Select {layer.name!r}, make a new Labels layer (it takes the shape) and mark the damage there.",
        )
    if kind == "shapes":
        return _inside_shapes(mask_layer, layer, axes, shape)
    raise InputError(
        f"The damage layer {mask_layer.name!r} is a {type(mask_layer).__name__} layer.",
        "Damage is marked in a Labels layer (not zero) or a Shapes layer (inside).",
        "Choose such a layer, or none.",
    )


def _inside_shapes(shapes: Any, layer: Any, axes: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """True inside the shapes; those of a 2D Shapes layer count in every plane."""
    from napari.layers import Shapes

    inside = np.zeros(shape, dtype=bool)
    plane = (axes.index("Y"), axes.index("X"))
    plane_shape = (shape[plane[0]], shape[plane[1]])
    first = layer.ndim - shapes.ndim
    for vertices, kind in zip(shapes.data, shapes.shape_type, strict=True):
        there = np.array([layer.world_to_data(shapes.data_to_world(vertex)) for vertex in vertices])
        drawn = Shapes([there[:, plane]], shape_type=str(kind)).to_masks(mask_shape=plane_shape)[0]
        index: tuple[int | slice, ...] = tuple(
            slice(None) if d in plane or d < first else round(float(there[0, d])) for d in range(len(shape))
        )
        if all(isinstance(item, slice) or 0 <= item < shape[d] for d, item in enumerate(index)):
            inside[index] |= drawn if plane[0] < plane[1] else drawn.T
    return inside
