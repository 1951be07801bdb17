"""Tiles through a trained network: one pass, mean and standard deviation of samples, samples, latent features."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_vae_repair.image.tiles import Tile, Window, plan_tiles
from napari_vae_repair.image.zarr_levels import halved
from napari_vae_repair.running import finished
from napari_vae_repair.vae.device import Device, memory_released, on_device, stopping_between_layers
from napari_vae_repair.vae.filling import filled
from napari_vae_repair.vae.latent import Gaussian, Place, coordinate_noise
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.posterior import Accumulator, Posterior, Tally, add_tile
from napari_vae_repair.vae.record import ValueRange, View, most_scales
from napari_vae_repair.vae.scales import MARGIN_PX, halved_window, slow_noise, with_margin

BLEND_PX = 16


def predict_steps(
    network: HierarchicalVAE,
    planes: NDArray[np.float32],
    damaged: NDArray[np.bool_],
    views: Sequence[View],
    *,
    one_pass: bool,
    samples: int,
    keep_samples: bool,
    seed: int,
    tile_px: int,
    device: Device,
    should_stop: Callable[[], bool],
    corner: tuple[int, int, int] = (0, 0, 0),
    wanted: Window | None = None,
    filling: HierarchicalVAE | None = None,
    white: HierarchicalVAE | None = None,
) -> Generator[tuple[int, int], None, Posterior]:
    """Restore tile by tile; each tile is encoded once and decoded as often as is asked for.

    Parameters
    ----------
    network : HierarchicalVAE
        Trained; never changed.
    planes : ndarray of float32
        ``(N, C, Y, X)`` prepared values, any Y and X.
    damaged : ndarray of bool
        ``(N, Y, X)``; filled by the network.
    views : sequence of View
        One for each plane; where it has a coarser one, means over 2 x 2 pixels are restored too, within the plane's
        first step, and their slow noise is taken away.
    one_pass : bool
        Whether the mean is one pass with the latents at their means; else it is the mean of the samples.
    samples : int
        How many samples to draw; at least 1 without `one_pass`.
    keep_samples : bool
        Whether the samples are given back too (memory: ``samples`` times the image).
    seed : int
        Of the latent noise; the same seed gives the same samples for any tile size.
    tile_px : int
        Side of a tile, in pixels.
    device : Device
        Where to compute.
    should_stop : callable
        Polled before each layer of the network.
    corner : tuple of int
        Plane, row and column of a larger stack at which `planes` begin, rows and columns multiples of the network's
        stride, and of twice as much for each coarser scale: samples have the noise of that place.
    wanted : tuple of slice or None
        Rows and columns that are restored, the others are looked at alone; None = all.
    filling : HierarchicalVAE or None
        Fills damaged pixels of the one pass of grey planes anew, and samples follow; None = the first filling stays.
    white : HierarchicalVAE or None
        Takes the place of `network`, and is built as it is, for planes of white noise.

    Yields
    ------
    tuple of int
        Passes done, and in all.

    Raises
    ------
    Cancelled
        When `should_stop` says so.
    DeviceMemoryError
        If the device's memory is exhausted.
    """
    if wanted is not None and most_scales(views) > 1:
        wanted = with_margin(wanted, *planes.shape[2:])
        tile_px += 2 * MARGIN_PX + 2  # the margin must not make four tiles of one
    with memory_released(device):
        network, white = on_device(network, device), None if white is None else on_device(white, device)
        filling = on_device(filling, device) if filling is not None and damaged.any() else None
        tiles = _plan(network, planes.shape[2], planes.shape[3], tile_px, wanted)
        posterior = Accumulator(planes.shape, samples if keep_samples else 0)
        decodings: list[int | None] = [None] * one_pass + list(range(samples))
        done, in_all = 0, len(planes) * len(tiles) * len(decodings)
        coarse: dict[int, NDArray[np.float32]] = {}
        changes: dict[int, NDArray[np.float32]] = {}  # by filling, of planes with damage
        for index, view in enumerate(views):
            suited = white if white is not None and view.white else network
            if view.coarser is not None:
                plane, lost_there = planes[[index]], damaged[[index]]
                coarse[index] = _coarser_means(
                    *(network, plane, lost_there, view.coarser, wanted, tile_px, device, should_stop)
                )
            for tile in tiles:
                seen, lost, told = _read(planes[index], damaged[index], tile, view, device)
                tally = Tally()
                # never around a yield: the caller would run without gradients too
                with torch.no_grad(), device.precision(), stopping_between_layers(should_stop):
                    encoded = suited.encode(seen, lost, told)
                windows = suited.windows(tile.crop, *seen.shape[2:])
                # where nothing at all was measured, no network knows better than the first
                hides = filling is not None and bool(lost[..., *tile.crop].any()) and not bool(lost.all())
                y, x = (start + part.start for start, part in zip(corner[1:], tile.read, strict=True))
                place = Place(seed, corner[0] + index, 0, y, x)
                for sample in decodings:
                    noise = _no_noise if sample is None else _noise_at(replace(place, sample=sample), windows)
                    with torch.no_grad(), device.precision(), stopping_between_layers(should_stop):
                        if hides and sample is None:
                            decoded, change = _filled(suited, filling, encoded, lost, tile.crop, view.value_range)
                            add_tile(changes.setdefault(index, np.zeros_like(planes[index])), tile, change)
                        else:
                            clean = suited.decode(encoded, noise, divergence=False, windows=windows).clean
                            decoded = _prepared_units(clean, tile.crop, windows[0], view.value_range)
                    if sample is None:
                        posterior.add_mean(index, tile, decoded)
                    else:
                        tally.add(decoded)
                        posterior.add_sample(sample, index, tile, decoded)
                    done += 1
                    yield done, in_all
                posterior.add(index, tile, tally, mean_too=not one_pass)
        result = posterior.result()
        for index, means in coarse.items():
            _take_slow_noise(result, index, means, views[index], wanted)
        for index, change in changes.items():
            result.mean[index] += change
            if result.samples is not None:
                result.samples[:, index] += change
        return result
    raise AssertionError("memory_released raises where it swallows")


def _filled(
    network: HierarchicalVAE,
    filling: HierarchicalVAE | None,
    encoded: list[Tensor],
    damaged: Tensor,
    crop: Window,
    value_range: ValueRange,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One pass of a tile's part `crop` in prepared units, and what filling its damage changes."""
    assert filling is not None
    height, width = damaged.shape[2:]
    windows = network.windows((slice(0, height), slice(0, width)), height, width)
    clean = network.decode(encoded, _no_noise, divergence=False, windows=windows).clean
    after = filled(filling, clean, damaged, crop)
    before, filled_in = (_prepared_units(image, crop, windows[0], value_range) for image in (clean, after))
    return before, filled_in - before


