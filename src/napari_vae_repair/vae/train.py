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
from torch import Tensor

from napari_vae_repair.errors import RepairWarning, TrainingError
from napari_vae_repair.noise.likelihood import PoissonGaussian
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.settings import Settings, Training
from napari_vae_repair.vae.device import Device, memory_released, to_device
from napari_vae_repair.vae.feeding import Fed, drawn_from
from napari_vae_repair.vae.model import Decoded, HierarchicalVAE
from napari_vae_repair.vae.patches import PatchSource
from napari_vae_repair.vae.predict import View
from napari_vae_repair.vae.record import Losses, Model, ValueRange

AVERAGE_DECAY = 0.99  # of the exponential moving average of the weights, which is what is kept
RAMP_STEPS = 20  # over which the learning rate rises at the start
COSINE_FROM = 0.5  # share of the run after which the learning rate falls
CLIP_NORM = 1.0  # 5.0 let single steps throw a run back by hundreds of others
VALIDATION_PATCHES = 16
REPORT_PATCHES = 16


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
    started = time.perf_counter()
    chosen, value_range = settings.training, ValueRange.of(prepared.planes)
    generator = torch.Generator(device.torch).manual_seed(settings.seed)
    views = [View(value_range)] * len(prepared.noise)
    network, likelihood = _initialise(prepared, settings, value_range, device)
    average = copy.deepcopy(network)
    patches = PatchSource(
        prepared.planes,
        prepared.damaged,
        prepared.channel,
        patch_px=chosen.patch_px,
        stride=network.stride,
        held_out=chosen.held_out,
        seed=settings.seed,
    )
    held_out = Fed.of(patches.validation(VALIDATION_PATCHES), views, device)
    learned = [p for p in (*network.parameters(), *likelihood.parameters()) if p.requires_grad]
    optimiser = torch.optim.Adam(learned, lr=chosen.learning_rate, betas=(0.9, 0.99))
    an_epoch, in_all = steps_of(settings)
    best, best_state, history = math.inf, copy.deepcopy(average.state_dict()), []

    for step in range(in_all):
        for group in optimiser.param_groups:
            group["lr"] = chosen.learning_rate * schedule(step, in_all)
        batch = Fed.of(patches.training(chosen.batch_size), views, device)
        decoded = _forward(network, batch, device, generator)
        nll, kl = _elbo_terms(decoded, batch, likelihood)
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
            history.append(validation)
            if validation < best:
                best, best_state = validation, copy.deepcopy(average.state_dict())
        yield Losses(float(loss.detach()), float(nll.detach()), tuple(float(level) for level in kl), validation)

    average.load_state_dict(best_state)
    record = {
        "epochs": settings.epochs,
        "steps": in_all,
        "best_epoch": history.index(best) + 1,
        "negative_elbo": best,
        "history": history,
        "seconds": time.perf_counter() - started,
        "device": device.label,
        **_report(average, patches, likelihood, views, device, settings.seed),
    }
    return _finish(average, likelihood, settings, value_range, record)


def _initialise(
    prepared: Prepared, settings: Settings, value_range: ValueRange, device: Device
) -> tuple[HierarchicalVAE, PoissonGaussian]:
    in_network_units = tuple(noise.rescaled(value_range.scale, value_range.offset) for noise in prepared.noise)
    # made on the CPU, so that one seed gives the same weights on each device; the caller's random state stays
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(settings.seed)
        network = HierarchicalVAE(prepared.planes.shape[1], settings.network)
        likelihood = PoissonGaussian(in_network_units, learned=settings.noise.kind == "learned")
    to_device(network, device)
    likelihood.to(device.torch)
    return network, likelihood


def _forward(network: HierarchicalVAE, batch: Fed, device: Device, generator: torch.Generator) -> Decoded:
    with device.precision():
        return network.decode(network.encode(batch.seen, batch.damaged), drawn_from(generator))


def _elbo_terms(decoded: Decoded, batch: Fed, likelihood: PoissonGaussian) -> tuple[Tensor, list[Tensor]]:
    """Negative log likelihood, and KL of each level, both in nats per value of the patch."""
    counted = batch.counted.expand_as(batch.values)
    log_likelihood = likelihood(batch.values, decoded.clean, batch.channel) * counted
    # masked pixels leave the sum; the mean over those left keeps the balance with the KL, which all pixels share
    nll = -log_likelihood.sum() / counted.sum().clamp(min=1)
    return nll, [kl.detach().sum() / batch.values.numel() for kl in decoded.kl]


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
    nll, kl = _elbo_terms(_forward(network, batch, device, generator), batch, likelihood)
    return float(nll + torch.stack(kl).sum())


@torch.no_grad()
def _report(
    network: HierarchicalVAE,
    patches: PatchSource,
    likelihood: PoissonGaussian,
    views: list[View],
    device: Device,
    seed: int,
) -> dict[str, Any]:
    """Squared error in prepared units, ELBO and KL of each level, on trained and on held-out pixels."""
    out: dict[str, Any] = {}
    for name, batch in (
        ("training", patches.visible(REPORT_PATCHES)),
        ("held_out", patches.validation(REPORT_PATCHES)),
    ):
        fed = Fed.of(batch, views, device)
        generator = torch.Generator(device.torch).manual_seed(seed)
        decoded = _forward(network, fed, device, generator)
        nll, kl = _elbo_terms(decoded, fed, likelihood)
        counted = fed.counted.expand_as(fed.values)
        squared = (((decoded.clean - fed.values) * counted) ** 2).sum() / counted.sum().clamp(min=1)
        out[f"mse_{name}"] = float(squared) / views[0].value_range.scale ** 2
        out[f"elbo_{name}"] = -float(nll + torch.stack(kl).sum())
        if name == "training":
            out["kl"] = [float(level) for level in kl]
    return out


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
