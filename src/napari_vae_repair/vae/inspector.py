"""`Inspector`: a small network that sees, in an image it knows nothing of, the noise and the damage.

It looks before the restoration does: the noise of each cell becomes a Poisson-Gaussian model (`noise.scatter`), the
damage a mask that is proposed (`damage.find`). Estimating noise with a network trained on synthetic noise goes back to
Guo et al. 2019 (CBDNet, arXiv:1807.04686); here it learns how unsure it is as well (Kendall & Gal 2017,
arXiv:1703.04977), so that texture counts for little.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_vae_repair.vae.model import ResidualBlock

CELL_PX = 16
WIDTHS = (24, 40, 56, 56)
_UNSURE_RANGE = 4.0


@dataclass(frozen=True, slots=True)
class Findings:
    """What the inspector sees.

    Attributes
    ----------
    log_std : Tensor
        ``(B, 1, Y / 16, X / 16)`` logarithm of the noise's standard deviation, in network units.
    log_unsure : Tensor
        ``(B, 1, Y / 16, X / 16)`` logarithm of the standard deviation of the error of `log_std`.
    neighbours : Tensor
        ``(B, 2, Y / 16, X / 16)`` correlation of the noise of neighbours along y and x.
    damage : Tensor
        ``(B, 1, Y, X)`` logit of the probability that a pixel is damaged.
    """

    log_std: Tensor
    log_unsure: Tensor
    neighbours: Tensor
    damage: Tensor


class Inspector(nn.Module):
    """A small U-Net: cells of noise at its bottom, pixels of damage at its top; about 0.4 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, WIDTHS[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Sequential(ResidualBlock(width), ResidualBlock(width)) for width in WIDTHS)
        pairs = list(zip(WIDTHS[:-1], WIDTHS[1:], strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.noise = nn.Conv2d(WIDTHS[-1], 4, 1)
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairs)
        self.up = nn.ModuleList(ResidualBlock(width) for width in WIDTHS[:-1])
        self.damage = nn.Conv2d(WIDTHS[0], 4, 3, padding=1)

    def forward(self, x: Tensor) -> Findings:
        """Findings of ``(B, 1, Y, X)`` in network units, height and width multiples of `CELL_PX`."""
        features = self.stem(functional.pixel_unshuffle(x, 2))
        levels = []
        for index, block in enumerate(self.down):
            features = block(features)
            levels.append(features)
            if index < len(self.shrink):
                features = self.shrink[index](features)
        noise = self.noise(functional.gelu(features)).float()
        for index in reversed(range(len(self.up))):
            grown = functional.pixel_shuffle(self.grow[index](features), 2)
            features = self.up[index](levels[index] + grown)
        damage = functional.pixel_shuffle(self.damage(functional.gelu(features)), 2).float()
        unsure = _UNSURE_RANGE * torch.tanh(noise[:, 1:2] / _UNSURE_RANGE)
        return Findings(noise[:, :1] - 2, unsure - 1, torch.tanh(noise[:, 2:]), damage)
