"""Adapting the starter to an image: steps on its own pixels, kept only if held-out blocks say that they help.

The steps follow both objectives of the starter's training. What one pass of the starter makes of the image takes the
place of the clean scene: noise as the image's is drawn upon it anew, and the network learns to remove that (internal
adaptation after Vaksman, Elad & Milanfar 2020, LIDIA, arXiv:1911.07167). Samples learn by the ELBO of the image itself.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from napari_vae_repair.errors import TrainingError
from napari_vae_repair.noise.likelihood import whitened_log_likelihood
from napari_vae_repair.vae.budget import TIMED_STEPS, Budget
from napari_vae_repair.vae.device import Device, memory_released, on_device
from napari_vae_repair.vae.feeding import Fed, drawn_from
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.patches import Patches, PatchSource
from napari_vae_repair.vae.record import Losses, Model, View
from napari_vae_repair.vae.resuming import Course, Forgetful, Keeper
from napari_vae_repair.vae.risk import compare, correlated_noise, one_pass
from napari_vae_repair.vae.starter import network_for

PATCH_PX, BATCH_SIZE, LEARNING_RATE = 64, 8, 3e-4
CLIP_NORM = 1.0
SAMPLED_SHARE, ELBO_WEIGHT = 0.25, 0.1  # of each batch in the ELBO, and beside the error of one pass
HELD_OUT = 0.1  # share of the area, in blocks of 16 x 16 pixels
CHECK_PATCHES = 96
# Correlation of neighbours: two widefield images (0.6) lost 1.4 and 2.5 dB to networks that seemed better
MOST_SHARED = 0.3


@dataclass(frozen=True, slots=True)
class Seen:
    """Planes as the starter sees them.

    Attributes
    ----------
    planes : ndarray of float32
        ``(N, 1, Y, X)``, finite, Y and X at least the network's stride.
    damaged : ndarray of bool
        ``(N, Y, X)``.
    views : list of View
        One for each plane.
    """

    planes: NDArray[np.float32]
    damaged: NDArray[np.bool_]
    views: list[View]


class Stepped(NamedTuple):
    """A step of adapting: which one, of how many, what it measured, and a model that is surely better already."""

    done: int
    total: int
    losses: Losses
    better: Model | None = None


def obstacle(seen: Seen) -> str:
    """Why the model cannot be adapted to these planes; "" if it can."""
    if any(view.told is None for view in seen.views):  # no likelihood
        return "nothing could be told of the noise; give it (noise={'kind': 'given', ...})"
    shared = max(max(view.told[1:]) for view in seen.views if view.told is not None)
    if shared > MOST_SHARED:
        return f"neighbours share too much of their noise ({shared:.2f}) to judge whether it helps"
    return ""


def adapt(
    model: Model,
    seen: Seen,
    *,
    steps: int | None,
    stop_at: int | None = None,
    seconds: float,
    seed: int,
    device: Device,
    should_finish: Callable[[], bool] = lambda: False,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.perf_counter,
    batch_size: int = BATCH_SIZE,
    look_every: float = math.inf,
) -> Generator[Stepped, None, Model]:
    """Train the model on with the image itself; the better of the two is returned.

    Parameters
    ----------
    model : Model
        The starter, or adapted from it; never changed.
    seen : Seen
        That has no `obstacle`.
    steps : int or None
        How many steps; None = as many as fit into `seconds`, by the pace of the first few.
    stop_at : int or None
        After how many of the steps to end early, as `should_finish` had done.
    seconds : float
        Only with `steps` None.
    seed : int
        Of patches, latents and held-out blocks: the same seed and steps give the same model on the same machine.
    device : Device
        Where to train; the returned model is on the CPU.
    should_finish : callable
        True ends the steps early; what they led to is compared all the same.
    should_stop : callable
        Polled while the two are compared; True ends that with `Cancelled`.
    clock : callable
        Seconds, growing.
    batch_size : int
        Patches of a step, fewer only where memory is short; in twelve times as many the two are compared.
    look_every : float
        Seconds after which the two are compared on the way, and a better one is told with the step: what `stop_at` that
        step would give. It takes time, and changes nothing else.

    Yields
    ------
    Stepped
        Of each step.

    Returns
    -------
    Model
        With `training["adapted"]`: steps, after which of them it was ended early, whether they were accepted, and the
        estimated error of one pass on held-out blocks before and after, in decibels gained.

    Raises
    ------
    TrainingError
        If the loss stops being finite.
    DeviceMemoryError
        If the device's memory is exhausted.
    Cancelled
        `should_stop` said so.

    Notes
    -----
    The two are compared by Stein's unbiased risk estimate (Stein 1981; Monte Carlo: Ramani et al. 2008,
    doi:10.1109/TIP.2008.2001404) on blocks whose pixels were in no likelihood, with probing noise that is correlated as
    the image's. It trusts the noise model, but a wrong strength of the noise moves both errors nearly alike.
    """
    with memory_released(device):
        return (
            yield from _adapt(
                model,
                seen,
                Budget(steps, seconds, stop_at, should_finish, clock),
                seed,
                device,
                should_stop,
                batch_size,
                look_every,
            )
        )
    raise AssertionError("memory_released raises where it swallows")


def _adapt(
    model: Model,
    seen: Seen,
    budget: Budget,
    seed: int,
    device: Device,
    should_stop: Callable[[], bool],
    batch_size: int,
    look_every: float,
) -> Generator[Stepped, None, Model]:
    source = PatchSource(
        seen.planes,
        seen.damaged,
        np.arange(len(seen.planes)),
        patch_px=PATCH_PX,
        stride=model.network.stride,
        held_out=HELD_OUT,
        seed=seed,
        turning=False,  # what repeats itself in the image does so in its own orientation
    )
    return (
        yield from _adapt_to(
            model, source, seen.views, budget, seed, device, Forgetful(), should_stop, batch_size, look_every
        )
    )


def adapt_to(
    model: Model,
    source: Patches,
    views: Sequence[View],
    budget: Budget,
    *,
    seed: int,
    device: Device,
    keeper: Keeper,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Stepped, None, Model]:
    """Adapt as `adapt` does, to patches from anywhere, from the state that is kept if there is one.

    Parameters
    ----------
    model : Model
    source : Patches
        Grey, of `PATCH_PX`, and those of `validation` decide whether the adapted network is kept.
    views : sequence of View
        One for each channel that the patches name; all tell of their noise.
    budget : Budget
    keeper : Keeper
        Of the states; `source` is led to the saved one too. States before `TIMED_STEPS` are not offered.
    seed, device, should_stop
        As of `adapt`.

    Raises
    ------
    TrainingError, DeviceMemoryError, Cancelled
        As `adapt`.
    KeyError, ValueError, TypeError or RuntimeError
        If the saved state is none of this adapting.
    """
    with memory_released(device):
        return (yield from _adapt_to(model, source, views, budget, seed, device, keeper, should_stop))
    raise AssertionError("memory_released raises where it swallows")


def _adapt_to(
    model: Model,
    source: Patches,
    views: Sequence[View],
    budget: Budget,
    seed: int,
    device: Device,
    keeper: Keeper,
    should_stop: Callable[[], bool],
    batch_size: int = BATCH_SIZE,
    look_every: float = math.inf,
) -> Generator[Stepped, None, Model]:
    before = on_device(network_for(model, views), device)
    network = copy.deepcopy(before).requires_grad_(True)
    generator = torch.Generator(device.torch).manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    course = Course({"network": network}, optimiser, generator, source)
    in_all, done, began = budget.steps or TIMED_STEPS + 1, 0, budget.clock()
    looked = began

    def judged() -> Model:
        held_out = Fed.of(source.validation(CHECK_PATCHES), views, device)
        at_once = CHECK_PATCHES * batch_size // BATCH_SIZE
        accepted, gained = compare(before, network, held_out, seed, device, should_stop, at_once)
        record: dict[str, Any] = {"steps": in_all, "stopped_at": done if done < in_all else None}
        record |= {"accepted": accepted, "gained_db": gained}
        if batch_size != BATCH_SIZE:
            record["batch_size"] = batch_size
        if "adapted" in model.training:  # a warm start
            record["before"] = model.training["adapted"]
        chosen = copy.deepcopy(network).requires_grad_(False).eval().to("cpu") if accepted else model.network
        return replace(model, network=chosen, training=model.training | {"adapted": record})

    if keeper.saved is not None:
        numbers = course.put_back(keeper.saved)
        in_all, done = numbers["in_all"], numbers["step"]
    while not budget.over(done, in_all):
        for group in optimiser.param_groups:
            # the first steps are alike however many follow, so that a count taken from seconds can be given back
            group["lr"] = LEARNING_RATE * (1 if done < TIMED_STEPS else 1 - done / in_all)
        batch = Fed.of(source.training(batch_size), views, device)
        losses = _step(network, before, optimiser, batch, generator, device)
        done += 1
        if done == 1:
            began = budget.clock()  # the first step is slower than all others
        if budget.steps is None and done == TIMED_STEPS:
            in_all = budget.steps_at((budget.clock() - began) / (TIMED_STEPS - 1))
        if done >= TIMED_STEPS:
            now = {"step": done, "in_all": in_all}
            keeper.offer(lambda: course.state(**now))  # noqa: B023 - see `Keeper`
        due = look_every < math.inf and done >= TIMED_STEPS and budget.clock() - looked >= look_every
        if not due or budget.over(done, in_all):
            yield Stepped(done, in_all, losses)
            continue
        found = judged()
        yield Stepped(done, in_all, losses, found if found.training["adapted"]["accepted"] else None)
        looked = budget.clock()
    return judged()


def _step(
    network: HierarchicalVAE,
    before: HierarchicalVAE,
    optimiser: torch.optim.Optimizer,
    batch: Fed,
    generator: torch.Generator,
    device: Device,
) -> Losses:
    """Both objectives of the starter's training, with what it makes of the image in the place of the clean scene."""
    counted = batch.counted * (1 - batch.damaged)
    part = batch.part(slice(max(1, round(SAMPLED_SHARE * len(batch.values)))))
    with device.precision():
        with torch.no_grad():
            clean = one_pass(before, batch, batch.seen)
        again = torch.where(batch.damaged > 0, batch.seen, clean + correlated_noise(batch, generator))
        restored = one_pass(network, batch, again)
        decoded = network.decode(network.encode(part.seen, part.damaged, part.told), drawn_from(generator))
    variance = batch.told[:, :1, None, None] ** 2
    error = ((restored - clean) ** 2 / variance * counted).sum() / counted.sum().clamp(min=1)
    residual = (part.values - decoded.clean) * part.counted
    std = part.told[:, :1, None, None].expand_as(residual)
    nll = -whitened_log_likelihood(residual, std, part.told[:, 1:]).sum() / part.counted.sum().clamp(min=1)
    kl = [level.sum() / part.values.numel() for level in decoded.kl]
    loss = error + ELBO_WEIGHT * (nll + torch.stack(kl).sum())
    if not torch.isfinite(loss):
        raise TrainingError(
            f"The loss became {loss.item()} while adapting.",
            "Adapting needs a finite loss.",
            "Restore without adapting (adapt_seconds=0), or check image and noise for extreme values.",
        )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
    optimiser.step()
    return Losses(float(loss.detach()), float(nll.detach()), tuple(float(level.detach()) for level in kl))
