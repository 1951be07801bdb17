"""Adapting: the same steps give the same model, a budget becomes steps, and only what is better is kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_vae_repair.errors import TrainingError
from napari_vae_repair.settings import Network
from napari_vae_repair.vae import adapt as adapting
from napari_vae_repair.vae import risk
from napari_vae_repair.vae.adapt import Seen, Stepped, adapt, obstacle
from napari_vae_repair.vae.device import choose_device
from napari_vae_repair.vae.feeding import Fed
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.patches import PatchSource
from napari_vae_repair.vae.record import Model, ValueRange, View
from napari_vae_repair.vae.starter import general_model

CPU = choose_device("cpu")
STD = 0.2  # of the noise, in network units


@pytest.fixture
def general() -> Model:
    torch.manual_seed(0)
    network = HierarchicalVAE(1, Network(widths=(12, 12), latents=(4, 4), blocks=1, told=True))
    return general_model(network.requires_grad_(False).eval(), {"restorer": {"hours": 0.0}}, None)


@pytest.fixture
def seen(photo: np.ndarray) -> Seen:
    clean = photo[None, None] / 500 - 1
    noise = np.random.default_rng(0).normal(0, STD, clean.shape)
    planes = (clean + noise).astype(np.float32)
    return Seen(planes, np.zeros(planes[:, 0].shape, dtype=bool), [View(ValueRange(-1.0, 1.0), (STD, 0.0, 0.0))])


def run(model: Model, seen: Seen, **options: object) -> tuple[Model, list[Stepped]]:
    steps = adapt(model, seen, **{"steps": 4, "seconds": 0.0, "seed": 0, "device": CPU} | options)  # type: ignore[arg-type]
    out: list[Stepped] = []
    while True:
        try:
            out.append(next(steps))
        except StopIteration as end:
            return end.value, out


def test_an_untrained_model_gets_better_and_is_kept(
    general: Model, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "LEARNING_RATE", 3e-3)
    before = {name: tensor.clone() for name, tensor in general.network.state_dict().items()}
    adapted, losses = run(general, seen, steps=100)
    assert adapted.training["adapted"]["accepted"]
    assert adapted.training["adapted"]["gained_db"] > 1
    assert adapted.training["restorer"] == {"hours": 0.0}
    assert losses[-1][2].loss < losses[0][2].loss - 0.5
    for name, tensor in general.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not any(weight.requires_grad for weight in adapted.network.parameters())


def test_what_is_better_on_the_way_is_what_stopping_there_gives(
    general: Model, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "LEARNING_RATE", 3e-3)
    usual, _ = run(general, seen, steps=40)
    adapted, steps = run(general, seen, steps=40, look_every=0.0)
    better = [step for step in steps if step.better is not None]
    assert better, "40 steps teach an untrained model"
    assert better[-1].done < 40
    ended, _ = run(general, seen, steps=40, stop_at=better[0].done)
    assert better[0].better is not None
    assert better[0].better.training == ended.training
    pairs = ((usual.network, adapted.network), (ended.network, better[0].better.network))
    for first, second in pairs:
        for one, other in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(one, other)


def test_the_loss_is_the_error_of_one_pass_and_a_part_of_the_elbo(
    general: Model, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    for weight in (0.0, 0.5):
        monkeypatch.setattr(adapting, "ELBO_WEIGHT", weight)
        _, (step,) = run(general, seen, steps=1)
        losses.append(step.losses)
    error, both = losses
    assert error.loss > 0
    assert both.loss == pytest.approx(error.loss + 0.5 * (both.nll + sum(both.kl)), rel=1e-4)


def test_few_blocks_prove_little(general: Model, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks that agree by chance accept what 2 standard errors would; Student's t asks for 14."""
    risks = iter([torch.tensor([1.0, 1.2]), torch.tensor([0.8, 0.7])] * 2)
    monkeypatch.setattr(risk, "_risk", lambda *_: next(risks))
    batch = Fed.of(
        PatchSource(
            seen.planes, seen.damaged, np.zeros(1, np.int64), patch_px=32, stride=4, held_out=0.1, seed=0
        ).validation(2),
        seen.views,
        CPU,
    )
    accepted, gained = risk.compare(general.network, general.network, batch, 0, CPU)
    assert gained > 1
    assert not accepted


def test_a_warm_start_keeps_its_history(general: Model, seen: Seen) -> None:
    first, _ = run(general, seen, steps=2)
    second, _ = run(first, seen, steps=3)
    assert second.training["adapted"]["steps"] == 3
    assert second.training["adapted"]["before"] == first.training["adapted"]


def test_the_same_steps_give_the_same_model(general: Model, seen: Seen) -> None:
    one, other = (run(general, seen, steps=6)[0].network.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_worse_is_not_kept(general: Model, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapting, "LEARNING_RATE", 3e-3)
    good, _ = run(general, seen, steps=100)
    monkeypatch.setattr(adapting, "LEARNING_RATE", 0.03)
    same, _ = run(good, seen, steps=6)
    assert not same.training["adapted"]["accepted"]
    for one, other in zip(good.network.parameters(), same.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_seconds_become_steps_that_can_be_given_back(general: Model, seen: Seen) -> None:
    def clock() -> Iterator[float]:
        now = 0.0
        while True:
            yield now
            now += 1.0

    ticks = clock()
    timed, progress = run(general, seen, steps=None, seconds=20.0, clock=lambda: next(ticks))
    count = timed.training["adapted"]["steps"]
    assert count == progress[-1][1] == len(progress)
    assert 3 < count <= 40
    again, _ = run(general, seen, steps=count)
    for one, other in zip(timed.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_ended_early_is_compared_and_can_be_given_back(general: Model, seen: Seen) -> None:
    asked = iter([False, False, True])
    early, progress = run(general, seen, steps=50, should_finish=lambda: next(asked))
    record = early.training["adapted"]
    assert (record["steps"], record["stopped_at"]) == (50, len(progress)) == (50, 5)
    again, _ = run(general, seen, steps=50, stop_at=5)
    assert again.training == early.training
    for one, other in zip(early.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_without_known_noise_there_is_nothing_to_adapt_by(seen: Seen) -> None:
    assert not obstacle(seen)
    assert "give it" in obstacle(Seen(seen.planes, seen.damaged, [View(seen.views[0].value_range)]))


def test_under_strongly_correlated_noise_no_gain_can_be_judged(seen: Seen) -> None:
    shared = [View(ValueRange(-1.0, 1.0), (STD, 0.1, 0.6))]
    assert "0.60" in obstacle(Seen(seen.planes, seen.damaged, shared))


def test_a_loss_that_is_not_finite_is_told(general: Model, seen: Seen) -> None:
    planes = seen.planes * np.float32(1e30)
    with pytest.raises(TrainingError, match="adapting"):
        run(general, Seen(planes, seen.damaged, seen.views))


def test_turned_patches_are_told_the_correlation_along_their_own_axes(seen: Seen) -> None:
    views = [View(ValueRange(-1.0, 1.0), (STD, 0.6, 0.1))]
    source = PatchSource(seen.planes, seen.damaged, np.zeros(1, np.int64), patch_px=32, stride=4, held_out=0.1, seed=0)
    batch = source.training(16)
    assert 0 < batch.turned.sum() < 16
    told = Fed.of(batch, views, CPU).told.numpy()
    np.testing.assert_allclose(told[batch.turned], [[STD, 0.1, 0.6]] * batch.turned.sum(), rtol=1e-6)
    np.testing.assert_allclose(told[~batch.turned], [[STD, 0.6, 0.1]] * (~batch.turned).sum(), rtol=1e-6)
