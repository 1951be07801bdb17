"""Levels of lower resolution below an image, for viewers of large ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize_local_mean


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
