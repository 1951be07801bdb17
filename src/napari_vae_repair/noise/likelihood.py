"""log p(observed | clean) under Poisson-Gaussian noise, given or learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from napari_vae_repair.noise.record import NoiseModel

SMALLEST_STD = 1e-3  # network units, whose range is about 2: keeps the likelihood finite where there is no noise

SMALLEST_POWER = 0.05  # of white noise, at frequencies that correlated noise hardly has


class PoissonGaussian(nn.Module):
    """Normal likelihood whose variance grows linearly with the clean value, one model for each channel of ``C``.

    Parameters
    ----------
    models : sequence of NoiseModel
        In network units.
    learned : bool
        Whether gain and read noise are learned, starting from the given ones.
    """

    offset: Tensor

    def __init__(self, models: tuple[NoiseModel, ...], *, learned: bool) -> None:
        super().__init__()
        gain = torch.tensor([max(model.gain, 1e-12) for model in models]).log()
        read_noise = torch.tensor([max(model.read_noise, SMALLEST_STD) for model in models]).log()
        self.log_gain = nn.Parameter(gain, requires_grad=learned)
        self.log_read_noise = nn.Parameter(read_noise, requires_grad=learned)
        self.register_buffer("offset", torch.tensor([model.offset for model in models]))

    def forward(self, observed: Tensor, clean: Tensor, channel: Tensor) -> Tensor:
        """Log likelihood in nats of each value.

        The variance follows the clean value without passing a gradient to it: the network would else explain noise by
        choosing where it is strong (26.1 instead of 22.7 dB on a W2S image after six epochs).

        Parameters
        ----------
        observed, clean : Tensor
            ``(B, C, Y, X)`` in network units.
        channel : Tensor
            ``(B,)`` int64: which of the models holds for each image.
        """
        gain, read_noise, offset = (
            values[channel][:, None, None, None]
            for values in (self.log_gain.exp(), self.log_read_noise.exp(), self.offset)
        )
        variance = gain * (clean.detach() - offset).clamp(min=0) + read_noise**2
        return -0.5 * ((observed - clean) ** 2 / variance + variance.log() + math.log(2 * math.pi))

    def models(self, source: str) -> tuple[NoiseModel, ...]:
        """The present noise models, in network units."""
        values = zip(
            self.log_gain.exp().tolist(), self.log_read_noise.exp().tolist(), self.offset.tolist(), strict=True
        )
        return tuple(
            NoiseModel(gain if gain > 1e-9 else 0.0, read_noise, offset, source) for gain, read_noise, offset in values
        )


def whitened_log_likelihood(residual: Tensor, std: Tensor, neighbours: Tensor) -> Tensor:
    """Log likelihood in nats of each image whose noise is normal and stationary in correlation.

    The residual is divided by its standard deviation and brought to white in Fourier space, where its power is that of
    noise whose correlation falls with the distance ``d`` along each axis as ``neighbours ** d**2`` (a Gaussian's).

    Parameters
    ----------
    residual : Tensor
        ``(B, 1, Y, X)`` float32 observed minus clean; 0 where nothing was measured.
    std : Tensor
        ``(B, 1, Y, X)`` standard deviation of the noise.
    neighbours : Tensor
        ``(B, 2)`` correlation of neighbours along y and along x, 0 to below 1.

    Returns
    -------
    Tensor
        ``(B,)``, the sum over pixels.

    Notes
    -----
    The image counts as periodic. Frequencies that such noise would hardly have count as having `SMALLEST_POWER` of
    white noise, so that a correlation that was not quite right cannot dominate.
    """
    power = noise_power(neighbours, *residual.shape[2:])
    spectrum = torch.fft.fft2((residual / std)[:, 0], norm="ortho")
    squares: Tensor = (spectrum.real**2 + spectrum.imag**2) / power
    constant = math.log(2 * math.pi)
    return -0.5 * ((squares + power.log() + constant).sum(dim=(1, 2)) + 2 * std.log().sum(dim=(1, 2, 3)))


def noise_power(neighbours: Tensor, height: int, width: int) -> Tensor:
    """``(B, height, width)`` power spectrum, about 1 on average, of noise of variance 1 correlated as `neighbours`."""
    rows, columns = _power(neighbours[:, 0], height), _power(neighbours[:, 1], width)
    return (rows[:, :, None] * columns[:, None, :]).clamp(min=SMALLEST_POWER)


def _power(neighbour: Tensor, length: int) -> Tensor:
    """``(B, length)`` power spectrum, mean 1, along one axis."""
    lags = torch.arange(1, 8, device=neighbour.device, dtype=torch.float32)
    frequencies = 2 * math.pi * torch.arange(length, device=neighbour.device) / length
    waves = torch.cos(lags[:, None] * frequencies)  # (lags, length)
    correlation: Tensor = neighbour.clamp(0, 0.95)[:, None] ** (lags**2)  # (B, lags)
    return torch.matmul(2 * correlation, waves) + 1
