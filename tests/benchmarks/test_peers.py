"""The benchmark's own parts: scores by the protocol, and peers that do what they are named for."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.data import Case
from benchmarks.repair import WIDEST_PX, brush
from napari_vae_repair.image.classical import FAMILIES


@pytest.fixture
def photon(photo: np.ndarray) -> Case:
    reference = photo / 1000
    noisy = (np.random.default_rng(0).poisson(reference * 40) / 40).astype(np.float32)
    return Case("w2s", "photo", noisy, reference, None)


@pytest.fixture
def gaussian(photo: np.ndarray) -> Case:
    reference = photo / 1000
    noisy = (reference + np.random.default_rng(0).normal(0, 0.1, photo.shape)).astype(np.float32)
    return Case("Set12, sigma 25", "photo", noisy, reference, 0.1)


def test_scores_follow_the_protocol(photon: Case, gaussian: Case) -> None:
    assert photon.psnr(3 * photon.noisy + 2) == pytest.approx(photon.psnr(photon.noisy))
    assert gaussian.psnr(gaussian.noisy) == pytest.approx(20, abs=0.6)
    assert gaussian.psnr(gaussian.reference + np.float32(1e-6)) > 100
    fmd = Case("fmd", "x", photon.noisy, photon.reference, None)
    assert fmd.psnr(fmd.reference + np.float32(0.1)) == pytest.approx(20, abs=0.01)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_an_oracle_is_at_least_as_good_as_what_j_invariance_finds(gaussian: Case, name: str) -> None:
    family = FAMILIES[name]
    best, found = (gaussian.psnr(tuned(family, gaussian)) for tuned in (peers.oracle, peers.j_invariant))
    assert best >= found - 1e-6
    assert best > gaussian.psnr(gaussian.noisy) + 1


def test_colours_are_denoised_too() -> None:
    reference = np.random.default_rng(1).random((24, 24, 3)).astype(np.float32).repeat(2, 0).repeat(2, 1)
    noisy = (reference + np.random.default_rng(0).normal(0, 0.1, reference.shape)).astype(np.float32)
    case = Case("renoir", "x", noisy, reference, None)
    for name in ("Gaussian", "median", "TV"):
        assert peers.oracle(FAMILIES[name], case).shape == noisy.shape
        assert peers.j_invariant(FAMILIES[name], case).shape == noisy.shape


@pytest.mark.skipif(importlib.util.find_spec("bm3d") is None, reason="bm3d comes with the extra [bench]")
def test_a_fitted_transform_helps_bm3d_with_photons(photon: Case) -> None:
    fitted = photon.psnr(peers.vst_bm3d_fitted(photon))
    assert fitted > photon.psnr(photon.noisy) + 3
    assert fitted > photon.psnr(peers.bm3d_told(photon)) - 0.5


def test_brush_masks_lose_about_six_percent() -> None:
    masks = [brush((128, 128), seed) for seed in range(4)]
    assert all(0.06 <= mask.mean() < 0.1 for mask in masks)
    assert not np.array_equal(masks[0], masks[1])
    assert WIDEST_PX == 12
