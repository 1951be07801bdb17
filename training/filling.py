"""The task of the starter's filling network: what damage hides, from what lies around it.

Filling learned beside denoising stays at the plate that spans the damage, whatever the batches: hidden texture that
nobody could guess makes errors that drown those of edges. Here the error of each patch counts relative to the plate's.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.model import HierarchicalVAE
from training.batches import FILLING, BatchSource
from training.figure import Panels
from training.objective import Tensors
from training.restoring import NETWORK
from training.scenes import Scenes

FLOOR = 1e-3  # squared error, network units: what lies below hardly counts
VALIDATION_BATCHES, BATCH_SIZE, PATCH_PX, SEED = 8, 16, 96, 12345


class Filling:
    """Network, objective and validation of the filling network; `held_out` are the scenes for validation."""

    mix = FILLING
    panels: ClassVar[Panels] = {
        "held-out sources, damaged pixels": ("PSNR (dB)", ("psnr_filled", "psnr_plate")),
        "training": ("squared error over the plate's", ("train_relative",)),
    }

    def __init__(self, held_out: Scenes, device: Device) -> None:
        self._device = device
        source = BatchSource(held_out, BATCH_SIZE, PATCH_PX, self.mix, SEED)
        self._held_out = [Tensors.of(source.draw(), device) for _ in range(VALIDATION_BATCHES)]
        self.constants: dict[str, Any] = {"network": NETWORK.model_dump(), "floor": FLOOR}

    def network(self) -> HierarchicalVAE:
        """A new network."""
        return HierarchicalVAE(1, NETWORK)

    def objective(self, network: nn.Module, batch: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """What to minimise, and what to log."""
        squared = (self._one_pass(network, batch) - batch.clean) ** 2
        relative = (_inside(squared, batch) / (_inside((batch.noisy - batch.clean) ** 2, batch) + FLOOR)).mean()
        return relative, {"train_relative": relative.detach()}

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Mean PSNR of the damaged pixels of each patch, filled and as the plate spans them, range 2, in dB."""
        found: dict[str, list[float]] = {"psnr_filled": [], "psnr_plate": []}
        for batch in self._held_out:
            for name, image in (("psnr_filled", self._one_pass(network, batch)), ("psnr_plate", batch.noisy)):
                mse = _inside((image - batch.clean) ** 2, batch)[batch.masked.sum(dim=(1, 2, 3)) > 0]
                found[name] += (10 * torch.log10(4 / mse)).tolist()
        return {name: float(np.mean(values)) for name, values in found.items()}

    def _one_pass(self, network: nn.Module, batch: Tensors) -> Tensor:
        assert isinstance(network, HierarchicalVAE)
        with self._device.precision():
            encoded = network.encode(batch.noisy, batch.masked, batch.told)
            return network.decode(encoded, lambda level, posterior: None, divergence=False).clean


def _inside(values: Tensor, batch: Tensors) -> Tensor:
    """``(B,)`` mean over the damaged pixels of each patch."""
    over = (1, 2, 3)
    return (values * batch.masked).sum(dim=over) / batch.masked.sum(dim=over).clamp(min=1)
