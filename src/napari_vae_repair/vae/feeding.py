"""What training and adapting feed to a network: patches as tensors in network units, and the latents' noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.latent import Gaussian
from napari_vae_repair.vae.model import Noise
from napari_vae_repair.vae.patches import Batch
from napari_vae_repair.vae.record import View


@dataclass(frozen=True, slots=True)
class Fed:
    """A `Batch` on the device, values in network units.

    Attributes
    ----------
    values, seen, damaged, counted, channel : Tensor
        As in the batch.
    told : Tensor
        ``(B, 3)`` as `View.told`, rows of nan where nothing is.
    """

    values: Tensor
    seen: Tensor
    damaged: Tensor
    counted: Tensor
    channel: Tensor
    told: Tensor

    @classmethod
    def of(cls, batch: Batch, views: Sequence[View], device: Device) -> Fed:
        """With one view for each channel."""
        chosen = [views[channel] for channel in batch.channel]
        scale, offset = (
            np.array([getattr(view.value_range, name) for view in chosen], dtype=np.float32)[:, None, None, None]
            for name in ("scale", "offset")
        )
        told = np.array([view.told or (np.nan,) * 3 for view in chosen], dtype=np.float32)
        told[batch.turned, 1:] = told[batch.turned, :0:-1]
        images = (batch.values * scale + offset, batch.seen * scale + offset, batch.damaged, batch.counted)
        layout = torch.channels_last
        on_device = [torch.from_numpy(image).to(device.torch, memory_format=layout) for image in images]
        return cls(*on_device, *(torch.from_numpy(each).to(device.torch) for each in (batch.channel, told)))

    def part(self, which: slice) -> Fed:
        """Some of the patches."""
        return Fed(*(getattr(self, each.name)[which] for each in fields(self)))


def drawn_from(generator: torch.Generator) -> Noise:
    """Standard normal noise for every level, one draw after the other."""

    def noise(level: int, posterior: Gaussian) -> Tensor:
        mean = posterior.mean
        return torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)

    return noise
