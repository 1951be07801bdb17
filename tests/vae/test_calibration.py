"""The map from the spread of samples to an honest uncertainty."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_vae_repair.vae.calibration import NORMAL_90, Calibration
from napari_vae_repair.vae.hidden import hidden_std
from napari_vae_repair.vae.posterior import Posterior
from napari_vae_repair.vae.record import ValueRange, View
from training.calibrate import FEWEST_PIXELS, Hidden, Scene, coverage, fit, fit_hidden


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


def test_widths_are_those_of_errors_that_are_not_normal() -> None:
    rng = np.random.default_rng(0)

    def heavy(count: int) -> list[Scene]:
        spread = np.full(20_000, 0.5, dtype=np.float32)
        return [Scene(spread, np.abs(rng.standard_t(3, 20_000)).astype(np.float32)) for _ in range(count)]

    found, other = fit(heavy(5)), heavy(1)[0]
    calibrated = found.calibrated(other.spread, 1.0)
    for level in (0.5, 0.65, 0.8, 0.9, 0.95):
        assert float((other.error <= found.width(level) * calibrated).mean()) == pytest.approx(level, abs=0.02)
    assert found.width(0.9) == pytest.approx(NORMAL_90, rel=0.01)
    assert found.width(0.5) < 0.6 < 0.674 < Calibration((0.5,), (0.5,)).width(0.5) + 1e-3
    assert found.width(0.99) > found.width(0.95)
    errors = np.array([-3.0, -0.5, 0.0, 0.5, 3.0], dtype=np.float32)
    normal = found.as_normal(errors)
    np.testing.assert_allclose(normal, -normal[::-1], atol=1e-6)
    assert normal[3] > 0.5  # small errors are more usual than a normal distribution's
    assert found.as_normal(np.float32([found.width(0.8)]))[0] == pytest.approx(1.2816, abs=1e-3)
    np.testing.assert_allclose(Calibration((0.5,), (0.5,)).as_normal(errors), errors, rtol=1e-4)


def test_errors_of_hidden_pixels_are_fitted_by_their_distance() -> None:
    rng, scenes_ = np.random.default_rng(0), []
    for _ in range(5):
        far = rng.uniform(1, 32, 100 * FEWEST_PIXELS).astype(np.float32)
        scenes_.append(Hidden(far, np.abs(0.1 * far * rng.standard_normal(far.shape)).astype(np.float32)))
    found = fit_hidden(scenes_)
    assert len(found) == 6
    for distance, share in found:
        assert share == pytest.approx(0.1 * distance, rel=0.25)


@pytest.mark.parametrize(
    "widths", [((0.9, 1.0), (0.5, 2.0)), ((0.5, 2.0), (0.9, 1.0)), ((0.5, np.nan),), ((1.0, 2.0),)]
)
def test_widths_grow_with_the_level(widths: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="levels"):
        Calibration((0.1,), (0.2,), widths)


@pytest.mark.parametrize(
    "hidden", [((2.0, 0.1), (1.0, 0.2)), ((1.0, 0.2), (2.0, 0.1)), ((1.0, np.inf),), ((np.nan, 0.2),)]
)
def test_what_is_hidden_further_away_is_no_surer(hidden: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="hidden"):
        Calibration((0.1,), (0.2,), (), hidden)


def test_hidden_pixels_are_unsure_as_their_surroundings_are_lively() -> None:
    rng = np.random.default_rng(0)
    plane = np.full((1, 64, 128), 500, dtype=np.float32)
    plane[..., 64:] += rng.normal(0, 50, (64, 64)).astype(np.float32)
    damaged = np.zeros((64, 128), dtype=bool)
    damaged[20:29, 20:29] = damaged[20:29, 90:99] = True
    known = ((1.0, 0.2), (4.0, 0.8))
    std = hidden_std(plane, damaged, View(ValueRange(300, 700)), known)[0]
    assert std[20, 20] == pytest.approx(0.2 * 0.02 * 200, rel=0.01)  # a flat image: 1 % of its range, at the edge
    assert std[24, 24] == pytest.approx(4 * std[20, 20], rel=0.01)  # and in the middle
    assert std[24, 94] == pytest.approx(0.8 * 50, rel=0.3)
    noisy = hidden_std(plane, damaged, View(ValueRange(300, 700), (50 / 200, 0.0, 0.0)), known)[0]
    assert noisy[24, 94] < 0.5 * std[24, 94]  # noise is no sign of what may be hidden


def test_only_what_has_an_uncertainty_is_calibrated() -> None:
    planes = np.random.default_rng(0).random((1, 1, 32, 32)).astype(np.float32)
    damaged = np.zeros((1, 32, 32), dtype=bool)
    damaged[0, 4:8] = True
    chosen, views = Calibration((0.1,), (0.2,), (), ((1.0, 0.5),)), [View(ValueRange(0, 1), (0.1, 0.0, 0.0))]
    one_pass = Posterior(planes, np.zeros_like(planes), None)
    assert one_pass.calibrated(chosen, planes, damaged, views) is one_pass
    some = Posterior(planes, np.full_like(planes, 0.01), None).calibrated(chosen, planes, damaged, views)
    assert np.unique(some.std[0, 0][~damaged[0]]) == pytest.approx(0.02)
    expected = hidden_std(planes[0], damaged[0], views[0], chosen.hidden)[0][damaged[0]]
    assert np.array_equal(some.std[0, 0][damaged[0]], expected)
    assert (expected > 0.1).all()


def test_it_survives_json() -> None:
    chosen = Calibration((0.1, 0.4), (0.2, 0.4), ((0.5, 0.6), (0.9, 1.6)), ((1.0, 0.2), (4.0, 0.5)))
    assert Calibration.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen
    old = Calibration((0.1, 0.4), (0.2, 0.4))
    assert Calibration.from_dict({"spread": [0.1, 0.4], "error": [0.2, 0.4]}) == old