def _coarser_means(
    network: HierarchicalVAE,
    plane: NDArray[np.float32],
    damaged: NDArray[np.bool_],
    view: View,
    wanted: Window | None,
    tile_px: int,
    device: Device,
    should_stop: Callable[[], bool],
) -> NDArray[np.float32]:
    """``(C, Y / 2, X / 2)`` what means over 2 x 2 pixels of ``(1, C, Y, X)`` are restored to, in one pass."""
    steps = predict_steps(
        network,
        halved(plane, (2, 3)),
        halved(damaged, (1, 2)),
        [view],
        one_pass=True,
        samples=0,
        keep_samples=False,
        seed=0,
        tile_px=tile_px,
        device=device,
        should_stop=should_stop,
        wanted=None if wanted is None else halved_window(wanted),
    )
    (means,) = finished(steps).mean
    return np.asarray(means)


def _take_slow_noise(
    posterior: Posterior, index: int, coarse: NDArray[np.float32], view: View, wanted: Window | None
) -> None:
    """Take what the one pass left of it away from the mean of a plane, and as much from each sample."""
    assert view.coarser is not None
    rows, columns = wanted or (slice(None), slice(None))
    fewer = (slice(None), slice(None)) if wanted is None else halved_window(wanted)
    mean = posterior.mean[index, :, rows, columns]
    left = slow_noise(mean, coarse[:, *fewer], view.coarser.noise_std or 0.0)
    mean -= left
    if posterior.samples is not None:
        posterior.samples[:, index, :, rows, columns] -= left


