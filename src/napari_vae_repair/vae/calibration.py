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
    """

    spread: tuple[float, ...]
    error: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.spread or len(self.spread) != len(self.error):
            raise ValueError("as many errors as spreads, and one at least")
        if not np.isfinite([*self.spread, *self.error]).all():
            raise ValueError("spreads and errors are finite")
        if min(*self.spread, *self.error) <= 0 or np.any(np.diff(self.spread) <= 0) or np.any(np.diff(self.error) < 0):
            raise ValueError("spreads grow, errors never fall, all are above 0")

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

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON."""
        return {"spread": list(self.spread), "error": list(self.error)}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Calibration:
        """What `to_dict` described; KeyError, TypeError or ValueError where it describes none."""
        return cls(*(tuple(float(value) for value in saved[name]) for name in ("spread", "error")))
