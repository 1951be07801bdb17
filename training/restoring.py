"""The task of the starter: one pass towards the clean scene, samples by the ELBO."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from napari_vae_repair.settings import Network
from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.model import HierarchicalVAE
from training.batches import RESTORING, WHITE, Mix
from training.figure import Panels
from training.objective import Balance, Tensors, terms
from training.scenes import Scenes
from training.validation import ValidationSet, validate

NETWORK = Network(widths=(64, 96, 128, 96), latents=(16, 16, 16, 16), blocks=2, told=True, deeper=64)
FINEST_LEVELS = ("stem.", "up.0.", "shrink.0.", "up.1.", "levels.1.", "grow.0.", "levels.0.", "head.")


class Restoring:
    """Network, objective and validation of the starter; `held_out` are the scenes for validation."""

    mix: ClassVar[Mix] = RESTORING
    sampled_share: ClassVar[float] = 0.25  # of each batch in the ELBO
    elbo_weight: ClassVar[float] = 1.0
    panels: ClassVar[Panels] = {
        "one pass, photos, Gaussian noise": (
            "PSNR (dB)",
            ("psnr_15", "psnr_25", "psnr_50", "told_15", "told_25", "told_50"),
        ),
        "mixed corruptions": ("PSNR (dB)", ("psnr_mixed", "psnr_blind", "psnr_masked")),
    }

    def __init__(self, held_out: Scenes, device: Device) -> None:
        self._device, self._balance = device, Balance(device)
        self._held_out = ValidationSet.of(held_out, self.mix, device)
        self.constants: dict[str, Any] = {
            "network": NETWORK.model_dump(),
            "elbo_weight": self.elbo_weight,
            "sampled_share": self.sampled_share,
        }

    def network(self) -> HierarchicalVAE:
        """A new network."""
        return HierarchicalVAE(1, NETWORK)

    def objective(self, network: nn.Module, batch: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """What to minimise, and what to log."""
        assert isinstance(network, HierarchicalVAE)
        measured = terms(
            network, batch, max(1, round(self.sampled_share * len(batch.noisy))), self._device, self._balance
        )
        logged = {"train_one_pass": measured.one_pass.detach(), "train_elbo": measured.elbo.detach()}
        logged |= {f"kl_{level}": kl for level, kl in enumerate(measured.kl)}
        return measured.one_pass + self.elbo_weight * measured.elbo, logged

    def validate(self, network: nn.Module) -> dict[str, float]:
        """As `validation.validate`."""
        assert isinstance(network, HierarchicalVAE)
        return validate(network, self._held_out, self._device)


class RestoringWhite(Restoring):
    """The finest levels once more, for noise that neighbours hardly share; the coarse ones stay the restorer's."""

    mix = WHITE
    panels: ClassVar[Panels] = {  # told alone: the package never asks this network without telling it
        "one pass, photos, Gaussian noise": ("PSNR (dB)", ("told_15", "told_25", "told_50")),
        "mixed corruptions": ("PSNR (dB)", ("psnr_mixed", "psnr_masked")),
    }
    sampled_share = 0.15
    elbo_weight = 0.3

    def network(self) -> HierarchicalVAE:
        """A new network, of which only the finest levels learn."""
        network = super().network()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(FINEST_LEVELS))
        return network
