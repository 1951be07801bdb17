"""Sample data: a noisy photo and a noisy micrograph, each with its truth; the same noise every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import skimage.data

LayerData = tuple[Any, dict[str, Any], str]

PHOTO_NOISE_STD = 25.0
MICROGRAPH_GAIN, MICROGRAPH_READ_NOISE, MICROGRAPH_OFFSET = 4.0, 6.0, 100.0  # units a photon, units, units
MICROGRAPH_PHOTONS = 60.0  # in the brightest pixel
MICROGRAPH_PIXEL_UM = 0.2  # assumed: the image comes without a scale


def noisy_photo() -> list[LayerData]:
    """The photographer of scikit-image with Gaussian noise, std 25 of 255, rounded and clipped to uint8."""
    truth = skimage.data.camera()
    noise = np.random.default_rng(0).normal(0.0, PHOTO_NOISE_STD, truth.shape)
    noisy = np.clip(np.rint(truth + noise), 0, 255).astype(np.uint8)
    return [
        (truth, {"name": "photo truth", "visible": False}, "image"),
        (noisy, {"name": "noisy photo"}, "image"),
    ]


def noisy_micrograph() -> list[LayerData]:
    """The cell of scikit-image as a camera with little light counts it: Poisson-Gaussian noise, uint16."""
    light = skimage.data.cell().astype(np.float64)
    photons = MICROGRAPH_PHOTONS * light / light.max()
    rng = np.random.default_rng(1)
    counted = MICROGRAPH_GAIN * rng.poisson(photons) + rng.normal(MICROGRAPH_OFFSET, MICROGRAPH_READ_NOISE, light.shape)
    truth = (MICROGRAPH_GAIN * photons + MICROGRAPH_OFFSET).astype(np.float32)
    noisy = np.clip(np.rint(counted), 0, 65535).astype(np.uint16)
    space = {"scale": (MICROGRAPH_PIXEL_UM,) * 2, "units": ("um", "um"), "axis_labels": ("y", "x")}
    return [
        (truth, {"name": "micrograph truth", "visible": False} | space, "image"),
        (noisy, {"name": "noisy micrograph"} | space, "image"),
    ]
