"""A Poisson-Gaussian noise model from the scatter of noise strength over brightness.

Cells of an image, each with its mean and an estimate of its noise and of how unsure that is, lie along a line in
variance over mean (Foi et al. 2008, doi:10.1109/TIP.2008.2001399). The line is fitted in logarithms, where errors are
alike at every strength, and robustly, since texture lies above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from napari_vae_repair.noise.record import Grade, NoiseModel

Values = NDArray[np.float64]

FEWEST_CELLS = 8
LEAST_UNSURE = 0.05  # no cell counts as better known than this, in the logarithm of the standard deviation
# signal dependence is believed where the line explains the cells better than a constant by so many nats, and where the
# variance differs at least so much between dark and bright cells
BELIEVED_NATS = 6.0
BELIEVED_RATIO = 1.35
_DARK, _BRIGHT = 3, 97  # percentiles of the cells' means between which the line is drawn


@dataclass(frozen=True, slots=True)
class Cells:
    """What was seen of the noise, cell by cell; values in the units of the image.

    Attributes
    ----------
    mean : ndarray of float64
        ``(n,)`` mean of the cell's pixels.
    std : ndarray of float64
        ``(n,)`` standard deviation of its noise.
    unsure : ndarray of float64
        ``(n,)`` standard deviation of the error of ``log(std)``.
    correlation : ndarray of float64
        ``(n, 2)`` correlation of the noise of neighbours, along y and x.
    """

    mean: Values
    std: Values
    unsure: Values
    correlation: Values


def fit_noise(cells: Cells, smallest: float) -> NoiseModel:
    """The noise model of the cells, with a grade for each of its numbers.

    Parameters
    ----------
    cells : Cells
        At least one.
    smallest : float
        Standard deviation, > 0, below which noise is not told from none.

    Returns
    -------
    NoiseModel
        With `offset` at the dark cells, gain 0 where no dependence on the signal is believed, and no stripes.
    """
    unsure = np.hypot(cells.unsure, LEAST_UNSURE)
    weight = 1 / unsure**2
    log_std = np.log(np.maximum(cells.std, smallest))
    level, level_cost = _constant(log_std, unsure)
    gain, dark, at_dark, cost = _line(cells.mean, log_std, unsure, level)
    bright = float(np.percentile(cells.mean, _BRIGHT))
    ratio = (at_dark + gain * (bright - dark)) / at_dark
    dependent = len(log_std) >= FEWEST_CELLS and level_cost - cost > BELIEVED_NATS and ratio > BELIEVED_RATIO
    if not dependent:
        gain, dark, at_dark, cost = 0.0, float(cells.mean.min()), float(np.exp(2 * level)), level_cost
    y, x = (_weighted_median(axis, weight) for axis in cells.correlation.T)
    grades = _grades(cells, unsure, cost, ratio, dependent=dependent)
    return NoiseModel(gain, max(float(np.sqrt(at_dark)), smallest), dark, "estimated", (y, x), grades=grades)


def _constant(log_std: Values, unsure: Values) -> tuple[float, float]:
    """The level that suits all cells best, and its cost in nats."""
    start = _weighted_median(log_std, 1 / unsure**2)
    found = least_squares(lambda p: (log_std - p[0]) / unsure, [start], loss="soft_l1")
    return float(found.x[0]), float(found.cost)


def _line(mean: Values, log_std: Values, unsure: Values, level: float) -> tuple[float, float, float, float]:
    """Slope, dark mean, variance there and cost of the line of variance over mean; a falling line counts as flat."""
    dark, bright = (float(value) for value in np.percentile(mean, [_DARK, _BRIGHT]))
    if bright <= dark:
        return 0.0, dark, float(np.exp(2 * level)), np.inf
    along = (mean - dark) / (bright - dark)

    def error(ends: Values) -> Values:
        low, high = np.exp(2 * ends)
        variance = np.maximum(low + (high - low) * along, np.exp(2 * ends.min()) * 1e-2)
        return np.asarray((log_std - 0.5 * np.log(variance)) / unsure)

    found = least_squares(error, [level - 0.3, level + 0.3], loss="soft_l1")
    low, high = np.exp(2 * found.x)
    if high <= low:
        return 0.0, dark, float(np.exp(2 * level)), np.inf
    return float((high - low) / (bright - dark)), dark, float(low), float(found.cost)


def _weighted_median(values: Values, weight: Values) -> float:
    order = np.argsort(values)
    share = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(share, 0.5 * share[-1])])


def _grades(cells: Cells, unsure: Values, cost: float, ratio: float, *, dependent: bool) -> tuple[Grade, ...]:
    count, typical = len(unsure), float(np.median(cells.unsure))
    scatter = float(np.sqrt(2 * cost / count))  # 1 where the cells lie as near the line as they claim
    return (
        _strength(count, typical, scatter),
        _dependence(cells, ratio, dependent=dependent),
        _correlation(cells),
    )


def _strength(count: int, typical: float, scatter: float) -> Grade:
    seen = f"{count} cells, each known to {100 * typical:.0f} %"
    if count < FEWEST_CELLS:
        return Grade("strength", "bad", f"only {count} cells of 16 x 16 pixels were free of damage")
    if typical > 0.5:
        return Grade("strength", "bad", f"{seen}: the noise is hardly there, or hidden by texture")
    if typical > 0.2:
        return Grade("strength", "doubtful", f"{seen}: the noise is weak beside the texture")
    if scatter > 2:
        return Grade("strength", "doubtful", f"{seen}, but they differ {scatter:.1f} times as much: another noise model")
    return Grade("strength", "good", seen)


def _dependence(cells: Cells, ratio: float, *, dependent: bool) -> Grade:
    dark, bright = np.percentile(cells.mean, [_DARK, _BRIGHT])
    contrast = (bright - dark) / float(np.median(cells.std))
    told: Literal["good", "doubtful"] = "good" if contrast > 3 else "doubtful"
    how = "hardly" if contrast <= 3 else f"{contrast:.0f} times the noise"
    seen = f"brightness varies {how} between cells"
    if dependent:
        return Grade("signal dependence", told, f"the variance grows {ratio:.1f}-fold from dark to bright; {seen}")
    return Grade("signal dependence", told, f"none found; {seen}")


def _correlation(cells: Cells) -> Grade:
    low, high = np.percentile(cells.correlation, [25, 75], axis=0)
    spread = float((high - low).max())
    grade: Literal["good", "doubtful"] = "good" if spread < 0.25 else "doubtful"
    return Grade("correlation", grade, f"half of the cells agree within {spread:.2f}")
