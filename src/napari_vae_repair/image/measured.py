"""Planes with damage: what was measured in them, and what stands in for the rest.

Planes are float32 ``(N, C, Y, X)``; damage is boolean ``(N, Y, X)``, True = not measured, for all channels of
a pixel alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt
from scipy.sparse import coo_array, csr_array, diags_array, vstack
from scipy.sparse.linalg import cg

from napari_vae_repair.errors import InputError

Planes = NDArray[np.float32]
Damaged = NDArray[np.bool_]

SAMPLE_PX = 4_000_000  # statistics look at about so many values at most
MOST_SPANNED = 1_000_000  # damaged pixels of a plane: more take too long
# of the plate that spans damage, over its stiffness: without tension it swings beyond textured or noisy edges, with
# tension alone it has a crease there. On clean photos 0, 0.1, 1 and tension alone reach 32.15, 32.18, 32.10, 31.54 dB
TENSION = 1.0
ITERATIONS, PRECISION = 200, 1e-4  # at most; relative
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

    A thin plate under tension spans them; deep inside wide damage, and in planes with more than `MOST_SPANNED` damaged
    pixels, the value of the nearest measured pixel stays. In a plane without any they get the median of all measured
    values of their channel.

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
            if lost.sum() <= MOST_SPANNED:
                _span(plane, lost)
    lost_planes = damaged.all(axis=(1, 2))
    for c in range(planes.shape[1]) if lost_planes.any() else ():
        planes[lost_planes, c] = np.median(measured_sample(planes[:, c : c + 1], damaged))


def _span(plane: NDArray[np.float32], lost: NDArray[np.bool_]) -> None:
    """The least bending and stretching of ``(C, Y, X)`` over the lost pixels, whose values are taken to begin with."""
    bent = binary_dilation(lost)
    region = binary_dilation(bent)
    count, hidden = int(region.sum()), lost[region]
    number = np.full(lost.shape, -1, dtype=np.int32)
    number[region] = np.arange(count)
    pairs = [
        np.stack([side[(before >= 0) & (after >= 0)] for side in (before, after)])
        for before, after in ((number[:-1], number[1:]), (number[:, :-1], number[:, 1:]))
    ]
    first, second = np.concatenate(pairs, axis=1)
    slopes = _differences(first, second, count)
    bending = (slopes.T @ slopes)[bent[region]]  # the Laplacian of the grid
    stretching = slopes[hidden[first] | hidden[second]]
    energy = csr_array(vstack([bending, np.sqrt(TENSION) * stretching]))
    free, fixed = energy[:, np.flatnonzero(hidden)], energy[:, np.flatnonzero(~hidden)]
    stiffness = free.T @ free
    scale = diags_array(1 / stiffness.diagonal())
    for channel in plane:
        values = channel[region].astype(np.float64)
        pull = -(free.T @ (fixed @ values[~hidden]))
        channel[lost], _ = cg(stiffness, pull, values[hidden], rtol=PRECISION, maxiter=ITERATIONS, M=scale)


def _differences(first: NDArray[np.int32], second: NDArray[np.int32], count: int) -> csr_array:
    """A row for each pair of neighbours."""
    rows = np.tile(np.arange(len(first)), 2)
    signs = np.repeat([1.0, -1.0], len(first))
    return coo_array((signs, (rows, np.concatenate([first, second]))), shape=(len(first), count)).tocsr()


def check_finite(planes: NDArray[np.float32], what: str) -> None:
    """Raise `InputError`, with `what` as the culprit, for any value that is NaN or infinite."""
    if not all(np.isfinite(planes[index][rows]).all() for index, rows in bands(planes.shape)):
        raise InputError(
            f"{what} gave values that are not finite.",
            "All measured values, and what each step makes of them, must fit into float32 (up to 3.4e38).",
            "Mark such pixels as damaged, divide the image by a constant first, or change the step.",
        )
