"""Levels of lower resolution below an image, for viewers of large ones and for noise that reaches far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize, resize_local_mean


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


def doubled(plane: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """``(C, Y, X)`` interpolated linearly at twice as many pixels, of which the first rows and columns are kept."""
    channels, rows, columns = plane.shape
    fine = resize(plane, (channels, 2 * rows, 2 * columns), order=1, mode="edge", anti_aliasing=False)
    return np.asarray(fine[:, :height, :width], dtype=np.float32)
