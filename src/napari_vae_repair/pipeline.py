"""Prepare, characterise, fit, restore, compare: the page to read first."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.conditioning import Conditioned
from napari_vae_repair.errors import SettingsError
from napari_vae_repair.image.axes import Layout
from napari_vae_repair.image.record import Image
from napari_vae_repair.image.survey import Region
from napari_vae_repair.phases import (
    Progress,
    ShouldStop,
    as_seen,
    ask,
    fit,
    model_of,
    never,
    notes_of,
    refine,
    samples_in_force,
    stop_if,
    verdict_on,
)
from napari_vae_repair.preparation import as_image, check_reference, in_source_units
from napari_vae_repair.restoration import Restoration, Result, against_reference, make_report
from napari_vae_repair.running import finished
from napari_vae_repair.settings import STARTER, Settings, make_settings
from napari_vae_repair.survey import look_at
from napari_vae_repair.vae.checkpoint import load_model
from napari_vae_repair.vae.device import Device, choose_device
from napari_vae_repair.vae.memory import check_whole
from napari_vae_repair.vae.posterior import Posterior
from napari_vae_repair.vae.predict import latent_means
from napari_vae_repair.vae.record import Model, trained_on
from napari_vae_repair.vae.starter import load_starter, white_of
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
    return finished(steps, on_step)


def restore_steps(
    image: Image,
    settings: Settings,
    *,
    reference: NDArray[Any] | None = None,
    model: Model | None = None,
    should_stop: Callable[[], bool] | None = None,
    should_finish: Callable[[], bool] | None = None,
    look_every: float = math.inf,
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
    should_finish : callable, optional
        True ends adapting early, and what it led to is kept if it is better.
    look_every : float
        Seconds after which adapting tells what it has led to so far, if that is surely better: a `Progress` with a
        result. It takes the time of a comparison and of a pass, and changes nothing else.

    Yields
    ------
    Progress

    Raises
    ------
    VaeRepairError
        As `restore`.
    """
    should_stop, should_finish = should_stop or never, should_finish or never
    check_whole(image.pixels.size, settings.memory_mb, settings.most_kept_samples)
    run = _Run(image, settings, reference, _Clock(), choose_device(settings.device), [])
    if model is not None:
        run.notes.append("the model was given as an object: the setting model does not name it")
    model = model or model_of(settings)
    if reference is not None:
        check_reference(reference, image)
    adapts = model is not None and settings.adapts
    if adapts and model is not None and not model.general:
        raise SettingsError(
            "The model was trained on one image, and is to be adapted to another.",
            "The starter, and what was adapted from it, can be adapted.",
            "Leave adapt_seconds and adapt_steps out, or choose model='starter'.",
        )
    ready = None if adapts else model
    yield Progress("prepare", 0, 1, model=ready)
    run.look(model)
    stop_if(should_stop, "prepare")
    yield Progress("prepare", 1, 1, model=ready)

    run.notes.extend(notes_of(model, settings) + run.shown.notes)
    posterior: Posterior | None = None
    if model is None:
        model = yield from run.fitted(should_stop)
    elif adapts:
        model, posterior = yield from run.refined(model, should_stop, should_finish, look_every)
    samples = samples_in_force(model, settings)
    if posterior is None or samples:
        posterior = yield from run.asked(model, "restore", samples, should_stop)
    yield Progress("report", 0, 1, model=model)
    result = run.result(model, posterior, samples)
    yield Progress("report", 1, 1, model=model)
    return result


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
    chosen_device = choose_device(device)
    found = look_at(as_image(image, axes, mask), loaded, loaded.settings, chosen_device)
    seen = as_seen(found.shown, found.damaged, loaded)
    return latent_means(loaded.network, *seen, chosen_device, white_of(loaded))


# ---- one run ----------------------------------------------------------------------------------


class _Clock:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase], self._last = self.seconds.get(phase, 0.0) + now - self._last, now


