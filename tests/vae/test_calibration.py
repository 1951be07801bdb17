"""The map from the spread of samples to an honest uncertainty."""

from __future__ import annotations

import numpy as np
import pytest

from napari_vae_repair.vae.calibration import NORMAL_90, Calibration
from training.calibrate import Scene, coverage, fit


def scenes(rng: np.random.Generator, count: int, factor: float) -> list[Scene]:
    out = []
    for _ in range(count):
        spread = np.exp(rng.uniform(-4, 0, 10_000)).astype(np.float32)
        out.append(Scene(spread, np.abs(factor * rng.standard_normal(spread.shape) * spread**0.7).astype(np.float32)))
    return out


def test_what_is_fitted_covers_ninety_percent_at_every_spread() -> None:
    rng = np.random.default_rng(0)
    found, others = fit(scenes(rng, 10, 1.5)), scenes(rng, 10, 1.5)
    assert coverage(others) < 0.8
    for low, high in ((-3.8, -3), (-3, -2), (-2, -1), (-1, -0.2)):
        chosen = [(np.log(scene.spread) > low) & (np.log(scene.spread) < high) for scene in others]
        part = [
            Scene(found.calibrated(scene.spread[where], 1.0), scene.error[where])
            for scene, where in zip(others, chosen, strict=True)
        ]
        assert coverage(part) == pytest.approx(0.9, abs=0.02)
    assert np.all(np.diff(found.error) >= 0)


def test_a_few_scenes_whose_noise_was_misjudged_do_not_widen_all_others() -> None:
    rng = np.random.default_rng(1)
    usual, misjudged = scenes(rng, 10, 1.0), scenes(rng, 2, 5.0)
    np.testing.assert_allclose(fit(usual + misjudged).error, fit(usual).error, rtol=0.1)


def test_units_go_through_and_ends_are_proportional() -> None:
    chosen = Calibration((0.1, 0.4), (0.2, 0.4))
    std = np.array([0.0, 0.05, 0.1, 0.2, 0.4, 0.8], np.float32)
    once = chosen.calibrated(std, 1.0)
    np.testing.assert_allclose(once, [0, 0.1, 0.2, 0.2 * 2**0.5, 0.4, 0.8], rtol=1e-5)
    np.testing.assert_allclose(chosen.calibrated(300 * std, 300.0), 300 * once, rtol=1e-5)
    assert pytest.approx(1.645, abs=1e-3) == NORMAL_90


@pytest.mark.parametrize(
    ("spread", "error"),
    [((), ()), ((1.0,), (1.0, 2.0)), ((1.0, 1.0), (1.0, 2.0)), ((1.0, 2.0), (2.0, 1.0)), ((0.0, 1.0), (1.0, 1.0))],
)
def test_maps_that_are_none_are_refused(spread: tuple[float, ...], error: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="spreads"):
        Calibration(spread, error)


def test_it_survives_json() -> None:
    chosen = Calibration((0.1, 0.4), (0.2, 0.4))
    assert Calibration.from_dict(chosen.to_dict()) == chosen
