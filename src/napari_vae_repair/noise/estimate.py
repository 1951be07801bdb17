"""Gain and read noise from the pixels of a layer alone.

Blocks of similar brightness are compared: the quieter ones among them show the noise, the others also texture. The
line through variance over mean is the Poisson-Gaussian model (Foi et al. 2008, doi:10.1109/TIP.2008.2001399). A
high-pass filter sees only a part of noise that neighbours share; which part follows from the correlation, which must
come from elsewhere (`vae.inspection`). Taken for white, noise with a correlation of 0.7 seems five times too weak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import toeplitz
from scipy.ndimage import convolve
from scipy.optimize import nnls
from scipy.stats import chi2

from napari_vae_repair.image.measured import measured_sample
from napari_vae_repair.noise.record import NoiseModel

BLOCK_PX = 8
FEWEST_BLOCKS = 4
BINS = 16
MAX_PIXELS = 4_000_000
QUIET_SHARE = 0.3  # quantile of the block variances of one brightness that is taken for noise alone
SHARED = 0.15  # correlation of neighbours from which on pixels further apart are compared
# so far: on held-out scenes with broad noise, 2, 3 and 4 pixels missed its strength by 19, 12 and 15 %
SPACING = 3
SMALLEST_NOISE = 1e-3  # of the range of the values: an image without noise still gets a finite likelihood
_TAPS = (1, -2, 1)  # along each axis (Immerkaer 1996)


@dataclass(frozen=True, slots=True)
class _HighPass:
    """A filter that texture hardly passes, and what becomes of the noise in it.

    Attributes
    ----------
    kernel : ndarray of float32
        Of unit gain for white noise.
    seen : float
        Variance that it leaves of noise of variance 1.
    quiet : float
        The `QUIET_SHARE` quantile, over blocks, of the mean square over that variance.
    """

    kernel: NDArray[np.float32]
    seen: float
    quiet: float

    @classmethod
    def of(cls, correlation: tuple[float, float]) -> _HighPass:
        """With gaps between its taps where neighbours share much of their noise."""
        spacing = 1 if max(correlation) < SHARED else SPACING
        side = 2 * spacing + 1
        kernel = np.zeros((side, side), dtype=np.float32)
        kernel[::spacing, ::spacing] = np.outer(_TAPS, _TAPS) / 6
        y, x = (_covariance(max(along, 0.0), spacing) for along in correlation)
        return cls(kernel, float(y[0] * x[0] / 36), _quiet_quantile(y, x))


def _quiet_quantile(y: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    """Of the mean square of a block over its expectation, by three moments (Hall 1983, Annals of Probability 11).

    `y` and `x` are the covariances along each axis, whose products' eigenvalues weigh independent squares.
    """
    weights = np.outer(*(np.linalg.eigvalsh(toeplitz(along / along[0])) for along in (y, x))) / BLOCK_PX**2
    second, third = float((weights**2).sum()), float((weights**3).sum())
    freedom = second**3 / third**2
    return float(1 + np.sqrt(second / freedom) * (chi2.ppf(QUIET_SHARE, freedom) - freedom))


def _covariance(correlation: float, spacing: int) -> NDArray[np.float64]:
    """Along one axis, of filtered noise 0 to `BLOCK_PX` - 1 pixels apart."""
    lag = np.arange(BLOCK_PX)[:, None, None] + spacing * np.subtract.outer(np.arange(3), np.arange(3))
    return np.asarray(np.einsum("i,j,dij->d", _TAPS, _TAPS, correlation ** (lag.astype(np.float64) ** 2)))


def estimate_noise(
    planes: NDArray[np.float32], damaged: NDArray[np.bool_], correlation: tuple[float, float] = (0.0, 0.0)
) -> NoiseModel:
    """Poisson-Gaussian noise of the given planes, in their units.

    Parameters
    ----------
    planes : ndarray of float32
        ``(N, C, Y, X)``, finite everywhere.
    damaged : ndarray of bool
        ``(N, Y, X)``; these pixels are left out, as are pixels at the extremes where many share one value (saturation).
    correlation : tuple of float
        Of the noise of neighbours along y and x; taken to fall with distance ``d`` as ``correlation ** (d * d)``.

    Returns
    -------
    NoiseModel
        With ``offset`` at the darkest brightness found, and gain 0 where signal dependence cannot be told. Its
        source is "assumed" where fewer than `FEWEST_BLOCKS` are undamaged.

    Notes
    -----
    Fails on texture without any flat region.
    """
    high_pass = _HighPass.of(correlation)
    mean, variance = _block_statistics(planes, damaged, high_pass.kernel, saturated)
    if mean.size < FEWEST_BLOCKS:  # single photons: most values are the smallest, and measured all the same
        mean, variance = _block_statistics(planes, damaged, high_pass.kernel, _damaged_alone)
    variance /= high_pass.seen
    low, high = np.percentile(measured_sample(planes, damaged), [0.5, 99.5])
    floor = SMALLEST_NOISE * max(float(high - low), float(np.finfo(np.float32).eps) * max(abs(low), abs(high), 1.0))
    if mean.size < FEWEST_BLOCKS:
        return NoiseModel(0.0, floor, source="assumed", correlation=correlation)
    levels, noise = _quiet_variance(mean, variance, high_pass.quiet)
    offset = float(levels[0])
    gain, at_offset = _fit_line(levels - offset, noise)
    if gain * float(levels[-1] - offset) < 0.25 * at_offset:
        gain, at_offset = 0.0, float(np.median(noise))
    return NoiseModel(gain, float(np.sqrt(max(at_offset, floor**2))), offset, correlation=correlation)


def _block_statistics(
    planes: NDArray[np.float32],
    damaged: NDArray[np.bool_],
    kernel: NDArray[np.float32],
    unusable: Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.bool_]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and high-pass variance of each block without any unusable pixel."""
    height, width = (side // BLOCK_PX * BLOCK_PX for side in planes.shape[2:])
    count = max(1, MAX_PIXELS // (planes.shape[1] * height * width))
    chosen = np.unique(np.linspace(0, len(planes) - 1, min(count, len(planes))).astype(int))
    means, variances = [], []
    for index in chosen:
        for plane in planes[index]:
            rows = _centred_rows(height, MAX_PIXELS // width)
            values = plane[rows, :width]
            lost = unusable(values, damaged[index][rows, :width])
            # a high-pass value next to a lost pixel is lost too
            touched = convolve(lost.astype(np.uint8), np.ones(kernel.shape, np.uint8), mode="nearest") > 0
            usable = ~_blocks(touched).any(axis=1)
            means.append(_blocks(values)[usable].mean(axis=1, dtype=np.float64))
            variances.append(
                (_blocks(convolve(values, kernel, mode="reflect"))[usable].astype(np.float64) ** 2).mean(axis=1)
            )
    return np.concatenate(means), np.concatenate(variances)


def _centred_rows(height: int, at_most: int) -> slice:
    """A centred band of rows, whole blocks high."""
    rows = min(height, max(at_most // BLOCK_PX, 1) * BLOCK_PX)
    start = (height - rows) // 2 // BLOCK_PX * BLOCK_PX
    return slice(start, start + rows)


def _blocks(plane: NDArray[np.generic]) -> NDArray[np.generic]:
    """``(blocks, BLOCK_PX ** 2)`` from ``(Y, X)`` of whole blocks."""
    height, width = plane.shape
    split = plane.reshape(height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)
    return split.swapaxes(1, 2).reshape(-1, BLOCK_PX**2)


def saturated(values: NDArray[np.float32], damaged: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Damaged pixels, and those at the smallest or largest value where at least one in a thousand shares it."""
    lost = damaged.copy()
    measured = values[~damaged]
    for extreme in (measured.min(), measured.max()) if measured.size else ():
        same = values == extreme
        if same.mean() > 1e-3:
            lost |= same
    return lost


def _damaged_alone(values: NDArray[np.float32], damaged: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return damaged


def _quiet_variance(
    mean: NDArray[np.float64], variance: NDArray[np.float64], quantile: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For up to `BINS` levels of brightness: the mean and the noise variance of its quiet blocks."""
    order = np.argsort(mean)
    parts = np.array_split(order, min(BINS, max(1, len(order) // 16)))
    levels = np.array([mean[part].mean() for part in parts])
    quiet = np.array([np.quantile(variance[part], QUIET_SHARE) for part in parts]) / quantile
    return levels, quiet


def _fit_line(level: NDArray[np.float64], variance: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept, both at least 0, of a line that outliers above it (texture) hardly pull."""
    weight = 1 / np.maximum(variance, variance.max() * 1e-6 + 1e-300)
    slope = intercept = 0.0
    for _ in range(8):
        design = np.stack([level, np.ones_like(level)], axis=1) * weight[:, None]
        (slope, intercept), _ = nnls(design, variance * weight)
        fitted = np.maximum(slope * level + intercept, 1e-300)
        excess = np.maximum(variance / fitted - 1.2, 0)
        weight = 1 / (fitted * (1 + 10 * excess))
    return float(slope), float(intercept)
