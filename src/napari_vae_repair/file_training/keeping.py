"""The checkpoint of a training: one file, written whole or not at all, from which the same command goes on."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from napari_vae_repair import __version__
from napari_vae_repair.errors import ImageFileError, ModelFileError, RepairWarning
from napari_vae_repair.image.atomic import replacing
from napari_vae_repair.settings import SCRATCH, STARTER, Settings
from napari_vae_repair.vae.resuming import State

FORMAT = "napari-vae-repair training 1"
METADATA = "napari_vae_repair_training"
# what decides the model; the others are about restoring with it
_IRRELEVANT = ("tile_px", "memory_mb", "allow_cpu", "samples", "keep_samples")


def checkpoint_of(model: str | os.PathLike[str]) -> Path:
    """Where the checkpoint of a training lies whose model is to become that file."""
    return Path(f"{os.fspath(model)}.checkpoint")


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what comes out of a training, as text that can be compared.

    Attributes
    ----------
    parts : dict of str to str
    """

    parts: dict[str, str]

    @classmethod
    def of(
        cls,
        files: Sequence[Path],
        validation: Sequence[Path],
        axes: str | None,
        settings: Settings,
        device: str,
        memory_mb: float | None,
    ) -> Plan:
        """Of the files their paths, sizes and times of change; of a model file likewise."""
        model = [] if settings.model in (STARTER, SCRATCH) else [Path(settings.model)]
        chosen = settings.model_dump(mode="json", exclude=set(_IRRELEVANT))
        parts = {f"setting {name}": json.dumps(value) for name, value in chosen.items()}
        parts |= {
            "version": __version__,
            "files": _states(files),
            "files for validation": _states(validation),
            "axes": axes or "",
            "device": device,
            "memory": "" if memory_mb is None else f"{memory_mb:g} MB",
            "model file": _states(model),
        }
        return cls(parts)

    def differences(self, other: dict[str, str]) -> list[str]:
        """What is not alike, as ``version (0.3 -> 0.4)``; digests without their values."""
        names = [name for name in {**other, **self.parts} if other.get(name) != self.parts.get(name)]
        return [
            name if name in ("files", "files for validation", "model file")
            else f"{name} ({other.get(name) or 'none'} -> {self.parts.get(name) or 'none'})"
            for name in names
        ]  # fmt: skip


class Checkpoint:
    """Keeps the state of a training in its file; a `Keeper`.

    Parameters
    ----------
    path : Path
    plan : Plan
    every_s : float
        Seconds between two states that are written.
    notes : dict
        For JSON; written with each state.
    saved : State or None
        What was found.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        every_s: float,
        notes: dict[str, Any],
        saved: State | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path, self._plan, self._every_s, self._notes, self._clock = path, plan, every_s, notes, clock
        self._saved, self._written = saved, clock()
        self._take: Callable[[], State] | None = None

    @property
    def notes(self) -> dict[str, Any]:
        """What was given, or what stood in the file."""
        return self._notes

    @property
    def moved(self) -> bool:
        """Whether a step was done since."""
        return self._take is not None

    @property
    def saved(self) -> State | None:
        """What to go on from."""
        return self._saved

    def offer(self, take: Callable[[], State]) -> None:
        """Write the state if the last one is old enough; a full disk is told and does not end the training."""
        self._take = take
        if self._clock() - self._written >= self._every_s:
            self._written = self._clock()
            try:
                self.write()
            except ImageFileError as error:
                warnings.warn(f"The training goes on without a new checkpoint: {error}", RepairWarning, stacklevel=2)

    def write(self) -> bool:
        """Write the state after the last step; False where there is none.

        Raises
        ------
        ImageFileError
            If it cannot be written; an earlier one is unchanged.
        """
        if self._take is None:
            return False
        state = self._take()
        header = {"format": FORMAT, "plan": self._plan.parts, "notes": self._notes, "numbers": state.numbers}
        content = save(state.tensors, metadata={METADATA: json.dumps(header)})
        with replacing(self.path) as stream:
            stream.write(content)
        self._written, self._saved = self._clock(), None
        return True


def read_checkpoint(path: Path, plan: Plan) -> tuple[dict[str, Any], State]:
    """The notes and the state of a checkpoint of this plan.

    Parameters
    ----------
    path : Path
        Of a file that is there.
    plan : Plan

    Raises
    ------
    ModelFileError
        If it cannot be read, is damaged, or belongs to another plan.
    """
    remedy = "Begin anew with --restart (resume=False), or give the model another name."
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()[METADATA])
            if header["format"] != FORMAT:
                raise ValueError("another format")
            notes, numbers, parts = dict(header["notes"]), dict(header["numbers"]), dict(header["plan"])
            differences = plan.differences(parts)
            tensors = {} if differences else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(
            f"The checkpoint {path} cannot be read: {error}.", "It must be one that this version wrote.", remedy
        ) from error
    if differences:
        raise ModelFileError(
            f"The checkpoint {path} belongs to another training: {', '.join(differences)}.",
            "The same files, settings and version go on from it.",
            remedy,
        )
    return notes, State(tensors, numbers)


def _states(paths: Sequence[Path]) -> str:
    """Digest of paths, sizes and times of change; "" without any. Of a store, those of its own metadata."""
    known = []
    for path in paths:
        inner = [path / name for name in ("zarr.json", ".zattrs", ".zarray", ".zgroup")] if path.is_dir() else []
        for each in [path, *inner]:
            if each.exists():
                state = each.stat()
                known.append([os.path.realpath(each), state.st_size, state.st_mtime_ns])
    return hashlib.sha256(json.dumps(known).encode()).hexdigest() if paths else ""
