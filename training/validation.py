"""How good a network is on sources that training never saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.record import ValueRange
from training.batches import BatchSource, Mix
from training.objective import Tensors, terms
from training.scenes import Scenes

GREY_LEVELS = (15, 25, 50)
PHOTOS = 24
BATCHES, BATCH_SIZE, PATCH_PX = 12, 16, 64
SEED = 12345


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Fixed images and batches; the same in every run.

    Attributes
    ----------
    photos : ndarray of float32
        ``(N, Y, X)`` clean, 0 to 1.
    batches : tuple of Tensors
        Of the corruptions that training draws.
    """

    photos: NDArray[np.float32]
    batches: tuple[Tensors, ...]

    @classmethod
    def of(cls, scenes: Scenes, mix: Mix, device: Device) -> ValidationSet:
        """From held-out scenes; those of sources named "photo/...", if there are any, are the photos."""
        rng = np.random.default_rng(SEED)
        photos = np.flatnonzero(np.char.startswith(scenes.source, "photo/"))
        photos = photos if len(photos) else np.arange(len(scenes))
        chosen = rng.choice(photos, min(PHOTOS, len(photos)), replace=False)
        source = BatchSource(scenes, BATCH_SIZE, PATCH_PX, mix, SEED)
        batches = tuple(Tensors.of(source.draw(), device) for _ in range(BATCHES))
        return cls(scenes.patches[chosen].astype(np.float32) / 255, batches)


@torch.no_grad()
def validate(network: HierarchicalVAE, held_out: ValidationSet, device: Device) -> dict[str, float]:
    """PSNR of photos with Gaussian noise, and both terms of the objective with the mixed corruptions.

    Returns
    -------
    dict
        "psnr_15", "psnr_25", "psnr_50": one pass, blind, mean over the photos, in dB; "told_15", ...: told the noise.
        "one_pass", "elbo": as `objective.Terms`. "psnr_mixed", "psnr_blind", "psnr_masked": mean over patches, range 2,
        in dB: as told in training; told nothing; of masked pixels alone.
    """
    out = {
        f"{name}_{level}": _photos(network, held_out.photos, level / 255, told, device)
        for name, told in (("psnr", False), ("told", True))
        for level in GREY_LEVELS
    }
    sums: dict[str, list[float]] = {"one_pass": [], "elbo": [], "psnr_mixed": [], "psnr_blind": [], "psnr_masked": []}
    torch.manual_seed(SEED)
    for batch in held_out.batches:
        measured = terms(network, batch, BATCH_SIZE // 4, device, None)
        sums["one_pass"].append(float(measured.one_pass))
        sums["elbo"].append(float(measured.elbo))
        told, blind = (_one_pass(network, batch, said, device) for said in (batch.told, None))
        sums["psnr_mixed"] += _decibels((told - batch.clean) ** 2, 1 - batch.masked)
        sums["psnr_blind"] += _decibels((blind - batch.clean) ** 2, 1 - batch.masked)
        sums["psnr_masked"] += _decibels((told - batch.clean) ** 2, batch.masked)
    return out | {name: float(np.mean(values)) for name, values in sums.items()}


def _one_pass(network: HierarchicalVAE, batch: Tensors, told: torch.Tensor | None, device: Device) -> torch.Tensor:
    with device.precision():
        encoded = network.encode(batch.noisy, batch.masked, told)
        return network.decode(encoded, lambda level, posterior: None).clean


def _decibels(squared: torch.Tensor, weight: torch.Tensor) -> list[float]:
    """Of each patch that has any weight."""
    area = weight.sum(dim=(1, 2, 3))
    mse = (squared * weight).sum(dim=(1, 2, 3))[area > 0] / area[area > 0]
    return [float(value) for value in 10 * torch.log10(4 / mse.clamp(min=1e-8))]


def _photos(network: HierarchicalVAE, photos: NDArray[np.float32], sigma: float, told: bool, device: Device) -> float:
    out = []
    for index, clean in enumerate(photos):
        noisy = clean + sigma * np.random.default_rng(index).standard_normal(clean.shape).astype(np.float32)
        span = ValueRange.of(noisy[None, None])
        x = torch.from_numpy(noisy * np.float32(span.scale) + np.float32(span.offset))[None, None].to(device.torch)
        noise = torch.tensor([[sigma * span.scale, 0.0, 0.0]], device=device.torch) if told else None
        with device.precision():
            encoded = network.encode(x, torch.zeros_like(x), noise)
            mean = network.decode(encoded, lambda level, posterior: None).clean
        restored = (mean[0, 0].float().cpu().numpy() - span.offset) / span.scale
        out.append(10 * np.log10(1 / np.mean((np.clip(restored, 0, 1) - clean) ** 2)))
    return float(np.mean(out))
