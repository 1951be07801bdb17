"""What was drawn is what happened."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from training.corruptions import Correlation, Corruption, corrupt, draw_corruption, unit_noise
from training.damage import damage_mask, opacity_of_damage, overlay, part_of

CLEAN = np.tile(np.linspace(0.1, 0.9, 256, dtype=np.float32), (256, 1))


@pytest.mark.parametrize("kind", get_args(Correlation))
def test_noise_has_the_variance_and_the_correlation_that_it_was_given(kind: Correlation) -> None:
    extent = {"compressed": 4.0, "upsampled": 2.0}.get(kind, 0.8)
    corruption = Corruption(gain=0.0, read_noise=0.1, correlation=kind, extent=extent)
    seen = corrupt(CLEAN, corruption, np.random.default_rng(1))
    noise = seen.noisy - CLEAN
    assert noise.std() == pytest.approx(0.1, rel=0.03)
    along_y = (noise[1:] * noise[:-1]).mean() / noise.var()
    along_x = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
    assert corruption.neighbours == pytest.approx((along_y, along_x), abs=0.04)
    assert seen.counted.all()


@pytest.mark.parametrize("gain", [0.002, 0.05])
def test_shot_noise_grows_with_the_signal(gain: float) -> None:
    corruption = Corruption(gain, read_noise=0.01)
    clean = np.repeat(np.float32([[0.2], [0.8]]), 100_000, axis=1)
    noise = corrupt(clean, corruption, np.random.default_rng(0)).noisy - clean
    assert noise.var(axis=1) == pytest.approx(gain * np.array([0.2, 0.8]) + 1e-4, rel=0.03)
    assert corruption.std(clean)[:, 0] ** 2 == pytest.approx(gain * np.array([0.2, 0.8]) + 1e-4)


def test_only_pixels_with_noise_alone_are_counted() -> None:
    corruption = Corruption(0.0, 0.05, impulses=0.05, black=0.15, white=0.85)
    seen = corrupt(CLEAN, corruption, np.random.default_rng(0))
    assert 0.04 < seen.hit.mean() < 0.06
    assert not (seen.counted & seen.hit).any()
    inside = seen.noisy[seen.counted]
    assert inside.min() > 0.15
    assert inside.max() < 0.85
    striped = corrupt(CLEAN, replace(corruption, rows=0.1), np.random.default_rng(0))
    assert not striped.counted.any()


def test_the_same_seed_draws_the_same() -> None:
    drawn = [draw_corruption(np.random.default_rng(3), CLEAN) for _ in range(2)]
    assert drawn[0] == drawn[1]
    first, second = (corrupt(CLEAN, drawn[0], np.random.default_rng(4)).noisy for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_all_that_is_drawn_is_finite() -> None:
    rng, dark = np.random.default_rng(0), np.zeros((64, 64), dtype=np.float32)
    for _ in range(300):
        seen = corrupt(dark, draw_corruption(rng, dark), rng)
        assert np.isfinite(seen.noisy).all()
        assert (seen.std > 0).all()


def test_unit_noise_does_not_repeat() -> None:
    rng = np.random.default_rng(0)
    first, second = (unit_noise("isotropic", 0.5, (64, 64), rng) for _ in range(2))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1


def test_damage_is_a_part_of_the_image() -> None:
    rng = np.random.default_rng(0)
    shares = [damage_mask(rng, 64).mean() for _ in range(200)]
    assert min(shares) > 0
    assert max(shares) < 0.8
    assert 0.02 < np.mean(shares) < 0.3


def test_overlays_are_opaque_between_none_and_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        opacity, value = overlay(rng, part_of(rng, opacity_of_damage(rng, 96), 64))
        assert opacity.dtype == value.dtype == np.float32
        assert 0 <= opacity.min() <= opacity.max() <= 1
        assert -0.5 < value.min() <= value.max() < 1.6  # film may be darker and brighter than the scene on it
