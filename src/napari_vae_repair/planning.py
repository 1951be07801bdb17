"""What holds for all blocks of an image, found by a look through a few windows."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.blockwise import Plan, Source, Way
from napari_vae_repair.chain import Contrast, Denoise, Equalise, NoiseStrength, Step, format_chain
from napari_vae_repair.conditioning import Conditioned
from napari_vae_repair.errors import SettingsError
from napari_vae_repair.image.axes import Layout, spatial_shape
from napari_vae_repair.image.blocks import Grid
from napari_vae_repair.image.measured import measured_sample
from napari_vae_repair.image.preprocess import FittedChain
from napari_vae_repair.image.record import check_kind, check_measures
from napari_vae_repair.image.survey import Region, Survey, mean_regions, needs_survey, take_survey, without_margin
from napari_vae_repair.phases import (
    Progress,
    ShouldStop,
    fit,
    model_of,
    never,
    notes_of,
    refine,
    samples_in_force,
    steps_in_force,
    stop_if,
    tile_of,
)
from napari_vae_repair.preparation import in_source_units
from napari_vae_repair.restoration import mean_taken
from napari_vae_repair.settings import Settings
from napari_vae_repair.survey import characterised
from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.record import Model, most_scales
from napari_vae_repair.vae.scales import reach_px
from napari_vae_repair.vae.starter import filling_of
from napari_vae_repair.vae.train import Prepared


@dataclass(frozen=True, slots=True)
class Before:
    """What an earlier run of the same came to, and would not come to in the same way again.

    Attributes
    ----------
    model : Model or None
        What it trained or adapted.
    tile_px : int
        Its tile, which hung on the memory that was free.
    notes : tuple of str
    """

    model: Model | None
    tile_px: int
    notes: tuple[str, ...]


ARRAYS = 16  # of the size of a block: what is read with its halo, prepared, restored, led back


def plan_steps(
    source: Source,
    settings: Settings,
    block_px: int,
    device: Device,
    should_stop: ShouldStop,
    model: Model | None = None,
    before: Before | None = None,
) -> Generator[Progress, None, Plan]:
    """Look at the image through a few windows, and train or adapt on these where the settings say so.

    Parameters
    ----------
    source : Source
    settings : Settings
        The preprocessing must take each pixel by itself.
    block_px : int
        Side of the blocks that will be restored.
    device : Device
    should_stop : callable
    model : Model, optional
        Takes the place of `settings.model`.
    before : Before, optional
        Is gone on with: nothing is trained or adapted again.

    Yields
    ------
    Progress
        Of the phases "prepare" and "train" or "adapt".

    Raises
    ------
    SettingsError
        For a chain with steps that look at neighbours.
    VaeRepairError
        As `restore`.
    """
    model = model or model_of(settings)
    _check_chain(model, settings)
    layout = Layout(source.axes, tuple(source.array.shape))
    check_kind(layout.shape, np.dtype(source.array.dtype))
    check_measures(layout.shape, layout.axes)
    yield Progress("prepare", 0, 1)
    survey = survey_of(source, layout)
    found = characterised(survey, layout.channels, model, settings, device)
    stop_if(should_stop, "prepare")
    yield Progress("prepare", 1, 1)
    notes = notes_of(model, settings) + found.notes
    trains = model is None
    if before is not None and before.model is not None:
        model = before.model
    elif model is None:
        channel = np.repeat(np.arange(layout.channels), survey.stack(layout.channels)[0])
        training = Prepared(found.prepared, survey.damaged, channel, found.noise)
        model = yield from fit(training, found.chains, settings, device, should_stop, [], notes=notes)
    elif settings.adapts:
        model, note = yield from refine(model, found, survey.damaged, settings, device, should_stop, never, notes)
        notes.append(note)
    if trains:
        found = replace(found, noise=model.noise)
    if before is None:
        halo_px = model.network.halo_px
        side_px = block_px + 2 * (reach_px(halo_px, most_scales(found.views)) - halo_px)
        arrays = ARRAYS + 2 * samples_in_force(model, settings) * settings.keep_samples
        reserved = arrays * np.dtype(np.float32).itemsize * found.prepared.shape[1] * side_px**2
        fills = filling_of(model) is not None and (source.mask is not None or bool(survey.damaged.any()))
        tile_px = tile_of(model, settings, device, notes, side_px=block_px, reserved=reserved, fills=fills)
    else:
        tile_px, notes = before.tile_px, list(before.notes)
    led_back = in_source_units(found.noise, found.domains)
    return Plan(
        layout=layout,
        chains=tuple(_without_masks(chain) for chain in found.chains),
        views=tuple(tuple(found.views_of(channel)) for channel in range(layout.channels)),
        noise=led_back or found.noise,
        led_back=led_back is not None,
        shifts=_shifts(survey, found, model, settings, tile_px, device, should_stop),
        empty=_medians(survey, layout.channels),
        colours=found.prepared.shape[1],
        model=model,
        settings=settings,
        samples=samples_in_force(model, settings),
        tile_px=tile_px,
        notes=tuple(notes),
    )


def survey_of(source: Source, layout: Layout) -> Survey:
    """What is looked at of an image, read window by window."""
    grid, (height, width) = Grid(layout, 1), spatial_shape(layout.shape, layout.axes)
    sizes = grid.shape[:-2]
    count = int(np.prod(sizes)) // layout.channels

    def read(region: Region) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        parts = [
            source.read(grid.slices(index, region.window))
            for index in np.ndindex(sizes)
            if grid.place(index)[1] % count == region.plane
        ]
        return np.concatenate([planes for planes, _ in parts]), np.concatenate([damaged for _, damaged in parts])

    if needs_survey(count, height, width, layout.channels):
        return take_survey(read, count, height, width, layout.channels)
    regions = tuple(Region(plane, (slice(0, height), slice(0, width))) for plane in range(count))
    whole = [read(region) for region in regions]
    planes, damaged = (np.stack(parts, axis=1) for parts in zip(*whole, strict=True))
    return Survey(regions, planes.reshape(-1, *planes.shape[2:]), damaged.reshape(-1, *damaged.shape[2:]))


def _check_chain(model: Model | None, settings: Settings) -> None:
    steps = steps_in_force(model, settings)
    wide: list[Step] = [step for step in steps if isinstance(step, Contrast | Denoise | NoiseStrength)]
    wide += [step for step in steps if isinstance(step, Equalise) and step.method == "adaptive"]
    if wide:
        raise SettingsError(
            f"The preprocessing has the step(s) {format_chain(tuple(wide))}, which look at a whole plane.",
            "Block by block, each pixel must be prepared by itself.",
            "Leave these steps out (preset='standard'), or restore the image in one piece.",
        )


def _without_masks(chain: FittedChain) -> FittedChain:
    return FittedChain(tuple(replace(step, mask=None) for step in chain.steps))


def _medians(survey: Survey, channels: int) -> tuple[float, ...]:
    count = len(survey.planes) // channels
    parts = [slice(channel * count, (channel + 1) * count) for channel in range(channels)]
    return tuple(
        float(np.median(measured_sample(survey.planes[p].astype(np.float32), survey.damaged[p]))) for p in parts
    )


def _shifts(
    survey: Survey,
    found: Conditioned,
    model: Model,
    settings: Settings,
    tile_px: int,
    device: Device,
    should_stop: ShouldStop,
) -> tuple[tuple[float, ...], ...]:
    """For each channel and colour, the mean of what is taken away in parts of the survey."""
    channels, colours = len(found.chains), found.prepared.shape[1]
    count, height, width = survey.stack(channels)
    regions = mean_regions(count, height, width)
    wanted = without_margin(regions[0].window, height, width)
    out = []
    for channel in range(channels):
        if not found.stabilised or not found.stabilised[channel]:
            out.append((0.0,) * colours)
            continue
        planes, damaged = survey.planes[channel * count :], survey.damaged[channel * count :]
        lost = np.stack([damaged[region.plane][region.window] for region in regions])
        way = Way(model, _without_masks(found.chains[channel]), tuple(found.views_of(channel)), settings, 0, tile_px)
        raw = np.stack([planes[region.plane][:, *region.window] for region in regions])
        prepared, posterior = way.restore(raw, lost, wanted, (0, 0, 0), device, should_stop, [])
        taken = mean_taken([prepared - posterior.mean], [~lost[:, *wanted]])
        out.append(tuple(float(shift) for shift in taken))
    return tuple(out)
