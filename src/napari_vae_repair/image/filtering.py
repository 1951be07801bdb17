"""The steps of the chain that look at neighbouring pixels, by scikit-image; none has an inverse.

All take and give one plane ``(C, Y, X)`` float32, C = 1 (grey) or 3 (RGB).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import color, exposure, filters, morphology, restoration

from napari_vae_repair.chain import Contrast, Denoise, Equalise

Plane = NDArray[np.float32]


def luminance(plane: Plane) -> Plane:
    """The grey plane ``(1, Y, X)`` of an RGB one, in the range that it has; a grey one as it is."""
    return plane if plane.shape[0] == 1 else _channels_first(color.rgb2gray(plane, channel_axis=0))


def unsharp(plane: Plane, step: Contrast) -> Plane:
    """The plane with its local contrast raised, not clipped; each channel by itself."""
    sharp = filters.unsharp_mask(plane, radius=step.sigma, amount=step.amount, preserve_range=True, channel_axis=0)
    return np.asarray(sharp, dtype=np.float32)


def clahe(plane: Plane, step: Equalise, low: float, high: float) -> Plane:
    """Contrast-limited adaptive equalisation to [0, 1]; values beyond `low`, `high` are clipped; RGB by HSV value."""
    span = high - low or 1.0
    unit = np.clip((plane.astype(np.float64) - low) / span, 0.0, 1.0)
    equalised = exposure.equalize_adapthist(_channels_last(unit), clip_limit=step.clip_limit, nbins=step.bins)
    return _channels_first(equalised)


def denoised(plane: Plane, step: Denoise, std: float) -> Plane:
    """One of the classical denoisers; `std` is the standard deviation of the image's values, in their units."""
    if step.method == "gaussian":
        smooth = filters.gaussian(plane, step.sigma, preserve_range=True, channel_axis=0)
        return np.asarray(smooth, dtype=np.float32)
    if step.method == "median":
        footprint = morphology.disk(max(1, round(step.sigma)))
        return np.stack([filters.median(channel, footprint) for channel in plane])
    low, span = float(plane.min()), float(np.ptp(plane.astype(np.float64)))
    if span == 0.0 or std == 0.0:
        return plane
    # these four expect values in [0, 1], or have constants that suit no other range
    unit = _channels_last((plane.astype(np.float64) - low) / span)
    channel_axis = -1 if unit.ndim == 3 else None
    sigma = step.strength * std / span
    match step.method:
        case "bilateral":
            # mode: the default would mix zeros into the border
            smooth = restoration.denoise_bilateral(
                unit, sigma_color=sigma, sigma_spatial=step.sigma, mode="reflect", channel_axis=channel_axis
            )
        case "tv":
            smooth = restoration.denoise_tv_chambolle(unit, weight=sigma, channel_axis=channel_axis)
        case "wavelet":
            smooth = restoration.denoise_wavelet(unit, sigma=sigma, rescale_sigma=True, channel_axis=channel_axis)
        case "nlm":
            smooth = restoration.denoise_nl_means(
                unit, patch_size=5, patch_distance=6, h=0.6 * sigma, sigma=sigma, channel_axis=channel_axis
            )
    return _channels_first(smooth * span + low)


def _channels_last(plane: NDArray[Any]) -> NDArray[Any]:
    """``(Y, X, 3)`` of colour, ``(Y, X)`` of grey: the way scikit-image has them."""
    return np.moveaxis(plane, 0, -1) if plane.shape[0] > 1 else plane[0]


def _channels_first(plane: NDArray[Any]) -> Plane:
    """``(C, Y, X)`` float32 again."""
    return np.moveaxis(plane if plane.ndim == 3 else plane[..., None], -1, 0).astype(np.float32)
