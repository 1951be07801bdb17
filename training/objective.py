"""What is minimised: the squared error of one pass against the clean scene, and the negative ELBO of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_vae_repair.noise.likelihood import whitened_log_likelihood
from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.latent import Gaussian
from napari_vae_repair.vae.model import HierarchicalVAE
from training.batches import Batch

# The squared error that a good denoiser reaches (network units), a * std ** power, for validation and to begin with
REACHED, REACHED_POWER, REACHED_FLOOR = 0.024, 1.1, 5e-4
CORRELATED_FACTOR = 3.0  # correlated noise leaves so many times more, for a correlation of 1
DAMAGE_REACHED = 0.01
DAMAGE_WEIGHT = 3.0  # of masked pixels, which are few
LEVELS, CORRELATIONS = 12, 3  # of noise, between which errors are balanced
FORGETTING = 0.02  # of what was reached before, at each patch
# 1 = every level of noise counts alike, and the gradient of the faintest drowns all others; 0.5 = gradients are alike
FAIRNESS, TYPICAL_ERROR = 0.6, 0.01


@dataclass(frozen=True, slots=True)
class Tensors:
    """A `Batch` on the device."""

    noisy: Tensor
    clean: Tensor
    std: Tensor
    neighbours: Tensor
    masked: Tensor
    counted: Tensor
    unmarked: Tensor
    unseen: Tensor
    told: Tensor

    @classmethod
    def of(cls, batch: Batch, device: Device) -> Tensors:
        """The batch, moved."""
        names = cls.__slots__  # type: ignore[attr-defined]
        return cls.moved({name: torch.from_numpy(getattr(batch, name)) for name in names}, device)

    @classmethod
    def moved(cls, batch: Mapping[str, Tensor], device: Device) -> Tensors:
        """What another process drew, moved while the device goes on computing."""
        return cls(**{name: tensor.to(device.torch, non_blocking=True).float() for name, tensor in batch.items()})

    def first(self, count: int) -> Tensors:
        """The first patches of the batch."""
        return Tensors(*(getattr(self, name)[:count] for name in self.__slots__))  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Terms:
    """What one step measured.

    Attributes
    ----------
    one_pass : Tensor
        Squared error of one pass over what a good denoiser reaches, mean of the batch.
    elbo : Tensor
        Negative ELBO of samples in nats per pixel, less the negative log likelihood of the clean scene itself, each
        patch weighted down while its samples are far off; mean of the batch.
    kl : Tensor
        ``(levels,)`` nats per pixel of each level, finest first.
    """

    one_pass: Tensor
    elbo: Tensor
    kl: Tensor


class Balance:
    """What the network reaches at each level and correlation of noise, lately.

    Squared errors span four decades between faint and strong noise. Divided by what is usual for their noise, all would
    count alike, as decibels do; divided by a power of it, faint noise counts for less. Harder scenes of one noise still
    count for more than easy ones. In no checkpoint: it is learned anew within some hundred patches.
    """

    def __init__(self, device: Device) -> None:
        self._log_error = torch.full((LEVELS * CORRELATIONS,), torch.nan, device=device.torch)

    def weight(self, batch: Tensors, squared: Tensor) -> Tensor:
        """``(B, 1, 1, 1)``: falls with what is reached at the noise of each patch; learns from the patches."""
        with torch.no_grad():
            std = batch.std.square().mean(dim=(1, 2, 3)).sqrt()
            level = ((torch.log10(std) + 2.6) * 4).clamp(0, LEVELS - 1).long()  # from 0.0025 by factors of 1.8
            correlation = (batch.neighbours.mean(dim=1) * 5).ceil().clamp(0, CORRELATIONS - 1).long()
            good = 1 - batch.masked
            error = (squared * good).sum(dim=(1, 2, 3)) / good.sum(dim=(1, 2, 3)).clamp(min=1)
            logarithm = torch.log(error.clamp(min=1e-7))
            self._learn(level * CORRELATIONS + correlation, logarithm)
            usual = torch.exp(self._log_error[level * CORRELATIONS + correlation])
            share = (TYPICAL_ERROR / (usual + REACHED_FLOOR / 10)) ** FAIRNESS
        return (share / TYPICAL_ERROR)[:, None, None, None]

    def _learn(self, cell: Tensor, logarithm: Tensor) -> None:
        """All patches of a cell at once, as if one came after the other; nothing waits for the device."""
        count = torch.zeros_like(self._log_error).index_add_(0, cell, torch.ones_like(logarithm))
        mean = torch.zeros_like(self._log_error).index_add_(0, cell, logarithm) / count.clamp(min=1)
        before = torch.where(self._log_error.isnan(), mean, self._log_error)
        learned = before + (1 - (1 - FORGETTING) ** count) * (mean - before)
        self._log_error = torch.where(count > 0, learned, self._log_error)


def terms(network: HierarchicalVAE, batch: Tensors, sampled: int, device: Device, balance: Balance | None) -> Terms:
    """Both terms of a batch, its first `sampled` patches decoded once more from random latents.

    Without `balance`, errors are divided by what a good denoiser reaches.
    """
    with device.precision():
        encoded = network.encode(batch.noisy, batch.masked, batch.told)
        mean = network.decode(encoded, lambda level, posterior: None).clean
    squared = (mean - batch.clean) ** 2
    weight = good_weight(batch) if balance is None else balance.weight(batch, squared)
    weight = torch.where(batch.masked > 0, DAMAGE_WEIGHT * weight.clamp(max=1 / DAMAGE_REACHED), weight)
    one_pass = (weight * squared).mean()
    part = batch.first(sampled)
    with device.precision():
        drawn = network.decode([level[:sampled] for level in encoded], _randomly)
    gap = _log_likelihood(part, part.clean) - _log_likelihood(part, drawn.clean)
    kl = torch.stack([level.sum(dim=(1, 2, 3)) for level in drawn.kl])  # (levels, B)
    pixels = part.noisy[0].numel()
    # a patch that is still far off counts less, as by its logarithm: the faintest noise would else drown all others
    negative_elbo = (gap + kl.sum(dim=0)) / pixels
    elbo = (negative_elbo / (1 + negative_elbo.detach().clamp(min=0))).mean()
    return Terms(one_pass, elbo, kl.detach().mean(dim=1) / pixels)


def _randomly(level: int, posterior: Gaussian) -> Tensor:
    return torch.randn_like(posterior.mean)


def _log_likelihood(batch: Tensors, clean: Tensor) -> Tensor:
    return whitened_log_likelihood((batch.noisy - clean) * batch.counted, batch.std, batch.neighbours)


def good_weight(batch: Tensors) -> Tensor:
    """``(B, 1, 1, 1)``: one over the squared error that a good denoiser reaches."""
    std = batch.std.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    correlated = 1 + CORRELATED_FACTOR * batch.neighbours.mean(dim=1)[:, None, None, None]
    return 1 / (REACHED * std**REACHED_POWER * correlated + REACHED_FLOOR)
