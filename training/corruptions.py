"""What microscopes and cameras do to a scene, with the exact truth of every parameter.

A corruption is drawn first, as a record, and applied afterwards: the truth is what was drawn, never what was measured.
Values are those of the scene, 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from scipy.ndimage import correlate1d, gaussian_filter, zoom

Rng = np.random.Generator
Plane = NDArray[np.float32]
Correlation = Literal["white", "isotropic", "rows", "columns", "demosaiced", "compressed", "upsampled"]

FAINTEST, STRONGEST = 0.004, 0.8  # noise at the reference brightness, in shares of the scene's range
VISIBLE, HEAVY = 0.015, 0.5  # between these, most noise that is worth removing
VISIBLE_SHARE, CORRELATED_SHARE = 0.8, 0.28
SLIGHTLY_SHARED = 0.12  # of plain noise
SLIGHT_EXTENT = (0.3, 0.4)  # of kernels by which neighbours share 0.01 to 0.09 of the noise
SMALLEST_RANGE = 0.15  # of a flat scene, whose noise would else be drawn for hardly any contrast
_BLOCK = 8  # side of the cosine transform's blocks, in pixels


@dataclass(frozen=True, slots=True)
class Corruption:
    """Everything that happens to one scene but its marked damage.

    Attributes
    ----------
    gain, read_noise : float
        Noise of variance ``gain * clean + read_noise ** 2``.
    correlation : str
        How neighbouring pixels share noise.
    extent : float
        Of the correlation: standard deviation of the kernel in pixels; cut-off in cycles per block for "compressed";
        zoom for "upsampled"; unused for the others.
    broad, breadth : float
        Share of the variance that noise of a longer reach has, and its kernel's standard deviation in pixels.
    rows, columns : float
        Standard deviation of an offset of each row and of each column.
    impulses : float
        Share of pixels at an extreme (salt and pepper, hot, dead).
    black, white : float
        Where values are cut off; -inf and inf where they are not.
    step : float
        Of the quantisation; 0 = none.
    """

    gain: float
    read_noise: float
    correlation: Correlation = "white"
    extent: float = 0.0
    broad: float = 0.0
    breadth: float = 1.0
    rows: float = 0.0
    columns: float = 0.0
    impulses: float = 0.0
    black: float = -np.inf
    white: float = np.inf
    step: float = 0.0

    def std(self, clean: Plane) -> Plane:
        """Standard deviation of the noise at each clean value."""
        return np.sqrt(self.gain * np.maximum(clean, 0) + self.read_noise**2).astype(np.float32)

    @property
    def neighbours(self) -> tuple[float, float]:
        """Correlation of the noise of neighbours along y and along x."""
        near = _neighbours(self.correlation, self.extent)
        far = float(np.exp(-1 / (4 * self.breadth**2)))
        return ((1 - self.broad) * near[0] + self.broad * far, (1 - self.broad) * near[1] + self.broad * far)


@dataclass(frozen=True, slots=True)
class Corrupted:
    """A corrupted plane.

    Attributes
    ----------
    noisy : ndarray of float32
        ``(Y, X)``.
    std : ndarray of float32
        ``(Y, X)`` standard deviation of the noise.
    counted : ndarray of bool
        ``(Y, X)``: where noise of that standard deviation is all that happened.
    hit : ndarray of bool
        ``(Y, X)``: where an impulse took the pixel's place.
    """

    noisy: Plane
    std: Plane
    counted: NDArray[np.bool_]
    hit: NDArray[np.bool_]


def draw_corruption(rng: Rng, clean: Plane, *, quiet: bool = False, correlated: float = CORRELATED_SHARE) -> Corruption:
    """A corruption for a scene, from barely visible to far stronger than the signal; if `quiet`, barely visible.

    `correlated` is the share of noise that neighbours share.
    """
    low, high = (float(value) for value in np.percentile(clean, [0.5, 99.5]))
    span = max(high - low, SMALLEST_RANGE)
    weakest, strongest = (VISIBLE, HEAVY) if rng.random() < VISIBLE_SHARE else (FAINTEST, STRONGEST)
    if quiet:
        weakest, strongest = FAINTEST / 4, VISIBLE
    sigma = span * np.exp(rng.uniform(np.log(weakest), np.log(strongest)))
    share = rng.choice([0.0, 1.0, rng.uniform(0.1, 1.0)], p=[0.45, 0.2, 0.35])
    gain, read_noise = _gain_and_read_noise(clean, high, float(sigma), float(share))
    out = Corruption(gain, read_noise + 1e-3 * span)
    if rng.random() < correlated:
        out = replace(out, **_draw_correlation(rng))
        if rng.random() < 0.4:
            out = replace(out, broad=rng.uniform(0.1, 0.6), breadth=rng.uniform(1.2, 4))
    elif rng.random() < 0.1:
        out = replace(out, broad=rng.uniform(0.02, 0.15), breadth=rng.uniform(1.2, 4))
    if rng.random() < 0.06:
        stripes = sigma * rng.uniform(0.2, 1.5)
        out = replace(out, rows=stripes) if rng.random() < 0.5 else replace(out, columns=stripes)
    if rng.random() < 0.06:
        out = replace(out, impulses=10 ** rng.uniform(-4, -1.5))
    if rng.random() < 0.18:
        out = replace(out, black=low - rng.choice([0.0, rng.uniform(0, 2)]) * sigma)
    if rng.random() < 0.08:
        out = replace(out, white=low + (high - low) * rng.uniform(0.7, 1.1))
    if rng.random() < 0.3:
        out = replace(out, step=span / rng.choice([255, 255, 128, 64, 32]))
    return out


def draw_plain_noise(rng: Rng, clean: Plane) -> Corruption:
    """White noise that one would want removed, Gaussian or Poisson-Gaussian, and nothing else.

    Some of it is not quite white: neighbours share at most 0.1 of it, as an estimate may not tell.
    """
    low, high = (float(value) for value in np.percentile(clean, [0.5, 99.5]))
    sigma = max(high - low, SMALLEST_RANGE) * np.exp(rng.uniform(np.log(VISIBLE), np.log(HEAVY)))
    share = rng.choice([0.0, rng.uniform(0.1, 1.0)], p=[0.65, 0.35])
    out = Corruption(*_gain_and_read_noise(clean, high, float(sigma), float(share)))
    if rng.random() >= SLIGHTLY_SHARED:
        return out
    if rng.random() < 0.5:
        return replace(out, broad=rng.uniform(0.02, 0.1), breadth=rng.uniform(1, 2))
    kind: Correlation = rng.choice(["isotropic", "rows", "columns"])
    return replace(out, correlation=kind, extent=float(np.round(rng.uniform(*SLIGHT_EXTENT), 2)))


def _gain_and_read_noise(clean: Plane, high: float, sigma: float, share: float) -> tuple[float, float]:
    """Of noise of standard deviation `sigma`, of whose variance photons make the `share`."""
    # at a brightness between the mean and the brightest, so that dark scenes are not all noise
    reference = max(0.5 * (float(clean.mean()) + high), 1e-3)
    return share * sigma**2 / reference, float(np.sqrt(1 - share)) * sigma


def _draw_correlation(rng: Rng) -> dict[str, object]:
    kind = rng.choice(
        ["isotropic", "rows", "columns", "demosaiced", "compressed", "upsampled"], p=[0.45, 0.1, 0.1, 0.1, 0.1, 0.15]
    )
    extent = {
        "isotropic": rng.uniform(0.3, 1.3),
        "rows": rng.uniform(0.3, 1.3),
        "columns": rng.uniform(0.3, 1.3),
        "compressed": rng.choice([3.0, 4.0, 5.0, 6.0]),
        "upsampled": rng.choice([1.25, 1.5, 2.0]),
    }.get(kind, 0.0)
    return {"correlation": str(kind), "extent": float(np.round(extent, 2))}


def corrupt(clean: Plane, corruption: Corruption, rng: Rng) -> Corrupted:
    """The clean plane ``(Y, X)`` with the corruption's noise, stripes, impulses, saturation and quantisation."""
    std = corruption.std(clean)
    noisy = clean + _noise(clean, std, corruption, rng)
    noisy += (corruption.rows * rng.standard_normal((clean.shape[0], 1))).astype(np.float32)
    noisy += (corruption.columns * rng.standard_normal((1, clean.shape[1]))).astype(np.float32)
    counted = np.full(clean.shape, corruption.rows == 0 and corruption.columns == 0)
    counted &= (noisy > corruption.black) & (noisy < corruption.white)
    noisy = np.clip(noisy, corruption.black, corruption.white)
    hit = rng.random(clean.shape) < corruption.impulses
    if hit.any():
        noisy[hit] = _extremes(noisy, int(hit.sum()), rng)
    if corruption.step:
        noisy = np.round(noisy / corruption.step) * corruption.step
    std = np.hypot(std, corruption.step / np.sqrt(12)).astype(np.float32)
    return Corrupted(noisy.astype(np.float32), std, counted & ~hit, hit)


