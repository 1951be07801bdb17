"""Which parts of an image are looked at to tell its range of values and its noise: all of a small one.

Whoever restores a large image, in one piece or block by block, looks at the same windows, and so finds the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.image.tiles import Window

# of each channel: up to here everything is looked at, beyond it windows of as much; of many channels less of each
SURVEY_PX, MANY_CHANNELS = 2**22, 4
WINDOW_PX = 512
ENOUGH = 0.5  # share of measured pixels of a window that is taken first
TRIED = 4  # times as many windows are looked at where many are empty
# the mean of what is taken away: of each channel up to here told from everything, beyond it from so many windows
WHOLE_MEANS_PX, MEANS, MEANS_PX, MEANS_MARGIN_PX = 2**20, 16, 128, 32
# steps of a sequence that fills a unit cube evenly at every length (Roberts 2018, after the plastic number)
_STEPS = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)

_Scalar = TypeVar("_Scalar", bound=np.generic)
Read = Callable[["Region"], tuple[NDArray[np.generic], NDArray[np.bool_]]]
"""A region to values ``(channels, C, Y, X)`` and damage ``(channels, Y, X)``."""


@dataclass(frozen=True, slots=True)
class Region:
    """A window of one plane.

    Attributes
    ----------
    plane : int
        Number of the plane within each channel's stack.
    window : tuple of slice
        Rows and columns, in pixels.
    """

    plane: int
    window: Window


@dataclass(frozen=True, slots=True)
class Survey:
    """What was looked at.

    Attributes
    ----------
    regions : tuple of Region
    planes : ndarray
        ``(channels * regions, C, Y, X)`` in the source's dtype, channels slowest.
    damaged : ndarray of bool
        ``(channels * regions, Y, X)``.
    """

    regions: tuple[Region, ...]
    planes: NDArray[np.generic]
    damaged: NDArray[np.bool_]

    def stack(self, channels: int) -> tuple[int, int, int]:
        """Planes of each channel, their height and width."""
        count, height, width = self.damaged.shape
        return count // channels, height, width


def survey_px(channels: int) -> int:
    """How many pixels of each channel are looked at, at most."""
    return SURVEY_PX * MANY_CHANNELS // max(channels, MANY_CHANNELS)


def needs_survey(planes: int, height: int, width: int, channels: int = 1) -> bool:
    """Whether a stack of so many planes a channel is too large to be looked at as a whole."""
    return planes * height * width > survey_px(channels)


def take_survey(read: Read, planes: int, height: int, width: int, channels: int = 1) -> Survey:
    """Windows spread evenly over the planes and over each plane; those without measurements are passed over.

    Parameters
    ----------
    read : callable
        Gives the values of a region, and which of them are damaged.
    planes : int
        Planes of each channel.
    height, width : int
        Of a plane, in pixels.
    channels : int
        How many are read at a time.
    """
    tall, wide = min(height, WINDOW_PX), min(width, WINDOW_PX)
    wanted = max(1, survey_px(channels) // (tall * wide))
    good: list[tuple[Region, NDArray[np.generic], NDArray[np.bool_]]] = []
    poor = good.copy()
    for region in spread(TRIED * wanted, planes, (height, width), (tall, wide)):
        values, damaged = read(region)
        measured = 1 - damaged.mean(axis=(1, 2)).max()
        if measured > 0:
            (good if measured >= ENOUGH else poor).append((region, values, damaged))
        if len(good) == wanted:
            break
    chosen = (good + poor)[:wanted] or [(region, values, damaged)]  # the caller says what is wrong with nothing
    return Survey(
        tuple(region for region, _, _ in chosen),
        _channels_first([values for _, values, _ in chosen]),
        _channels_first([damaged for _, _, damaged in chosen]),
    )


def spread(number: int, planes: int, shape: tuple[int, int], window: tuple[int, int]) -> Iterator[Region]:
    """So many windows, spread evenly over the planes and over each plane, the first ones as well as all."""
    for count in range(1, number + 1):
        plane, *corner = ((0.5 + count * step) % 1 for step in _STEPS)
        rows, columns = (
            slice(start, start + side)
            for start, side in (
                (round(at * (length - side)), side) for at, length, side in zip(corner, shape, window, strict=True)
            )
        )
        yield Region(int(plane * planes), (rows, columns))


def mean_regions(planes: int, height: int, width: int) -> list[Region]:
    """Where, in what was looked at, the mean of what is taken away is told: everywhere, or in windows with a margin."""
    if planes * height * width <= WHOLE_MEANS_PX:
        return [Region(plane, (slice(0, height), slice(0, width))) for plane in range(planes)]
    side = MEANS_PX + 2 * MEANS_MARGIN_PX
    return list(spread(MEANS, planes, (height, width), (min(height, side), min(width, side))))


def without_margin(window: Window, height: int, width: int) -> Window:
    """What is counted of a window of `mean_regions`, within it: all where it is as long as the plane's side."""
    rows, columns = (
        slice(0, length) if length == side else slice(MEANS_MARGIN_PX, length - MEANS_MARGIN_PX)
        for length, side in zip((part.stop - part.start for part in window), (height, width), strict=True)
    )
    return rows, columns


def _channels_first(parts: Sequence[NDArray[_Scalar]]) -> NDArray[_Scalar]:
    stacked = np.stack(parts, axis=1)  # (channels, regions, ...)
    return stacked.reshape(-1, *stacked.shape[2:])
