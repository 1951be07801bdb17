"""`Inspector`: two small networks that see, in an image they know nothing of, the noise and the damage.

It looks before the restoration does: how far neighbours share their noise (`inspection.see_noise`), and which pixels
to propose as damaged (`find_damage`): energies of a bank of filters for the noise, a small U-Net upon top-hat
transforms for the damage. Estimating noise with a network trained on synthetic noise goes back to Guo et al. 2019
(CBDNet, arXiv:1807.04686); here it learns how unsure it is as well (Kendall & Gal 2017, arXiv:1703.04977), so that
texture counts for little.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_vae_repair.vae.device import look_before_layers
from napari_vae_repair.vae.model import ResidualBlock

CELL_PX = 16
DAMAGE_CELL_PX = 32  # the coarsest that the damage branch looks at
WIDTHS = (32, 40, 48, 56, 56)
TOP_HATS_PX = (3, 7, 13)  # specks and strokes narrower than these stand out
FILTERS, NOISE_WIDTH = 24, 48
RARE = -3.0  # logit of the share of damaged pixels, to begin with
_FAINTEST = 1e-3
_UNSURE_RANGE = 4.0


@dataclass(frozen=True, slots=True)
class NoiseFindings:
    """What is seen of the noise.

    Attributes
    ----------
    log_std : Tensor
        ``(B, 1, Y / 16, X / 16)`` logarithm of the noise's standard deviation, in network units.
    log_unsure : Tensor
        ``(B, 1, Y / 16, X / 16)`` logarithm of the standard deviation of the error of `log_std`.
    neighbours : Tensor
        ``(B, 2, Y / 16, X / 16)`` correlation of the noise of neighbours along y and x.
    """

    log_std: Tensor
    log_unsure: Tensor
    neighbours: Tensor


class NoiseBranch(nn.Module):
    """The logarithm of each filter's energy in blocks of 4 x 4 pixels, and what the quiet ones among them say."""

    def __init__(self) -> None:
        super().__init__()
        self.bank = nn.Conv2d(1, FILTERS, 5, padding=2, bias=False)
        self.blocks = nn.Conv2d(FILTERS + 1, NOISE_WIDTH, 3, padding=1)
        self.shrink = nn.ModuleList(nn.Conv2d(NOISE_WIDTH, NOISE_WIDTH, 2, stride=2) for _ in range(2))
        self.mix = nn.Sequential(*(ResidualBlock(NOISE_WIDTH) for _ in range(3)))
        self.out = nn.Conv2d(NOISE_WIDTH, 4, 1)

    def forward(self, x: Tensor) -> NoiseFindings:
        """Findings of ``(B, 1, Y, X)`` in network units, height and width multiples of `CELL_PX`."""
        with torch.autocast(x.device.type, enabled=False):  # energies of faint noise need all digits
            energy = functional.avg_pool2d(self.bank(x.float()) ** 2, 4)
            brightness = functional.avg_pool2d(x.float(), 4)
            features = torch.cat([0.5 * torch.log(energy + _FAINTEST**2) + 2, brightness], dim=1)
        features = functional.gelu(self.blocks(features))
        for shrink in self.shrink:
            features = functional.gelu(shrink(features))
        out = self.out(functional.gelu(self.mix(features))).float()
        unsure = _UNSURE_RANGE * torch.tanh(out[:, 1:2] / _UNSURE_RANGE)
        return NoiseFindings(out[:, :1], unsure, torch.tanh(out[:, 2:]))


class DamageBranch(nn.Module):
    """A small U-Net upon the image and what its openings and closings of a few sizes take away."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4 * (1 + 2 * len(TOP_HATS_PX)), WIDTHS[0], 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(width) for width in WIDTHS)
        pairs = list(pairwise(WIDTHS))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairs)
        self.up = nn.ModuleList(ResidualBlock(width) for width in WIDTHS[:-1])
        self.out = nn.Conv2d(WIDTHS[0], 4, 3, padding=1)
        nn.init.constant_(self.out.bias, RARE)  # type: ignore[arg-type]
        look_before_layers(self)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 1, Y, X)`` logit of the probability that a pixel is damaged, of ``(B, 1, Y, X)`` in network units."""
        hats = [hat for side in TOP_HATS_PX for hat in (x - _opened(x, side), -x - _opened(-x, side))]
        features = self.stem(functional.pixel_unshuffle(torch.cat([x, *hats], dim=1), 2))
        levels = []
        for index, block in enumerate(self.down):
            features = block(features)
            levels.append(features)
            if index < len(self.shrink):
                features = self.shrink[index](features)
        for index in reversed(range(len(self.up))):
            grown = functional.pixel_shuffle(self.grow[index](features), 2)
            features = self.up[index](levels[index] + grown)
        return functional.pixel_shuffle(self.out(functional.gelu(features)), 2).float()


def _opened(x: Tensor, side: int) -> Tensor:
    """Grey opening of ``(B, 1, Y, X)`` by a square, whose sides count one after the other."""
    return _largest(-_largest(-x, side), side)


def _largest(x: Tensor, side: int) -> Tensor:
    rows = functional.max_pool2d(x, (side, 1), stride=1, padding=(side // 2, 0))
    return functional.max_pool2d(rows, (1, side), stride=1, padding=(0, side // 2))


class Inspector(nn.Module):
    """Both branches."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = NoiseBranch()
        self.damage = DamageBranch()
