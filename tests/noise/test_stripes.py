"""Stripes told from noise."""

from __future__ import annotations

import numpy as np
import pytest

from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.noise.stripes import stripes


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_stripes_are_found_in_their_strength(axis: str) -> None:
    rng = np.random.default_rng(0)
    plane = 50 + 3 * rng.standard_normal((256, 256)) + np.linspace(0, 40, 256)[:, None]
    offsets = 2 * rng.standard_normal(256)
    plane += offsets[:, None] if axis == "rows" else offsets[None]
    planes, nothing = plane[None, None].astype(np.float32), np.zeros((1, 256, 256), dtype=bool)
    found = stripes(NoiseModel(0.0, 3.0), planes, nothing)
    rows, columns = found.stripes if axis == "rows" else found.stripes[::-1]
    assert rows == pytest.approx(2, rel=0.25)
    assert columns == 0


def test_noise_alone_has_no_stripes() -> None:
    rng = np.random.default_rng(0)
    planes = rng.standard_normal((1, 1, 256, 256)).astype(np.float32)
    found = stripes(NoiseModel(0.0, 1.0), planes, np.zeros((1, 256, 256), dtype=bool))
    assert found.stripes == (0, 0)
