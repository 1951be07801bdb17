"""The phases of a restoration, one at a time: which model, how it is shown the image, fitted, adapted and asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.chain import Step, format_chain
from napari_vae_repair.conditioning import Conditioned, condition
from napari_vae_repair.errors import Cancelled, InputError
from napari_vae_repair.image.opponent import to_opponent
from napari_vae_repair.image.preprocess import FittedChain
from napari_vae_repair.image.record import Image
from napari_vae_repair.preparation import characterise
from napari_vae_repair.settings import DEFAULT_SAMPLES, SCRATCH, STARTER, GivenNoise, Settings
from napari_vae_repair.vae.adapt import BATCH_SIZE, Seen, Stepped, adapt, obstacle
from napari_vae_repair.vae.checkpoint import load_model
from napari_vae_repair.vae.device import Device, backing_off
from napari_vae_repair.vae.memory import LEAST_TILE_PX, tile_that_fits
from napari_vae_repair.vae.posterior import Posterior
from napari_vae_repair.vae.predict import predict_steps
from napari_vae_repair.vae.record import Losses, Model, View, trained_on
from napari_vae_repair.vae.starter import calibration_of, filling_of, load_starter, white_of
from napari_vae_repair.vae.train import Prepared, steps_of, train

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration

BATCHES, TILES = "batches of {}", "tiles of {} px"

Damaged = NDArray[np.bool_]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a restoration.

    Attributes
    ----------
    phase : str
        "prepare", "train" where there is one or "first" and "adapt", "restore" and "report", in this order.
    done, total : int
        Steps of the phase.
    losses : Losses or None
        What the training step measured.
    model : Model or None
        The trained or loaded model, as soon as there is one.
    result : Restoration or None
        At the end of "first": what the model makes of the image before it is adapted to it. Now and then in "adapt":
        what it makes of it now, if that is surely better.
    """

    phase: str
    done: int
    total: int
    losses: Losses | None = None
    model: Model | None = None
    result: Restoration | None = None


def never() -> bool:
    """No wish to stop."""
    return False


def stop_if(should_stop: ShouldStop, phase: str) -> None:
    """Raise `Cancelled` if that is wished."""
    if should_stop():
        raise Cancelled(phase)


# ---- which model, and what it is shown ---------------------------------------------------------


def model_of(settings: Settings) -> Model | None:
    """The model that the settings name; None = to be trained."""
    if settings.model == SCRATCH:
        return None
    return load_starter().model if settings.model == STARTER else load_model(settings.model)


def steps_in_force(model: Model | None, settings: Settings) -> tuple[Step, ...]:
    """The preprocessing steps: a model of one image brings its own."""
    return settings.steps if model is None or model.general else model.settings.steps


def samples_in_force(model: Model, settings: Settings) -> int:
    """How many posterior samples are drawn."""
    if settings.samples is not None:
        return settings.samples
    return 0 if model.general and not settings.keep_samples else DEFAULT_SAMPLES


def notes_of(model: Model | None, settings: Settings) -> list[str]:
    """What the user should know of settings that the model cannot follow; None = it is trained now."""
    if model is None:
        given = isinstance(settings.noise, GivenNoise) and max(settings.noise.correlation) > 0
        return ["training from scratch takes the noise of neighbours for independent"] * given
    notes = []
    unused = [
        name for name in ("epochs", "network", "training") if getattr(settings, name) != getattr(Settings(), name)
    ]
    if unused:
        notes.append(f"not used without a training from scratch: {', '.join(unused)}")
    if steps_in_force(model, settings) != settings.steps:
        notes.append(f"the saved model's own preprocessing was used: {format_chain(model.settings.steps)}")
    if settings.noise.kind == "learned":
        notes.append("the noise was estimated: only a training from scratch can learn it")
    return notes


def show(
    prepared: NDArray[np.float32],
    damaged: Damaged,
    chains: list[FittedChain],
    model: Model | None,
    settings: Settings,
    device: Device,
) -> Conditioned:
    """The image as the model is shown it; see `condition` for the arguments and errors."""
    if model is not None and model.general:
        return condition(prepared, damaged, chains, settings, load_starter().inspector.noise, device)
    return Conditioned(chains, prepared, characterise(prepared, damaged, chains, settings), chains, [], [])


