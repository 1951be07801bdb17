"""The likelihood against scipy's normal distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from napari_vae_repair.noise.likelihood import PoissonGaussian, whitened_log_likelihood
from napari_vae_repair.noise.record import NoiseModel


def test_log_likelihood_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    models = (NoiseModel(0.3, 0.1, -1.0), NoiseModel(0.0, 0.4))
    clean, observed = rng.uniform(-1, 1, (2, 1, 5, 4)), rng.uniform(-1, 1, (2, 1, 5, 4))
    likelihood = PoissonGaussian(models, learned=False)
    got = likelihood(torch.tensor(observed), torch.tensor(clean), torch.tensor([0, 1])).numpy()
    for index, model in enumerate(models):
        std = np.sqrt(model.variance(clean[index]))
        assert np.allclose(got[index], norm.logpdf(observed[index], clean[index], std), rtol=1e-4, atol=1e-5)


def test_learning_finds_the_noise_of_a_known_scene() -> None:
    rng = np.random.default_rng(1)
    clean = torch.tensor(rng.uniform(0, 1, (1, 1, 100, 100)), dtype=torch.float32)
    truth = NoiseModel(0.04, 0.1)
    observed = clean + torch.tensor(
        np.sqrt(truth.variance(clean.numpy())) * rng.standard_normal(clean.shape), dtype=torch.float32
    )
    likelihood = PoissonGaussian((NoiseModel(0.005, 0.4),), learned=True)
    optimiser = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        (-likelihood(observed, clean, torch.tensor([0])).mean()).backward()
        optimiser.step()
    (found,) = likelihood.models("learned")
    assert abs(found.read_noise - 0.1) < 0.015
    assert abs(found.gain - 0.04) < 0.01
    assert found.source == "learned"


def test_given_noise_is_not_learned() -> None:
    assert not any(p.requires_grad for p in PoissonGaussian((NoiseModel(0.1, 0.1),), learned=False).parameters())


def test_whitened_likelihood_of_white_noise_is_the_normal_one() -> None:
    rng = np.random.default_rng(0)
    residual, std = rng.normal(0, 2, (3, 1, 8, 10)), rng.uniform(1, 3, (3, 1, 8, 10))
    got = whitened_log_likelihood(torch.tensor(residual), torch.tensor(std), torch.zeros(3, 2))
    np.testing.assert_allclose(got.numpy(), norm.logpdf(residual, 0, std).sum(axis=(1, 2, 3)), rtol=1e-5)


def test_whitened_likelihood_is_that_of_a_periodic_normal_field() -> None:
    size, neighbours = 6, (0.3, 0.15)
    lags = np.minimum(np.arange(size), size - np.arange(size)).astype(float)
    # on so small a ring, correlations reach around it: more than one lag ends at the same pixel
    wrapped = [sum(rho ** ((np.arange(size) + turn * size) ** 2.0) for turn in (-1, 0, 1)) for rho in neighbours]
    assert wrapped[0][1] == pytest.approx(0.3, abs=1e-6)
    assert lags[1] == 1
    circulant = [np.array([[row[(i - j) % size] for j in range(size)] for i in range(size)]) for row in wrapped]
    covariance = 4.0 * np.kron(*circulant)
    residual = np.random.default_rng(0).multivariate_normal(np.zeros(size**2), covariance)
    expected = multivariate_normal(np.zeros(size**2), covariance).logpdf(residual)
    image = torch.tensor(residual.reshape(1, 1, size, size), dtype=torch.float32)
    got = whitened_log_likelihood(image, torch.full_like(image, 2.0), torch.tensor([neighbours]))
    assert float(got) == pytest.approx(expected, rel=1e-3)
