"""Planes with damage: what was measured in them, and what stands in for the rest.

Planes are float32 ``(N, C, Y, X)``; damage is boolean ``(N, Y, X)``, True = not measured, for all channels of
a pixel alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from scipy.sparse.linalg import cg

from napari_vae_repair.errors import InputError

Planes = NDArray[np.float32]
Damaged = NDArray[np.bool_]

SAMPLE_PX = 4_000_000  # statistics look at about so many values at most
MOST_RELAXED = 1_000_000  # damaged pixels of a plane: more take too long
RELAXATIONS, RELAXED = 100, 1e-4  # iterations at most; the residual, relative, that is small enough
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

    Each becomes the mean of its four neighbours, as a soap film does between the measured pixels around it; deep inside
    wide damage, and in planes with more than `MOST_RELAXED` damaged pixels, the value of the nearest measured pixel.
    In a plane without any they get the median of all measured values of their channel.

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
            if lost.sum() <= MOST_RELAXED:
                _relax(plane, lost)
    lost_planes = damaged.all(axis=(1, 2))
    for c in range(planes.shape[1]) if lost_planes.any() else ():
        planes[lost_planes, c] = np.median(measured_sample(planes[:, c : c + 1], damaged))


def _relax(plane: NDArray[np.float32], lost: NDArray[np.bool_]) -> None:
    """Solve Laplace's equation in the lost pixels of ``(C, Y, X)``, whose values are taken to begin with."""
    count = int(lost.sum())
    number = np.full(lost.shape, -1)
    number[lost] = np.arange(count)
    neighbours, known = np.zeros(count), np.zeros((len(plane), count))
    pairs = []
    for axis in (0, 1):
        before, after = (np.take(number, range(start, number.shape[axis] - 1 + start), axis) for start in (0, 1))
        values = [np.take(plane, range(start, number.shape[axis] - 1 + start), axis + 1) for start in (0, 1)]
        for here, there, measured in ((before, after, values[1]), (after, before, values[0])):
            np.add.at(neighbours, here[here >= 0], 1)
            both, edge = (here >= 0) & (there >= 0), (here >= 0) & (there < 0)
            pairs.append((here[both], there[both]))
            for sums, channel in zip(known, measured, strict=True):
                np.add.at(sums, here[edge], channel[edge])
    rows, columns = (np.concatenate([pair[side] for pair in pairs] + [np.arange(count)]) for side in (0, 1))
    entries = np.concatenate([np.full(len(rows) - count, -1.0), neighbours])
    equations = coo_array((entries, (rows, columns)), shape=(count, count)).tocsr()
    for channel, sums in zip(plane, known, strict=True):
        channel[lost], _ = cg(equations, sums, channel[lost].astype(np.float64), rtol=RELAXED, maxiter=RELAXATIONS)


def check_finite(planes: NDArray[np.float32], what: str) -> None:
    """Raise `InputError`, with `what` as the culprit, for any value that is NaN or infinite."""
    if not all(np.isfinite(planes[index][rows]).all() for index, rows in bands(planes.shape)):
        raise InputError(
            f"{what} gave values that are not finite.",
            "All measured values, and what each step makes of them, must fit into float32 (up to 3.4e38).",
            "Mark such pixels as damaged, divide the image by a constant first, or change the step.",
        )
