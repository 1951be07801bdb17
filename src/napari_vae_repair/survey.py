"""How an image is looked at before it is restored: as a whole, or through windows where it is large."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.conditioning import Conditioned
from napari_vae_repair.image.axes import Layout
from napari_vae_repair.image.record import Image
from napari_vae_repair.image.survey import Region, Survey, mean_regions, needs_survey, take_survey, without_margin
from napari_vae_repair.phases import show, steps_in_force
from napari_vae_repair.preparation import colour_planes, mask_planes, prepare
from napari_vae_repair.settings import Settings
from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.record import Model


@dataclass(frozen=True, slots=True)
class Look:
    """An image in planes, and how a model is shown them.

    Attributes
    ----------
    layout : Layout
        Of the image.
    damaged : ndarray of bool
        ``(N, Y, X)``, channels slowest.
    shown : Conditioned
        All planes, as what was found in the survey lets them be shown.
    means : tuple of Region
        Where the mean of what is taken away is told.
    """

    layout: Layout
    damaged: NDArray[np.bool_]
    shown: Conditioned
    means: tuple[Region, ...]


def look_at(image: Image, model: Model | None, settings: Settings, device: Device) -> Look:
    """Prepare an image's planes and tell their noise; see `prepare` and `show` for the errors."""
    layout = Layout(image.axes, image.pixels.shape)
    planes, damaged = colour_planes(layout.to_planes(image.pixels)), mask_planes(image)
    count, (height, width) = len(planes) // layout.channels, planes.shape[2:]
    if needs_survey(count, height, width, layout.channels):

        def read(region: Region) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
            return planes[region.plane :: count, :, *region.window], damaged[region.plane :: count, *region.window]

        survey = take_survey(read, count, height, width, layout.channels)
        found = characterised(survey, layout.channels, model, settings, device)
        shown = _over_all(found, planes, damaged)
    else:
        everything = Region(0, (slice(0, height), slice(0, width)))
        survey = Survey(tuple(replace(everything, plane=plane) for plane in range(count)), planes, damaged)
        shown = characterised(survey, layout.channels, model, settings, device)
    stack = survey.stack(layout.channels)
    means = tuple(_in_whole(survey.regions[part.plane], part, *stack[1:]) for part in mean_regions(*stack))
    return Look(layout, damaged, shown, means)


def characterised(
    survey: Survey, channels: int, model: Model | None, settings: Settings, device: Device
) -> Conditioned:
    """The survey's planes as the model is shown them; its chains, noise and views hold for the whole image."""
    chains, prepared = prepare(survey.planes, survey.damaged, channels, steps_in_force(model, settings))
    return show(prepared, survey.damaged, chains, model, settings, device)


def _in_whole(region: Region, part: Region, height: int, width: int) -> Region:
    """What is counted of a part of the region's window, as it lies in the image."""
    rows, columns = (
        slice(outer.start + middle.start + inner.start, outer.start + middle.start + inner.stop)
        for outer, middle, inner in zip(
            region.window, part.window, without_margin(part.window, height, width), strict=True
        )
    )
    return Region(region.plane, (rows, columns))


def _over_all(found: Conditioned, planes: NDArray[np.generic], damaged: NDArray[np.bool_]) -> Conditioned:
    """All planes as the survey's were shown."""
    channels, count = len(found.chains), len(planes) // len(found.chains)
    chains, prepared = [], []
    for index, chain in enumerate(found.chains):
        part = slice(index * count, (index + 1) * count)
        fitted, values = chain.refit_masks(planes[part], damaged[part])
        chains.append(fitted)
        prepared.append(values)
    together = prepared[0] if channels == 1 else np.concatenate(prepared)
    views = [view for index in range(channels) for view in found.views_of(index) * count]
    return replace(found, chains=chains, prepared=together, views=views)