def latent_means(
    network: HierarchicalVAE,
    planes: NDArray[np.float32],
    damaged: NDArray[np.bool_],
    views: Sequence[View],
    device: Device,
    white: HierarchicalVAE | None = None,
) -> tuple[NDArray[np.float32], ...]:
    """Posterior means of each level as feature maps.

    Parameters
    ----------
    network : HierarchicalVAE
        Trained; never changed.
    planes : ndarray of float32
        ``(N, C, Y, X)`` prepared values.
    damaged : ndarray of bool
        ``(N, Y, X)``.
    views : sequence of View
        One for each plane.
    device : Device
        Where to compute, a whole plane at a time.
    white : HierarchicalVAE or None
        As of `predict_steps`.

    Returns
    -------
    tuple of ndarray of float32
        For each level, finest first, ``(N, latents, Y / 2**(level+1), X / 2**(level+1))``, rounded up.
    """
    means: list[tuple[NDArray[np.float32], ...]] = []
    with memory_released(device), torch.no_grad():
        network, white = on_device(network, device), None if white is None else on_device(white, device)
        for plane, lost, view in zip(planes, damaged, views, strict=True):
            height, width = lost.shape
            (tile,) = _plan(network, height, width, max(height, width))
            x, hidden, told = _read(plane, lost, tile, view, device)
            with device.precision():
                suited = white if white is not None and view.white else network
                decoded = suited.decode(suited.encode(x, hidden, told), _no_noise, divergence=False)
            means.append(tuple(level[0].float().cpu().numpy() for level in decoded.means))
    cut = [[-(-side // 2 ** (level + 1)) for side in planes.shape[2:]] for level in range(len(means[0]))]
    return tuple(
        np.stack([plane[level][:, : cut[level][0], : cut[level][1]] for plane in means]) for level in range(len(cut))
    )


def _plan(network: HierarchicalVAE, height: int, width: int, tile_px: int, wanted: Window | None = None) -> list[Tile]:
    return plan_tiles(
        -(-height // network.stride) * network.stride,
        -(-width // network.stride) * network.stride,
        tile_px=tile_px,
        halo_px=network.halo_px,
        blend_px=BLEND_PX,
        stride=network.stride,
        wanted=wanted,
    )


def _read(
    plane: NDArray[np.float32], lost: NDArray[np.bool_], tile: Tile, view: View, device: Device
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The tile in network units ``(1, C, Y, X)``, mirrored past the image's end, its damage ``(1, 1, Y, X)``, noise."""
    rows, columns = tile.read
    values, hidden = plane[:, rows, columns], lost[rows, columns]
    missing = [(0, part.stop - part.start - side) for part, side in zip(tile.read, hidden.shape, strict=True)]
    if any(after for _, after in missing):
        values = np.pad(values, [(0, 0), *missing], mode="symmetric")
        hidden = np.pad(hidden, missing, mode="symmetric")
    x = torch.from_numpy(values * np.float32(view.value_range.scale) + np.float32(view.value_range.offset))[None]
    damaged = torch.from_numpy(hidden.astype(np.float32))[None, None]
    told = None if view.told is None else torch.tensor([view.told], dtype=torch.float32, device=device.torch)
    layout = torch.channels_last
    return x.to(device.torch, memory_format=layout), damaged.to(device.torch, memory_format=layout), told


def _no_noise(level: int, posterior: Gaussian) -> None:
    """Each latent at its posterior mean."""


def _noise_at(place: Place, windows: Sequence[Window]) -> Callable[[int, Gaussian], Tensor]:
    def noise(level: int, posterior: Gaussian) -> Tensor:
        _, channels, height, width = posterior.mean.shape
        down, right = (part.start << (level + 1) for part in windows[level])
        drawn = coordinate_noise(replace(place, y=place.y + down, x=place.x + right), level, (channels, height, width))
        return torch.from_numpy(drawn)[None].to(posterior.mean.device)

    return noise


def _prepared_units(clean: Tensor, crop: Window, decoded: Window, value_range: ValueRange) -> NDArray[np.float32]:
    """``(C, Y, X)`` of the part `crop` of what was read; of the finest level the part `decoded` was decoded."""
    rows, columns = (
        slice(part.start - 2 * window.start, part.stop - 2 * window.start)
        for part, window in zip(crop, decoded, strict=True)
    )
    cropped = clean[0, :, rows, columns].float().cpu().numpy()
    return ((cropped - np.float32(value_range.offset)) / np.float32(value_range.scale)).astype(np.float32)
