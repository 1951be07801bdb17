"""Comparing: the ranking follows the true error, where it can; what cannot be compared is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_vae_repair import compare
from napari_vae_repair.comparison import OURS, Comparison, methods
from napari_vae_repair.errors import InputError, SettingsError

FAST = (OURS, "Gaussian", "median", "TV", "wavelet")


@pytest.fixture(scope="module")
def clean(photo: np.ndarray) -> np.ndarray:
    return photo[:64, :64].astype(np.float32)


@pytest.fixture(scope="module")
def compared(clean: np.ndarray) -> Comparison:
    noisy = clean + np.random.default_rng(0).normal(0, 60, clean.shape).astype(np.float32)
    return compare(noisy, only=FAST, reference=clean)


def test_the_loss_ranks_as_the_truth_does(compared: Comparison, clean: np.ndarray) -> None:
    assert not compared.doubt
    assert {row.method for row in compared.rows} == set(FAST)
    losses = [row.loss for row in compared.rows]
    assert losses == sorted(losses)
    true = [float(np.mean((row.restored - clean) ** 2)) for row in compared.rows]
    assert np.corrcoef(losses, true)[0, 1] > 0.7
    # without the noise's variance the loss is about the true error
    best = compared.rows[0]
    assert 0.7 * 3600 < best.loss < 1.5 * 3600
    assert best.psnr == max(row.psnr or 0 for row in compared.rows)


def test_results_are_in_the_images_units(compared: Comparison, clean: np.ndarray) -> None:
    for row in compared.rows:
        assert row.restored.shape == clean.shape
        assert row.restored.dtype == np.float32
        assert abs(row.restored.mean() - clean.mean()) < 0.03 * clean.mean()
        assert row.seconds >= 0
    table = compared.table()
    assert [line["method"] for line in table] == [row.method for row in compared.rows]
    assert all(line["method"] in compared.text() for line in table)


def test_colours_are_compared_too(clean: np.ndarray) -> None:
    rgb = np.stack([clean, clean[::-1], clean.T], axis=-1)
    rgb = np.clip(rgb / 4 + np.random.default_rng(0).normal(0, 20, rgb.shape), 0, 255).astype(np.uint8)
    asked: list[tuple[str, int, int]] = []
    found = compare(rgb, only=("median", "Gaussian", OURS), on_step=lambda *step: asked.append(step))
    assert asked == [("median", 0, 3), ("Gaussian", 1, 3), (OURS, 2, 3)]
    assert all(row.restored.shape == rgb.shape and row.psnr is None for row in found.rows)
    assert found.rows[0].method == OURS


def test_correlated_noise_is_told_to_rank_nothing(clean: np.ndarray) -> None:
    noise = gaussian_filter(np.random.default_rng(0).normal(0, 1, clean.shape), 1.0)
    found = compare(clean + (60 / noise.std() * noise).astype(np.float32), only=("Gaussian",))
    assert "neighbours share" in found.doubt
    assert found.doubt in found.text()


def test_what_cannot_be_compared_is_refused(clean: np.ndarray) -> None:
    with pytest.raises(SettingsError, match="no method 'nml'.*Methods are"):
        compare(clean, only=("nml",))
    with pytest.raises(InputError, match="One plane"):
        compare(np.stack([clean] * 3), only=("Gaussian",))
    with pytest.raises(InputError, match="at least 32"):
        compare(clean[:20], only=("Gaussian",))
    with pytest.raises(InputError, match="1 pixels are damaged"):
        compare(np.where(np.arange(clean.size).reshape(clean.shape) == 5, np.nan, clean), only=("Gaussian",))
    with pytest.raises(InputError, match="reference has shape"):
        compare(clean, only=("Gaussian",), reference=clean[1:])
    assert set(FAST) <= set(methods())