def _noise(clean: Plane, std: Plane, corruption: Corruption, rng: Rng) -> Plane:
    brightest = float(clean.max())
    if corruption.correlation == "white" and corruption.broad == 0 and 0 < brightest < 1e4 * corruption.gain:
        photons = rng.poisson(np.maximum(clean, 0) / corruption.gain) * corruption.gain
        shot = photons - np.maximum(clean, 0)
        return np.asarray(shot + corruption.read_noise * rng.standard_normal(clean.shape), dtype=np.float32)
    noise = unit_noise(corruption.correlation, corruption.extent, clean.shape, rng)
    if corruption.broad > 0:
        noise *= np.float32(np.sqrt(1 - corruption.broad))
        noise += np.float32(np.sqrt(corruption.broad)) * _broad_noise(corruption.breadth, clean.shape, rng)
    return std * noise


def _extremes(noisy: Plane, count: int, rng: Rng) -> Plane:
    """Dead, hot or both."""
    low, high = float(noisy.min()), float(noisy.max())
    hot = rng.random(count) < rng.choice([0.0, 0.5, 1.0])
    beyond = rng.uniform(0, 1) * (high - low)
    return np.where(hot, high + beyond * rng.random(count), low).astype(np.float32)


# ---- correlated noise --------------------------------------------------------------------------


