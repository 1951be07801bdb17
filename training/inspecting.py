"""The tasks of the inspector's branches: the noise of each cell, and the pixels that are damaged."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.inspection import likely_damaged
from napari_vae_repair.vae.inspector import CELL_PX, DamageBranch, NoiseBranch, NoiseFindings
from training.batches import DAMAGED, NOISY, BatchSource, Mix
from training.figure import Panels
from training.objective import Tensors
from training.scenes import Scenes

SMALLEST_STD = 2e-3  # network units: what 8-bit quantisation leaves
STRONG_STD = 0.04  # network units, 2 % of the range: noise that one sees
VALIDATION_BATCHES, BATCH_SIZE, PATCH_PX, DAMAGED_PATCH_PX, SEED = 16, 16, 96, 160, 12345
LEAST_AREA = 30  # pixels: a patch with less damage has no Dice loss of its own
FALSE_MARKS = 1e-3  # of undamaged pixels: where the threshold lies
SURELY = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999, 0.9995, 0.9998, 0.9999)


class SeeingNoise:
    """Network, objective and validation of the noise branch; `held_out` are the scenes for validation."""

    mix = NOISY
    panels: ClassVar[Panels] = {
        "noise of held-out sources": ("error", ("error_log_std", "error_of_strong")),
        "its correlation": ("error", ("error_correlation",)),
    }

    def __init__(self, held_out: Scenes, device: Device) -> None:
        self._device, self._held_out = device, _validation_batches(held_out, self.mix, device)
        self.constants: dict[str, Any] = {"smallest_std": SMALLEST_STD}

    def network(self) -> NoiseBranch:
        """A new network."""
        return NoiseBranch()

    def objective(self, network: nn.Module, batch: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """What to minimise, and what to log."""
        with self._device.precision():
            found: NoiseFindings = network(batch.noisy)
        log_std, known = _truth(batch)
        wrong = (found.log_std - log_std) * torch.exp(-found.log_unsure)
        noise = (
            (functional.huber_loss(wrong, torch.zeros_like(wrong), reduction="none") + found.log_unsure) * known
        ).mean()
        neighbours = ((found.neighbours - batch.neighbours[:, :, None, None]) ** 2 * known).mean()
        logged = {"train_noise": noise, "train_neighbours": neighbours}
        return noise + 10 * neighbours, {name: value.detach() for name, value in logged.items()}

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Mean absolute errors of the noise's logarithm, of that of noise that one sees, and of its correlation."""
        log_std, strong, correlation = [], [], []
        for batch in self._held_out:
            with self._device.precision():
                found: NoiseFindings = network(batch.noisy)
            truth, known = _truth(batch)
            log_std.append(float(((found.log_std - truth).abs() * known).sum() / known.sum()))
            clear = known * (truth > np.log(STRONG_STD))
            strong.append(float(((found.log_std - truth).abs() * clear).sum() / clear.sum().clamp(min=1)))
            wrong = (found.neighbours - batch.neighbours[:, :, None, None]).abs() * known
            correlation.append(float(wrong.sum() / known.sum() / 2))
        return {
            "error_log_std": float(np.mean(log_std)),
            "error_of_strong": float(np.mean(strong)),
            "error_correlation": float(np.mean(correlation)),
        }


class FindingDamage:
    """Network, objective and validation of the damage branch; `held_out` are the scenes for validation.

    The loss is the cross entropy and the Dice loss (Milletari et al. 2016, arXiv:1606.04797) of each patch, since
    damage is rare and stains would else drown all specks.
    """

    mix = DAMAGED
    panels: ClassVar[Panels] = {
        "unmarked damage, marked at 0.5": ("share", ("damage_precision", "damage_recall", "damage_f1")),
        "proposed, with few false marks": ("share", ("surely", "recall_proposed", "f1_proposed")),
    }

    def __init__(self, held_out: Scenes, device: Device) -> None:
        self._device, self._held_out = device, _validation_batches(held_out, self.mix, device, DAMAGED_PATCH_PX)
        self.constants: dict[str, Any] = {"false_marks": FALSE_MARKS}

    def network(self) -> DamageBranch:
        """A new network."""
        return DamageBranch()

    def objective(self, network: nn.Module, batch: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """What to minimise, and what to log."""
        with self._device.precision():
            logits: Tensor = network(batch.noisy)
        judged = 1 - batch.unseen
        entropy = functional.binary_cross_entropy_with_logits(logits, batch.unmarked, weight=judged)
        found, over = torch.sigmoid(logits) * judged, (1, 2, 3)
        area = batch.unmarked.sum(dim=over)
        hits, either = 2 * (found * batch.unmarked).sum(dim=over), found.sum(dim=over) + area
        large = (area > LEAST_AREA).float()
        each = ((1 - hits / (either + 1)) * large).sum() / large.sum().clamp(min=1)
        logged = {"train_entropy": entropy, "train_dice": each}
        return 5 * entropy + each, {name: value.detach() for name, value in logged.items()}

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """What is found, marked at 0.5 and by the threshold that marks `FALSE_MARKS` of the undamaged patches."""
        found, truth = [], []
        for batch in self._held_out:
            with self._device.precision():
                found.append((torch.sigmoid(network(batch.noisy)) * (1 - batch.unseen)).cpu().numpy()[:, 0])
            truth.append(batch.unmarked.cpu().numpy()[:, 0] > 0)
        probability, damaged = np.concatenate(found), np.concatenate(truth)
        whole = ~damaged.any(axis=(1, 2))
        surely = _few_false_marks(probability[whole])
        likely = np.stack([likely_damaged(plane, surely) for plane in probability])
        out = {"surely": surely}
        for name, marked in (("damage_{}", probability > 0.5), ("{}_proposed", likely)):
            hits, marks, truths = ((marked & damaged).sum(), marked.sum(), damaged.sum())
            out |= {
                name.format("precision"): hits / max(marks, 1),
                name.format("recall"): hits / max(truths, 1),
                name.format("f1"): 2 * hits / max(marks + truths, 1),
                name.format("false"): marked[whole].mean(),
            }
        return {name: float(value) for name, value in out.items()}


def _few_false_marks(undamaged: NDArray[np.float32]) -> float:
    """The least of `SURELY` with which hardly any pixel of ``(N, Y, X)`` is marked."""
    for surely in SURELY:
        if np.mean([likely_damaged(plane, surely).mean() for plane in undamaged]) <= FALSE_MARKS:
            return surely
    return 1.0


def _validation_batches(held_out: Scenes, mix: Mix, device: Device, patch_px: int = PATCH_PX) -> list[Tensors]:
    source = BatchSource(held_out, BATCH_SIZE, min(patch_px, held_out.patches.shape[1]), mix, SEED)
    return [Tensors.of(source.draw(), device) for _ in range(VALIDATION_BATCHES)]


def _truth(batch: Tensors) -> tuple[Tensor, Tensor]:
    """Logarithm of the noise's standard deviation of each cell, and whether most of the cell shows it."""
    variance = functional.avg_pool2d(batch.std**2, CELL_PX)
    known = functional.avg_pool2d(batch.counted, CELL_PX) > 0.5
    return 0.5 * torch.log(variance.clamp(min=SMALLEST_STD**2)), known.float()
