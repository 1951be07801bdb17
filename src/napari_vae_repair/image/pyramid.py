"""Levels of lower resolution below an image, for viewers of large ones and for noise that reaches far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.transform import downscale_local_mean, resize, resize_local_mean


def pyramid(image: NDArray[np.float32], shapes: Sequence[tuple[int, ...]]) -> list[NDArray[np.float32]]:
    """The image and levels of the given shapes, each the local mean of the one before.

    Parameters
    ----------
    image : ndarray of float32
        Of any dimensions, full resolution.
    shapes : sequence of tuple of int
        Of the lower levels, from finer to coarser; colour samples, where there are some, keep their number.

    Returns
    -------
    list of ndarray of float32
        The image itself first.
    """
    levels = [image]
    for shape in shapes:
        levels.append(resize_local_mean(levels[-1], shape, preserve_range=True).astype(np.float32))
    return levels


def halved(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means over 2 x 2 pixels, ``(..., Y / 2, X / 2)`` rounded up; a last odd row or column counts twice."""
    padded = np.pad(planes, _to_even(planes.shape), mode="symmetric")
    return np.asarray(downscale_local_mean(padded, (1,) * (planes.ndim - 2) + (2, 2)), dtype=np.float32)


def halved_damage(damaged: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``(..., Y / 2, X / 2)``, rounded up: where nothing of the 2 x 2 pixels was measured."""
    padded = np.pad(damaged, _to_even(damaged.shape), mode="symmetric")
    return np.asarray(padded[..., ::2, ::2] & padded[..., 1::2, ::2] & padded[..., ::2, 1::2] & padded[..., 1::2, 1::2])


def doubled(plane: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """``(C, Y, X)`` interpolated linearly at twice as many pixels, of which the first rows and columns are kept."""
    channels, rows, columns = plane.shape
    fine = resize(plane, (channels, 2 * rows, 2 * columns), order=1, mode="edge", anti_aliasing=False)
    return np.asarray(fine[:, :height, :width], dtype=np.float32)


def _to_even(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(0, 0)] * (len(shape) - 2) + [(0, side % 2) for side in shape[-2:]]
