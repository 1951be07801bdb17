"""Any block of a large image, restored as it would be within the whole.

What holds for the whole image is found once, in a `Plan`; a block is then read with the halo that its pixels depend on.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.conditioning import Conditioned
from napari_vae_repair.image.axes import Layout, spatial_shape
from napari_vae_repair.image.blocks import Block, Grid
from napari_vae_repair.image.preprocess import FittedChain
from napari_vae_repair.image.tiles import Window
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.phases import TILES, ShouldStop, as_seen
from napari_vae_repair.preparation import colour_planes
from napari_vae_repair.running import finished
from napari_vae_repair.settings import Settings
from napari_vae_repair.vae.device import Device, backing_off
from napari_vae_repair.vae.memory import LEAST_TILE_PX
from napari_vae_repair.vae.posterior import Posterior
from napari_vae_repair.vae.predict import predict_steps
from napari_vae_repair.vae.record import Model, View, most_scales
from napari_vae_repair.vae.scales import reach_px
from napari_vae_repair.vae.starter import calibration_of, filling_of, white_of

ONE_AT_A_TIME = threading.Lock()  # for schedulers with threads: PyTorch has threads of its own, tiles are sized for one


@dataclass(frozen=True, slots=True)
class Source:
    """Pixels that are read on demand.

    Attributes
    ----------
    array : array-like
        With ``shape``, ``dtype`` and indexing by a tuple of slices.
    axes : str
        One letter for each dimension; see `Image`.
    mask : array-like or None
        True = damaged; of the shape of `array` without ``S``.
    """

    array: Any
    axes: str
    mask: Any = None

    def read(self, window: tuple[slice, ...]) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Planes ``(N, C, Y, X)`` of a window without alpha, and damage ``(N, Y, X)``, as `to_planes` gives them."""
        values = np.asarray(self.array[window])
        layout = Layout(self.axes, values.shape)
        planes = colour_planes(layout.to_planes(values))
        damaged = np.zeros((len(planes), *planes.shape[2:]), dtype=bool)
        if values.dtype.kind == "f":
            damaged |= ~np.isfinite(layout.to_planes(values)).all(axis=1)
        if self.mask is not None:
            inner = tuple(part for part, letter in zip(window, self.axes, strict=True) if letter != "S")
            marked = np.asarray(self.mask[inner])
            damaged |= Layout(self.axes.replace("S", ""), marked.shape).to_planes(marked)[:, 0].astype(bool)
        return planes, damaged


