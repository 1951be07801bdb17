"""A napari layer as an `Image`: what is restored of it, where it lies and how it looks."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import Cancelled, InputError
from napari_vae_repair.image.axes import axes_letters
from napari_vae_repair.image.record import Image
from napari_vae_repair.plugin.damage_mask import damage_mask, type_of

LayerData = tuple[Any, dict[str, Any], str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One layer as it was when the restoration began; nothing the user does afterwards changes it.

    Attributes
    ----------
    data : array-like
        Full resolution. Of an array in memory a copy of what is restored; a lazy one (dask, zarr, memory map)
        as it is.
    index : tuple of int or slice
        What of the layer's data is restored: everything, or one plane.
    axes : str
        Letters of what is restored, as in `Image`.
    mask : ndarray of bool or None
        True = damaged, in the shape of what is restored, without ``S``.
    name : str
        The layer's name.
    pixel_size_um : dict of str to float
        Physical step along an axis letter where the layer's unit is a length.
    space : dict
        ``scale``, ``translate``, ``rotate``, ``shear``, ``affine``, ``units`` and ``axis_labels`` for the
        dimensions that are left.
    look : dict
        ``colormap``, ``gamma``, ``blending`` and ``contrast_limits`` of the layer.
    dtype : str
        Of the layer's values, such as "uint16"; kept without the pixels.
    levels : tuple of tuple of int
        Shapes of the lower levels of a multiscale layer, of what is restored, without ``S``.
    file : Path or None
        That the layer was opened from.
    """

    data: Any
    index: tuple[int | slice, ...]
    axes: str
    mask: NDArray[np.bool_] | None
    name: str
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    space: dict[str, Any] = field(default_factory=dict)
    look: dict[str, Any] = field(default_factory=dict)
    dtype: str = ""
    levels: tuple[tuple[int, ...], ...] = ()
    file: Path | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is restored."""
        if in_memory(self.data):
            return tuple(self.data.shape)
        index = (*self.index, *[slice(None)] * (len(self.data.shape) - len(self.index)))
        sides = zip(index, self.data.shape, strict=True)
        return tuple(len(range(*item.indices(int(n)))) for item, n in sides if isinstance(item, slice))

    def read(self, should_stop: Callable[[], bool] = lambda: False) -> Image:
        """The image with its pixels in memory; dask and files are read here, plane by plane.

        Raises
        ------
        InputError
            For pixels that cannot be restored (see `Image`).
        Cancelled
            When `should_stop` turns true between two planes.
        """
        pixels = self.pixels(should_stop)
        return Image(pixels, self.axes, mask=self.mask, name=self.name, pixel_size_um=self.pixel_size_um)

    def pixels(self, should_stop: Callable[[], bool] = lambda: False) -> NDArray[np.generic]:
        """The values in memory, unchecked; `Cancelled` when `should_stop` turns true between two planes."""
        if in_memory(self.data):
            return np.asarray(self.data)
        return _read_planes(self.data[self.index], self.axes, should_stop)

    def fingerprint(self) -> int:
        """CRC-32 of values that are in memory: the same number for the same pixels."""
        return fingerprint(np.asarray(self.data))

    def without_pixels(self) -> Snapshot:
        """The same record without its pixels and mask: enough to place the results."""
        return replace(self, data=None, mask=None)


def take_snapshot(layer: Any, *, mask_layer: Any = None, plane_at: Sequence[float] | None = None) -> Snapshot:
    """What a restoration needs of an Image layer, independent of the layer from now on.

    Parameters
    ----------
    layer : napari.layers.Image
        2D or a stack, RGB or not, multiscale (the full resolution is taken) or not.
    mask_layer : napari.layers.Labels or napari.layers.Shapes, optional
        Where it is not zero, or inside its shapes, the image is damaged.
    plane_at : sequence of float, optional
        A point in world coordinates; only the plane (Y, X) through it is restored. None = everything.

    Raises
    ------
    InputError
        When the layer is no Image layer, or the mask layer is of another kind or shape.
    """
    if type_of(layer) != "image":
        raise InputError(
            f"The layer {layer.name!r} is a {type(layer).__name__} layer.",
            "Image layers can be restored.",
            "Choose an Image layer (Labels, Points and Shapes hold no measured values).",
        )
    data = layer.data[0] if layer.multiscale else layer.data
    index, axes = chosen_part(layer, plane_at)
    kept = [d for d, item in enumerate(index) if isinstance(item, slice)]
    if in_memory(data):
        data = np.array(data[index])  # the user may write into the layer's array while the worker reads
    return Snapshot(
        data=data,
        index=index,
        axes="".join(axes[d] for d in kept) + ("S" if layer.rgb else ""),
        mask=None if mask_layer is None else damage_mask(mask_layer, layer, axes)[index],
        name=str(layer.name),
        pixel_size_um=lengths_um(
            [layer.scale[d] for d in kept], [layer.units[d] for d in kept], "".join(axes[d] for d in kept)
        ),
        space=_space(layer, kept),
        look={
            "colormap": layer.colormap.name if layer.rgb else layer.colormap.model_dump(),
            "gamma": float(layer.gamma),
            "blending": str(layer.blending),
            "contrast_limits": [float(limit) for limit in layer.contrast_limits],
        },
        dtype=str(data.dtype),
        levels=tuple(tuple(int(level.shape[d]) for d in kept) for level in layer.data[1:]) if layer.multiscale else (),
        file=Path(layer.source.path) if isinstance(layer.source.path, str | Path) else None,
    )


def chosen_part(layer: Any, plane_at: Sequence[float] | None) -> tuple[tuple[int | slice, ...], str]:
    """What of the layer's data is restored, an entry for each dimension, and the letters of its axes; see above."""
    axes = axes_letters(layer.axis_labels) + ("S" if layer.rgb else "")
    if plane_at is None:
        return (slice(None),) * layer.ndim, axes
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    at = layer.world_to_data(plane_at)
    steps = [int(np.clip(round(float(at[d])), 0, shape[d] - 1)) for d in range(layer.ndim)]
    return tuple(slice(None) if axes[d] in "YX" else steps[d] for d in range(layer.ndim)), axes


