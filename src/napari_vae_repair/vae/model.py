"""`HierarchicalVAE`: a ladder of stochastic levels, its ELBO terms and its samples, top to bottom.

After the ladder VAE (Sonderby et al. 2016, arXiv:1602.02282) as used for denoising by Hierarchical DivNoising
(Prakash et al. 2022, arXiv:2104.01374). No layer normalises over space, so that tiles agree with the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_vae_repair.image.tiles import Window
from napari_vae_repair.settings import Network
from napari_vae_repair.vae.device import look_before_layers
from napari_vae_repair.vae.latent import Gaussian

Noise = Callable[[int, Gaussian], Tensor | None]
"""Given the level and its posterior: standard normal noise, or None for the posterior's mean."""

TOLD_PLANES = 4
# Of what lies further away than this the starter's pixels change by less than 1e-4 of the range, on photos, noise of
# any strength and filled holes alike (at 128 pixels by 9e-4)
FAR_PX = 160

WHOLE: Window = (slice(None), slice(None))


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one descent of the ladder gives.

    Attributes
    ----------
    clean : Tensor
        ``(B, C, Y, X)`` float32, the decoder's noise-free image in network units.
    kl : tuple of Tensor
        For each level, finest first, the KL divergence in nats, ``(B, latents, Y, X)``; empty where none was asked.
    means : tuple of Tensor
        For each level, finest first, the posterior means, ``(B, latents, Y, X)``.
    """

    clean: Tensor
    kl: tuple[Tensor, ...]
    means: tuple[Tensor, ...]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions added to their input; the identity at the start of training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, Y, X)`` to the same shape."""
        out: Tensor = x + self.second(functional.gelu(self.first(functional.gelu(x))))
        return out