@dataclass(frozen=True, slots=True)
class Plan:
    """All that must be known to restore any block of an image.

    Attributes
    ----------
    layout : Layout
        Of the image.
    chains : tuple of FittedChain
        One for each channel.
    views : tuple of tuple of View
        For each channel, one for each colour.
    noise : tuple of NoiseModel
        One for each channel; in the image's units where `led_back`.
    led_back : bool
        Whether the noise could be led back to the image's units.
    shifts : tuple of tuple of float
        For each channel and colour, what is added to what is restored (see `Result.keep_means`).
    empty : tuple of float
        For each channel, what stands in where nothing near was measured.
    colours : int
        Of each plane, after the chain.
    model : Model
    settings : Settings
    samples : int
        How many are drawn.
    tile_px : int
        Side of the tiles in which a block is restored, in pixels.
    notes : tuple of str
        What the user should know.
    """

    layout: Layout
    chains: tuple[FittedChain, ...]
    views: tuple[tuple[View, ...], ...]
    noise: tuple[NoiseModel, ...]
    led_back: bool
    shifts: tuple[tuple[float, ...], ...]
    empty: tuple[float, ...]
    colours: int
    model: Model
    settings: Settings
    samples: int
    tile_px: int
    notes: tuple[str, ...]

    @property
    def axes(self) -> str:
        """Letters of what is restored."""
        return self.layout.out_axes(self.colours)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is restored."""
        return self.layout.out_shape(self.colours)

    @property
    def in_source_units(self) -> bool:
        """Whether results have the image's own units."""
        return all(chain.in_source_units for chain in self.chains)

    def read_window(self, wanted: Window) -> Window:
        """What must be read to restore a window: corners on the network's grid, or the image's end."""
        scales = most_scales([view for of_channel in self.views for view in of_channel])
        grid, reach = self.model.network.stride << (scales - 1), reach_px(self.model.network.halo_px, scales)
        height, width = spatial_shape(self.layout.shape, self.layout.axes)
        rows, columns = (
            slice(max(part.start - reach, 0) // grid * grid, min(-(-(part.stop + reach) // grid) * grid, side))
            for part, side in zip(wanted, (height, width), strict=True)
        )
        return rows, columns


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored block, each part with the image's axes and led back as `Restoration` is; see there."""

    restored: NDArray[np.float32]
    residual: NDArray[np.float32]
    std: NDArray[np.float32]
    samples: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Way:
    """How the planes of one channel are prepared, restored and led back."""

    model: Model
    chain: FittedChain
    views: tuple[View, ...]
    settings: Settings
    samples: int
    tile_px: int

    def restore(
        self,
        planes: NDArray[np.generic],
        damaged: NDArray[np.bool_],
        wanted: Window,
        corner: tuple[int, int, int],
        device: Device,
        should_stop: ShouldStop,
        notes: list[str],
    ) -> tuple[NDArray[np.float32], Posterior]:
        """What is prepared and what is restored of the wanted part of the planes, led back.

        See `predict_steps` for `wanted` and `corner`.
        """
        empty = damaged.all()  # nothing to tell what was there: what stands in is taken for measured by the chain
        chain, prepared = self.chain.refit_masks(planes, None if empty else damaged)
        shown = Conditioned([chain], prepared, (), [chain], list(self.views) * len(planes), [])
        seen, lost, views = as_seen(shown, damaged, self.model)

        def asked_with(tile_px: int, on: Device) -> Generator[tuple[int, int], None, Posterior]:
            return predict_steps(
                self.model.network,
                seen,
                lost,
                views,
                one_pass=self.model.general or self.samples == 0,
                samples=self.samples,
                keep_samples=self.settings.keep_samples and self.samples > 0,
                seed=self.settings.seed,
                tile_px=tile_px,
                device=on,
                should_stop=should_stop,
                corner=corner,
                wanted=wanted,
                filling=filling_of(self.model),
                white=white_of(self.model),
            )

        tile_px, allow_cpu = min(self.tile_px, max(map(length, wanted))), self.settings.allow_cpu
        posterior = finished(
            backing_off(asked_with, tile_px, device, least=LEAST_TILE_PX, unit=TILES, allow_cpu=allow_cpu, notes=notes)
        )
        if (calibration := calibration_of(self.model)) is not None:
            posterior = posterior.calibrated(calibration, seen, lost, views)
        posterior = posterior.shaped(prepared.shape, opponent=self.model.general)
        part = (..., *wanted)
        mean, samples = posterior.mean[part], posterior.samples
        led_back = Posterior(
            chain.invert(mean, kind="mean", window=wanted),
            chain.invert_std(mean, posterior.std[part], window=wanted),
            None if samples is None else chain.invert(samples[part], kind="mean", window=wanted),
        )
        return chain.invert(prepared[part], kind="sample", window=wanted), led_back


def restore_block(
    plan: Plan, source: Source, block: Block, device: Device, should_stop: ShouldStop, notes: list[str]
) -> Restored:
    """One block of an image, as it is in the whole.

    Parameters
    ----------
    plan : Plan
        Of that image.
    source : Source
        Where its pixels are read.
    block : Block
    device : Device
    should_stop : callable
        Polled before each layer of the network.
    notes : list of str
        What the user should know is added to it.

    Raises
    ------
    VaeRepairError
        As `restore`.
    """
    window = Grid(plan.layout, 1).slices(block.index, plan.read_window(block.window))
    return restore_read(plan, block, *source.read(window), device, should_stop, notes)


def restore_read(
    plan: Plan,
    block: Block,
    planes: NDArray[np.generic],
    damaged: NDArray[np.bool_],
    device: Device,
    should_stop: ShouldStop,
    notes: list[str],
) -> Restored:
    """The same from what `Source.read` gave of the window `Plan.read_window`."""
    read, (channel, number) = plan.read_window(block.window), Grid(plan.layout, 1).place(block.index)
    if damaged.all():
        planes = np.full(planes.shape, plan.empty[channel], dtype=np.float32)
    wanted = (_within(block.window[0], read[0]), _within(block.window[1], read[1]))
    corner = (number * (plan.colours if plan.model.general else 1), read[0].start, read[1].start)
    way = Way(plan.model, plan.chains[channel], plan.views[channel], plan.settings, plan.samples, plan.tile_px)
    prepared, posterior = way.restore(planes, damaged, wanted, corner, device, should_stop, notes)
    posterior.mean[...] += np.array(plan.shifts[channel], dtype=np.float32)[:, None, None]
    samples = posterior.samples

    def out(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(_laid_out(values, plan.axes))

    return Restored(
        restored=out(posterior.mean),
        residual=out(prepared - posterior.mean),
        std=out(posterior.std),
        samples=None if samples is None else np.stack([out(sample) for sample in samples]),
    )


def _laid_out(planes: NDArray[np.float32], axes: str) -> NDArray[np.float32]:
    """One plane ``(1, C, Y, X)`` with the given axes, stacks of length 1."""
    plane, letters = (planes[0], "SYX") if "S" in axes else (planes[0, 0], "YX")
    moved = np.transpose(plane, [letters.index(letter) for letter in axes if letter in letters])
    return np.expand_dims(moved, [at for at, letter in enumerate(axes) if letter not in letters])


def _within(part: slice, outer: slice) -> slice:
    return slice(part.start - outer.start, part.stop - outer.start)


def length(part: slice) -> int:
    """How much a slice without step holds."""
    return int(part.stop - part.start)
