"""Pictures turned as their Orientation tag says (TIFF 6.0, tag 274; EXIF uses the same)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

ORIENTATION_TAG = 274


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels (Y, X) or (Y, X, S) with the first row on top and the first column on the left.

    Parameters
    ----------
    pixels : ndarray
    orientation : int
        1 to 8, where 1 is the way as stored; other numbers mean nothing and change nothing.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def orientation_of(tif: tifffile.TiffFile) -> int:
    """How a photo is to be turned, from 1 to 8; 1 for everything else, which microscopy's programs never turn."""
    series = tif.series[0]
    tag = tif.pages.first.tags.get(ORIENTATION_TAG)
    is_photo = len(series) == 1 and series.axes in ("YX", "YXS") and not (tif.is_ome or tif.is_imagej)
    return int(tag.value) if is_photo and tag is not None and int(tag.value) in range(1, 9) else 1
