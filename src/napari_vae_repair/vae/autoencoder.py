"""A plain autoencoder of one image, to compare with: what a bottleneck alone removes, without noise model and KL.

Pairs of 3 x 3 convolutions between poolings, as in VGG (Simonyan & Zisserman 2014, arXiv:1409.1556), and the same in
reverse; nothing passes around the bottleneck.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from napari_vae_repair.errors import Cancelled, TrainingError
from napari_vae_repair.image.tiles import plan_tiles
from napari_vae_repair.settings import Settings
from napari_vae_repair.vae.device import Device, memory_released, on_device, to_device
from napari_vae_repair.vae.feeding import Fed
from napari_vae_repair.vae.patches import PatchSource
from napari_vae_repair.vae.predict import BLEND_PX
from napari_vae_repair.vae.record import ValueRange, View
from napari_vae_repair.vae.train import AVERAGE_DECAY, CLIP_NORM, VALIDATION_PATCHES, schedule, steps_of

WIDTHS = (16, 32, 64)  # features before each pooling, finest first: doubled from one to the next, as in VGG
BOTTLENECK = 32  # features at an eighth of the resolution

Array = NDArray[np.float32]
ShouldStop = Callable[[], bool]


class Autoencoder(nn.Module):
    """Encoder, bottleneck and decoder; half as many numbers as pixels pass the bottleneck.

    Parameters
    ----------
    channels : int
        Channels of the image: 1, or 3 for colour.

    Attributes
    ----------
    stride : int
        Height and width of what it is given are multiples of it.
    receptive_px : int
        How far, at most, a pixel is seen.
    """

    stride = 2 ** len(WIDTHS)
    # at each level, down and up, a pair of convolutions and the pooling or enlarging; three at the bottleneck, one last
    receptive_px = sum(6 * 2**level for level in range(len(WIDTHS))) + 3 * stride + 1

    def __init__(self, channels: int) -> None:
        super().__init__()
        down: list[nn.Module] = []
        for before, width in pairwise((channels, *WIDTHS)):
            down += [*_pair(before, width), nn.MaxPool2d(2)]
        up: list[nn.Module] = []
        for before, width in pairwise((WIDTHS[-1], *WIDTHS[::-1])):
            up += [nn.Upsample(scale_factor=2), *_pair(before, width)]
        bottleneck = [nn.Conv2d(WIDTHS[-1], BOTTLENECK, 3, padding=1), *_pair(BOTTLENECK, WIDTHS[-1])]
        self.layers = nn.Sequential(*down, *bottleneck, *up, nn.Conv2d(WIDTHS[0], channels, 3, padding=1))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):  # without normalisation, the usual start would fade from layer to layer
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, Y, X)`` in network units to the same shape, as float32."""
        out: Tensor = self.layers(x)
        return out.float()


def _pair(before: int, width: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(inplace=True),
    ]


@dataclass(frozen=True, slots=True)
class TrainedAutoencoder:
    """What a training leaves.

    Attributes
    ----------
    network : Autoencoder
        On the CPU, in evaluation mode.
    value_range : ValueRange
        Between the image's values and network units.
    history : tuple of float
        Mean squared error of the held-out pixels after each epoch, in squared units of the image.
    """

    network: Autoencoder
    value_range: ValueRange
    history: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class AutoencoderStep:
    """One step of a training.

    Attributes
    ----------
    done, total : int
        Steps.
    loss : float
        Mean squared error of the batch, in squared units of the image.
    """

    done: int
    total: int
    loss: float


def train_autoencoder(
    planes: Array, settings: Settings, device: Device, should_stop: ShouldStop
) -> Generator[AutoencoderStep, None, TrainedAutoencoder]:
    """Train on the very image by its mean squared error, with patches, epochs, optimiser and schedule of `train`.

    Parameters
    ----------
    planes : ndarray of float32
        ``(N, C, Y, X)``, finite; in any units.
    settings : Settings
        `training`, `epochs` and `seed` decide the run; `network`, `kl_warmup` and `free_bits` have no meaning here.
    device : Device
        Where to train.
    should_stop : callable
        Polled before each step.

    Yields
    ------
    AutoencoderStep

    Raises
    ------
    Cancelled
        When `should_stop` says so.
    TrainingError
        If the loss stops being finite.
    DeviceMemoryError
        If the device's memory is exhausted.

    Notes
    -----
    The squared error is the likelihood of Gaussian noise of one strength. Without a KL nothing but the bottleneck
    keeps the network from copying the noise. As in `train`, the weights are those with the least error on held-out
    blocks.
    """
    with memory_released(device):
        return (yield from _train(planes, settings, device, should_stop))
    raise AssertionError("memory_released raises where it swallows")