def unit_noise(kind: Correlation, extent: float, shape: tuple[int, int], rng: Rng) -> Plane:
    """Normal noise of variance 1 on average over the plane, correlated between neighbours as `kind` says."""
    margin = _BLOCK
    raw = rng.standard_normal((shape[0] + 2 * margin, shape[1] + 2 * margin)).astype(np.float32)
    spread = {
        "white": _as_it_is,
        "isotropic": _blurred_both,
        "rows": _blurred_x,
        "columns": _blurred_y,
        "demosaiced": _demosaiced,
        "compressed": _compressed,
        "upsampled": _upsampled,
    }[kind](raw, extent)
    y, x = rng.integers(0, margin, 2)
    return np.asarray(spread[y : y + shape[0], x : x + shape[1]], dtype=np.float32)


def _broad_noise(breadth: float, shape: tuple[int, int], rng: Rng) -> Plane:
    """Normal noise of variance 1, blurred by a Gaussian."""
    margin = int(np.ceil(3 * breadth))
    raw = rng.standard_normal((shape[0] + 2 * margin, shape[1] + 2 * margin)).astype(np.float32)
    blurred = gaussian_filter(raw, breadth, truncate=3)[margin:-margin, margin:-margin]
    return np.asarray(blurred * np.float32(2 * np.sqrt(np.pi) * breadth), dtype=np.float32)


def _as_it_is(raw: Plane, extent: float) -> Plane:
    return raw


def _kernel(extent: float) -> NDArray[np.float64]:
    """Gaussian, of unit gain for the variance of white noise."""
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / extent) ** 2)
    return np.asarray(kernel / np.sqrt((kernel**2).sum()))


def _blurred_x(raw: Plane, extent: float) -> Plane:
    return np.asarray(correlate1d(raw, _kernel(extent), axis=1, mode="wrap"))


def _blurred_y(raw: Plane, extent: float) -> Plane:
    return np.asarray(correlate1d(raw, _kernel(extent), axis=0, mode="wrap"))


def _blurred_both(raw: Plane, extent: float) -> Plane:
    return _blurred_y(_blurred_x(raw, extent), extent)


def _demosaiced(raw: Plane, extent: float) -> Plane:
    """Every other site of a chequerboard is the mean of its four neighbours, as the green of a Bayer pattern."""
    neighbours = sum(np.roll(raw, shift, axis) for axis in (0, 1) for shift in (-1, 1)) / np.float32(4)
    missing = np.indices(raw.shape).sum(axis=0) % 2 == 1
    return np.where(missing, neighbours, raw) / np.float32(np.sqrt((1 + 1 / 4) / 2))


def _compressed(raw: Plane, extent: float) -> Plane:
    """High frequencies of each block quantised away, as by JPEG."""
    height, width = (side // _BLOCK * _BLOCK for side in raw.shape)
    blocks = raw[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    frequency = np.hypot(*np.meshgrid(np.arange(_BLOCK), np.arange(_BLOCK), indexing="ij"))
    kept = (1 / (1 + (frequency / extent) ** 6)).astype(np.float32)
    spectrum = dctn(blocks, axes=(1, 3), norm="ortho") * kept[None, :, None, :]
    out = idctn(spectrum, axes=(1, 3), norm="ortho").reshape(height, width)
    return np.asarray(out / np.sqrt((kept**2).mean()), dtype=np.float32)


def _upsampled(raw: Plane, extent: float) -> Plane:
    """Measured on a coarser grid and interpolated linearly."""
    coarse = tuple(int(np.ceil(side / extent)) + 1 for side in raw.shape)
    fine = zoom(raw[: coarse[0], : coarse[1]], extent, order=1)
    # the variance of linear interpolation, averaged over positions between the sites, is 2/3 along each axis
    return np.asarray(fine[: raw.shape[0], : raw.shape[1]] * np.float32(1.5), dtype=np.float32)


_MEASURED: dict[tuple[str, float], tuple[float, float]] = {}


def _neighbours(kind: Correlation, extent: float) -> tuple[float, float]:
    """Analytic for Gaussian kernels; for the others once from a large plane of such noise."""
    if kind in ("white", "isotropic", "rows", "columns"):
        kernel = _kernel(max(extent, 1e-3))
        along = float((kernel[1:] * kernel[:-1]).sum())
        return (along if kind in ("isotropic", "columns") else 0.0, along if kind in ("isotropic", "rows") else 0.0)
    if (kind, extent) not in _MEASURED:
        noise = unit_noise(kind, extent, (1024, 1024), np.random.default_rng(0))
        variance = float((noise**2).mean())
        pairs = (noise[1:] * noise[:-1], noise[:, 1:] * noise[:, :-1])
        _MEASURED[kind, extent] = tuple(float(pair.mean()) / variance for pair in pairs)  # type: ignore[assignment]
    return _MEASURED[kind, extent]