def as_seen(shown: Conditioned, damaged: Damaged, model: Model) -> tuple[NDArray[np.float32], Damaged, list[View]]:
    """Planes, damage and views; to the starter, which knows grey planes alone, each opponent colour is a plane.

    Raises
    ------
    InputError
        If the model was trained on images with another number of colours.
    """
    planes = shown.prepared
    if model.value_range is None:
        return (
            to_opponent(planes).reshape(-1, 1, *planes.shape[2:]),
            np.repeat(damaged, planes.shape[1], axis=0),
            shown.views,
        )
    channels = model.network.channels
    if channels != planes.shape[1]:
        kinds = {1: "grey images (1 channel)", 3: "colour images (3 channels)"}
        raise InputError(
            f"The image has {planes.shape[1]} channel(s) after the chain.",
            f"The model was trained on {kinds.get(channels, f'{channels} channels')}.",
            "Use a model of the same kind, train a new one, or put the step grey into the chain that you train with.",
        )
    return planes, damaged, [View(model.value_range)] * len(planes)


# ---- fit, adapt, restore -----------------------------------------------------------------------


def fit(
    prepared: Prepared,
    chains: list[FittedChain],
    settings: Settings,
    device: Device,
    should_stop: ShouldStop,
    images: Sequence[Image],
    notes: list[str] | None = None,
) -> Generator[Progress, None, Model]:
    """Train from scratch on the planes of the images; see `train` for the errors.

    Where the device's memory is exhausted the batches are halved, and that is added to `notes`.
    """
    planes, damaged = _padded(prepared.planes, prepared.damaged, settings.network.stride_px)
    padded = replace(prepared, planes=planes, damaged=damaged)

    def trained_with(batch_size: int, device: Device) -> Generator[Progress, None, Model]:
        training = settings.training.model_copy(update={"batch_size": batch_size})
        return _trained(padded, settings.model_copy(update={"training": training}), device, should_stop)

    trained = yield from backing_off(
        trained_with,
        settings.training.batch_size,
        device,
        least=1,
        unit=BATCHES,
        allow_cpu=settings.allow_cpu,
        notes=[] if notes is None else notes,
    )
    model = trained_on(replace(trained, chains=tuple(chain.to_dict() for chain in chains)), images)
    _, total = steps_of(model.settings)
    yield Progress("train", total, total, model=model)
    return model


def _trained(
    prepared: Prepared, settings: Settings, device: Device, should_stop: ShouldStop
) -> Generator[Progress, None, Model]:
    _, total = steps_of(settings)
    steps = train(prepared, settings, device)
    for done in range(1, total + 1):
        losses = next(steps)
        yield Progress("train", done, total, losses)
        stop_if(should_stop, "train")
    try:
        next(steps)
    except StopIteration as end:
        trained: Model = end.value
    return trained


def refine(
    model: Model,
    shown: Conditioned,
    damaged: Damaged,
    settings: Settings,
    device: Device,
    should_stop: ShouldStop,
    should_finish: ShouldStop,
    notes: list[str] | None = None,
    look_every: float = math.inf,
) -> Generator[Progress, None, tuple[Model, str]]:
    """Adapt the model to the image, and say in a line what came of it; see `adapt` for the errors.

    Where the device's memory is exhausted the batches are halved, and that is added to `notes`. What is better on the
    way, looked for every so many seconds, is told with its step.
    """
    planes, lost, views = as_seen(shown, damaged, model)
    seen = Seen(*_padded(planes, lost, model.network.stride), views)
    if reason := obstacle(seen):
        return model, f"not adapted: {reason}"

    def adapted_with(batch_size: int, on: Device) -> Generator[Stepped, None, Model]:
        return adapt(
            model,
            seen,
            steps=settings.adapt_steps,
            stop_at=settings.adapt_stop,
            seconds=settings.adapt_seconds,
            seed=settings.seed,
            device=on,
            should_finish=should_finish,
            should_stop=should_stop,
            batch_size=batch_size,
            look_every=look_every,
        )

    steps = backing_off(
        adapted_with,
        BATCH_SIZE,
        device,
        least=1,
        unit=BATCHES,
        allow_cpu=settings.allow_cpu,
        notes=[] if notes is None else notes,
    )
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            adapted: Model = end.value
            break
        yield Progress("adapt", step.done, step.total, step.losses, model=step.better)
        stop_if(should_stop, "adapt")
    return adapted, verdict_on(adapted)


