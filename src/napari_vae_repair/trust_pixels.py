"""Single pixels that measured nothing: saturated, dead and hot ones, counted where they were not marked as damage."""

from __future__ import annotations

import numpy as np

from napari_vae_repair.trust_measures import Channel, Good, Planes

FEWEST_LEVELS, FEWEST_SATURATED, PILED_UP = 16, 4, 2  # distinct values; pixels; times as many as at the next value
CANDIDATE, OUTSTANDING = (
    4.0,
    6.0,
)  # standard deviations of the noise by which a dead or hot pixel leaves its neighbours behind
MOST_CANDIDATES = 0.05  # share of pixels: more are texture or a wrong noise model


def saturated_share(planes: Planes, good: Good) -> float | None:
    """Share of measured values at the largest one, if they pile up there; None where values are too few to tell."""
    values = planes[good]
    if len(np.unique(values[:: max(1, values.size // 100_000)])) < FEWEST_LEVELS:
        return None
    largest = values.max()
    at_largest = int(np.count_nonzero(values == largest))
    below = values.max(where=values < largest, initial=-np.inf)
    piled_up = at_largest > PILED_UP * np.count_nonzero(values == below)
    return at_largest / values.size if at_largest >= FEWEST_SATURATED and piled_up else 0.0


def outstanding_share(channel: Channel) -> float | None:
    """Share of single dead and hot pixels: they leave all neighbours but one behind by more than the noise explains.

    None where so many would stand out that they are no single pixels.
    """
    found = 0
    for plane, good in zip(channel.prepared, channel.good, strict=True):
        padded = np.pad(plane, 1, mode="reflect" if min(plane.shape) > 1 else "edge")
        beside = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
        variance = channel.noise.variance(np.maximum(plane, beside))
        rows, columns = np.nonzero((np.square(plane - beside) > CANDIDATE**2 * variance) & good)
        if len(rows) > MOST_CANDIDATES * plane.size:
            return None
        around = [padded[rows + dy, columns + dx] for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)]
        if len(rows):
            ordered = np.sort(np.stack(around), axis=0)
            low, high, value = ordered[1], ordered[-2], plane[rows, columns]
            needed = np.maximum(OUTSTANDING * np.sqrt(variance[rows, columns]), high - low)
            found += int(np.count_nonzero((value - high > needed) | (low - value > needed)))
    return found / max(int(channel.good.sum()), 1)
