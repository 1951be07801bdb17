"""KL against torch.distributions; latent noise depends on place alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from napari_vae_repair.vae.latent import NOISE_BLOCK, Gaussian, Place, coordinate_noise


def random_gaussian(seed: int) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    return Gaussian.from_features(2 * torch.randn((2, 6, 5, 4), generator=generator))


def test_kl_is_that_of_torch_distributions() -> None:
    q, p = random_gaussian(0), random_gaussian(1)
    truth = kl_divergence(Normal(q.mean, q.log_std.exp()), Normal(p.mean, p.log_std.exp()))
    torch.testing.assert_close(q.kl(p), truth, rtol=1e-4, atol=1e-5)


def test_kl_to_itself_is_zero() -> None:
    q = random_gaussian(2)
    assert q.kl(q).abs().max() < 1e-6


def test_features_of_any_size_give_a_finite_kl() -> None:
    wild = Gaussian.from_features(torch.full((1, 2, 3, 3), 1e6))
    assert torch.isfinite(wild.log_std).all()
    assert torch.isfinite(wild.sample(torch.zeros(1, 1, 3, 3))).all()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_two_windows_agree_where_they_overlap(level: int) -> None:
    stride, size = 2 ** (level + 1), 2 * NOISE_BLOCK
    whole = coordinate_noise(Place(7, 3, 1, 0, 0), level, (4, size, size))
    part = coordinate_noise(Place(7, 3, 1, 40 * stride, 56 * stride), level, (4, 50, 60))
    assert np.array_equal(part, whole[:, 40:90, 56:116])


@pytest.mark.parametrize(
    "other", [Place(8, 3, 1, 0, 0), Place(7, 4, 1, 0, 0), Place(7, 3, 2, 0, 0)], ids=["seed", "plane", "sample"]
)
def test_noise_differs_by_seed_plane_and_sample(other: Place) -> None:
    a, b = (coordinate_noise(place, 0, (1, 64, 64)) for place in (Place(7, 3, 1, 0, 0), other))
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.06


def test_noise_is_standard_normal_and_differs_by_level() -> None:
    a, b = (coordinate_noise(Place(0, 0, 0, 0, 0), level, (8, 128, 128)) for level in (0, 1))
    assert abs(a.mean()) < 0.01
    assert abs(a.std() - 1) < 0.01
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01
