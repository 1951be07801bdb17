"""`NoiseModel`: what is known of the noise, in whatever units the values have, and how far to trust it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

_Grade = Literal["good", "doubtful", "bad"]


@dataclass(frozen=True, slots=True)
class Grade:
    """How far one number of a noise model can be trusted.

    Attributes
    ----------
    quantity : str
        "strength", "signal dependence", "correlation" or "stripes".
    grade : {"good", "doubtful", "bad"}
        Use it; look at it; give it yourself.
    reason : str
        In one line, why.
    """

    quantity: str
    grade: _Grade
    reason: str


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Variance of a measured value as a function of the clean value: ``gain * max(s - offset, 0) + read_noise ** 2``.

    Attributes
    ----------
    gain : float
        Value units per detected photon; 0 = Gaussian noise.
    read_noise : float
        Standard deviation at `offset`, in value units.
    offset : float
        Value from which signal counts (darkness), in value units.
    source : str
        Where the numbers come from: "estimated", "given", "learned", or "assumed" where nothing could be measured.
    correlation : tuple of float
        Of the noise of neighbouring pixels, along y and along x.
    stripes : tuple of float
        Standard deviation of what all pixels of a row, and all of a column, have in common beyond the noise, in
        value units.
    grades : tuple of Grade
        For estimated numbers; empty where nothing was judged.
    """

    gain: float
    read_noise: float
    offset: float = 0.0
    source: str = "estimated"
    correlation: tuple[float, float] = (0.0, 0.0)
    stripes: tuple[float, float] = (0.0, 0.0)
    grades: tuple[Grade, ...] = ()

    def variance(self, clean: NDArray[np.floating]) -> NDArray[np.floating]:
        """Noise variance at each clean value, same shape."""
        return np.asarray(self.gain * np.maximum(clean - self.offset, 0) + self.read_noise**2)

    def rescaled(self, scale: float, offset: float) -> NoiseModel:
        """The same noise for values ``scale * value + offset``; `scale` is above 0."""
        return replace(
            self,
            gain=self.gain * scale,
            read_noise=self.read_noise * scale,
            offset=self.offset * scale + offset,
            stripes=(self.stripes[0] * scale, self.stripes[1] * scale),
        )

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON."""
        return {
            "gain": self.gain,
            "read_noise": self.read_noise,
            "offset": self.offset,
            "source": self.source,
            "correlation": list(self.correlation),
            "stripes": list(self.stripes),
            "grades": [{"quantity": g.quantity, "grade": g.grade, "reason": g.reason} for g in self.grades],
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> NoiseModel:
        """The model that `to_dict` described; TypeError, KeyError or ValueError where it describes none."""
        entries = dict(saved)
        for name in ("gain", "read_noise", "offset"):
            if name in entries:
                entries[name] = _finite(entries[name])
        for name in ("correlation", "stripes"):
            if name in entries:
                along_y, along_x = entries[name]
                entries[name] = _finite(along_y), _finite(along_x)
        grades = tuple(Grade(**grade) for grade in entries.get("grades", ()))
        texts = [entries.get("source", ""), *(text for g in grades for text in (g.quantity, g.reason))]
        if not all(isinstance(text, str) for text in texts) or any(g.grade not in get_args(_Grade) for g in grades):
            raise TypeError("the noise is not told in words that are known")
        entries["grades"] = grades
        return cls(**entries)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"the noise holds {str(value)[:50]!r}, which is no finite number")
    return float(value)