class Level(nn.Module):
    """One rung of the descent: prior from above, posterior from above and below, and what both decode to.

    With `deeper`, what comes from below is also looked at in the light of what comes from above before it is squeezed
    into the latents; at the start of training that adds nothing.
    """

    def __init__(self, width: int, latents: int, blocks: int, deeper: int = 0) -> None:
        super().__init__()
        self.prior = nn.Conv2d(width, 2 * latents, 1)
        self.posterior = nn.Conv2d(2 * width, 2 * latents, 3, padding=1)
        self.deeper = _deeper(2 * width, deeper, 2 * latents) if deeper else None
        self.merge = nn.Conv2d(latents, width, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))

    def forward(
        self, above: Tensor, below: Tensor, draw: Callable[[Gaussian], Tensor | None], *, divergence: bool
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Features for the next finer level, KL if it is asked for, and posterior mean."""
        both = torch.cat([above, below], dim=1)
        statistics = self.posterior(both)
        if self.deeper is not None:
            statistics = statistics + self.deeper(both)
        posterior = Gaussian.from_features(statistics)
        noise = draw(posterior)
        latent = posterior.mean if noise is None else posterior.sample(noise)
        features: Tensor = self.blocks(above + self.merge(latent))
        kl = posterior.kl(Gaussian.from_features(self.prior(above))) if divergence else None
        return features, kl, posterior.mean


def _deeper(width: int, hidden: int, out: int) -> nn.Sequential:
    last = nn.Conv2d(hidden, out, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return nn.Sequential(nn.GELU(), nn.Conv2d(width, hidden, 3, padding=1), nn.GELU(), last)


class HierarchicalVAE(nn.Module):
    """Bottom-up encoder, stochastic levels, top-down decoder.

    Parameters
    ----------
    channels : int
        Channels of the image: 1, or 3 for colour.
    network : Network
        Width, latent channels and blocks of each level; level ``i`` works at ``1 / 2 ** (i + 1)`` of the resolution.
    """

    def __init__(self, channels: int, network: Network) -> None:
        super().__init__()
        self.channels = channels
        self.network = network
        widths = network.widths
        self.stem = nn.Conv2d(4 * (channels + 1) + TOLD_PLANES * network.told, widths[0], 3, padding=1)
        self.up = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(network.blocks))) for width in widths
        )
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.top = nn.Parameter(torch.zeros(1, widths[-1], 1, 1))
        self.levels = nn.ModuleList(
            Level(width, latents, network.blocks, 0 if index else network.deeper)
            for index, (width, latents) in enumerate(zip(widths, network.latents, strict=True))
        )
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[0], 4 * channels, 3, padding=1)
        look_before_layers(self)

    @property
    def stride(self) -> int:
        """Height and width must be multiples of this many pixels."""
        return self.network.stride_px

    @property
    def receptive_px(self) -> int:
        """Pixels on each side of an output pixel on which it depends at most."""
        convolutions = 2 * self.network.blocks
        reach = sum((2 * convolutions + 1) * 2 ** (level + 1) for level in range(len(self.network.widths)))
        reach += 2 * bool(self.network.deeper)
        return int(reach + 2 * 2 + self.stride)  # stem and head; the corner of a coarse position

    @property
    def reach(self) -> tuple[int, ...]:
        """For each level, finest first: its positions beyond a wanted one, on each side, at which the descent looks."""
        wanted, out = 1, []  # by the head
        for level in range(len(self.network.widths)):
            squeezed = 2 if self.network.deeper and level == 0 else 1
            out.append(wanted + 2 * self.network.blocks + squeezed)
            wanted = -(-out[-1] // 2)
        return tuple(out)

    @property
    def halo_px(self) -> int:
        """Pixels read on each side of a tile: all at which the descent looks, and as far as the encoder tells more."""
        return min(self.receptive_px, max(self.reach[-1] * self.stride, FAR_PX))

    def windows(self, wanted: Window, height: int, width: int) -> tuple[Window, ...]:
        """What `decode` needs of each level, finest first, for a part of what was encoded.

        Parameters
        ----------
        wanted : tuple of slice
            Rows and columns, in pixels.
        height, width : int
            Of what was encoded, in pixels.
        """
        return tuple(
            (_around(wanted[0], height, level, reach), _around(wanted[1], width, level, reach))
            for level, reach in enumerate(self.reach)
        )

    def encode(self, x: Tensor, damaged: Tensor, told: Tensor | None = None) -> list[Tensor]:
        """Bottom-up features of each level, finest first.

        Parameters
        ----------
        x : Tensor
            ``(B, C, Y, X)`` in network units, damage filled in, height and width multiples of `stride`.
        damaged : Tensor
            ``(B, 1, Y, X)`` float, 1 where `x` was filled in.
        told : Tensor, optional
            ``(B, 3)`` standard deviation of the noise in network units and its correlation between neighbours along
            y and x; rows of nan, or None, leave the network to find out. Looked at with `Network.told` alone.
        """
        packed = functional.pixel_unshuffle(torch.cat([x, damaged], dim=1), 2)
        if self.network.told:
            packed = torch.cat([packed, _told_planes(told, packed)], dim=1)
        features = self.stem(packed)
        out = []
        for level, block in enumerate(self.up):
            features = block(features)
            out.append(features)
            if level < len(self.shrink):
                features = self.shrink[level](features)
        return out

    def decode(
        self,
        encoded: list[Tensor],
        noise: Noise,
        *,
        divergence: bool = True,
        windows: Sequence[Window] | None = None,
    ) -> Decoded:
        """Descend the ladder with the given noise at each level; without the divergences it is a tenth faster.

        With `windows` (see `windows`) only these parts of the levels are decoded; the image is twice the finest one.
        """
        windows = [WHOLE] * len(encoded) if windows is None else windows
        below = encoded[-1][..., *windows[-1]]
        features = self.top.to(below.dtype).expand_as(below)
        divergences: list[Tensor] = []
        means: list[Tensor] = []
        for index in reversed(range(len(self.levels))):
            below = encoded[index][..., *windows[index]]
            features, kl, mean = self.levels[index](
                features, below, lambda q, i=index: noise(i, q), divergence=divergence
            )
            if kl is not None:
                divergences.insert(0, kl)
            means.insert(0, mean)
            if index:
                features = functional.pixel_shuffle(self.grow[index - 1](features), 2)
                features = features[..., *_within(windows[index - 1], windows[index])]
        with torch.autocast(features.device.type, enabled=False):  # 16-bit output would show bands in 16-bit data
            clean = functional.pixel_shuffle(self.head(features.float()), 2)
        return Decoded(clean, tuple(divergences), tuple(means))


def _around(wanted: slice, length: int, level: int, reach: int) -> slice:
    """Positions of a level that cover the wanted pixels and its reach on both sides, as far as there are any."""
    step = 2 ** (level + 1)
    return slice(max(wanted.start // step - reach, 0), min(-(-wanted.stop // step) + reach, length // step))


def _within(finer: Window, coarser: Window) -> Window:
    """The finer level's window in what its coarser neighbour's was enlarged to."""
    if finer == WHOLE:
        return WHOLE
    rows, columns = (slice(a.start - 2 * b.start, a.stop - 2 * b.start) for a, b in zip(finer, coarser, strict=True))
    return rows, columns


def _told_planes(told: Tensor | None, packed: Tensor) -> Tensor:
    """``(B, TOLD_PLANES, Y, X)``: whether anything is told, how strong the noise is, and its correlation."""
    if told is None:
        return packed.new_zeros(len(packed), TOLD_PLANES, *packed.shape[2:])
    known = torch.isfinite(told).all(dim=1, keepdim=True)
    # a standard deviation between 0.002 and 2 becomes about -1.5 to 2
    strength = torch.log(told[:, :1].clamp(min=1e-3)) / 2 + 1.5
    told = torch.where(known, torch.cat([torch.ones_like(strength), strength, told[:, 1:]], dim=1), 0.0)
    return told.to(packed.dtype)[:, :, None, None].expand(-1, -1, *packed.shape[2:])
