"""What the pixels of a restored channel say about it: scatter, residual, structure, defects; numbers without a verdict.

Planes are float32 ``(P, Y, X)``, colours as planes of their own; `good` is boolean of that shape, True = measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import correlate1d, maximum_filter, uniform_filter

from napari_vae_repair.noise.estimate import saturated
from napari_vae_repair.noise.record import NoiseModel

Planes = NDArray[np.float32]
Good = NDArray[np.bool_]

BLOCK_PX = 8
LAGS = 8
SCATTER_BINS, BLOCKS_PER_BIN, FLAT_SHARE = 16, 8, 0.3
# Noise that neighbours share hides from a narrow filter; pixels so far apart share hardly any (see `noise.estimate`)
SHARED, SPACING = 0.15, 3
MIDDLE_PX = 1 << 20  # values that are looked at, at most, where so many are more than enough
BRIGHTNESS_PX = 9  # side of the surroundings whose mean tells dark from bright parts
AROUND_PX = 33  # side of what tells the strength of noise that is not known


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a restoration, in the image's units.

    Attributes
    ----------
    prepared, restored, std : ndarray of float32
        ``(P, Y, X)``.
    good : ndarray of bool
        ``(P, Y, X)``, True = measured, not filled.
    noise : NoiseModel
        Of the channel.
    """

    prepared: Planes
    restored: Planes
    std: Planes
    good: Good
    noise: NoiseModel


@dataclass(frozen=True, slots=True)
class Scatter:
    """Noise variance over brightness, as the layer itself shows them.

    Attributes
    ----------
    mean : ndarray of float64
        ``(bins,)`` brightness.
    variance : ndarray of float64
        ``(bins,)`` of the noise there.
    blocks : int
        Blocks without damage and saturation, the flattest of which were taken.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    blocks: int


def scatter(planes: Planes, good: Good, correlation: tuple[float, float]) -> Scatter:
    """Variance over mean of flat blocks, without any model of how one depends on the other.

    Blocks of similar brightness are ranked by their roughness at low frequencies, and only the flattest count, so that
    edges are left out without preferring blocks whose noise happens to be weak; as level sets without edges do in Foi
    et al. 2008 (doi:10.1109/TIP.2008.2001399). Their noise is what the filter of Immerkaer 1996
    (doi:10.1006/cviu.1996.0060) leaves of them, over what it leaves of noise with that correlation.

    Parameters
    ----------
    planes, good
        See the module.
    correlation : tuple of float
        Of the noise of neighbours along y and x.

    Returns
    -------
    Scatter
        Empty where no block of 8 x 8 pixels is free of damage and saturation.
    """
    window = _middle(planes.shape, MIDDLE_PX)
    planes, good = planes[window], good[window]
    spacing = 1 if max(correlation) < SHARED else SPACING
    mean, variance, rough = _flatness(planes, good, spacing)
    seen = [_autocovariance(along, spacing) for along in correlation]
    # a median of mean squares lies below their mean (Wilson and Hilferty 1931, doi:10.1073/pnas.17.12.684)
    freedom = BLOCK_PX**2 / np.prod([1 + 2 * np.sum((along[1:] / along[0]) ** 2) for along in seen])
    per_square = seen[0][0] * seen[1][0] * (1 - 2 / (9 * freedom)) ** 3
    parts = np.array_split(np.argsort(mean), min(SCATTER_BINS, len(mean) // BLOCKS_PER_BIN or 1))
    flat = [part[np.argsort(rough[part])[: int(np.ceil(FLAT_SHARE * len(part)))]] for part in parts if len(part)]
    return Scatter(
        np.array([mean[part].mean() for part in flat]),
        np.array([np.median(variance[part]) / per_square for part in flat]),
        len(mean),
    )


def _flatness(
    planes: Planes, good: Good, spacing: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, mean square behind the filter, and roughness of each block without damage and saturation.

    The roughness is the variance of the means of a block's quarters: low frequencies, which the filter does not pass.
    """
    lost = np.stack([saturated(plane, ~known) for plane, known in zip(planes, good, strict=True)])
    if lost.mean() > 0.5:  # single photons: most values are the smallest, and measured all the same
        lost = ~good
    if lost.any():
        lost = maximum_filter(lost, size=(1, 2 * spacing + 1, 2 * spacing + 1), mode="nearest")
    usable = ~blocks(lost).any(axis=-1)
    taps = np.zeros(2 * spacing + 1, dtype=np.float32)
    taps[::spacing] = (1, -2, 1)
    detail = correlate1d(correlate1d(planes, taps, axis=1, mode="mirror"), taps, axis=2, mode="mirror")
    cells, half = blocks(planes)[usable], BLOCK_PX // 2
    quarters = cells.reshape(-1, 2, half, 2, half).mean(axis=(2, 4), dtype=np.float64).reshape(-1, 4)
    squares = np.square(blocks(detail)[usable]).mean(axis=-1, dtype=np.float64)
    return quarters.mean(axis=1), squares, quarters.var(axis=1)


