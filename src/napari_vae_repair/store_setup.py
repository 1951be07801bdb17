"""Before a store is written: what it will hold, whether it may stand there, and what an earlier run left."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_vae_repair import __version__
from napari_vae_repair.blockwise import Plan
from napari_vae_repair.chain import Grey
from napari_vae_repair.errors import ImageFileError, SettingsError
from napari_vae_repair.image.axes import Layout
from napari_vae_repair.image.formats import image_dtype
from napari_vae_repair.image.opened import OpenedImage
from napari_vae_repair.image.steps import is_invertible
from napari_vae_repair.image.zarr_store import StoreWriter, create_store
from napari_vae_repair.phases import samples_in_force, steps_in_force
from napari_vae_repair.planning import Before
from napari_vae_repair.settings import SCRATCH, STARTER, Settings
from napari_vae_repair.vae.checkpoint import load_model, save_model
from napari_vae_repair.vae.record import Model
from napari_vae_repair.vae.starter import filling_of, white_of

# they decide how fast and where, not what comes out
NOT_THE_RESULT = {"device", "tile_px", "memory_mb", "allow_cpu"}


@dataclass(frozen=True, slots=True)
class Results:
    """What the results will be, as the settings alone tell.

    Attributes
    ----------
    shape : tuple of int
    axes : str
    in_source_units : bool
        Whether values are in the image's own units.
    """

    shape: tuple[int, ...]
    axes: str
    in_source_units: bool


def results_of(image: OpenedImage, model: Model | None, settings: Settings) -> Results:
    """What will come of an image; None = a model that is yet to be trained."""
    layout, steps = Layout(image.axes, tuple(image.array.shape)), steps_in_force(model, settings)
    colours = 3 if image.axes.endswith("S") and not any(isinstance(step, Grey) for step in steps) else 1
    return Results(layout.out_shape(colours), layout.out_axes(colours), all(map(is_invertible, steps)))


def check_apart(output: Path, files: tuple[Path | None, ...]) -> None:
    """Raise `ImageFileError` where the store would replace what is read, or a folder that holds it."""
    for path in files:
        if path is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(output)):
            raise ImageFileError(
                f"{output} would be written over {path}, which is read.",
                "A result needs a place of its own, and not one that holds the image.",
                "Choose another place.",
            )


def check_samples(outputs: Mapping[str, Path], model: Model | None, settings: Settings) -> None:
    """Raise `SettingsError` where "std" is asked for and there would be none."""
    drawn = settings.samples if model is None else samples_in_force(model, settings)
    if "std" in outputs and drawn is not None and drawn < 2:
        raise SettingsError(
            f"A standard deviation was asked for with {drawn} sample(s).",
            "It needs 2 samples or more.",
            "Set samples=16, or leave the standard deviation out.",
        )


def writer_of(
    path: Path, name: str, results: Results, image: OpenedImage, dtype: str | None, version: str, key: str
) -> StoreWriter:
    """The writer of "restored", in the image's dtype where that fits, or of another result, in float32."""
    kind = np.dtype("float32")
    if name == "restored":
        own = results.in_source_units and np.dtype(image.array.dtype).kind in "bui"
        kind = image_dtype(dtype or (image.array.dtype if own else "float32"))
    channels = "C" in results.axes
    return create_store(
        path,
        results.shape,
        kind,
        results.axes,
        pixel_size_um=image.pixel_size_um,
        channel_names=image.channel_names if channels else (),
        channel_colours=image.channel_colours if channels else (),
        version=version,
        plan_key=key,
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """What a run leaves beside its journal, for the run that goes on: what would come out otherwise another time.

    Attributes
    ----------
    writer : StoreWriter
        Of the store that is being written.
    """

    writer: StoreWriter

    @property
    def _model(self) -> Path:
        return self.writer.part / "model.safetensors"

    def found(self) -> Before | None:
        """What an earlier run left."""
        saved = self.writer.noted("kept.json")
        if saved is None:
            return None
        facts, model = json.loads(saved), load_model(self._model) if self._model.exists() else None
        return Before(model, int(facts["tile_px"]), tuple(facts["notes"]))

    def keep(self, plan: Plan) -> None:
        """Keep a trained or adapted model, the tile and the notes."""
        if self.writer.noted("kept.json") is not None:
            return
        if plan.settings.adapts or plan.settings.model == SCRATCH:
            save_model(plan.model, self._model)
        facts = {"tile_px": plan.tile_px, "notes": list(plan.notes)}
        self.writer.note("kept.json", json.dumps(facts).encode())


def states_of(files: tuple[Path | None, ...]) -> list[Any]:
    """What tells whether files were changed: name, size and time of the last change; None for what is no file."""
    return [None if path is None else _changed(path) for path in files]


def check_unchanged(files: tuple[Path | None, ...], states: list[Any]) -> None:
    """Raise `ImageFileError` where a file is no longer as it was; a chunk that is gone reads as zeros.

    Parameters
    ----------
    files : tuple of Path or None
    states : list
        As `states_of` gave them before anything was read.
    """
    for path, before, now in zip(files, states, states_of(files), strict=True):
        if now != before:
            raise ImageFileError(
                f"{path} was {'changed' if path is not None and path.exists() else 'removed'} while it was being read.",
                "The result would be a mixture, so that none was written.",
                "Put the file back or wait until it is complete, and restore it again.",
            )


def key_of(settings: Settings, model: Model | None, states: list[Any], block_px: int, axes: str | None) -> str:
    """What makes the pixels what they are: another image, setting, model or version gives another key."""
    named = None if settings.model in (STARTER, SCRATCH) else _changed(Path(settings.model))
    found = {
        "version": __version__,
        "settings": settings.model_dump(mode="json", exclude=NOT_THE_RESULT),
        "model": named if model is None else weights_sha256(model),
        "block_px": block_px,
        "axes": axes,
        "files": states,
    }
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _changed(path: Path) -> list[Any]:
    """Name, size and time of the last change of a file, or of all files of a store."""
    parts = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    return [[str(part), part.stat().st_size, part.stat().st_mtime_ns] for part in parts if part.exists()]


def weights_sha256(model: Model) -> str:
    """Hash of all weights that restore with a model: its own, and those that take its place or fill after it."""
    weights = hashlib.sha256()
    for network in (model.network, white_of(model), filling_of(model)):
        for name, tensor in sorted(network.state_dict().items()) if network is not None else ():
            weights.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return weights.hexdigest()
