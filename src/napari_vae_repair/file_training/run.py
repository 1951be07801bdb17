"""From many image files to one saved model: survey, train or adapt, keep a checkpoint, save."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import psutil

from napari_vae_repair.errors import InputError, ModelFileError, RepairWarning, VaeRepairError
from napari_vae_repair.file_training.keeping import Checkpoint, Plan, checkpoint_of, read_checkpoint
from napari_vae_repair.file_training.looking import Run, survey_all
from napari_vae_repair.file_training.source import FilePatches, Need
from napari_vae_repair.file_training.surveyed import Surveyed
from napari_vae_repair.image.lock import only_writer
from napari_vae_repair.joint import check_trainable
from napari_vae_repair.phases import Progress, ShouldStop, model_of, stop_if
from napari_vae_repair.settings import Settings
from napari_vae_repair.vae.adapt import BATCH_SIZE, CHECK_PATCHES, HELD_OUT, PATCH_PX, adapt_to
from napari_vae_repair.vae.budget import Budget
from napari_vae_repair.vae.checkpoint import save_model
from napari_vae_repair.vae.device import choose_device
from napari_vae_repair.vae.record import Model, ValueRange, noted
from napari_vae_repair.vae.train import Lesson, steps_of, train_from

MOST_MEMORY_MB, SHARE_OF_FREE = 1000.0, 0.25
VALIDATION_PATCHES = 64
EPOCH_OF_ADAPTING = 256  # patches
MOST_NOTED = 1000  # files whose names, noise and preprocessing a model tells: its header must stay small

AnyPath: TypeAlias = str | os.PathLike[str]


def train_files(
    files: Sequence[AnyPath],
    settings: Settings,
    *,
    validation: Sequence[AnyPath] = (),
    save_to: AnyPath,
    resume: bool = True,
    memory_mb: float | None = None,
    checkpoint_every_s: float = 60.0,
    should_stop: ShouldStop = lambda: False,
    axes: str | None = None,
    skip_bad: bool = False,
) -> Generator[Progress, None, Model]:
    """Train one model on many image files, of which only windows are ever in memory, and save it.

    Parameters
    ----------
    files : sequence of path
        Images of one kind: with the same number of colours after the preprocessing. Each keeps its own preprocessing
        and noise, as it would restored alone.
    settings : Settings
        With `model` "scratch" a network is trained; with the starter, or the path of what was adapted from it, that
        model is adapted for `adapt_seconds` or `adapt_steps`.
    validation : sequence of path
        Images that nothing is learned from, and that decide which weights are kept, or whether the adapted model is.
        A file that is also among `files` is for validation alone. Without any, blocks of `files` are held out.
    save_to : path
        Of the model. Beside it, as ``NAME.checkpoint``, lies the state of the training until the model is saved.
    resume : bool
        Go on from that checkpoint, if there is one; False = begin anew.
    memory_mb : float or None
        Most that the windows may take, in MB (10**6 bytes); None = `Settings.memory_mb`, or without it a quarter of
        what is free, 1000 at most.
    checkpoint_every_s : float
        Seconds between two checkpoints.
    should_stop : callable
        Polled after each file and each step; True writes a checkpoint and ends the run with `Cancelled`.
    axes : str or None
        Names that replace those of every file; see `Image`.
    skip_bad : bool
        Leave out files that cannot be read or used, with a `RepairWarning` for each, instead of ending.

    Yields
    ------
    Progress
        Of the phases "prepare" and "train" or "adapt".

    Returns
    -------
    Model
        As it was saved; see `train_on`. Gone on with after an interruption, on the same machine with the same number of
        threads, its weights are those of a run that was never interrupted.

    Raises
    ------
    InputError
        Without a file, or, unless `skip_bad`, if any cannot be used; all of them are named.
    ImageFileError
        As `InputError`, or if another run writes the same model.
    ModelFileError
        If there is a checkpoint of other files, settings or versions, or a damaged one; or if the model cannot be
        saved: the checkpoint is there then.
    SettingsError, DeviceError, DeviceMemoryError, TrainingError, Cancelled
        As `train_on`.
    """
    device, model = choose_device(settings.device), model_of(settings)
    memory_mb = settings.memory_mb if memory_mb is None else memory_mb
    check_trainable(model, settings)
    apart = {os.path.realpath(path): Path(path) for path in validation}
    learned = {os.path.realpath(path): Path(path) for path in files}
    chosen = [path for real, path in learned.items() if real not in apart]
    if not chosen:
        raise InputError(
            "No image file was given to train on.",
            "A model is trained on one or more; those for validation do not count.",
            "Name files, folders or patterns.",
        )
    place = checkpoint_of(save_to)
    with only_writer(place):
        if not resume:
            place.unlink(missing_ok=True)
        plan = Plan.of(chosen, list(apart.values()), axes, settings, device.name, memory_mb)
        saved = read_checkpoint(place, plan) if place.exists() else None
        notes = {"memory_mb": memory_mb or _memory_mb()} if saved is None else saved[0]
        checkpoint = Checkpoint(place, plan, checkpoint_every_s, notes, None if saved is None else saved[1])
        run = Run(settings, device, model, axes, skip_bad, should_stop)
        trained = yield from _trained(chosen, set(apart.values()), run, checkpoint)
        _save(trained, save_to, checkpoint)
    return trained


def _save(model: Model, save_to: AnyPath, checkpoint: Checkpoint) -> None:
    try:
        save_model(model, save_to)
    except ModelFileError as error:
        checkpoint.write()
        raise ModelFileError(
            error.received,
            error.allowed,
            f"The training is kept in {checkpoint.path}: make room, and start it again in the same way.",
        ) from error
    with suppress(OSError):  # what stays there leads to the same model
        checkpoint.path.unlink(missing_ok=True)


def _memory_mb() -> float:
    return float(min(MOST_MEMORY_MB, SHARE_OF_FREE * psutil.virtual_memory().available / 1e6))


def _trained(
    chosen: list[Path], apart: set[Path], run: Run, checkpoint: Checkpoint
) -> Generator[Progress, None, Model]:
    everyone = yield from survey_all(chosen, sorted(apart), run)
    files, validation = ([file for file in everyone if (file.path in apart) is asked] for asked in (False, True))
    with _told_if_damaged(checkpoint):
        start = None if checkpoint.saved is None else checkpoint.saved.numbers["patches"]
        memory_bytes = int(1e6 * float(checkpoint.notes["memory_mb"]))
        patches = FilePatches(files, validation, _need(run), run.settings.seed, memory_bytes, start)
        for done, total in patches.fill():
            yield Progress("prepare", done, total)
            stop_if(run.should_stop, "prepare")
        if run.model is None:
            model = yield from _from_scratch(files, validation, patches, run, checkpoint)
        else:
            model = yield from _adapted(run.model, everyone, patches, run, checkpoint)
    model = _noting(model, files, patches)
    total = (model.training.get("adapted") or model.training)["steps"]
    yield Progress("train" if run.model is None else "adapt", total, total, model=model)
    return model


def _need(run: Run) -> Need:
    chosen, settings = run.settings.training, run.settings
    if run.model is None:
        patches = steps_of(settings)[1] * chosen.batch_size
        stride = settings.network.stride_px
        return Need(
            chosen.patch_px, stride, chosen.held_out, VALIDATION_PATCHES, chosen.patches_per_epoch, in_all=patches
        )
    in_all = 10**9 if settings.adapt_steps is None else BATCH_SIZE * settings.adapt_steps
    return Need(PATCH_PX, run.model.network.stride, HELD_OUT, CHECK_PATCHES, EPOCH_OF_ADAPTING, in_all)


# ---- both ways of training ---------------------------------------------------------------------


def _from_scratch(
    files: list[Surveyed], validation: list[Surveyed], patches: FilePatches, run: Run, checkpoint: Checkpoint
) -> Generator[Progress, None, Model]:
    noise = tuple(noise for file in (*files, *validation) for noise in file.noise)
    # of the windows that the training began with, wherever it goes on
    known = checkpoint.notes.get("value_range")
    value_range = patches.value_range() if known is None else ValueRange(*map(float, known))
    checkpoint.notes["value_range"] = [value_range.low, value_range.high]
    lesson = Lesson(patches, files[0].colours, value_range, noise)
    steps = train_from(lesson, run.settings, run.device, checkpoint, validation_patches=VALIDATION_PATCHES)
    _, total = steps_of(run.settings)
    done = 0 if checkpoint.saved is None else int(checkpoint.saved.numbers["step"])
    while True:
        try:
            losses = next(steps)
        except StopIteration as end:
            model: Model = end.value
            return model
        done += 1
        yield Progress("train", done, total, losses)
        _stop_if(run, checkpoint, "train")


def _adapted(
    model: Model, everyone: list[Surveyed], patches: FilePatches, run: Run, checkpoint: Checkpoint
) -> Generator[Progress, None, Model]:
    views = [view for file in everyone for of_channel in file.views for view in of_channel]
    budget = Budget(run.settings.adapt_steps, run.settings.adapt_seconds, run.settings.adapt_stop)
    steps = adapt_to(
        model,
        patches,
        views,
        budget,
        seed=run.settings.seed,
        device=run.device,
        keeper=checkpoint,
        should_stop=run.should_stop,
    )
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            adapted: Model = end.value
            return adapted
        yield Progress("adapt", step.done, step.total, step.losses)
        _stop_if(run, checkpoint, "adapt")


def _stop_if(run: Run, checkpoint: Checkpoint, phase: str) -> None:
    if run.should_stop():
        checkpoint.write()
        stop_if(lambda: True, phase)


def _noting(model: Model, files: list[Surveyed], patches: FilePatches) -> Model:
    """The model, which tells what it was trained on."""
    read = [files[number] for number in patches.files_read]
    if len(read) < len(files):
        warnings.warn(
            f"{len(files) - len(read)} of {len(files)} files were not met: "
            "raise epochs or the seconds of adapting, or give more memory.",
            RepairWarning,
            stacklevel=2,
        )
    if not model.training.get("adapted", {"accepted": True})["accepted"]:
        return model
    if model.value_range is not None:
        some = files[:MOST_NOTED]
        chains = tuple(chain.to_dict() for file in some for chain in file.chains)
        model = replace(model, chains=chains, noise=model.noise[: len(chains)])
    entries = [(file.name, file.layout.shape, file.layout.axes, file.dtype) for file in read[:MOST_NOTED]]
    return noted(replace(model, training=model.training | {"files": len(read)}), entries)


@contextmanager
def _told_if_damaged(checkpoint: Checkpoint) -> Generator[None]:
    """Errors that a checkpoint causes that was tampered with."""
    begun = checkpoint.saved is not None
    try:
        yield
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        if not begun or isinstance(error, VaeRepairError) or checkpoint.moved:
            raise
        raise ModelFileError(
            f"The checkpoint {checkpoint.path} is damaged: {error}.",
            "Its weights and numbers must be those of this training.",
            "Begin anew with --restart (resume=False).",
        ) from error