@dataclass(slots=True)
class _Run:
    """What the phases of one run share."""

    image: Image
    settings: Settings
    reference: NDArray[Any] | None
    clock: _Clock
    device: Device
    notes: list[str]
    layout: Layout = field(init=False)
    damaged: NDArray[np.bool_] = field(init=False)
    shown: Conditioned = field(init=False)
    means: tuple[Region, ...] = field(init=False)

    def look(self, model: Model | None) -> None:
        """Prepare the planes and tell their noise."""
        found = look_at(self.image, model, self.settings, self.device)
        self.layout, self.damaged, self.shown, self.means = found.layout, found.damaged, found.shown, found.means
        self.clock.stop("prepare")

    def fitted(self, should_stop: ShouldStop) -> Generator[Progress, None, Model]:
        """A model trained on the planes."""
        planes = self.shown.prepared
        channel = np.repeat(np.arange(self.layout.channels), len(planes) // self.layout.channels)
        training = Prepared(planes, self.damaged, channel, self.shown.noise)
        model = yield from fit(
            training, self.shown.chains, self.settings, self.device, should_stop, [self.image], notes=self.notes
        )
        self.shown = replace(self.shown, noise=model.noise)
        self.clock.stop("train")
        return model

    def refined(
        self, model: Model, should_stop: ShouldStop, should_finish: ShouldStop, look_every: float
    ) -> Generator[Progress, None, tuple[Model, Posterior | None]]:
        """The model adapted to the planes, and what came of them where it stayed as it was; its result comes first."""
        first = yield from self.asked(model, "first", 0, should_stop)
        one_pass = self.settings.without_adapting().model_copy(update={"samples": 0, "keep_samples": False})
        yield Progress("first", 1, 1, result=self.result(model, first, 0, one_pass))
        steps = refine(
            *(model, self.shown, self.damaged, self.settings, self.device, should_stop, should_finish, self.notes),
            look_every=look_every,
        )
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                refined, note = end.value
                break
            yield step if step.model is None else replace(step, model=None, result=self.so_far(step.model, should_stop))
        self.notes.append(note)
        self.clock.stop("adapt")
        if refined is model or not refined.training["adapted"]["accepted"]:
            return refined, first
        return trained_on(refined, [self.image]), None

    def so_far(self, better: Model, should_stop: ShouldStop) -> Restoration:
        """What the model makes of the planes while it is adapted to them; its settings give it again."""
        self.clock.stop("adapt")
        record, notes = better.training["adapted"], len(self.notes)
        again = {"adapt_seconds": 0.0, "adapt_steps": record["steps"], "adapt_stop": record["stopped_at"]}
        settings = self.settings.model_copy(update=again | {"samples": 0, "keep_samples": False})
        posterior = finished(self.asked(better, "adapt", 0, should_stop))  # its tiles are no steps of adapting
        self.notes.append(verdict_on(better))
        result = self.result(trained_on(better, [self.image]), posterior, 0, settings)
        del self.notes[notes:]
        return result

    def asked(
        self, model: Model, phase: str, samples: int, should_stop: ShouldStop
    ) -> Generator[Progress, None, Posterior]:
        """What the model makes of the planes."""
        posterior = yield from ask(
            model,
            self.shown,
            self.damaged,
            self.settings,
            self.device,
            should_stop,
            phase=phase,
            samples=samples,
            notes=self.notes,
        )
        self.clock.stop("restore")
        return posterior

    def result(self, model: Model, posterior: Posterior, samples: int, settings: Settings | None = None) -> Restoration:
        """Led back and measured; the settings are those that give it again, None = all."""
        result = Result(self.layout, self.shown.chains, self.shown.prepared, self.damaged, posterior)
        result.keep_means(self.shown.stabilised, self.means)
        compared = None if self.reference is None else against_reference(self.reference, result)
        self.clock.stop("report")
        in_source = in_source_units(self.shown.noise, self.shown.domains)
        report = make_report(
            result,
            in_source or self.shown.noise,
            model,
            self.device,
            self.clock.seconds,
            compared,
            self.notes,
            noise_led_back=in_source is not None,
            samples=samples,
        )
        return result.restoration(report, model, settings or self.settings)
