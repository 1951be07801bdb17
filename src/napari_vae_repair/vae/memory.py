"""How large a tile may be: a probe of the network, what is free, and the largest tile whose peak fits."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from napari_vae_repair.errors import DeviceMemoryError
from napari_vae_repair.image.free_memory import MB, free_memory_bytes, whole_image_bytes
from napari_vae_repair.settings import Network
from napari_vae_repair.vae.device import Device, memory_released, on_device
from napari_vae_repair.vae.latent import Gaussian
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.predict import BLEND_PX

LEAST_TILE_PX, MOST_TILE_PX = 64, 1024
TILES_PX = (1024, 768, 512, 384, 256, 192, 128, 64)
PROBE_PX = 64
# Real peaks of processes over what the probe foretells (`benchmarks/cost.py`): kernels keep copies of their own, and
# with tiles of different shapes the heap gets gaps, since only blocks above 32 MB are given back one by one
SLACK, HEAP_BYTES = 1.25, 200 * 10**6


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a network takes at its peak, in bytes per pixel.

    Attributes
    ----------
    encoding : float
        While it encodes, for each pixel that is read.
    encoded : float
        What stays of that, for each pixel that is read.
    decoding : float
        While it decodes, for each pixel that is decoded, beside what stays.
    weights : int
        Bytes, whatever the tile.
    """

    encoding: float
    encoded: float
    decoding: float
    weights: int

    def peak_bytes(self, network: HierarchicalVAE, tile_px: int, *, fills: bool = False) -> int:
        """Of one tile within a large image: its halo is read too, and what its pixels depend on is decoded.

        Where a network like it `fills` damage afterwards, all that is read is decoded, and looked at once more.
        """
        read = tile_px + 2 * (_whole_strides(network.halo_px, network) + _whole_strides(BLEND_PX // 2, network))
        if fills:
            values = (self.encoded + max(self.encoding, self.encoded + self.decoding)) * read**2
        else:
            decoded = min(read, tile_px + BLEND_PX + 4 * network.reach[0])
            values = max(self.encoding * read**2, self.encoded * read**2 + self.decoding * decoded**2)
        return int(SLACK * values + (1 + fills) * self.weights + HEAP_BYTES)


def tile_that_fits(
    network: HierarchicalVAE,
    device: Device,
    *,
    memory_mb: int | None = None,
    reserved_bytes: int = 0,
    fills: bool = False,
) -> int:
    """Side of the largest tile, in pixels, whose peak fits into the memory there is; probed once for each network.

    Parameters
    ----------
    network : HierarchicalVAE
        Never changed.
    device : Device
        Where it is to run.
    memory_mb : int or None
        As `Settings.memory_mb`.
    reserved_bytes : int
        Of the process's memory, for what is yet to be made beside the tiles: results, above all.
    fills : bool
        As in `Footprint.peak_bytes`.

    Raises
    ------
    DeviceMemoryError
        If `memory_mb` is too little for the smallest tile. Where only little is free the smallest tile is tried.
    """
    footprint = footprint_of(network, device)
    budget = budget_bytes(device, memory_mb, reserved_bytes)
    for tile_px in TILES_PX:
        if footprint.peak_bytes(network, tile_px, fills=fills) <= budget:
            return tile_px
    if memory_mb is not None:
        least = memory_mb * MB - budget + footprint.peak_bytes(network, LEAST_TILE_PX, fills=fills)
        if least > memory_mb * MB:
            raise DeviceMemoryError(
                f"A run may use {memory_mb} MB, which is too little for this image and the smallest tile.",
                f"It needs about {-(-least // MB)} MB on {device.label}.",
                "Allow more, restore a part of the image, or a file to OME-Zarr (.zarr), block by block.",
            )
    return LEAST_TILE_PX


def check_whole(values: int, memory_mb: int | None, kept_samples: int = 0) -> None:
    """Raise `DeviceMemoryError` if an image of so many values cannot be restored in one piece with `memory_mb`."""
    needed = whole_image_bytes(values, kept_samples) + psutil.Process().memory_info().rss
    if memory_mb is not None and needed > memory_mb * MB:
        raise DeviceMemoryError(
            f"A run may use {memory_mb} MB.",
            f"{values / 1e6:.1f} million values in one piece take about {-(-needed // MB)} MB.",
            "Allow more; or work on files: OME-Zarr (.zarr) is restored by blocks, and vae-repair train reads parts.",
        )


def budget_bytes(device: Device, memory_mb: int | None = None, reserved_bytes: int = 0) -> int:
    """How much more the device's memory may be filled: what is free, and no more than is left of `memory_mb`.

    Parameters
    ----------
    device : Device
        On the CPU, what the process already uses counts against `memory_mb`; on a GPU what PyTorch uses there.
    memory_mb : int or None
        As `Settings.memory_mb`; None = all that is free.
    reserved_bytes : int
        As in `tile_that_fits`.
    """
    if device.torch.type == "cuda":
        free, used = torch.cuda.mem_get_info(device.torch)[0], torch.cuda.memory_allocated(device.torch)
        free += torch.cuda.memory_reserved(device.torch) - used  # kept by PyTorch for later
    elif device.torch.type == "mps":
        used = torch.mps.driver_allocated_memory()
        free = torch.mps.recommended_max_memory() - used
    else:
        used = psutil.Process().memory_info().rss + reserved_bytes
        free = free_memory_bytes() - reserved_bytes
    return int(free) if memory_mb is None else int(min(free, memory_mb * MB - used))


# ---- the probe ---------------------------------------------------------------------------------


def footprint_of(network: HierarchicalVAE, device: Device) -> Footprint:
    """Run the network once over a small tile, and see what that takes; asked again, the answer is the same."""
    key = (network.channels, network.network, device)
    if key not in _PROBED:
        _PROBED[key] = _probe(network, device)
    return _PROBED[key]


_PROBED: dict[tuple[int, Network, Device], Footprint] = {}


def _probe(network: HierarchicalVAE, device: Device) -> Footprint:
    with memory_released(device), torch.no_grad():
        network = on_device(network, device)
        side = _whole_strides(PROBE_PX, network)
        seen = torch.zeros(1, network.channels + 1, side, side, device=device.torch)
        told = torch.zeros(1, 3, device=device.torch)
        with _Watch(device) as watch, device.precision():
            encoded = network.encode(seen[:, :-1], seen[:, -1:], told)
            encoding, kept = watch.peak, watch.now
            watch.forget_peak()
            network.decode(encoded, _drawn, divergence=False)
            decoding = watch.peak - kept
        weights = sum(value.nbytes for value in network.state_dict().values())
        return Footprint(encoding / side**2, kept / side**2, decoding / side**2, weights)
    raise AssertionError("memory_released raises where it swallows")


def _drawn(level: int, posterior: Gaussian) -> Tensor:
    return torch.zeros_like(posterior.mean)


class _Watch(TorchFunctionMode):
    """Bytes of the tensors that calls of PyTorch have made and that still live: CUDA counts itself."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self._cuda = device.torch if device.torch.type == "cuda" else None
        self._sizes: dict[int, int] = {}
        self._now = self._peak = 0
        self._before = 0 if self._cuda is None else torch.cuda.memory_allocated(self._cuda)
        self.forget_peak()

    @property
    def now(self) -> int:
        return self._now if self._cuda is None else torch.cuda.memory_allocated(self._cuda) - self._before

    @property
    def peak(self) -> int:
        return self._peak if self._cuda is None else torch.cuda.max_memory_allocated(self._cuda) - self._before

    def forget_peak(self) -> None:
        self._peak = self._now
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, Tensor) and not isinstance(made, nn.Parameter):
                self._count(made)
        return out

    def _count(self, made: Tensor) -> None:
        storage = made.untyped_storage()
        key = storage.data_ptr()
        if key in self._sizes:  # another view of what is known
            return
        self._sizes[key] = storage.nbytes()
        self._now += self._sizes[key]
        self._peak = max(self._peak, self._now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._sizes.pop(key)


def _whole_strides(pixels: int, network: HierarchicalVAE) -> int:
    return -(-pixels // network.stride) * network.stride
