"""The denoisers and inpainters that ours is compared with, each tuned in its favour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skimage import restoration as sk

from benchmarks.data import Array, Case
from napari_vae_repair.image.anscombe import anscombe, inverse_anscombe
from napari_vae_repair.image.classical import Family, rough_noise, tuned
from napari_vae_repair.noise.estimate import estimate_noise
from napari_vae_repair.noise.record import NoiseModel

Denoiser = Callable[[Array], Array]


def oracle(family: Family, case: Case) -> Array:
    """With the parameters that are best against the reference."""
    tried = (family.apply(case.noisy, **p, channel_axis=case.channel_axis) for p in family.parameters(_rough(case)))
    return max(tried, key=case.psnr)


def j_invariant(family: Family, case: Case) -> Array:
    """With the parameters that predict held-out pixels best, as the package tunes it."""
    return tuned(family, case.noisy, case.channel_axis)[1]


def _rough(case: Case) -> float:
    return rough_noise(case.noisy, case.channel_axis)


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
