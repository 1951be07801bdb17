"""The map from the spread of samples to an honest uncertainty."""

from __future__ import annotations

import numpy as np
import pytest

from napari_vae_repair.vae.calibration import NORMAL_90, Calibration
from training.calibrate import coverage, fit


def test_what_is_fitted_covers_ninety_percent_at_every_spread() -> None:
    rng = np.random.default_rng(0)
    spread = np.exp(rng.uniform(-4, 0, 200_000)).astype(np.float32)
    error = np.abs(rng.standard_normal(spread.shape) * 1.5 * spread**0.7).astype(np.float32)
    found = fit(spread[::2], error[::2])
    assert coverage(spread[1::2], error[1::2]) < 0.8
    calibrated = found.calibrated(spread[1::2], 1.0)
    for low, high in ((-3.8, -3), (-3, -2), (-2, -1), (-1, -0.2)):
        part = (np.log(spread[1::2]) > low) & (np.log(spread[1::2]) < high)
        assert coverage(calibrated[part], error[1::2][part]) == pytest.approx(0.9, abs=0.02)
    assert np.all(np.diff(found.error) >= 0)


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
