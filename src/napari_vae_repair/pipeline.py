"""Prepare, characterise, fit, restore, compare: the page to read first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import Cancelled, InputError
from napari_vae_repair.image.axes import Layout
from napari_vae_repair.image.preprocess import FittedChain
from napari_vae_repair.image.record import Image
from napari_vae_repair.preparation import as_image, characterise, colour_planes, mask_planes, prepare
from napari_vae_repair.restoration import Restoration, Result, against_reference, make_report
from napari_vae_repair.settings import Settings, format_chain, make_settings
from napari_vae_repair.vae.checkpoint import load_model
from napari_vae_repair.vae.device import Device, choose_device
from napari_vae_repair.vae.predict import Posterior, latent_means, predict_steps
from napari_vae_repair.vae.record import Losses, Model
from napari_vae_repair.vae.train import Prepared, steps_of, train

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a restoration.

    Attributes
    ----------
    phase : str
        "prepare", "train", "restore" or "report", in this order; "train" is left out with a saved model.
    done, total : int
        Steps of the phase.
    losses : Losses or None
        What the training step measured.
    model : Model or None
        The trained or loaded model, as soon as there is one.
    """

    phase: str
    done: int
    total: int
    losses: Losses | None = None
    model: Model | None = None


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
        All knobs; the defaults train a model on the image.
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
    if model is None and settings.model != SCRATCH:
        model = load_model(settings.model)
    if reference is not None and np.shape(reference) != image.pixels.shape:
        raise InputError(
            f"The reference has shape {np.shape(reference)}.",
            f"It must have the image's shape {image.pixels.shape}.",
            "Pass the truth of this very image, uncropped.",
        )
    yield Progress("prepare", 0, 1, model=model)
    layout = Layout(image.axes, image.pixels.shape)
    planes, damaged = colour_planes(layout.to_planes(image.pixels)), mask_planes(image)
    chains, prepared = prepare(
        planes, damaged, layout.channels, settings.steps if model is None else model.settings.steps
    )
    noise = characterise(prepared, damaged, chains, settings)
    channel = np.repeat(np.arange(layout.channels), len(prepared) // layout.channels)
    clock.stop("prepare")
    _stop_if(should_stop, "prepare")
    yield Progress("prepare", 1, 1, model=model)

    notes = []
    if model is None:
        model = yield from _fit(Prepared(prepared, damaged, channel, noise), chains, settings, device, should_stop)
        noise = model.noise
        clock.stop("train")
    else:
        notes += _loaded_model_notes(model, settings, prepared.shape[1])
    posterior = yield from _restore(model, prepared, damaged, settings, device, should_stop)
    clock.stop("restore")

    yield Progress("report", 0, 1, model=model)
    result = Result(layout, chains, prepared, damaged, posterior)
    compared = None if reference is None else against_reference(reference, result)
    clock.stop("report")
    report = make_report(result, noise, model, settings, device, clock.seconds, compared, notes)
    yield Progress("report", 1, 1, model=model)
    return result.restoration(noise, report, model, settings)


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
    model : Model or path
        Trained or saved.
    device : str
        As `Settings.device`.

    Returns
    -------
    tuple of ndarray of float32
        For each level, finest first, ``(N, latents, Y', X')``: N planes with ``C`` slowest,
        and ``Y' = Y / 2**(level + 1)``, rounded up.

    Raises
    ------
    VaeRepairError
        As `restore`.
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    chosen = as_image(image, axes, mask)
    layout, damaged = Layout(chosen.axes, chosen.pixels.shape), mask_planes(chosen)
    planes = colour_planes(layout.to_planes(chosen.pixels))
    _, prepared = prepare(planes, damaged, layout.channels, loaded.settings.steps)
    _check_channels(loaded, prepared.shape[1])
    return latent_means(loaded, prepared, damaged, choose_device(device))


# ---- the phases -------------------------------------------------------------------------------


class _Clock:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase], self._last = now - self._last, now


def _fit(
    prepared: Prepared, chains: list[FittedChain], settings: Settings, device: Device, should_stop: Callable[[], bool]
) -> Generator[Progress, None, Model]:
    _, total = steps_of(settings)
    steps = train(_padded(prepared, settings.network.stride_px), settings, device)
    for done in range(1, total + 1):
        losses = next(steps)
        yield Progress("train", done, total, losses)
        _stop_if(should_stop, "train")
    try:
        next(steps)
    except StopIteration as end:
        trained: Model = end.value
        model = replace(trained, chains=tuple(chain.to_dict() for chain in chains))
    yield Progress("train", total, total, model=model)
    return model


def _padded(prepared: Prepared, side: int) -> Prepared:
    """Mirrored up to the smallest patch, for images smaller than that; what was added counts as damaged."""
    missing = [(0, max(0, side - length)) for length in prepared.planes.shape[2:]]
    if not any(after for _, after in missing):
        return prepared
    planes = np.pad(prepared.planes, [(0, 0), (0, 0), *missing], mode="symmetric")
    damaged = np.pad(prepared.damaged, [(0, 0), *missing], constant_values=True)
    return replace(prepared, planes=planes, damaged=damaged)


def _restore(
    model: Model,
    prepared: NDArray[np.float32],
    damaged: NDArray[np.bool_],
    settings: Settings,
    device: Device,
    should_stop: Callable[[], bool],
) -> Generator[Progress, None, Posterior]:
    _check_channels(model, prepared.shape[1])
    steps = predict_steps(
        model,
        prepared,
        damaged,
        samples=settings.samples,
        keep_samples=settings.keep_samples,
        seed=settings.seed,
        tile_px=settings.tile_px,
        device=device,
        should_stop=should_stop,
    )
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            posterior: Posterior = end.value
            return posterior
        yield Progress("restore", done, total, model=model)


def _check_channels(model: Model, channels: int) -> None:
    if model.network.channels != channels:
        kinds = {1: "grey images (1 channel)", 3: "colour images (3 channels)"}
        raise InputError(
            f"The image has {channels} channel(s) after the chain.",
            f"The model was trained on {kinds.get(model.network.channels, f'{model.network.channels} channels')}.",
            "Use a model of the same kind, train a new one, or put the step grey into the chain that you train with.",
        )


def _loaded_model_notes(model: Model, settings: Settings, channels: int) -> list[str]:
    _check_channels(model, channels)
    if settings.steps == model.settings.steps:
        return []
    return [f"the saved model's own preprocessing was used: {format_chain(model.settings.steps)}"]


def _stop_if(should_stop: Callable[[], bool], phase: str) -> None:
    if should_stop():
        raise Cancelled(phase)


def _never() -> bool:
    return False
