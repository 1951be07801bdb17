"""`NoiseModel`: Poisson-Gaussian noise as three numbers, in whatever units the values have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
        Where the numbers come from: "estimated", "given" or "learned".
    """

    gain: float
    read_noise: float
    offset: float = 0.0
    source: str = "estimated"

    def variance(self, clean: NDArray[np.floating]) -> NDArray[np.floating]:
        """Noise variance at each clean value, same shape."""
        return np.asarray(self.gain * np.maximum(clean - self.offset, 0) + self.read_noise**2)

    def rescaled(self, scale: float, offset: float) -> NoiseModel:
        """The same noise for values ``scale * value + offset``; `scale` is above 0."""
        return NoiseModel(self.gain * scale, self.read_noise * scale, self.offset * scale + offset, self.source)

    def to_dict(self) -> dict[str, float | str]:
        """A dict for JSON."""
        return {"gain": self.gain, "read_noise": self.read_noise, "offset": self.offset, "source": self.source}
