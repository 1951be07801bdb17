"""The likelihood against scipy's normal distribution."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import norm

from napari_vae_repair.noise.likelihood import PoissonGaussian
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