def _middle(shape: tuple[int, ...], most: int) -> tuple[slice, ...]:
    """Index of the middle of each plane, and of as many planes at equal steps as make up so many values at most."""
    side = int(np.sqrt(most)) // BLOCK_PX * BLOCK_PX
    starts = [max(0, (length - side) // 2) for length in shape[1:]]
    size = shape[0] * min(side, shape[1]) * min(side, shape[2])
    return (slice(None, None, -(-size // most)), *(slice(start, start + side) for start in starts))


def _autocovariance(correlation: float, spacing: int) -> NDArray[np.float64]:
    """Of the filtered noise along an axis, 0 to 7 pixels apart; the noise's falls as ``correlation ** (d * d)``."""
    lag = np.arange(BLOCK_PX)[:, None, None] + spacing * np.subtract.outer(np.arange(3), np.arange(3))
    shared = max(correlation, 0.0) ** (lag.astype(np.float64) ** 2)
    return np.asarray(np.einsum("i,j,dij->d", (1, -2, 1), (1, -2, 1), shared))


def blocks(planes: NDArray[np.generic]) -> NDArray[np.generic]:
    """``(P, rows, columns, BLOCK_PX ** 2)`` of whole blocks, from ``(P, Y, X)``."""
    count, height, width = planes.shape[0], planes.shape[1] // BLOCK_PX, planes.shape[2] // BLOCK_PX
    cut = planes[:, : height * BLOCK_PX, : width * BLOCK_PX]
    split = cut.reshape(count, height, BLOCK_PX, width, BLOCK_PX).swapaxes(2, 3)
    return split.reshape(count, height, width, BLOCK_PX**2)


def expected_correlation(correlation: tuple[float, float]) -> NDArray[np.float64]:
    """``(17, 17)`` that noise of a model has at lags -8 to 8 along y and x: Gaussian, as the model says."""
    lag = np.arange(-LAGS, LAGS + 1, dtype=np.float64)
    along_y, along_x = (max(value, 0.0) ** (lag**2) for value in correlation)
    return np.outer(along_y, along_x)


def autocorrelation(residual: Planes, good: Good) -> tuple[NDArray[np.float64], int]:
    """``(17, 17)`` at lags -8 to 8 along y and x, NaN where no two pixels lie so far apart; and how many values it saw.

    Pairs with a pixel that was not measured are left out. Large planes are seen in their middle.
    """
    window = _middle(residual.shape, MIDDLE_PX)
    residual, good = residual[window], good[window]
    shape = [next_fast_len(length + LAGS, real=True) for length in residual.shape[1:]]
    mean = residual.mean(where=good, dtype=np.float64) if good.any() else 0.0
    deviation = np.where(good, residual - np.float32(mean), np.float32(0))
    products, pairs = (_summed_products(values, shape) for values in (deviation, good.astype(np.float32)))
    pairs = np.round(pairs)
    covariance = np.divide(products, pairs, out=np.full_like(products, np.nan), where=pairs >= 1)
    variance = covariance[LAGS, LAGS]
    known = np.isfinite(variance) and variance > 0
    return covariance / variance if known else np.full_like(covariance, np.nan), int(good.sum())


def _summed_products(planes: Planes, shape: list[int]) -> NDArray[np.float64]:
    """``(17, 17)`` of each plane with itself, shifted; padded so that nothing wraps round."""
    power = np.zeros((shape[0], shape[1] // 2 + 1))
    for plane in planes:
        power += np.abs(rfft2(plane, shape)) ** 2
    lags = np.arange(-LAGS, LAGS + 1)
    return np.asarray(irfft2(power, shape)[np.ix_(lags % shape[0], lags % shape[1])], dtype=np.float64)


def structure(
    residual: Planes, good: Good, correlation: tuple[float, float], stripes: tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.float64]:
    """``(P, rows, columns)``: mean of the residual of each block over the standard error that noise alone would give.

    What a method took away should look like noise, without anything of the scene (Buades, Coll & Morel 2005,
    doi:10.1137/040616024). Means of blocks are normal with variance 1 then, whatever the noise's strength: as in an
    analysis of variance (Fisher 1925) it is taken from the spread within the blocks. NaN with less than half measured.

    Parameters
    ----------
    residual, good
        See the module; best over the standard deviation that the noise has at each pixel.
    correlation : tuple of float
        Of the noise of neighbours along y and x.
    stripes : tuple of float
        Standard deviation of the offsets that rows and columns have of their own, in the residual's units.
    """
    cells, known = blocks(residual), blocks(good)
    count = known.sum(axis=-1)
    enough = count * 2 >= BLOCK_PX**2
    if not enough.any():
        return np.full(count.shape, np.nan)
    whole = np.where(known, cells, np.float32(0)) if not known.all() else cells
    mean = whole.sum(axis=-1, dtype=np.float64) / np.maximum(count, 1)
    within = np.square(whole).sum(axis=-1, dtype=np.float64) / np.maximum(count, 1) - mean**2
    distance = np.arange(1, BLOCK_PX)
    longer = np.prod(
        [1 + 2 * np.sum((1 - distance / BLOCK_PX) * max(c, 0.0) ** (distance.astype(float) ** 2)) for c in correlation]
    )
    shared = longer / np.maximum(count, longer)
    variance = float(np.median((within / np.maximum(1 - shared, 1e-3))[enough]))
    of_stripes = float(stripes[0] ** 2 + stripes[1] ** 2) / BLOCK_PX
    error = np.sqrt(np.maximum(variance * shared + of_stripes, 0))
    # noise has no mean; what is left of one is told by how much was taken away
    mean -= float(np.median(mean[enough]))
    return np.asarray(np.divide(mean, error, out=np.full(mean.shape, np.nan), where=enough & (error > 0)))


def over_noise(channel: Channel, *, known: bool) -> Planes:
    """The residual over the standard deviation of the noise at each pixel, ``(P, Y, X)``.

    Parameters
    ----------
    channel : Channel
    known : bool
        Whether the noise is known in the channel's units; else its strength is taken from the residual around.
    """
    residual = channel.prepared - channel.restored
    if known:
        variance = channel.noise.variance(channel.restored)
    else:
        variance = uniform_filter(np.square(residual), (1, AROUND_PX, AROUND_PX), mode="mirror")
    largest = float(variance.max(initial=0.0))
    return np.asarray(residual / np.sqrt(np.maximum(variance, max(1e-12 * largest, 1e-30))), dtype=np.float32)


def taken_away(channel: Channel) -> float:
    """Mean square of the residual over the mean variance of the noise; NaN where there is no noise."""
    good = channel.good
    squares = float(np.square(channel.prepared - channel.restored).mean(where=good, dtype=np.float64))
    variance = float(channel.noise.variance(channel.restored).mean(where=good, dtype=np.float64))
    return squares / variance if variance > 0 else float("nan")


def closure(channel: Channel) -> tuple[NDArray[np.float64], float]:
    """Squared residual plus squared std over the noise's variance, in dark, middle and bright parts, a third each.

    1 where noise and uncertainty are right: the error of the best estimate is uncorrelated with whatever was computed
    from the image, so that the residual's variance is the noise's less the error's (orthogonality; for Gaussian noise
    Stein 1981, doi:10.1214/aos/1176345632, says the same). Brightness is that of the surroundings, since pixels that
    are bright themselves are so by their noise too.

    Returns
    -------
    ndarray of float64
        ``(3,)``, NaN for parts of less than 64 pixels.
    float
        Squared std over the noise's variance in all: how much of the above the uncertainty makes up.
    """
    part = _middle(channel.restored.shape, MIDDLE_PX)
    good = channel.good[part]
    restored, std = (values[part][good].astype(np.float64) for values in (channel.restored, channel.std))
    residual = channel.prepared[part][good] - restored
    brightness = uniform_filter(channel.restored[part], (1, BRIGHTNESS_PX, BRIGHTNESS_PX), mode="mirror")[good]
    third = np.searchsorted(np.quantile(brightness, [1 / 3, 2 / 3]), brightness)
    counts = np.bincount(third, minlength=3)
    explained = np.bincount(third, residual**2 + std**2, minlength=3)
    noise = np.bincount(third, channel.noise.variance(restored), minlength=3)
    known = (counts >= BLOCK_PX**2) & (noise > 0)
    share = float(np.square(std).sum() / noise.sum()) if noise.sum() > 0 else float("nan")
    return np.divide(explained, noise, out=np.full(3, np.nan), where=known), share
