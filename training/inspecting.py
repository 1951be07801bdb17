"""The task of the inspector: the noise of each cell, and the pixels that are damaged."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.inspector import CELL_PX, Findings, Inspector
from training.batches import INSPECTING, BatchSource
from training.figure import Panels
from training.objective import Tensors
from training.scenes import Scenes

SMALLEST_STD = 2e-3  # network units: what 8-bit quantisation leaves
DAMAGE_WEIGHT = 4.0
VALIDATION_BATCHES, BATCH_SIZE, PATCH_PX, SEED = 16, 16, 96, 12345


class Inspecting:
    """Network, objective and validation of the inspector; `held_out` are the scenes for validation."""

    mix = INSPECTING
    panels: ClassVar[Panels] = {
        "noise of held-out sources": ("error", ("error_log_std", "error_correlation")),
        "unmarked damage": ("F1, share", ("damage_f1", "damage_precision", "damage_recall")),
    }

    def __init__(self, held_out: Scenes, device: Device) -> None:
        self._device = device
        source = BatchSource(held_out, BATCH_SIZE, PATCH_PX, INSPECTING, SEED)
        self._held_out = [Tensors.of(source.draw(), device) for _ in range(VALIDATION_BATCHES)]
        self.constants: dict[str, Any] = {"damage_weight": DAMAGE_WEIGHT, "smallest_std": SMALLEST_STD}

    def network(self) -> Inspector:
        """A new network."""
        return Inspector()

    def objective(self, network: nn.Module, batch: Tensors) -> tuple[Tensor, dict[str, float]]:
        """What to minimise, and what to log."""
        with self._device.precision():
            found: Findings = network(batch.noisy)
        log_std, known = _truth(batch)
        wrong = (found.log_std - log_std) * torch.exp(-found.log_unsure)
        noise = (
            (functional.huber_loss(wrong, torch.zeros_like(wrong), reduction="none") + found.log_unsure) * known
        ).mean()
        neighbours = ((found.neighbours - batch.neighbours[:, :, None, None]) ** 2 * known).mean()
        damage = functional.binary_cross_entropy_with_logits(found.damage, batch.unmarked)
        loss = noise + 10 * neighbours + DAMAGE_WEIGHT * damage
        logged = {"train_noise": noise, "train_neighbours": neighbours, "train_damage": damage}
        return loss, {name: float(value.detach()) for name, value in logged.items()}

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Errors of the noise (mean absolute, of the logarithm), of its correlation, and the damage found at 0.5."""
        log_std, correlation, hits, marks, truths = [], [], 0.0, 0.0, 0.0
        for batch in self._held_out:
            with self._device.precision():
                found: Findings = network(batch.noisy)
            truth, known = _truth(batch)
            log_std.append(float(((found.log_std - truth).abs() * known).sum() / known.sum()))
            wrong = (found.neighbours - batch.neighbours[:, :, None, None]).abs() * known
            correlation.append(float(wrong.sum() / known.sum() / 2))
            marked = found.damage > 0
            hits += float((marked * batch.unmarked).sum())
            marks, truths = marks + float(marked.sum()), truths + float(batch.unmarked.sum())
        return {
            "error_log_std": float(np.mean(log_std)),
            "error_correlation": float(np.mean(correlation)),
            "damage_precision": hits / max(marks, 1),
            "damage_recall": hits / max(truths, 1),
            "damage_f1": 2 * hits / max(marks + truths, 1),
        }


def _truth(batch: Tensors) -> tuple[Tensor, Tensor]:
    """Logarithm of the noise's standard deviation of each cell, and whether most of the cell shows it."""
    variance = functional.avg_pool2d(batch.std**2, CELL_PX)
    known = functional.avg_pool2d(batch.counted, CELL_PX) > 0.5
    return 0.5 * torch.log(variance.clamp(min=SMALLEST_STD**2)), known.float()
