"""Training lowers the ELBO's loss, repeats itself, stops when asked, and tells of a collapse."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_vae_repair.errors import Cancelled, RepairWarning, TrainingError
from napari_vae_repair.pipeline import Progress, restore
from napari_vae_repair.restoration import Restoration
from napari_vae_repair.settings import Settings, make_settings
from napari_vae_repair.vae import train as training
from napari_vae_repair.vae.record import Model


def weights(model: Model) -> np.ndarray:
    return torch.cat([value.ravel() for value in model.network.state_dict().values()]).numpy()


def test_validation_elbo_improves_and_the_best_epoch_is_kept(noisy: np.ndarray, tiny: Settings) -> None:
    record = restore(noisy, tiny, epochs=8).model.training
    assert min(record["history"]) < record["history"][0]
    assert record["history"][record["best_epoch"] - 1] == min(record["history"]) == record["negative_elbo"]


def test_the_weights_are_those_of_the_best_epoch(
    noisy: np.ndarray, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a validation that only gets worse, what is kept is what one epoch gives."""
    found = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(training, "_negative_elbo", lambda *args: next(found))
    monkeypatch.setattr(training, "schedule", lambda step, in_all: 1.0)
    monkeypatch.setattr(training, "_kl_weight", lambda step, in_all, chosen: 1.0)
    long = restore(noisy, tiny, epochs=3).model
    found = iter([1.0])
    assert np.array_equal(weights(long), weights(restore(noisy, tiny, epochs=1).model))


def test_the_same_seed_gives_the_same_weights_whatever_the_callers_random_state(
    noisy: np.ndarray, tiny: Settings, model: Model
) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = restore(noisy, tiny).model
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(weights(again), weights(model))
    assert not np.array_equal(weights(restore(noisy, tiny, seed=1).model), weights(model))


def test_an_epoch_is_the_stated_number_of_patches_whatever_the_image(tiny: Settings) -> None:
    chosen = make_settings(tiny, training={**tiny.training.model_dump(), "patches_per_epoch": 20, "batch_size": 8})
    steps: list[Progress] = []
    restore(np.random.default_rng(0).random((3, 40, 50)), chosen, on_step=steps.append)
    trained = [step for step in steps if step.losses is not None]
    assert len(trained) == trained[-1].total == 3 * 3
    assert [step.losses.validation is not None for step in trained if step.losses] == [False, False, True] * 3


def test_losses_add_up(noisy: np.ndarray, tiny: Settings) -> None:
    chosen = make_settings(tiny, training={**tiny.training.model_dump(), "free_bits": 0.0, "kl_warmup": 0.0})
    steps: list[Progress] = []
    restore(noisy, chosen, on_step=steps.append)
    for step in steps:
        if step.losses is not None:
            assert step.losses.loss == pytest.approx(step.losses.nll + sum(step.losses.kl), abs=1e-4)
            assert len(step.losses.kl) == 2


def test_cancelling_stops_between_two_steps(noisy: np.ndarray, tiny: Settings) -> None:
    seen: list[Progress] = []
    with pytest.raises(Cancelled, match="'train'"):
        restore(noisy, tiny, epochs=1000, on_step=seen.append, should_stop=lambda: len(seen) >= 6)
    assert len(seen) == 6


def test_a_collapsed_posterior_is_told(tiny: Settings) -> None:
    """Noise alone leaves nothing to encode."""
    noise = np.random.default_rng(0).normal(0, 1, (64, 64))
    given = {"kind": "given", "read_noise": 30.0}
    with pytest.warns(RepairWarning, match="collapsed"):
        result = restore(noise, tiny, noise=given, epochs=30)
    assert result.report.collapsed
    assert any("collapsed" in note for note in result.report.notes)


def test_a_loss_that_is_not_finite_is_an_error(
    noisy: np.ndarray, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_free_bits", lambda decoded, free_bits: decoded.clean.sum() * float("nan"))
    with pytest.raises(TrainingError, match="loss became nan"):
        restore(noisy, tiny)


def test_learned_noise_moves_towards_the_truth(noisy: np.ndarray, tiny: Settings) -> None:
    learned = restore(noisy, tiny, noise={"kind": "learned"}, epochs=8).report.noise[0]
    assert learned.source == "learned"
    assert 50 < np.sqrt(learned.variance(np.array(500.0))) < 200


def test_given_noise_is_used_in_the_images_units(noisy: np.ndarray, tiny: Settings) -> None:
    given = restore(noisy, tiny, noise={"kind": "given", "gain": 2.0, "read_noise": 90.0, "offset": 10.0}).report.noise[
        0
    ]
    assert (given.gain, given.read_noise, given.offset) == pytest.approx((2.0, 90.0, 10.0), rel=1e-3)


def test_bfloat16_training_ends_near_float32(noisy: np.ndarray, tiny: Settings, restoration: Restoration) -> None:
    """On a processor without bf16 instructions it is slow, but it must be right."""
    device = training.Device("cpu", "CPU in bfloat16", torch.bfloat16)
    prepared = training.Prepared(
        ((noisy - noisy.min()) / np.ptp(noisy))[None, None, :96, :72],
        np.zeros((1, 96, 72), dtype=bool),
        np.zeros(1, dtype=np.int64),
        (training.NoiseModel(0.0, 100 / float(np.ptp(noisy))),),
    )
    elbo = {}
    for name, chosen in (("bf16", device), ("float32", replace(device, autocast=None))):
        steps = training.train(prepared, tiny, chosen)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    elbo[name] = end.value.training["negative_elbo"]
                    break
    assert elbo["bf16"] == pytest.approx(elbo["float32"], abs=0.05)


@pytest.mark.parametrize("noise", ["estimated", "learned"])
def test_no_tensor_is_made_on_a_default_device(noisy: np.ndarray, tiny: Settings, noise: str) -> None:
    """Without a GPU this is as near as one comes: whatever is made without a device becomes a meta tensor and fails."""
    with torch.device("meta"):
        inside = restore(noisy, tiny, noise={"kind": noise}, device="cpu")
    assert np.array_equal(inside.restored, restore(noisy, tiny, noise={"kind": noise}, device="cpu").restored)


@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives(noisy: np.ndarray, tiny: Settings, model: Model) -> None:
    on_gpu = restore(noisy, model=model, device="cuda", samples=4)
    on_cpu = restore(noisy, model=model, device="cpu", samples=4)
    assert np.abs(on_gpu.restored - on_cpu.restored).max() < 0.02 * np.ptp(noisy)
    assert restore(noisy, tiny, device="cuda").report.reconstruction["held_out"]["psnr"] > 5
