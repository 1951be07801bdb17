"""`Image`: the pixels of one layer or file with everything needed to give them back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import InputError
from napari_vae_repair.image.axes import check_axes, spatial_shape

MIN_SIDE_PX = 8
FLOAT32_MAX = float(np.finfo(np.float32).max)
NAMELESS = "image"  # what an array is called

Colours = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Image:
    """One image, unchanged, with its axes and its damage.

    Attributes
    ----------
    pixels : ndarray
        Values in the source's own dtype and units, never written to.
    axes : str
        One letter for each dimension of `pixels`: ``Y`` and ``X`` are required; ``S`` is the
        samples of a colour (3 = RGB, 4 = RGBA) and comes last; ``C`` is the channel; any
        other letter is a stack (``T`` time, ``Z`` depth, ...).
    mask : ndarray of bool or None
        Same shape as `pixels` without ``S``; True = damaged. Pixels that are NaN or infinite count as
        damaged even when this is None.
    name : str
        What the image is called in layer names and reports.
    pixel_size_um : dict of str to float
        Physical step along an axis letter, in micrometres, where known.
    channel_names : tuple of str
        One name for each index of ``C``, or empty.
    channel_colours : tuple of (int, int, int)
        Red, green and blue from 0 to 255 for each index of ``C``, or empty.
    """

    pixels: NDArray[np.generic]
    axes: str
    mask: NDArray[np.bool_] | None = None
    name: str = NAMELESS
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    channel_colours: Colours = ()

    def __post_init__(self) -> None:
        check_pixels(self.pixels)
        check_measures(self.pixels.shape, self.axes)
        if self.mask is not None:
            check_mask(self.mask, self.pixels.shape, self.axes)

    @property
    def is_colour(self) -> bool:
        """Whether each pixel is a colour of red, green and blue."""
        return self.axes.endswith("S")

    @property
    def damaged(self) -> NDArray[np.bool_]:
        """Pixels that carry no measurement: masked, NaN or infinite; shape of `pixels` without ``S``."""
        lost = np.zeros(self.pixels.shape[: -1 if self.is_colour else None], dtype=bool)
        if self.pixels.dtype.kind == "f":
            missing = ~np.isfinite(self.pixels)
            lost |= missing.any(axis=-1) if self.is_colour else missing
        if self.mask is not None:
            lost |= self.mask
        return lost


@dataclass(frozen=True, slots=True)
class Known:
    """What a file says of its image beside the pixels, as it stands there: nothing of it is checked.

    Attributes
    ----------
    pixel_size_um : mapping of str to float
        Micrometres per step along an axis letter.
    channel_names : sequence of str
    channel_colours : sequence of (int, int, int)
    """

    pixel_size_um: Mapping[str, Any] = field(default_factory=dict)
    channel_names: Sequence[Any] = ()
    channel_colours: Sequence[Any] = ()

    def fitting(self, axes: str, shape: Sequence[int]) -> dict[str, Any]:
        """The fields of an `Image` of these axes: sizes that are lengths, names and colours one a channel."""
        count = shape[axes.index("C")] if "C" in axes and len(axes) == len(shape) else 0
        # what a file notes may be anything that JSON holds
        noted: Any = self.pixel_size_um
        noted = noted if isinstance(noted, Mapping) else {}
        sizes = {axis: noted[axis] for axis in axes if isinstance(noted.get(axis), int | float)}
        try:
            colours = tuple((int(red), int(green), int(blue)) for red, green, blue in self.channel_colours)
        except (TypeError, ValueError):
            colours = ()
        names = tuple(str(name) for name in self.channel_names)
        possible = len(colours) == count and all(0 <= part <= 255 for colour in colours for part in colour)
        return {
            "pixel_size_um": {axis: float(size) for axis, size in sizes.items() if 0 < size < math.inf},
            "channel_names": names if len(names) == count else (),
            "channel_colours": colours if possible else (),
        }


def check_measures(shape: tuple[int, ...], axes: str) -> None:
    """Raise `InputError` unless the axes fit, and planes are large enough."""
    check_axes(axes, shape)
    shape_yx = spatial_shape(shape, axes)
    if min(shape_yx) < MIN_SIDE_PX:
        raise InputError(
            f"The image measures {shape_yx[0]} x {shape_yx[1]} pixels.",
            f"At least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels are needed.",
            "Choose a larger image, or name the axes (axes='ZYX', for instance) if Y and X are others.",
        )


def check_kind(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise `InputError` for values of a kind that no restoration can use, or none at all."""
    if dtype.kind not in "buif":
        raise InputError(
            f"The image holds values of dtype {dtype}.",
            "Boolean, integer and real floating-point values can be restored.",
            "Convert it first: numpy.abs(image) of a complex one, image.astype('float32') of an object one.",
        )
    if 0 in shape:
        raise InputError(
            f"The image is empty (shape {shape}).",
            "At least one plane of 8 x 8 pixels is needed.",
            "Check the file or the slicing that made it.",
        )


def check_pixels(pixels: NDArray[np.generic]) -> None:
    """Raise `InputError` for pixels that no restoration can use: kind, emptiness, range, no finite value."""
    check_kind(pixels.shape, pixels.dtype)
    if pixels.dtype.kind == "f":
        finite = pixels[np.isfinite(pixels)]
        if finite.size == 0:
            raise InputError(
                "The image holds no finite value (all are NaN or infinite).",
                "Single missing pixels are filled, but something must have been measured.",
                "Check the file or the computation that made it.",
            )
        largest = float(np.abs(finite).max())
        if largest > FLOAT32_MAX:
            raise InputError(
                f"The image holds values up to {largest:.3g}.",
                f"Values up to {FLOAT32_MAX:.3g} fit into float32, in which restoration works.",
                "Divide the image by a constant first.",
            )


def check_mask(mask: NDArray[np.bool_], shape: tuple[int, ...], axes: str) -> None:
    """Raise `InputError` unless `mask` is boolean, fits the image and leaves something measured."""
    expected = shape[:-1] if axes.endswith("S") else shape
    if mask.dtype != np.bool_:
        raise InputError(
            f"The mask has dtype {mask.dtype}.",
            "A mask is boolean: True = damaged.",
            "Pass mask > 0, or mask.astype(bool).",
        )
    if mask.shape != expected:
        raise InputError(
            f"The mask has shape {mask.shape}.",
            f"For an image of shape {shape} with axes {axes} it must have shape {expected}.",
            "Make the mask over the whole image, or crop the image to the mask.",
        )
    if mask.all():
        raise InputError(
            "The mask marks every pixel as damaged.",
            "Something must be left to restore from; True means damaged.",
            "Invert the mask (~mask) if True meant good pixels.",
        )
