"""The weights that ship: quickly loaded, shared by nobody's mistake, and better than what they are given."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut, camera

from napari_vae_repair import restore
from napari_vae_repair.errors import SettingsError
from napari_vae_repair.running import finished
from napari_vae_repair.vae.device import choose_device
from napari_vae_repair.vae.inspection import see_noise
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.predict import predict_steps
from napari_vae_repair.vae.record import ValueRange, View
from napari_vae_repair.vae.starter import load_starter, network_for, white_of

LOADING = """
import time, torch
import napari_vae_repair.vae.starter as starter
times = []
for _ in range(5):
    started = time.perf_counter()
    starter.load_starter.__wrapped__()
    times.append(time.perf_counter() - started)
print(sorted(times)[2])
"""


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return camera()[60:252, 150:342].astype(np.float32)


def test_it_loads_in_a_fifth_of_a_second() -> None:
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.4  # 0.2 on a machine that does nothing else


@pytest.mark.parametrize(("sigma", "gain"), [(8, 2), (25, 5), (50, 7)])
def test_gaussian_noise_is_removed_blind(clean: np.ndarray, sigma: int, gain: float) -> None:
    noisy = clean + np.random.default_rng(0).normal(0, sigma, clean.shape)
    result = restore(noisy)
    assert psnr(result.restored, clean) > psnr(noisy, clean) + gain
    assert result.report.samples == 0
    assert not result.std.any()


def test_each_plane_is_restored_by_the_network_for_its_noise(clean: np.ndarray) -> None:
    starter, cpu = load_starter(), choose_device("cpu")
    network, white = (copy.deepcopy(part) for part in (starter.model.network, starter.white))
    planes = np.stack([clean, clean])[:, None]
    span = ValueRange.of(planes)
    views = [View(span, (0.1, 0.0, 0.0)), View(span, (0.1, 0.0, 0.3))]
    assert [view.white for view in views] == [True, False]
    assert not View(span).white  # nothing is known

    def of(restorer: HierarchicalVAE, white: HierarchicalVAE | None) -> np.ndarray:
        steps = predict_steps(
            *(restorer, planes, np.zeros((2, *clean.shape), dtype=bool), views),
            one_pass=True,
            samples=0,
            keep_samples=False,
            seed=0,
            tile_px=512,
            device=cpu,
            should_stop=lambda: False,
            white=white,
        )
        return finished(steps).mean

    both, one, other = of(network, white), of(network, None), of(white, None)
    assert not np.array_equal(one, other)
    assert np.array_equal(both, np.stack([other[0], one[1]]))


def test_what_was_adapted_is_what_restores() -> None:
    starter = load_starter()
    assert white_of(starter.model) is starter.white
    kept, not_kept = ({"adapted": {"accepted": accepted}} for accepted in (True, False))
    again = {"adapted": {"accepted": False, "before": kept["adapted"]}}
    for training, expected in ((kept, None), (not_kept, starter.white), (again, None)):
        assert white_of(replace(starter.model, training=training)) is expected
    span = ValueRange(0, 1)
    views = [View(span, (0.1, 0.0, 0.0)), View(span, (0.1, 0.0, 0.3))]
    assert network_for(starter.model, views[:1]) is starter.white
    assert network_for(starter.model, views) is starter.model.network
    assert network_for(replace(starter.model, training=kept), views[:1]) is starter.model.network


def test_white_noise_has_a_network_that_knows_it_better(clean: np.ndarray) -> None:
    noisy = clean + np.random.default_rng(0).normal(0, 25, clean.shape)
    starter = load_starter()
    known = psnr(restore(noisy).restored, clean)
    unknown = replace(starter.model, training={"adapted": {"accepted": True}})
    assert known > psnr(restore(noisy, model=unknown).restored, clean) + 0.05


def test_photon_noise_is_removed_blind(clean: np.ndarray) -> None:
    noisy = np.random.default_rng(0).poisson(clean / 12) * 12.0 + 100
    restored = restore(noisy.astype(np.uint16)).restored
    assert psnr(restored, clean + 100) > psnr(noisy, clean + 100) + 5


def test_an_image_without_noise_is_left_nearly_as_it_is(clean: np.ndarray) -> None:
    assert psnr(restore(clean).restored, clean) > 36


def test_colours_are_restored_together() -> None:
    rgb = astronaut()[:160, 130:290]
    noisy = np.clip(rgb + np.random.default_rng(0).normal(0, 25, rgb.shape), 0, 255).astype(np.uint8)
    assert psnr(restore(noisy).restored, rgb) > psnr(noisy, rgb) + 7


def test_nine_in_ten_pixels_lie_within_their_interval(clean: np.ndarray) -> None:
    noisy = clean + np.random.default_rng(0).normal(0, 25, clean.shape)
    result = restore(noisy, samples=16)
    inside = np.abs(result.restored - clean) <= 1.645 * result.std
    assert 0.8 < inside.mean() < 0.98


@pytest.mark.parametrize(
    ("blur", "correlation"),
    [
        ((0, 0), (0, 0)),
        ((0.8, 0.8), (0.68, 0.68)),
        pytest.param((0, 0.8), (0, 0.68), marks=pytest.mark.xfail(reason="sees 0.4 along both axes", strict=True)),
    ],
)
def test_correlation_of_noise_is_seen(
    clean: np.ndarray, blur: tuple[float, float], correlation: tuple[float, float]
) -> None:
    branch, nothing = load_starter().inspector.noise, np.zeros((1, *clean.shape), bool)
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(clean.shape), blur)
    noisy = (clean + 25 * noise / noise.std())[None, None].astype(np.float32)
    seen = see_noise(branch, noisy, nothing, choose_device("cpu"))
    assert seen is not None
    np.testing.assert_allclose(seen.correlation, correlation, atol=0.15)


@pytest.mark.parametrize("shape", [(8, 8), (8, 64), (70, 13), (9, 15, 3)], ids=str)
def test_the_narrowest_images_are_restored(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    restored = restore(image, axes="YXS" if len(shape) == 3 else "YX").restored
    assert restored.shape == image.shape
    assert np.isfinite(restored).all()


def test_few_photons_keep_their_mean(clean: np.ndarray) -> None:
    expected = clean / clean.mean()  # one photon a pixel
    noisy = np.random.default_rng(0).poisson(expected).astype(np.float32)
    result = restore(noisy)
    assert result.noise[0].gain > 0
    assert result.restored.mean() == pytest.approx(noisy.mean(), rel=1e-3)


def test_samples_of_photons_lie_around_the_truth(clean: np.ndarray) -> None:
    noisy = np.random.default_rng(0).poisson(clean / 60) * 60.0  # few photons: the two inverses differ by a quarter
    result = restore(noisy, keep_samples=True, samples=8)
    assert result.samples is not None
    assert abs(float(result.samples.mean() - clean.mean())) < 5
    assert restore(noisy[:64, :64], keep_samples=True).samples is not None


def test_a_model_of_one_image_is_not_adapted(clean: np.ndarray) -> None:
    trained = restore(clean[:32, :32], epochs=1, training={"patches_per_epoch": 8, "patch_px": 16}, samples=0).model
    with pytest.raises(SettingsError, match="trained on one image"):
        restore(clean[:32, :32], model=trained, adapt_steps=1)
