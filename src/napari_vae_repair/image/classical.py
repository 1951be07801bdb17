"""Classical denoisers of scikit-image and SciPy with the parameters among which each is tuned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage import restoration as sk
from skimage.filters import median
from skimage.morphology import disk

Array = NDArray[np.float32]
SMALLEST_NOISE = 1e-4  # for images between about 0 and 1


@dataclass(frozen=True, slots=True)
class Family:
    """A denoiser with the parameters to try.

    Attributes
    ----------
    apply : callable
        Of an image ``(Y, X)`` or ``(Y, X, C)`` between about 0 and 1, the keyword `channel_axis` (None or -1) and
        keyword parameters.
    parameters : callable
        From a rough standard deviation of the noise to the parameters to try.
    """

    apply: Callable[..., Array]
    parameters: Callable[[float], list[dict[str, float]]]


def _gaussian(image: Array, *, sigma: float, channel_axis: int | None) -> Array:
    return np.asarray(gaussian_filter(image, (sigma, sigma) if channel_axis is None else (sigma, sigma, 0)))


def _median(image: Array, *, radius: int, channel_axis: int | None) -> Array:
    footprint = disk(radius) if channel_axis is None else disk(radius)[..., None]
    return np.asarray(median(image, footprint))


def _nlm(image: Array, *, strength: float, channel_axis: int | None) -> Array:
    found = sk.denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=0.8 * strength, sigma=strength, channel_axis=channel_axis
    )
    return np.asarray(found)


def _tv(image: Array, *, weight: float, channel_axis: int | None) -> Array:
    return np.asarray(sk.denoise_tv_chambolle(image, weight=weight, channel_axis=channel_axis))


def _wavelet(image: Array, *, sigma: float, channel_axis: int | None) -> Array:
    found = sk.denoise_wavelet(
        image, sigma=sigma, channel_axis=channel_axis, rescale_sigma=True, method="BayesShrink", wavelet="db2"
    )
    return np.asarray(found)


def _bilateral(image: Array, *, colour: float, space: float, channel_axis: int | None) -> Array:
    low = image.min()  # values below 0 are refused
    found = sk.denoise_bilateral(image - low, sigma_color=colour, sigma_spatial=space, channel_axis=channel_axis)
    return np.asarray(found + low)


FACTORS = (0.35, 0.6, 1.0, 1.6, 2.5, 4.0, 6.3, 10.0, 16.0)  # of the rough noise, far too low where it is correlated
FAMILIES = {
    "Gaussian": Family(_gaussian, lambda std: [{"sigma": s} for s in (0.4, 0.6, 0.8, 1, 1.4, 2, 2.8, 4)]),
    "median": Family(_median, lambda std: [{"radius": r} for r in (1, 2, 3, 5)]),
    "wavelet": Family(_wavelet, lambda std: [{"sigma": f * std} for f in FACTORS]),
    "TV": Family(_tv, lambda std: [{"weight": f * std} for f in FACTORS]),
    "NLM": Family(_nlm, lambda std: [{"strength": f * std} for f in FACTORS]),
    "bilateral": Family(
        _bilateral, lambda std: [{"colour": f * std, "space": s} for s in (1.5, 3) for f in (2.0, 4.0, 8.0, 16.0)]
    ),
}


def rough_noise(image: Array, channel_axis: int | None) -> float:
    """The usual estimate of scikit-image's examples (Donoho & Johnstone 1994)."""
    return max(float(np.mean(sk.estimate_sigma(image, channel_axis=channel_axis))), SMALLEST_NOISE)


def tuned(family: Family, image: Array, channel_axis: int | None) -> tuple[dict[str, float], Array]:
    """The parameters that predict held-out pixels best (Batson & Royer 2019, arXiv:1901.11365), and their result."""
    ranges: dict[str, list[Any]] = {"channel_axis": [channel_axis]}
    for chosen in family.parameters(rough_noise(image, channel_axis)):
        for name, value in chosen.items():
            known = ranges.setdefault(name, [])
            if value not in known:
                known.append(value)
    _, (tested, losses) = sk.calibrate_denoiser(image, family.apply, ranges, extra_output=True)
    best = tested[int(np.argmin(losses))]
    return {name: value for name, value in best.items() if name != "channel_axis"}, family.apply(image, **best)
