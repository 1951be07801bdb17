"""What all pixels of a row, or of a column, have in common beyond the noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from napari_vae_repair.noise.record import NoiseModel

NEIGHBOURS = 5  # rows, or columns, whose median counts as the scene
NORMAL_MAD = 1.4826  # standard deviation of a normal distribution over its median absolute deviation
BELIEVED = 2.0  # times what noise alone would leave in the means


def stripes(noise: NoiseModel, planes: NDArray[np.float32], damaged: NDArray[np.bool_]) -> NoiseModel:
    """The noise model with the standard deviation of row and column offsets.

    Parameters
    ----------
    noise : NoiseModel
        In the units of the planes.
    planes : ndarray of float32
        ``(N, C, Y, X)``, finite.
    damaged : ndarray of bool
        ``(N, Y, X)``; left out.

    Notes
    -----
    Takes the deviations of the rows' means from the median of their neighbours, robustly, so that edges along rows
    count little; a regular grating along the rows is taken for stripes.
    """
    good = ~damaged[:, None] & np.ones(planes.shape, dtype=bool)
    std = float(np.sqrt(noise.variance(np.array(float(np.median(planes)))).item()))
    found = []
    for axis, correlation in ((3, noise.correlation[1]), (2, noise.correlation[0])):
        counts = good.sum(axis=axis)
        means = np.sum(planes, axis=axis, where=good, dtype=np.float64) / np.maximum(counts, 1)
        rough = np.abs(means - median_filter(means, (1, 1, NEIGHBOURS), mode="nearest"))[counts > 0]
        observed = NORMAL_MAD * float(np.median(rough)) if rough.size else 0.0
        # neighbours that share noise average out less: a Gaussian's correlation sums up to 1 + 2 sum of rho ** (d * d)
        longer = 1 + 2 * sum(max(correlation, 0.0) ** (lag * lag) for lag in range(1, 6))
        expected = std * float(np.sqrt(longer / max(float(np.median(counts)), 1.0)))
        found.append(float(np.sqrt(observed**2 - expected**2)) if observed > BELIEVED * expected else 0.0)
    rows, columns = found
    return replace(noise, stripes=(rows, columns))
