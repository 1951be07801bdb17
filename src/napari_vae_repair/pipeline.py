"""Prepare, characterise, fit, restore, compare: the page to read first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import SettingsError
from napari_vae_repair.image.axes import Layout
from napari_vae_repair.image.record import Image
from napari_vae_repair.phases import (
    Progress,
    as_seen,
    ask,
    fit,
    model_of,
    notes_of,
    refine,
    samples_in_force,
    show,
    steps_in_force,
    stop_if,
)
from napari_vae_repair.preparation import (
    as_image,
    check_reference,
    colour_planes,
    in_source_units,
    mask_planes,
    prepare,
)
from napari_vae_repair.restoration import Restoration, Result, against_reference, make_report
from napari_vae_repair.settings import STARTER, Settings, make_settings
from napari_vae_repair.vae.checkpoint import load_model
from napari_vae_repair.vae.device import choose_device
from napari_vae_repair.vae.predict import latent_means
from napari_vae_repair.vae.record import Model
from napari_vae_repair.vae.starter import load_starter
from napari_vae_repair.vae.train import Prepared

__all__ = ["Progress", "encode", "restore", "restore_steps"]


def restore(
    image: Any,
    settings: Settings | None = None,
    *,
    axes: str | None = None,
    mask: NDArray[np.bool_] | None = None,
    reference: NDArray[Any] | None = None,
    on_step: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    **changes: Any,
) -> Restoration:
    """Restore an image with a variational autoencoder.

    Parameters
    ----------
    image : array, dask array or napari Image layer
        Any real dtype, 2-D to 5-D; never written to.
    settings : Settings, optional
        All knobs; with the defaults, the starter restores in one pass.
    axes : str, optional
        One letter a dimension, as in "ZYX", "TCZYX" or "YXS"; None = napari's convention (`image.axes.default_axes`).
    mask : ndarray of bool, optional
        True = damaged: left out of the likelihood and filled. NaN and infinite pixels always are.
    reference : array, optional
        The truth, in the image's shape and units, for the report.
    on_step : callable, optional
        Called with each `Progress`.
    should_stop : callable, optional
        Polled before each training step and each layer of a prediction; True ends the run with `Cancelled`.
    **changes
        Single fields of `settings`, as in ``restore(x, epochs=20, preset="classic")``; `model` may also be a `Model`.

    Returns
    -------
    Restoration

    Raises
    ------
    InputError
        The image, axes, mask or reference cannot be used.
    SettingsError
        A setting is unknown, out of range, or contradicts another.
    ModelFileError
        The model file cannot be used.
    DeviceError, DeviceMemoryError
        The device is absent, or its memory exhausted.
    TrainingError
        Training diverged.
    Cancelled
        `should_stop` said so.
    """
    given = changes.pop("model") if isinstance(changes.get("model"), Model) else None
    chosen = make_settings(settings, **changes)
    steps = restore_steps(
        as_image(image, axes, mask), chosen, reference=reference, model=given, should_stop=should_stop
    )
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            result: Restoration = end.value
            return result
        if on_step is not None:
            on_step(progress)


def restore_steps(
    image: Image,
    settings: Settings,
    *,
    reference: NDArray[Any] | None = None,
    model: Model | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Generator[Progress, None, Restoration]:
    """The steps of `restore`, one at a time, for callers with an event loop of their own.

    Parameters
    ----------
    image : Image
        What to restore.
    settings : Settings
        All knobs.
    reference : array, optional
        The truth, in the image's shape and units.
    model : Model, optional
        Takes the place of `settings.model`.
    should_stop : callable, optional
        True ends the run with `Cancelled`.

    Yields
    ------
    Progress

    Raises
    ------
    VaeRepairError
        As `restore`.
    """
    should_stop = should_stop or _never
    clock = _Clock()
    device = choose_device(settings.device)
    notes = [] if model is None else ["the model was given as an object: the setting model does not name it"]
    model = model or model_of(settings)
    if reference is not None:
        check_reference(reference, image)
    if settings.adapts and model is not None and not model.general:
        raise SettingsError(
            "The model was trained on one image, and is to be adapted to another.",
            "The starter, and what was adapted from it, can be adapted.",
            "Leave adapt_seconds and adapt_steps out, or choose model='starter'.",
        )
    adapts = model is not None and settings.adapts
    ready = None if adapts else model
    yield Progress("prepare", 0, 1, model=ready)
    layout = Layout(image.axes, image.pixels.shape)
    planes, damaged = colour_planes(layout.to_planes(image.pixels)), mask_planes(image)
    chains, prepared = prepare(planes, damaged, layout.channels, steps_in_force(model, settings))
    shown = show(prepared, damaged, chains, model, settings, device)
    clock.stop("prepare")
    stop_if(should_stop, "prepare")
    yield Progress("prepare", 1, 1, model=ready)

    notes += notes_of(model, settings)
    if model is None:
        channel = np.repeat(np.arange(layout.channels), len(planes) // layout.channels)
        training = Prepared(shown.prepared, damaged, channel, shown.noise)
        model = yield from fit(training, chains, settings, device, should_stop)
        shown = replace(shown, noise=model.noise)
        clock.stop("train")
    elif adapts:
        model, note = yield from refine(model, shown, damaged, settings, device, should_stop)
        notes.append(note)
        clock.stop("adapt")
    posterior = yield from ask(model, shown, damaged, settings, device, should_stop)
    clock.stop("restore")

    yield Progress("report", 0, 1, model=model)
    result = Result(layout, shown.chains, shown.prepared, damaged, posterior)
    result.keep_means(shown.stabilised)
    compared = None if reference is None else against_reference(reference, result)
    clock.stop("report")
    in_source = in_source_units(shown.noise, shown.domains)
    report = make_report(
        result,
        in_source or shown.noise,
        model,
        device,
        clock.seconds,
        compared,
        notes,
        noise_led_back=in_source is not None,
        samples=samples_in_force(model, settings),
    )
    yield Progress("report", 1, 1, model=model)
    return result.restoration(report, model, settings)


def encode(
    image: Any,
    model: Model | str | os.PathLike[str],
    *,
    axes: str | None = None,
    mask: NDArray[np.bool_] | None = None,
    device: str = "auto",
) -> tuple[NDArray[np.float32], ...]:
    """Latent means of an image as feature maps.

    Parameters
    ----------
    image, axes, mask
        As `restore`.
    model : Model, "starter" or path
        Trained, shipped or saved.
    device : str
        As `Settings.device`.

    Returns
    -------
    tuple of ndarray of float32
        For each level, finest first, ``(N, latents, Y', X')``: N planes with ``C`` slowest (with the starter, colours
        are planes too, and fastest), and ``Y' = Y / 2**(level + 1)``, rounded up.

    Raises
    ------
    VaeRepairError
        As `restore`.
    """
    loaded = model if isinstance(model, Model) else load_starter().model if model == STARTER else load_model(model)
    chosen = as_image(image, axes, mask)
    layout, damaged = Layout(chosen.axes, chosen.pixels.shape), mask_planes(chosen)
    planes = colour_planes(layout.to_planes(chosen.pixels))
    chosen_device = choose_device(device)
    chains, prepared = prepare(planes, damaged, layout.channels, loaded.settings.steps)
    shown = show(prepared, damaged, chains, loaded, loaded.settings, chosen_device)
    return latent_means(loaded.network, *as_seen(shown, damaged, loaded), chosen_device)


# ---- the phases -------------------------------------------------------------------------------


class _Clock:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase], self._last = now - self._last, now


def _never() -> bool:
    return False
