"""Slow noise: what of it is taken away, what is left alone, and how far that makes a pixel look."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom
from skimage.data import camera

from napari_vae_repair import conditioning, restore
from napari_vae_repair.image.pyramid import doubled
from napari_vae_repair.image.zarr_levels import halved
from napari_vae_repair.vae.scales import MARGIN_PX, halved_window, reach_px, slow_noise, with_margin

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def smooth(seed: int, shape: tuple[int, int], reach_px: float) -> Array:
    drawn = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), reach_px)
    return (drawn / drawn.std()).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 80), (65, 79)])
def test_what_is_slow_is_taken_away_at_full_size(shape: tuple[int, int]) -> None:
    scene, left = smooth(0, shape, 2)[None], 0.1 * smooth(1, shape, 6)[None]
    found = slow_noise(scene + left, halved(scene, (1, 2)), std=0.5)
    assert found.shape == scene.shape
    assert np.abs(found - left).std() < 0.1 * left.std()


def test_no_more_is_taken_than_there_is_noise() -> None:
    scene = smooth(0, (64, 64), 2)[None]
    assert np.abs(slow_noise(scene, halved(scene, (1, 2)) + 3, std=0.2)).max() <= 0.2 + 1e-6
    assert not slow_noise(scene, halved(scene, (1, 2)) + 3, std=0.0).any()


def test_means_and_their_damage_of_odd_sides() -> None:
    plane = np.arange(15, dtype=np.float32).reshape(1, 3, 5)
    np.testing.assert_allclose(halved(plane, (1, 2)), [[[3, 5, 6.5], [10.5, 12.5, 14]]])
    lost = np.zeros((1, 3, 5), dtype=bool)
    lost[0, :2, :2] = lost[0, 2, 4] = lost[0, 2, 0] = True
    assert halved(lost, (1, 2)).tolist() == [[[True, False, False], [False, False, True]]]
    np.testing.assert_allclose(doubled(halved(plane * 0 + 4, (1, 2)), 3, 5), plane * 0 + 4)


def test_a_window_reads_all_that_its_slow_noise_depends_on() -> None:
    shape, noise = (300, 260), np.random.default_rng(0).standard_normal((1, 300, 260)).astype(np.float32)
    coarse = halved(noise, (1, 2)) + np.random.default_rng(1).standard_normal((1, 150, 130)).astype(np.float32)
    wanted = (slice(101, 140), slice(0, 33))
    rows, columns = with_margin(wanted, *shape)
    part = slow_noise(noise[:, rows, columns], coarse[:, *halved_window((rows, columns))], 1.0)
    inner = (slice(101 - rows.start, 140 - rows.start), slice(0, 33))
    np.testing.assert_allclose(part[:, *inner], slow_noise(noise, coarse, 1.0)[:, *wanted], atol=1e-6)


def test_each_scale_doubles_the_reach() -> None:
    assert reach_px(160, 1) == 160
    assert reach_px(160, 2) == MARGIN_PX + 2 * 160
    assert reach_px(160, 3) == MARGIN_PX + 2 * reach_px(160, 2)


def test_noise_of_a_coarser_grid_is_restored_better_at_several_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = gaussian_filter(camera()[100:292, 60:252].astype(np.float32), 1.5)  # as out of focus
    drawn = zoom(np.random.default_rng(0).normal(0, 60, (97, 97)), 2, order=1)[:192, :192]
    noisy = (scene + drawn).astype(np.float32)
    found = restore(noisy, samples=2, keep_samples=True)
    assert "restored at 3 scales" in " ".join(found.report.notes)
    monkeypatch.setattr(conditioning, "FAR_SHARED", 1.0)
    before = restore(noisy, samples=2, keep_samples=True)
    gained = 10 * np.log10(np.mean((before.restored - scene) ** 2) / np.mean((found.restored - scene) ** 2))
    assert gained > 0.15
    assert before.samples is not None
    assert found.samples is not None
    moved, of_samples = found.restored - before.restored, found.samples - before.samples
    assert np.abs(of_samples - moved).mean() < 0.05 * np.abs(moved).mean()  # but for what the chain bends
    assert found.std.mean() == pytest.approx(before.std.mean(), rel=0.02)
