"""Training from scratch: one linear loop that yields its steps and can be stopped between any two."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_vae_repair.errors import RepairWarning, TrainingError
from napari_vae_repair.noise.likelihood import PoissonGaussian
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.settings import Settings, Training
from napari_vae_repair.vae.device import Device, memory_released, to_device
from napari_vae_repair.vae.elbo import elbo_terms, forward, report
from napari_vae_repair.vae.feeding import Fed
from napari_vae_repair.vae.model import Decoded, HierarchicalVAE
from napari_vae_repair.vae.patches import Patches, PatchSource
from napari_vae_repair.vae.record import Losses, Model, ValueRange, View
from napari_vae_repair.vae.resuming import Course, Forgetful, Keeper

AVERAGE_DECAY = 0.99  # of the exponential moving average of the weights, which is what is kept
RAMP_STEPS = 20  # over which the learning rate rises at the start
COSINE_FROM = 0.5  # share of the run after which the learning rate falls
CLIP_NORM = 1.0  # 5.0 let single steps throw a run back by hundreds of others
VALIDATION_PATCHES = 16


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a model is trained on and restores.

    Attributes
    ----------
    planes : ndarray of float32
        ``(N, C, Y, X)`` prepared values, finite, Y and X multiples of the network's stride.
    damaged : ndarray of bool
        ``(N, Y, X)``.
    channel : ndarray of int64
        ``(N,)``: index along the axis ``C`` of each plane.
    noise : tuple of NoiseModel
        One for each channel, in prepared units.
    """

    planes: NDArray[np.float32]
    damaged: NDArray[np.bool_]
    channel: NDArray[np.int64]
    noise: tuple[NoiseModel, ...]


@dataclass(frozen=True, slots=True)
class Lesson:
    """Patches to train on, and what they are.

    Attributes
    ----------
    patches : Patches
    colours : int
        Of each patch.
    value_range : ValueRange
        Prepared values that become -1 and 1 in the network.
    noise : tuple of NoiseModel
        One for each channel that the patches name, in prepared units.
    """

    patches: Patches
    colours: int
    value_range: ValueRange
    noise: tuple[NoiseModel, ...]


def steps_of(settings: Settings) -> tuple[int, int]:
    """Steps an epoch, and in all."""
    an_epoch = max(1, math.ceil(settings.training.patches_per_epoch / settings.training.batch_size))
    return an_epoch, an_epoch * settings.epochs


def train(prepared: Prepared, settings: Settings, device: Device) -> Generator[Losses, None, Model]:
    """Train a network on the prepared planes by the ELBO, and keep the weights with the best held-out ELBO.

    Parameters
    ----------
    prepared : Prepared
        Planes, damage, channels and noise.
    settings : Settings
        `network`, `training`, `epochs`, `noise` and `seed` decide the run.
    device : Device
        Where to train; the returned model is on the CPU.

    Yields
    ------
    Losses
        After each step.

    Raises
    ------
    TrainingError
        If the loss stops being finite.
    DeviceMemoryError
        If the device's memory is exhausted.
    """
    with memory_released(device):
        return (yield from _train(prepared, settings, device))
    raise AssertionError("memory_released raises where it swallows")


def _train(prepared: Prepared, settings: Settings, device: Device) -> Generator[Losses, None, Model]:
    chosen = settings.training
    patches = PatchSource(
        prepared.planes,
        prepared.damaged,
        prepared.channel,
        patch_px=chosen.patch_px,
        stride=settings.network.stride_px,
        held_out=chosen.held_out,
        seed=settings.seed,
    )
    lesson = Lesson(patches, prepared.planes.shape[1], ValueRange.of(prepared.planes), prepared.noise)
    return (yield from _train_from(lesson, settings, device, Forgetful(), VALIDATION_PATCHES))


def train_from(
    lesson: Lesson,
    settings: Settings,
    device: Device,
    keeper: Keeper,
    *,
    validation_patches: int = VALIDATION_PATCHES,
) -> Generator[Losses, None, Model]:
    """Train as `train` does, on patches from anywhere, from the state that is kept if there is one.

    Parameters
    ----------
    lesson : Lesson
        Where patches come from, and what they are.
    settings, device
        As of `train`.
    keeper : Keeper
        Of the states; the patches of `lesson` are led to the saved one too.
    validation_patches : int
        At most so many decide which weights are kept.

    Raises
    ------
    TrainingError, DeviceMemoryError
        As `train`.
    KeyError, ValueError, TypeError or RuntimeError
        If the saved state is none of this training.
    """
    with memory_released(device):
        return (yield from _train_from(lesson, settings, device, keeper, validation_patches))
    raise AssertionError("memory_released raises where it swallows")