def verdict_on(adapted: Model) -> str:
    """What came of adapting, in a line."""
    record = adapted.training["adapted"]
    verdict = "kept" if record["accepted"] else "not kept, since it is not surely better"
    done = record["stopped_at"] or record["steps"]
    return f"adapted in {done} steps ({record['gained_db']:+.2f} dB on held-out blocks): {verdict}"


def ask(
    model: Model,
    shown: Conditioned,
    damaged: Damaged,
    settings: Settings,
    device: Device,
    should_stop: ShouldStop,
    *,
    phase: str = "restore",
    samples: int,
    notes: list[str] | None = None,
) -> Generator[Progress, None, Posterior]:
    """Restore with the model; see `predict_steps` for the errors.

    Where the device's memory is exhausted the tiles are halved, and that is added to `notes`.
    """
    planes, lost, views = as_seen(shown, damaged, model)
    keep, noted = settings.keep_samples and samples > 0, [] if notes is None else notes
    results = 2 + samples * keep  # mean, standard deviation and samples
    filling = filling_of(model) if lost.any() else None

    def largest_on(device: Device) -> int:
        reserved, fills = results * planes.nbytes, filling is not None
        return tile_of(model, settings, device, noted, side_px=max(lost.shape[1:]), reserved=reserved, fills=fills)

    def asked_with(tile_px: int, on: Device) -> Generator[tuple[int, int], None, Posterior]:
        tile_px = tile_px if on == device else min(tile_px, largest_on(on))
        return predict_steps(
            model.network,
            planes,
            lost,
            views,
            one_pass=model.general or samples == 0,
            samples=samples,
            keep_samples=keep,
            seed=settings.seed,
            tile_px=tile_px,
            device=on,
            should_stop=should_stop,
            filling=filling,
            white=white_of(model),
        )

    steps = backing_off(
        asked_with,
        largest_on(device),
        device,
        least=LEAST_TILE_PX,
        unit=TILES,
        allow_cpu=settings.allow_cpu,
        notes=noted,
    )
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            posterior: Posterior = end.value
            if (calibration := calibration_of(model)) is not None:
                posterior = posterior.calibrated(calibration, planes, lost, views)
            return posterior.shaped(shown.prepared.shape, opponent=model.general)
        yield Progress(phase, done, total, model=None if phase == "first" else model)


def tile_of(
    model: Model,
    settings: Settings,
    device: Device,
    notes: list[str],
    *,
    side_px: int,
    reserved: int = 0,
    fills: bool = False,
) -> int:
    """The tile to begin with: as given, or as large as memory allows, and never larger than the image.

    Parameters
    ----------
    model, settings, device
        Of the restoration.
    notes : list of str
        A given tile that `Settings.memory_mb` cannot hold is made smaller, and that is added to them.
    side_px : int
        The longest side of a plane.
    reserved : int
        Bytes that are yet to be allocated beside the tiles.
    fills : bool
        Whether there may be damage that a second network fills.

    Raises
    ------
    DeviceMemoryError
        If `Settings.memory_mb` is too little for the smallest tile.
    """
    tile_px = settings.tile_px
    if tile_px is None or settings.memory_mb is not None:
        fits = tile_that_fits(model.network, device, memory_mb=settings.memory_mb, reserved_bytes=reserved, fills=fills)
        if tile_px is not None and fits < min(tile_px, side_px):
            notes.append(f"tiles of {fits} px were used: {settings.memory_mb} MB hold none of {tile_px} px")
        tile_px = fits if tile_px is None else min(tile_px, fits)
    return max(LEAST_TILE_PX, min(tile_px, side_px))


def _padded(planes: NDArray[np.float32], damaged: Damaged, side: int) -> tuple[NDArray[np.float32], Damaged]:
    """Mirrored up to the smallest patch, for images smaller than that; what was added counts as damaged."""
    missing = [(0, max(0, side - length)) for length in planes.shape[2:]]
    if not any(after for _, after in missing):
        return planes, damaged
    planes = np.pad(planes, [(0, 0), (0, 0), *missing], mode="symmetric")
    return planes, np.pad(damaged, [(0, 0), *missing], constant_values=True)
