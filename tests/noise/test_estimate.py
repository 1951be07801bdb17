"""Gain and read noise are found from the pixels alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.data import camera, coins

from napari_vae_repair.noise import estimate
from napari_vae_repair.noise.estimate import estimate_noise
from napari_vae_repair.noise.record import NoiseModel


def undamaged(planes: np.ndarray) -> np.ndarray:
    return np.zeros((planes.shape[0], *planes.shape[2:]), dtype=bool)


def photo(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / 255


def as_planes(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32)[None, None]


def test_quiet_quantile_of_white_noise() -> None:
    noise = as_planes(np.random.default_rng(0).standard_normal((2048, 2048)))
    expected = estimate._HighPass.of((0.0, 0.0))
    _, variance = estimate._block_statistics(noise, undamaged(noise), expected.kernel, estimate.saturated)
    assert np.quantile(variance, estimate.QUIET_SHARE) == pytest.approx(expected.quiet, rel=0.005)


@pytest.mark.parametrize("width", [0.3, 0.6, 0.9])
def test_what_is_left_of_noise_in_quiet_blocks(width: float) -> None:
    noise = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    noise = gaussian_filter(noise, (width, 0.3), mode="wrap")
    noise /= noise.std()
    correlation = tuple(float((noise * np.roll(noise, 1, axis)).mean()) for axis in (0, 1))
    expected = estimate._HighPass.of(correlation)
    planes = as_planes(noise)
    _, variance = estimate._block_statistics(planes, undamaged(planes), expected.kernel, estimate.saturated)
    assert variance.mean() == pytest.approx(expected.seen, rel=0.02)
    assert np.quantile(variance, estimate.QUIET_SHARE) / variance.mean() == pytest.approx(expected.quiet, rel=0.01)


@pytest.mark.parametrize("std", [0.04, 0.1, 0.2])
@pytest.mark.parametrize("image", [camera(), coins()], ids=["camera", "coins"])
def test_gaussian_noise_on_a_photo(image: np.ndarray, std: float) -> None:
    noisy = as_planes(photo(image) + np.random.default_rng(1).normal(0, std, image.shape))
    found = estimate_noise(noisy, undamaged(noisy))
    at_middle = np.sqrt(found.variance(np.array(0.5)))
    assert at_middle == pytest.approx(std, rel=0.2)  # coins are textured and noisy themselves


@pytest.mark.parametrize("photons", [20, 100])
def test_poisson_gaussian_noise_on_a_photo(photons: float) -> None:
    clean, gain, read_noise = photo(camera()), 1 / photons, 0.02
    rng = np.random.default_rng(2)
    noisy = as_planes(rng.poisson(clean * photons) * gain + rng.normal(0, read_noise, clean.shape))
    found = estimate_noise(noisy, undamaged(noisy))
    assert found.gain == pytest.approx(gain, rel=0.25)
    for value in (0.1, 0.5, 0.8):
        truth = gain * value + read_noise**2
        assert found.variance(np.array(value)) == pytest.approx(truth, rel=0.3)


def test_damage_has_no_influence() -> None:
    clean = photo(camera())
    noisy = as_planes(clean + np.random.default_rng(3).normal(0, 0.05, clean.shape))
    damaged = undamaged(noisy)
    damaged[:, 100:200, 50:300] = True
    spoiled = noisy.copy()
    spoiled[:, :, 100:200, 50:300] = 50 * np.random.default_rng(4).standard_normal((100, 250))
    assert estimate_noise(spoiled, damaged).read_noise == pytest.approx(
        estimate_noise(noisy, damaged).read_noise, rel=1e-6
    )


def test_saturated_regions_do_not_hide_the_noise() -> None:
    clean = np.clip(photo(camera()) * 2 - 0.5, 0, 1)
    noisy = as_planes(np.clip(clean + np.random.default_rng(5).normal(0, 0.08, clean.shape), 0, 1))
    found = estimate_noise(noisy, undamaged(noisy))
    assert np.sqrt(found.variance(np.array(0.5))) == pytest.approx(0.08, rel=0.2)


@pytest.mark.parametrize("value", [0.0, 5.0, 1e6])
def test_constant_image_has_finite_positive_noise(value: float) -> None:
    planes = np.full((1, 1, 64, 64), value, dtype=np.float32)
    found = estimate_noise(planes, undamaged(planes))
    assert found.gain == 0
    assert 0 < found.read_noise < 1e-2 * max(value, 1)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 1, 9, 300), (3, 3, 20, 17)])
def test_small_images_give_finite_noise(shape: tuple[int, ...]) -> None:
    planes = np.random.default_rng(6).random(shape, dtype=np.float32)
    found = estimate_noise(planes, undamaged(planes))
    assert np.isfinite([found.gain, found.read_noise, found.offset]).all()
    assert found.read_noise > 0


def test_rescaling_values_rescales_the_noise() -> None:
    noise = NoiseModel(0.5, 2.0, 10.0)
    values = np.array([10.0, 20.0, 40.0])
    scaled = noise.rescaled(3.0, -7.0)
    assert np.allclose(scaled.variance(3 * values - 7), 9 * noise.variance(values))


@pytest.mark.parametrize("width", [0.4, 0.6, 0.9, 1.2])
def test_correlated_noise_is_found_in_its_strength_when_its_correlation_is_known(width: float) -> None:
    rng = np.random.default_rng(0)
    noise = gaussian_filter(rng.standard_normal((256, 256)), width, mode="wrap")
    noise = 5 * noise / noise.std()
    neighbours = (
        float((noise[1:] * noise[:-1]).mean() / noise.var()),
        float((noise[:, 1:] * noise[:, :-1]).mean() / noise.var()),
    )
    planes = (100 + noise)[None, None].astype(np.float32)
    nothing = np.zeros((1, 256, 256), dtype=bool)
    assert estimate_noise(planes, nothing, neighbours).read_noise == pytest.approx(5, rel=0.12)
    if width >= 0.6:
        assert estimate_noise(planes, nothing).read_noise < 3.5
