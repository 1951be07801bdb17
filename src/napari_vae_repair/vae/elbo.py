"""The two terms of the ELBO of a batch, and what they are at the end of a training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from napari_vae_repair.noise.likelihood import PoissonGaussian
from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.feeding import Fed, drawn_from
from napari_vae_repair.vae.model import Decoded, HierarchicalVAE
from napari_vae_repair.vae.patches import Patches
from napari_vae_repair.vae.record import View

REPORT_PATCHES = 16


def forward(network: HierarchicalVAE, batch: Fed, device: Device, generator: torch.Generator) -> Decoded:
    """One pass with samples of the posterior."""
    with device.precision():
        return network.decode(network.encode(batch.seen, batch.damaged), drawn_from(generator))


def elbo_terms(decoded: Decoded, batch: Fed, likelihood: PoissonGaussian) -> tuple[Tensor, list[Tensor]]:
    """Negative log likelihood, and KL of each level, both in nats per value of the patch."""
    counted = batch.counted.expand_as(batch.values)
    log_likelihood = likelihood(batch.values, decoded.clean, batch.channel) * counted
    # masked pixels leave the sum; the mean over those left keeps the balance with the KL, which all pixels share
    nll = -log_likelihood.sum() / counted.sum().clamp(min=1)
    return nll, [kl.detach().sum() / batch.values.numel() for kl in decoded.kl]


@torch.no_grad()
def report(
    network: HierarchicalVAE,
    patches: Patches,
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
        decoded = forward(network, fed, device, generator)
        nll, kl = elbo_terms(decoded, fed, likelihood)
        counted = fed.counted.expand_as(fed.values)
        squared = (((decoded.clean - fed.values) * counted) ** 2).sum() / counted.sum().clamp(min=1)
        out[f"mse_{name}"] = float(squared) / views[0].value_range.scale ** 2
        out[f"elbo_{name}"] = -float(nll + torch.stack(kl).sum())
        if name == "training":
            out["kl"] = [float(level) for level in kl]
    return out