def _train_from(
    lesson: Lesson, settings: Settings, device: Device, keeper: Keeper, validation_patches: int
) -> Generator[Losses, None, Model]:
    started = time.perf_counter()
    chosen, patches = settings.training, lesson.patches
    generator = torch.Generator(device.torch).manual_seed(settings.seed)
    views = [View(lesson.value_range)] * len(lesson.noise)
    network, likelihood = _initialise(lesson, settings, device)
    average, best = copy.deepcopy(network), copy.deepcopy(network)
    held_out = Fed.of(patches.validation(validation_patches), views, device)
    learned = [p for p in (*network.parameters(), *likelihood.parameters()) if p.requires_grad]
    optimiser = torch.optim.Adam(learned, lr=chosen.learning_rate, betas=(0.9, 0.99))
    an_epoch, in_all = steps_of(settings)
    modules: dict[str, nn.Module] = {"network": network, "average": average, "best": best, "likelihood": likelihood}
    course = Course(modules, optimiser, generator, patches)
    first, history = 0, list[float]()
    if keeper.saved is not None:
        numbers = course.put_back(keeper.saved)
        first, history, started = numbers["step"], list(numbers["history"]), started - numbers["seconds"]

    for step in range(first, in_all):
        for group in optimiser.param_groups:
            group["lr"] = chosen.learning_rate * schedule(step, in_all)
        batch = Fed.of(patches.training(chosen.batch_size), views, device)
        decoded = forward(network, batch, device, generator)
        nll, kl = elbo_terms(decoded, batch, likelihood)
        loss = nll + _kl_weight(step, in_all, chosen) * _free_bits(decoded, chosen.free_bits)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss became {loss.item()} at step {step + 1} of {in_all}.",
                "Training needs a finite loss.",
                "Lower training.learning_rate, or check the image and the noise for extreme values.",
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, CLIP_NORM)
        optimiser.step()
        _average(average, network, step)

        validation = None
        if (step + 1) % an_epoch == 0:
            validation = _negative_elbo(average, held_out, likelihood, device, settings.seed)
            if validation < min(history, default=math.inf):
                best.load_state_dict(average.state_dict())
            history.append(validation)
        done, seconds = step + 1, time.perf_counter() - started
        keeper.offer(lambda: course.state(step=done, history=history, seconds=seconds))  # noqa: B023 - see `Keeper`
        yield Losses(float(loss.detach()), float(nll.detach()), tuple(float(level) for level in kl), validation)

    record = {
        "epochs": settings.epochs,
        "steps": in_all,
        "best_epoch": history.index(min(history)) + 1,
        "negative_elbo": min(history),
        "history": history,
        "seconds": time.perf_counter() - started,
        "device": device.label,
        **report(best, patches, likelihood, views, device, settings.seed),
    }
    return _finish(best, likelihood, settings, lesson.value_range, record)


def _initialise(lesson: Lesson, settings: Settings, device: Device) -> tuple[HierarchicalVAE, PoissonGaussian]:
    scale, offset = lesson.value_range.scale, lesson.value_range.offset
    in_network_units = tuple(noise.rescaled(scale, offset) for noise in lesson.noise)
    # made on the CPU, so that one seed gives the same weights on each device; the caller's random state stays
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(settings.seed)
        network = HierarchicalVAE(lesson.colours, settings.network)
        likelihood = PoissonGaussian(in_network_units, learned=settings.noise.kind == "learned")
    to_device(network, device)
    likelihood.to(device.torch)
    return network, likelihood


def _free_bits(decoded: Decoded, free_bits: float) -> Tensor:
    """KL over all levels in nats per value, each latent channel's mean counted from `free_bits` upwards."""
    values = decoded.clean.numel()
    terms = [kl.mean(dim=(0, 2, 3)).clamp(min=free_bits).sum() * (kl[:, 0].numel() / values) for kl in decoded.kl]
    return torch.stack(terms).sum()


def _kl_weight(step: int, in_all: int, chosen: Training) -> float:
    return min(1.0, (step + 1) / max(1.0, chosen.kl_warmup * in_all))


def schedule(step: int, in_all: int) -> float:
    """Share of the full learning rate: a short ramp, a plateau, a cosine down to 2 %."""
    done = step / in_all
    falling = 1.0 if done < COSINE_FROM else 0.51 + 0.49 * math.cos(math.pi * (done - COSINE_FROM) / (1 - COSINE_FROM))
    return min(1.0, (step + 1) / RAMP_STEPS) * falling


@torch.no_grad()
def _average(average: HierarchicalVAE, network: HierarchicalVAE, step: int) -> None:
    decay = min(AVERAGE_DECAY, (step + 1) / (step + 10))
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


@torch.no_grad()
def _negative_elbo(
    network: HierarchicalVAE, batch: Fed, likelihood: PoissonGaussian, device: Device, seed: int
) -> float:
    """Of the counted pixels, with the same noise at each call."""
    generator = torch.Generator(device.torch).manual_seed(seed)
    nll, kl = elbo_terms(forward(network, batch, device, generator), batch, likelihood)
    return float(nll + torch.stack(kl).sum())


def _finish(
    network: HierarchicalVAE,
    likelihood: PoissonGaussian,
    settings: Settings,
    value_range: ValueRange,
    record: dict[str, Any],
) -> Model:
    network.requires_grad_(False).eval().to("cpu")
    source = settings.noise.kind
    noise = tuple(
        model.rescaled(1 / value_range.scale, -value_range.offset / value_range.scale)
        for model in likelihood.models(source)
    )
    model = Model(network, settings, value_range, noise, (), record)
    if model.collapsed:
        warnings.warn(
            f"The posterior collapsed: the latents carry {sum(record['kl']):.1e} nats per value, "
            "and the restored image is nearly the same whatever the layer shows. "
            "Give the noise (noise.kind = 'given') if it was overestimated, or raise training.free_bits or epochs.",
            RepairWarning,
            stacklevel=2,
        )
    return model
