"""All files of a training looked at in turn: those that can be used, and why the others cannot."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from napari_vae_repair.errors import ImageFileError, InputError, RepairWarning, VaeRepairError
from napari_vae_repair.file_training.surveyed import Surveyed, survey
from napari_vae_repair.joint import check_colours
from napari_vae_repair.phases import Progress, ShouldStop, stop_if
from napari_vae_repair.settings import Settings
from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.record import Model

SOME = 5  # files that a message names


@dataclass(frozen=True, slots=True)
class Run:
    """What a training of files goes by; see `train_files`.

    Attributes
    ----------
    settings : Settings
    device : Device
    model : Model or None
        None = trained from scratch.
    axes : str or None
    skip_bad : bool
    should_stop : callable
    """

    settings: Settings
    device: Device
    model: Model | None
    axes: str | None
    skip_bad: bool
    should_stop: ShouldStop


def survey_all(chosen: list[Path], apart: list[Path], run: Run) -> Generator[Progress, None, list[Surveyed]]:
    """Those that can be used, those for validation last; the others are told."""
    good: list[Surveyed] = []
    bad: list[tuple[Path, VaeRepairError]] = []
    for done, path in enumerate([*chosen, *apart]):
        yield Progress("prepare", done, len(chosen) + len(apart))
        stop_if(run.should_stop, "prepare")
        try:
            found = survey(path, run.axes, run.model, run.settings, run.device)
            if good:
                check_colours(str(path), found.colours, str(good[0].path), good[0].colours)
            good.append(found)
        except (ImageFileError, InputError) as error:
            bad.append((path, error))
    yield Progress("prepare", len(chosen) + len(apart), len(chosen) + len(apart))
    if bad and not run.skip_bad:
        raise _refused(bad, len(chosen) + len(apart))
    usable = {file.path for file in good}
    for paths, what in ((chosen, "to train on"), (apart, "for validation")):
        if paths and usable.isdisjoint(paths):
            raise _refused(bad, len(paths), what)
    for path, reason in bad:
        warnings.warn(f"{path} is left out: {reason}", RepairWarning, stacklevel=2)
    return good


def _refused(bad: list[tuple[Path, VaeRepairError]], among: int, what: str = "") -> VaeRepairError:
    kind = ImageFileError if all(isinstance(error, ImageFileError) for _, error in bad) else InputError
    told = [f"{path}: {error.received}" for path, error in bad[:SOME]]
    more = f" And {len(bad) - SOME} more." if len(bad) > SOME else ""
    return kind(
        f"{len(bad)} of {among} files {what + ' ' if what else ''}cannot be used. {' '.join(told)}{more}",
        "Every file must be an image of the same kind.",
        bad[0][1].remedy
        if len(bad) == 1
        else "Correct or remove them, or leave them out with --skip-bad (skip_bad=True).",
    )
