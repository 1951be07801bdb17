"""From the spread of posterior samples to an honest uncertainty: a monotone map, measured on synthetic scenes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMAL_90 = 1.6449  # standard deviations to each side that hold 90 % of a normal distribution


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the error of one pass is where samples spread so far, both over the standard deviation of the noise.

    Attributes
    ----------
    spread : tuple of float
        Growing, above 0.
    error : tuple of float
        Never falling, above 0: the 90 % quantile of the absolute error over `NORMAL_90`.
    widths : tuple of (float, float)
        Levels between 0 and 1, growing, and how many calibrated standard deviations to each side hold so much of the
        truth: errors are no normal distribution, most are smaller and a few larger. () = as if they were.
    hidden : tuple of (float, float)
        Pixels from a filled pixel to the nearest measured one, growing, and the error of what is filled, never falling:
        the 90 % quantile over `NORMAL_90`, in standard deviations of what lies around (see `hidden`). () = unknown.
    """

    spread: tuple[float, ...]
    error: tuple[float, ...]
    widths: tuple[tuple[float, float], ...] = ()
    hidden: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.spread or len(self.spread) != len(self.error):
            raise ValueError("as many errors as spreads, and one at least")
        if not np.isfinite([*self.spread, *self.error]).all():
            raise ValueError("spreads and errors are finite")
        if min(*self.spread, *self.error) <= 0 or np.any(np.diff(self.spread) <= 0) or np.any(np.diff(self.error) < 0):
            raise ValueError("spreads grow, errors never fall, all are above 0")
        levels, widths = self._levels_and_widths()
        if not (np.isfinite(widths).all() and np.all(np.diff(levels) > 0) and np.all(np.diff(widths) > 0)):
            raise ValueError("levels and widths grow, and are finite")
        if levels[-1] >= 1:
            raise ValueError("levels are below 1")
        far, errors = np.array([(0.0, 0.0), *self.hidden], dtype=np.float64).T
        if not np.isfinite([far, errors]).all() or np.any(np.diff(far) <= 0) or np.any(np.diff(errors) < 0):
            raise ValueError("distances of hidden pixels grow, their errors never fall")

    def calibrated(self, std: NDArray[np.float32], noise_std: float) -> NDArray[np.float32]:
        """Standard deviations such that 90 % of the truth lies within `NORMAL_90` of them around the restored image.

        Between the knots the map is linear in logarithms; beyond them it is proportional.

        Parameters
        ----------
        std : ndarray of float32
            Of samples, any shape.
        noise_std : float
            Standard deviation of the noise, same units.
        """
        knots = np.log(self.spread)
        spread = np.log(np.maximum(std / noise_std, 1e-6))
        inside = np.clip(spread, knots[0], knots[-1])
        error = np.interp(inside, knots, np.log(self.error)) + (spread - inside)
        return np.asarray(np.where(std > 0, np.exp(error) * noise_std, 0), dtype=np.float32)

    def width(self, level: float) -> float:
        """How many calibrated standard deviations to each side hold that share of the truth, 0 to below 1.

        Between the measured levels linear in the normal distribution's quantiles, beyond the last proportional.
        """
        levels, widths = self._levels_and_widths()
        return float(_along(_normal(levels), widths, _normal(np.array(level))))

    def as_normal(self, errors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Errors in calibrated standard deviations as those of a normal distribution that are as rare."""
        levels, widths = self._levels_and_widths()
        return np.asarray(np.sign(errors) * _along(widths, _normal(levels), np.abs(errors)), dtype=np.float32)

    def _levels_and_widths(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        measured = self.widths or ((0.9, NORMAL_90),)
        levels, widths = np.array([(0.0, 0.0), *measured], dtype=np.float64).T
        return levels, widths

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON."""
        pairs = {name: [list(pair) for pair in getattr(self, name)] for name in ("widths", "hidden")}
        return {"spread": list(self.spread), "error": list(self.error)} | pairs

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Calibration:
        """What `to_dict` described; KeyError, TypeError or ValueError where it describes none."""
        spread, error = (tuple(float(value) for value in saved[name]) for name in ("spread", "error"))
        # the first files had no widths, and those before filling had a network of its own nothing of what is hidden
        pairs = (tuple((float(a), float(b)) for a, b in saved.get(name, ())) for name in ("widths", "hidden"))
        return cls(spread, error, *pairs)


def _normal(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations to each side that hold so much of a normal distribution."""
    from scipy.special import ndtri

    return np.asarray(ndtri(0.5 + levels / 2))


def _along(x: NDArray[np.float64], y: NDArray[np.float64], at: NDArray[Any]) -> NDArray[np.float64]:
    """Linear between the points, proportional beyond the last."""
    return np.asarray(np.where(at > x[-1], at * (y[-1] / x[-1]), np.interp(at, x, y)))