def fingerprint(pixels: NDArray[np.generic]) -> int:
    """CRC-32 of the values in C order."""
    return zlib.crc32(np.ascontiguousarray(pixels).view(np.uint8).data)


def in_memory(data: Any) -> bool:
    """Whether reading the values costs nothing; not so for dask, zarr and memory maps."""
    return isinstance(data, np.ndarray) and not isinstance(data, np.memmap)


def _read_planes(data: Any, axes: str, should_stop: Callable[[], bool]) -> NDArray[np.generic]:
    """A lazy array in memory, one entry of its leading dimensions at a time, so that it can be cancelled."""
    leading = len(axes.split("Y")[0].split("X")[0])
    pixels = np.empty(data.shape, dtype=data.dtype)
    for position in np.ndindex(*data.shape[:leading]):
        if should_stop():
            raise Cancelled("read")
        pixels[position] = np.asarray(data[position])
    return pixels


def _space(layer: Any, kept: list[int]) -> dict[str, Any]:
    """Where the kept dimensions of a layer lie, as keywords for a new layer."""
    whole = len(kept) == layer.ndim
    # slicing goes through a decomposition, which would change the last digits of a whole layer's values
    own = layer if whole else _own_transform(layer).set_slice(kept)
    affine = layer.affine if whole else layer.affine.set_slice(kept)
    shear = np.array(own.shear)
    return {
        "scale": np.array(own.scale),
        "translate": np.array(own.translate),
        "rotate": np.array(own.rotate),
        # of a diagonal transform napari tells more zeros than it takes back
        "shear": shear if shear.any() else np.zeros(len(kept) * (len(kept) - 1) // 2),
        "affine": np.array(affine.affine_matrix),
        "units": tuple(layer.units[d] for d in kept),
        "axis_labels": tuple(layer.axis_labels[d] for d in kept),
    }


def _own_transform(layer: Any) -> Any:
    from napari.utils.transforms import Affine

    return Affine(scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear, ndim=layer.ndim)


def lengths_um(scale: Sequence[float], units: Sequence[Any], axes: str) -> dict[str, float]:
    """Micrometres per step for each axis whose unit is a length; units are those of pint or their names."""
    import pint

    registry: Any = pint.get_application_registry()
    sizes = {}
    for axis, step, unit in zip(axes, scale, units, strict=False):
        quantity = registry.Quantity(float(step), str(unit))
        if quantity.check("[length]"):
            sizes[axis] = float(quantity.to("micrometer").magnitude)
    return sizes
