"""Opponent colours: orthonormal, so that noise keeps its strength, and led back exactly."""

from __future__ import annotations

import numpy as np
import pytest

from napari_vae_repair.image.opponent import TO_OPPONENT, from_opponent, std_from_opponent, to_opponent


@pytest.fixture
def planes() -> np.ndarray:
    return np.random.default_rng(0).normal(3, 2, (2, 3, 40, 50)).astype(np.float32)


def test_there_and_back(planes: np.ndarray) -> None:
    np.testing.assert_allclose(from_opponent(to_opponent(planes)), planes, atol=1e-5)
    np.testing.assert_allclose(TO_OPPONENT @ TO_OPPONENT.T, np.eye(3), atol=1e-6)


def test_grey_has_no_colour(planes: np.ndarray) -> None:
    grey = np.repeat(planes[:, :1], 3, axis=1)
    turned = to_opponent(grey)
    np.testing.assert_allclose(turned[:, 0], planes[:, 0] * 3**0.5, rtol=1e-5)
    assert np.abs(turned[:, 1:]).max() < 1e-5


def test_other_planes_are_left_as_they_are(planes: np.ndarray) -> None:
    for function in (to_opponent, from_opponent, std_from_opponent):
        assert function(planes[:, :1]) is not None
        np.testing.assert_array_equal(function(planes[:, :1]), planes[:, :1])


def test_independent_spread_is_led_back_as_spread(planes: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    std = np.array([1.0, 0.5, 0.1], np.float32)[None, :, None, None]
    drawn = rng.standard_normal((200_000, 3, 1, 1)).astype(np.float32) * std
    np.testing.assert_allclose(std_from_opponent(std)[0, :, 0, 0], from_opponent(drawn).std(axis=(0, 2, 3)), rtol=0.02)
