"""The denoisers and inpainters that ours is compared with, each tuned in its favour."""

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

from benchmarks.data import Array, Case
from napari_vae_repair.image.anscombe import anscombe, inverse_anscombe
from napari_vae_repair.noise.estimate import estimate_noise
from napari_vae_repair.noise.record import NoiseModel

Denoiser = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Family:
    """A classical denoiser with the parameters among which it is tuned.

    Attributes
    ----------
    apply : callable
        Of an image and keyword parameters.
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
        _bilateral, lambda std: [{"colour": f * std, "space": s} for s in (1.5, 3) for f in (1.0, 2.0, 4.0)]
    ),
}


def oracle(family: Family, case: Case) -> Array:
    """With the parameters that are best against the reference."""
    tried = (family.apply(case.noisy, **p, channel_axis=case.channel_axis) for p in family.parameters(_rough(case)))
    return max(tried, key=case.psnr)


def j_invariant(family: Family, case: Case) -> Array:
    """With the parameters that predict held-out pixels best (Batson & Royer 2019), by scikit-image."""
    ranges: dict[str, list[Any]] = {}
    for chosen in family.parameters(_rough(case)):
        for name, value in (chosen | {"channel_axis": case.channel_axis}).items():
            known = ranges.setdefault(name, [])
            if value not in known:
                known.append(value)
    _, (tested, losses) = sk.calibrate_denoiser(case.noisy, family.apply, ranges, extra_output=True)
    return family.apply(case.noisy, **tested[int(np.argmin(losses))])


def _rough(case: Case) -> float:
    """The usual estimate of scikit-image's examples (Donoho & Johnstone 1994)."""
    return max(float(np.mean(sk.estimate_sigma(case.noisy, channel_axis=case.channel_axis))), 1e-4)


# ---- BM3D ------------------------------------------------------------------------------------------


def bm3d_of(image: Array, std: float) -> Array:
    """Plane by plane (Dabov et al. 2007)."""
    import bm3d

    return _by_plane(image, lambda plane: np.asarray(bm3d.bm3d(plane, std), np.float32))


def bm3d_told(case: Case) -> Array:
    """Told the standard deviation that was added; where none was, told the usual estimate."""
    return bm3d_of(case.noisy, case.sigma if case.sigma is not None else _rough(case))


def vst_bm3d_estimated(case: Case) -> Array:
    """Between generalised Anscombe transforms, with the noise that this package's classical estimate finds."""
    planes = np.atleast_3d(case.noisy).transpose(2, 0, 1)
    nothing = np.zeros((1, *planes.shape[1:]), dtype=bool)
    models = [estimate_noise(plane[None, None], nothing) for plane in planes]
    return _stabilised_bm3d(case.noisy, models)


def vst_bm3d_fitted(case: Case) -> Array:
    """The same with the noise that a straight line fits to the squared differences from the reference."""
    models = []
    for noisy, reference in zip(_planes(case.noisy), _planes(case.reference), strict=True):
        slope, offset = np.polyfit(reference.ravel(), noisy.ravel(), 1) if case.sigma is None else (1.0, 0.0)
        clean = slope * reference + offset
        gain, constant = np.polyfit(clean.ravel(), ((noisy - clean) ** 2).ravel(), 1)
        darkest = float(clean.min())
        at_darkest = max(float(gain * darkest + constant), 1e-8)
        if gain <= 0:
            models.append(NoiseModel(0.0, float(np.std(noisy - clean))))
        else:
            models.append(NoiseModel(float(gain), float(np.sqrt(at_darkest)), darkest))
    return _stabilised_bm3d(case.noisy, models)


def _stabilised_bm3d(image: Array, models: list[NoiseModel]) -> Array:
    def of_plane(plane: Array, noise: NoiseModel) -> Array:
        if noise.gain <= 0:
            return bm3d_of(plane, noise.read_noise)
        stable = anscombe(plane.astype(np.float64) - noise.offset, noise.gain, noise.read_noise)
        low, span = stable.min(), float(np.ptp(stable))  # BM3D's thresholds are made for values of 0 to 1
        flat = bm3d_of(((stable - low) / span).astype(np.float32), 1 / span).astype(np.float64) * span + low
        return np.asarray(inverse_anscombe(flat, noise.gain, noise.read_noise, "mean") + noise.offset, np.float32)

    found = [of_plane(plane, noise) for plane, noise in zip(_planes(image), models, strict=True)]
    return found[0] if image.ndim == 2 else np.stack(found, axis=-1)


def _planes(image: Array) -> list[Array]:
    return [image] if image.ndim == 2 else [image[..., c] for c in range(image.shape[-1])]


def _by_plane(image: Array, function: Denoiser) -> Array:
    found = [function(plane) for plane in _planes(image)]
    return found[0] if image.ndim == 2 else np.stack(found, axis=-1)


# ---- filling ---------------------------------------------------------------------------------------


def biharmonic(image: Array, mask: NDArray[np.bool_]) -> Array:
    """Of scikit-image (Damelin & Hoang 2018)."""
    return np.asarray(sk.inpaint_biharmonic(image, mask, split_into_regions=True), np.float32)


def telea(image: Array, mask: NDArray[np.bool_]) -> Array:
    """Of OpenCV (Telea 2004), which fills 8-bit images."""
    return _opencv(image, mask, "INPAINT_TELEA")


def navier_stokes(image: Array, mask: NDArray[np.bool_]) -> Array:
    """Of OpenCV (Bertalmio et al. 2001), which fills 8-bit images."""
    return _opencv(image, mask, "INPAINT_NS")


def _opencv(image: Array, mask: NDArray[np.bool_], flag: str) -> Array:
    import cv2

    bytes_ = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    filled = cv2.inpaint(bytes_, mask.astype(np.uint8), 3, getattr(cv2, flag)).astype(np.float32) / 255
    return np.where(mask, filled, image).astype(np.float32)