def _train(
    planes: Array, settings: Settings, device: Device, should_stop: ShouldStop
) -> Generator[AutoencoderStep, None, TrainedAutoencoder]:
    chosen, value_range = settings.training, ValueRange.of(planes)
    views = [View(value_range)]
    network = _initialise(planes.shape[1], settings, device)
    average = AveragedModel(network, avg_fn=_averaged)
    patches = _patches(planes, network.stride, settings)
    held_out = Fed.of(patches.validation(VALIDATION_PATCHES), views, device)
    optimiser = torch.optim.Adam(network.parameters(), lr=chosen.learning_rate, betas=(0.9, 0.99))
    an_epoch, in_all = steps_of(settings)
    per_square = value_range.scale**-2
    best, best_state, history = math.inf, copy.deepcopy(network.state_dict()), []
    for step in range(in_all):
        if should_stop():
            raise Cancelled("train")
        optimiser.param_groups[0]["lr"] = chosen.learning_rate * schedule(step, in_all)
        loss = _squared_error(network, Fed.of(patches.training(chosen.batch_size), views, device), device)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The autoencoder's loss became {loss.item()} at step {step + 1} of {in_all}.",
                "Training needs a finite loss.",
                "Lower training.learning_rate, or check the image for extreme values.",
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimiser.step()
        average.update_parameters(network)
        if (step + 1) % an_epoch == 0:
            with torch.no_grad():
                history.append(float(_squared_error(average.module, held_out, device)) * per_square)
            if history[-1] < best:
                best, best_state = history[-1], copy.deepcopy(average.module.state_dict())
        yield AutoencoderStep(step + 1, in_all, float(loss.detach()) * per_square)
    network.load_state_dict(best_state)
    network.requires_grad_(False).eval().to("cpu")
    return TrainedAutoencoder(network, value_range, tuple(history))


def _initialise(channels: int, settings: Settings, device: Device) -> Autoencoder:
    # made on the CPU, so that one seed gives the same weights on each device; the caller's random state stays
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(settings.seed)
        network = Autoencoder(channels)
    to_device(network, device)
    return network


def _patches(planes: Array, stride: int, settings: Settings) -> PatchSource:
    padded = _padded(planes, stride)
    count, _, height, width = padded.shape
    return PatchSource(
        padded,
        np.zeros((count, height, width), dtype=bool),
        np.zeros(count, dtype=np.int64),
        patch_px=settings.training.patch_px,
        stride=stride,
        held_out=settings.training.held_out,
        seed=settings.seed,
    )


def _averaged(kept: Tensor, new: Tensor, count: int | Tensor) -> Tensor:
    return kept.lerp(new, 1 - min(AVERAGE_DECAY, (float(count) + 1) / (float(count) + 10)))


def _squared_error(network: nn.Module, batch: Fed, device: Device) -> Tensor:
    """Mean over the counted values, in network units."""
    with device.precision():
        found = network(batch.seen)
    counted = batch.counted.expand_as(batch.values)
    total: Tensor = ((found - batch.values) ** 2 * counted).sum() / counted.sum().clamp(min=1)
    return total


def reconstruct(
    trained: TrainedAutoencoder, planes: Array, *, tile_px: int, device: Device, should_stop: ShouldStop
) -> Array:
    """Planes through a trained network, tile by tile.

    Parameters
    ----------
    trained : TrainedAutoencoder
        Never changed.
    planes : ndarray of float32
        ``(N, C, Y, X)`` in the units of the image on which it was trained; any Y and X.
    tile_px : int
        Side of a tile, in pixels; the result does not depend on it but for rounding.
    device : Device
        Where to compute.
    should_stop : callable
        Polled before each tile.

    Returns
    -------
    ndarray of float32
        In the planes' shape and units.

    Raises
    ------
    Cancelled
        When `should_stop` says so.
    DeviceMemoryError
        If the device's memory is exhausted.
    """
    scale, offset = np.float32(trained.value_range.scale), np.float32(trained.value_range.offset)
    seen = _padded(planes, trained.network.stride) * scale + offset
    out = np.zeros_like(seen)
    stride, halo = trained.network.stride, trained.network.receptive_px
    tiles = plan_tiles(*seen.shape[2:], tile_px=tile_px, halo_px=halo, blend_px=BLEND_PX, stride=stride)
    with memory_released(device), torch.no_grad(), device.precision():
        network = on_device(trained.network, device)
        for tile in tiles:
            for plane, target in zip(seen, out, strict=True):
                if should_stop():
                    raise Cancelled("restore")
                part = torch.from_numpy(np.ascontiguousarray(plane[:, *tile.read]))[None]
                found = network(part.to(device.torch, memory_format=torch.channels_last))[0].cpu().numpy()
                target[:, *tile.write] += found[:, *tile.crop] * tile.weight
    height, width = planes.shape[2:]
    return np.asarray((out[..., :height, :width] - offset) / scale, dtype=np.float32)


def _padded(planes: Array, stride: int) -> Array:
    """Mirrored past the lower and right end up to multiples of the stride."""
    missing = [(0, -side % stride) for side in planes.shape[2:]]
    return np.pad(planes, [(0, 0), (0, 0), *missing], mode="symmetric")
