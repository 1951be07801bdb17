"""PSNR and SSIM as scikit-image has them; whiteness told from correlation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from napari_vae_repair.image import compare
from napari_vae_repair.image.compare import compare_planes, residual_correlation


def test_psnr_and_ssim_are_those_of_scikit_image(photo: np.ndarray, noisy: np.ndarray) -> None:
    found = compare_planes(noisy[None, None], photo[None, None])
    photo, noisy = photo.astype(np.float64), noisy.astype(np.float64)
    span = float(np.ptp(photo))
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(photo, noisy, data_range=span), abs=1e-3)
    assert found["ssim"] == pytest.approx(structural_similarity(photo, noisy, data_range=span), abs=1e-4)


def test_damaged_pixels_do_not_count(photo: np.ndarray) -> None:
    spoiled, damaged = photo.copy(), np.zeros((1, *photo.shape), dtype=bool)
    spoiled[5:9, 5:9] = 1e6
    damaged[0, 5:9, 5:9] = True
    assert compare_planes(spoiled[None, None], photo[None, None], damaged)["mse"] == 0


def test_equal_constant_images_have_an_infinite_psnr() -> None:
    flat = np.ones((1, 1, 8, 8), dtype=np.float32)
    assert compare_planes(flat, flat)["psnr"] == np.inf


def test_correlation_tells_white_from_blurred_noise_and_its_direction() -> None:
    white = np.random.default_rng(0).standard_normal((1, 1, 200, 200)).astype(np.float32)
    good = np.zeros((1, 200, 200), dtype=bool)
    assert np.abs(residual_correlation(white, good)).max() < 0.03
    along_x, along_y = residual_correlation(gaussian_filter(white, (0, 0, 0, 0.8)), good)
    assert along_x > 0.5
    assert abs(along_y) < 0.05


def test_a_residual_of_nothing_has_no_correlation() -> None:
    assert residual_correlation(np.zeros((1, 1, 9, 9), np.float32), np.zeros((1, 9, 9), bool)) == (0.0, 0.0)


def test_of_large_planes_the_centre_is_measured(monkeypatch: pytest.MonkeyPatch, photo: np.ndarray) -> None:
    monkeypatch.setattr(compare, "CENTRE_PX", 40)
    framed = photo.copy()
    framed[:10] += 1e3
    assert compare_planes(framed[None, None], photo[None, None])["mse"] == 0
