"""One stochastic level: Gaussian posterior and prior, sampling, KL; and noise fixed by pixel coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NOISE_BLOCK = 64  # side, in latent positions, of the blocks in which coordinate noise is drawn
_LOG_STD_RANGE = 6.0


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Independent normal distributions.

    Attributes
    ----------
    mean, log_std : Tensor
        ``(B, C, Y, X)`` each.
    """

    mean: Tensor
    log_std: Tensor

    @classmethod
    def from_features(cls, features: Tensor) -> Gaussian:
        """Mean and bounded log standard deviation from ``(B, 2C, Y, X)`` features, in float32.

        The bound is smooth, so that a large feature still has a gradient.
        """
        mean, raw = features.float().chunk(2, dim=1)
        return cls(mean, _LOG_STD_RANGE * torch.tanh(raw / _LOG_STD_RANGE))

    def sample(self, noise: Tensor) -> Tensor:
        """``mean + std * noise`` for standard normal `noise` of the same shape."""
        return self.mean + self.log_std.exp() * noise

    def kl(self, prior: Gaussian) -> Tensor:
        """KL(self || prior) in nats for each latent value, ``(B, C, Y, X)``."""
        ratio = torch.exp(2 * (self.log_std - prior.log_std))
        shift = (self.mean - prior.mean) * torch.exp(-prior.log_std)
        return 0.5 * (ratio + shift * shift - 1) - (self.log_std - prior.log_std)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window's upper left corner lies, so that its noise can be drawn for it alone.

    Attributes
    ----------
    seed : int
        Seed of the restoration.
    plane : int
        Index of the plane in the stack.
    sample : int
        Index of the posterior sample.
    y, x : int
        Corner in pixels of the whole image; multiples of the network's stride.
    """

    seed: int
    plane: int
    sample: int
    y: int
    x: int


def coordinate_noise(place: Place, level: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Standard normal values ``(C, Y, X)`` that depend on seed, plane, sample, level and position alone.

    Any two windows that share a position get the same value there, which makes tiled posterior samples
    equal to untiled ones. Values are drawn in blocks, each with a generator seeded by its coordinates.

    Parameters
    ----------
    place : Place
        Corner of the window in pixels.
    level : int
        Level of the ladder; its positions are ``2 ** (level + 1)`` pixels apart.
    shape : tuple of int
        Channels, height and width of the window in latent positions.
    """
    channels, height, width = shape
    top, left = place.y >> (level + 1), place.x >> (level + 1)
    out = np.empty(shape, dtype=np.float32)
    for block_y in range(top // NOISE_BLOCK, (top + height - 1) // NOISE_BLOCK + 1):
        for block_x in range(left // NOISE_BLOCK, (left + width - 1) // NOISE_BLOCK + 1):
            key = (place.seed, place.plane, place.sample, level, block_y, block_x)
            block = np.random.default_rng(key).standard_normal((channels, NOISE_BLOCK, NOISE_BLOCK), dtype=np.float32)
            y0, x0 = block_y * NOISE_BLOCK - top, block_x * NOISE_BLOCK - left
            y, x = slice(max(y0, 0), min(y0 + NOISE_BLOCK, height)), slice(max(x0, 0), min(x0 + NOISE_BLOCK, width))
            out[:, y, x] = block[:, y.start - y0 : y.stop - y0, x.start - x0 : x.stop - x0]
    return out
