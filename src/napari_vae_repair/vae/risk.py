"""Which of two networks restores an image better: Stein's unbiased risk on pixels that neither learned from.

Stein 1981 (doi:10.1214/aos/1176345632); by probing noise: Ramani, Blu & Unser 2008 (doi:10.1109/TIP.2008.2001404).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.stats import t as student
from torch import Tensor

from napari_vae_repair.noise.likelihood import noise_power
from napari_vae_repair.vae.device import Device, stopping_between_layers
from napari_vae_repair.vae.feeding import Fed
from napari_vae_repair.vae.model import HierarchicalVAE

PROBE = 0.1  # strength of the probing noise, in standard deviations of the image's noise
CERTAIN = 0.977  # that the second network is better, by Student's t over held-out blocks
LEAST_GAIN = 0.05  # dB: where photons are few, smaller gains have been losses
SMALLEST_RISK = 0.003  # of the noise's variance: estimates come out below 0 where hardly any error is left


@torch.no_grad()
def compare(
    before: HierarchicalVAE,
    after: HierarchicalVAE,
    batch: Fed,
    seed: int,
    device: Device,
    should_stop: Callable[[], bool] = lambda: False,
    at_once: int | None = None,
) -> tuple[bool, float]:
    """Whether the second is surely better on the counted pixels, and by how many decibels it seems to be.

    Parameters
    ----------
    before, after : HierarchicalVAE
    batch : Fed
        Patches that tell their noise.
    seed : int
        Of the probing noise.
    device : Device
    should_stop : callable
        Polled before each layer; True ends it with `Cancelled`.
    at_once : int, optional
        Patches of a pass, fewer where memory is short; None = all.
    """
    probe = correlated_noise(batch, torch.Generator(device.torch).manual_seed(seed))
    with stopping_between_layers(should_stop):
        risks = [risks_of(network, batch, probe, at_once or len(probe)) for network in (before, after)]
    difference = (risks[1] - risks[0])[batch.counted.sum(dim=(1, 2, 3)) > 0]
    error = float(difference.std() / math.sqrt(len(difference))) if len(difference) > 1 else math.inf
    least = SMALLEST_RISK * float(batch.told[:, 0].square().mean())
    mean_before, mean_after = (max(float(risk.mean()), least) for risk in risks)
    gained = 10 * math.log10(mean_before / mean_after)
    needed = float(student.ppf(CERTAIN, max(len(difference) - 1, 1)))
    return float(difference.mean()) < -needed * error and gained > LEAST_GAIN, gained


def risks_of(network: HierarchicalVAE, batch: Fed, probe: Tensor, at_once: int) -> Tensor:
    """Stein's estimate for each patch, ``(B,)``, of so many in a pass."""
    parts = (slice(start, start + at_once) for start in range(0, len(probe), at_once))
    return torch.cat([_risk(network, batch.part(part), probe[part]) for part in parts])


def _risk(network: HierarchicalVAE, batch: Fed, probe: Tensor) -> Tensor:
    """Stein's estimate of the squared error of one pass on the counted pixels of each patch, ``(B,)``."""
    # never in 16 bits: the probe is smaller than their steps
    clean = one_pass(network, batch, batch.seen)
    moved = one_pass(network, batch, batch.seen + PROBE * probe * (1 - batch.damaged))
    variance = batch.told[:, :1, None, None] ** 2
    risk = (clean - batch.values) ** 2 - variance + 2 * probe * (moved - clean) / PROBE
    return (risk * batch.counted).sum(dim=(1, 2, 3)) / batch.counted.sum(dim=(1, 2, 3)).clamp(min=1)


def correlated_noise(batch: Fed, generator: torch.Generator) -> Tensor:
    """Normal noise with the strength and the correlation that each patch was told."""
    white = torch.randn(batch.values.shape, generator=generator, device=batch.values.device)
    spectrum = torch.fft.fft2(white[:, 0])
    power = noise_power(batch.told[:, 1:], *white.shape[2:])
    noise: Tensor = torch.fft.ifft2(spectrum * power.sqrt()).real[:, None]
    return noise * batch.told[:, :1, None, None]


def one_pass(network: HierarchicalVAE, batch: Fed, x: Tensor) -> Tensor:
    """What the network makes of ``(B, 1, Y, X)`` values that are seen in the place of the batch's own."""
    return network.decode(
        network.encode(x, batch.damaged, batch.told), lambda level, posterior: None, divergence=False
    ).clean
