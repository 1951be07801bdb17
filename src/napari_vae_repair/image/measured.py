"""Planes with damage: what was measured in them, and what stands in for the rest.

Planes are float32 ``(N, C, Y, X)``; damage is boolean ``(N, Y, X)``, True = not measured, for all channels of
a pixel alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_vae_repair.errors import InputError

Planes = NDArray[np.float32]
Damaged = NDArray[np.bool_]

SAMPLE_PX = 4_000_000  # statistics look at about so many values at most
BAND_PX = 1 << 18  # pixels that are worked on at a time: 2 MB in float64


def bands(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], slice]]:
    """Index before ``Y`` and rows of the parts, of at most `BAND_PX`, that cover an array ``(..., Y, X)`` once."""
    rows = max(1, BAND_PX // max(1, shape[-1]))
    for index in np.ndindex(shape[:-2]):
        for start in range(0, shape[-2], rows):
            yield index, slice(start, start + rows)


def measured_sample(planes: Planes, damaged: Damaged) -> NDArray[np.float64]:
    """Measured values, one after another: all of them or, in large images, those on a regular grid.

    The grid takes every k-th row and column, with k such that about `SAMPLE_PX` values remain; a pattern
    of exactly that period would be seen in one phase only.
    """
    stride = int(np.ceil(np.sqrt(planes.size / SAMPLE_PX)))
    for every in (stride, 1):  # a sparse grid may meet nothing but damage
        part = planes[:, :, ::every, ::every]
        good = np.broadcast_to(~damaged[:, None, ::every, ::every], part.shape)
        if good.any():
            break
    return part[good].astype(np.float64)


def measured_range(planes: Planes, damaged: Damaged) -> tuple[float, float]:
    """Smallest and largest of all measured values."""
    good = ~damaged[:, None]
    return float(planes.min(where=good, initial=np.inf)), float(planes.max(where=good, initial=-np.inf))


def fill_damage(planes: Planes, damaged: Damaged) -> None:
    """Overwrite the damaged pixels of `planes`, which may hold anything, in place.

    They get the values of the nearest measured pixel of their plane; in a plane without one, the median
    of all measured values of their channel.

    Raises
    ------
    InputError
        When nothing at all was measured.
    """
    if damaged.all():
        raise InputError(
            "Every pixel is marked as damaged.",
            "Something must be left to restore from; True means damaged.",
            "Invert the mask (~mask) if True meant good pixels.",
        )
    for plane, lost in zip(planes, damaged, strict=True):
        if lost.any() and not lost.all():
            rows, columns = distance_transform_edt(lost, return_distances=False, return_indices=True)[:, lost]
            plane[:, lost] = plane[:, rows, columns]
    lost_planes = damaged.all(axis=(1, 2))
    for c in range(planes.shape[1]) if lost_planes.any() else ():
        planes[lost_planes, c] = np.median(measured_sample(planes[:, c : c + 1], damaged))


def check_finite(planes: NDArray[np.float32], what: str) -> None:
    """Raise `InputError`, with `what` as the culprit, for any value that is NaN or infinite."""
    if not all(np.isfinite(planes[index][rows]).all() for index, rows in bands(planes.shape)):
        raise InputError(
            f"{what} gave values that are not finite.",
            "All measured values, and what each step makes of them, must fit into float32 (up to 3.4e38).",
            "Mark such pixels as damaged, divide the image by a constant first, or change the step.",
        )
