"""The plain autoencoder: it learns, repeats itself, stops when asked, and its tiles agree with the whole."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import torch

from napari_vae_repair.errors import Cancelled, TrainingError
from napari_vae_repair.settings import Settings, make_settings
from napari_vae_repair.vae import autoencoder
from napari_vae_repair.vae.autoencoder import AutoencoderStep, TrainedAutoencoder, reconstruct, train_autoencoder
from napari_vae_repair.vae.device import choose_device

CPU = choose_device("cpu")
QUICK = make_settings(epochs=4, training={"patches_per_epoch": 128, "patch_px": 32})


def never() -> bool:
    return False


def trained(planes: np.ndarray, settings: Settings) -> tuple[TrainedAutoencoder, list[AutoencoderStep]]:
    steps: list[AutoencoderStep] = []
    running = train_autoencoder(planes, settings, CPU, never)
    return collect(running, steps), steps


def collect(running: Generator[AutoencoderStep, None, TrainedAutoencoder], steps: list[AutoencoderStep]) -> Any:
    while True:
        try:
            steps.append(next(running))
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def planes(photo: np.ndarray) -> np.ndarray:
    """``(1, 1, 97, 75)``, in units of 0 to 1000."""
    return photo[None, None]


@pytest.fixture(scope="module")
def learned(planes: np.ndarray) -> tuple[TrainedAutoencoder, list[AutoencoderStep]]:
    return trained(planes, QUICK)


def test_it_learns_the_photo(planes: np.ndarray, learned: tuple[TrainedAutoencoder, list[AutoencoderStep]]) -> None:
    model, steps = learned
    assert [step.done for step in steps] == list(range(1, steps[0].total + 1))
    assert len(model.history) == QUICK.epochs
    assert min(model.history) < model.history[0]
    result = reconstruct(model, planes, tile_px=512, device=CPU, should_stop=never)
    assert result.shape == planes.shape
    assert result.dtype == np.float32
    assert np.mean((result - planes) ** 2) < 0.3 * planes.var()
    assert steps[-1].loss < 0.3 * planes.var()  # in the image's units


def test_the_same_seed_gives_the_same_weights(
    planes: np.ndarray, learned: tuple[TrainedAutoencoder, list[AutoencoderStep]]
) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again, _ = trained(planes, QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    states = [model.network.state_dict() for model in (again, learned[0])]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    other, _ = trained(planes, QUICK.model_copy(update={"seed": 1, "epochs": 1}))
    assert not torch.equal(other.network.layers[0].weight, states[0]["layers.0.weight"])


def test_tiles_agree_with_the_whole(planes: np.ndarray, learned: tuple[TrainedAutoencoder, Any]) -> None:
    large = np.tile(planes, (2, 1, 3, 4))
    before = large.copy()
    whole, tiled = (reconstruct(learned[0], large, tile_px=size, device=CPU, should_stop=never) for size in (1024, 64))
    np.testing.assert_allclose(tiled, whole, atol=1e-3 * np.ptp(planes))
    assert np.array_equal(large, before)


def test_colours_are_restored_together(planes: np.ndarray) -> None:
    colour = np.concatenate([planes, planes[..., ::-1, :], 1000 - planes], axis=1)
    model, _ = trained(colour, QUICK.model_copy(update={"epochs": 1}))
    assert reconstruct(model, colour, tile_px=512, device=CPU, should_stop=never).shape == colour.shape


def test_it_stops_before_the_next_step_or_tile(planes: np.ndarray, learned: tuple[TrainedAutoencoder, Any]) -> None:
    wishes = iter([False, False, True])
    steps: list[AutoencoderStep] = []
    with pytest.raises(Cancelled):
        collect(train_autoencoder(planes, QUICK, CPU, lambda: next(wishes)), steps)
    assert len(steps) == 2
    with pytest.raises(Cancelled):
        reconstruct(learned[0], planes, tile_px=512, device=CPU, should_stop=lambda: True)


def test_a_loss_that_is_not_finite_is_told(planes: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "_squared_error", lambda *args: torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match="loss became nan at step 1 of 64"):
        trained(planes, QUICK)
