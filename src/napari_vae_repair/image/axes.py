"""Any named axes to planes ``(N, C, Y, X)`` and exactly back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import InputError

_Scalar = TypeVar("_Scalar", bound=np.generic)

_LEADING = "ITZ"  # names for the unnamed leading axes of an array, the last ones used first
_FREE_LETTERS = "ZTIKLMNOPQUVW"  # names of a layer's unnamed leading dimensions, the last of them first
RGB_MIN_SIDE_PX = 30  # napari's own rule for guessing RGB (napari/layers/image/_image_utils.py)


def default_axes(shape: tuple[int, ...]) -> str:
    """Axes of an array that came without names, by napari's convention.

    The last two dimensions are ``YX``, or ``YXS`` when the last one has 3 or 4 entries and the two
    before it at least 30 pixels each; dimensions before them are stacks.

    Raises
    ------
    InputError
        With fewer than two or more than five dimensions.
    """
    is_colour = len(shape) >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) >= RGB_MIN_SIDE_PX
    tail = "YXS" if is_colour else "YX"
    leading = len(shape) - len(tail)
    if not 0 <= leading <= len(_LEADING):
        raise InputError(
            f"The image has {len(shape)} dimension(s), shape {shape}.",
            "Without named axes, arrays of 2 to 5 dimensions can be restored.",
            "Name the axes, as in axes='TCZYX', or choose a plane.",
        )
    return _LEADING[len(_LEADING) - leading :] + tail


def axes_letters(labels: Sequence[str]) -> str:
    """One capital letter a dimension: the label where it is one letter, else napari's convention (..., T, Z, Y, X)."""
    capitals = [label.upper() if len(label) == 1 and label.isascii() and label.isalpha() else "" for label in labels]
    letters = [a if a != "S" and capitals.count(a) == 1 else "" for a in capitals]
    if not {"Y", "X"} <= set(letters):
        letters = [a if a not in ("Y", "X") else "" for a in letters]
        letters[-2:] = ["Y", "X"]
    free = [a for a in _FREE_LETTERS if a not in letters]
    for d in reversed(range(len(letters))):
        letters[d] = letters[d] or free.pop(0)
    return "".join(letters)


def check_axes(axes: str, shape: tuple[int, ...]) -> None:
    """Raise `InputError` unless `axes` names each dimension of `shape` once, with ``Y`` and ``X``."""
    received = f"The axes {axes!r} were given for an image of shape {shape}."
    remedy = "Give one capital letter a dimension, as in axes='YX', 'ZYX', 'TCZYX' or 'YXS'."
    if len(axes) != len(shape) or not axes.isalpha() or not axes.isupper():
        raise InputError(received, "Each dimension needs one capital letter.", remedy)
    if len(set(axes)) != len(axes) or "Y" not in axes or "X" not in axes:
        raise InputError(received, "Y and X must be there, and no letter may stand twice.", remedy)
    if "S" in axes and (not axes.endswith("S") or shape[-1] not in (3, 4)):
        raise InputError(received, "S, the colour samples, must be last, with 3 (RGB) or 4 (RGBA) entries.", remedy)


def spatial_shape(shape: tuple[int, ...], axes: str) -> tuple[int, int]:
    """Height and width, in pixels."""
    return shape[axes.index("Y")], shape[axes.index("X")]


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array of named axes lies in planes ``(N, C, Y, X)``; the way there and exactly back.

    Attributes
    ----------
    axes : str
        The axes' letters in the array's order.
    shape : tuple of int
        The array's shape.
    """

    axes: str
    shape: tuple[int, ...]

    @property
    def _stack(self) -> str:
        # C outermost: the planes of one channel are then a contiguous block
        stack = [a for a in self.axes if a not in "YXS"]
        return "".join(sorted(stack, key=lambda a: a != "C"))

    @property
    def channels(self) -> int:
        """Number of entries along ``C``; 1 without it."""
        return self.shape[self.axes.index("C")] if "C" in self.axes else 1

    def to_planes(self, array: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Planes ``(N, C, Y, X)``; N runs over the stack with ``C`` slowest, C is 1 or the colour samples.

        A view where numpy can give one.
        """
        order = [self.axes.index(a) for a in self._stack + "YX"]
        if self.axes.endswith("S"):
            order.append(self.axes.index("S"))
        moved = np.transpose(array, order)
        height, width = spatial_shape(self.shape, self.axes)
        if self.axes.endswith("S"):
            return np.moveaxis(moved.reshape(-1, height, width, self.shape[-1]), -1, 1)
        return moved.reshape(-1, 1, height, width)

    def from_planes(self, planes: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """The array in its own axes order; colour samples become the last axis, one sample drops it."""
        stack_shape = [self.shape[self.axes.index(a)] for a in self._stack]
        height, width = spatial_shape(self.shape, self.axes)
        if planes.shape[1] == 1:
            full, letters = planes.reshape(*stack_shape, height, width), self._stack + "YX"
        else:
            full = np.moveaxis(planes, 1, -1).reshape(*stack_shape, height, width, planes.shape[1])
            letters = self._stack + "YXS"
        wanted = [a for a in self.axes if a in letters]
        return np.ascontiguousarray(np.transpose(full, [letters.index(a) for a in wanted]))

    def out_axes(self, planes_channels: int) -> str:
        """The axes of `from_planes` for planes of that many channels."""
        return self.axes if planes_channels > 1 else self.axes.replace("S", "")

    def out_shape(self, planes_channels: int) -> tuple[int, ...]:
        """The shape of `from_planes` for planes of that many channels."""
        sizes = dict(zip(self.axes, self.shape, strict=True)) | {"S": planes_channels}
        return tuple(sizes[letter] for letter in self.out_axes(planes_channels))
