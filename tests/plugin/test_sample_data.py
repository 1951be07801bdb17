from __future__ import annotations

from collections.abc import Callable
from typing import Any

import napari.layers
import numpy as np
import pytest

from napari_vae_repair.plugin.sample_data import noisy_micrograph, noisy_photo


@pytest.mark.parametrize("sample", [noisy_photo, noisy_micrograph])
def test_truth_and_noisy_fit_and_are_the_same_every_time(sample: Callable[[], list[Any]]) -> None:
    (truth, truth_meta, _), (noisy, meta, _) = sample()
    assert truth.shape == noisy.shape
    assert truth_meta["name"].endswith("truth")
    np.testing.assert_array_equal(noisy, sample()[1][0])
    for data, options, _kind in sample():
        napari.layers.Image(data, **options)
    assert meta["name"].startswith("noisy")


def test_the_noise_is_what_is_said() -> None:
    (truth, _, _), (noisy, _, _) = noisy_photo()
    inside = (truth > 80) & (truth < 175)  # far from clipping
    assert np.std((noisy.astype(float) - truth)[inside]) == pytest.approx(25, rel=0.02)
    (truth, _, _), (noisy, _, _) = noisy_micrograph()
    scaled = (noisy - truth) / np.sqrt(4.0 * (truth - 100) + 36)
    assert np.mean(scaled) == pytest.approx(0, abs=0.01)
    assert np.std(scaled) == pytest.approx(1, rel=0.02)


@pytest.mark.gui
@pytest.mark.parametrize("key", ["noisy_photo", "noisy_micrograph"])
def test_samples_open_from_the_menu(viewer: Any, key: str) -> None:
    layers = viewer.open_sample("napari-vae-repair", key)
    assert len(layers) == 2
    assert viewer.layers.selection.active is layers[-1]
