"""Layers that are larger than memory: restored block by block into OME-Zarr, and shown from there.

What opens files is imported where it is needed: the widget comes up without.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import Cancelled, InputError, SettingsError
from napari_vae_repair.image.free_memory import whole_image_bytes
from napari_vae_repair.large import is_large, room_bytes
from napari_vae_repair.plugin.forecast import Update, forecast_of
from napari_vae_repair.plugin.layers import (
    METADATA_KEY,
    RESIDUAL_COLORMAP,
    STD_COLORMAP,
    largest_value,
    percentile_limits,
    versions,
)
from napari_vae_repair.plugin.result_folder import HeldArray, ResultFolder
from napari_vae_repair.plugin.snapshot import LayerData, Snapshot, in_memory
from napari_vae_repair.plugin.worker import import_pipeline, told
from napari_vae_repair.settings import DEFAULT_SAMPLES, Settings

if TYPE_CHECKING:
    from napari_vae_repair.image.opened import OpenedImage
    from napari_vae_repair.plugin.desk import Steps
    from napari_vae_repair.plugin.preferences import StorePreferences
    from napari_vae_repair.stored import Stored

ROLES = {"uncertainty": "std", "residual": "residual", "restored": "restored"}  # in the order of the layer list
GRID, SIDE_PX = 3, 128  # windows of the middle plane from which contrast limits are taken
GB = 10**9


@dataclass(frozen=True, slots=True)
class StoredLayers:
    """A large result.

    Attributes
    ----------
    stored : Stored
    layers : list of LayerData
        Lazy ones, multiscale where the stores have several levels.
    folder : ResultFolder
        That holds the stores; removed with this object unless it is kept.
    """

    stored: Stored
    layers: list[LayerData]
    folder: ResultFolder


def goes_into_stores(source: Snapshot, settings: Settings) -> bool:
    """Whether a layer is restored block by block; see `needs_blocks`."""
    return needs_blocks(source.data, math.prod(source.shape), settings)


def needs_blocks(data: Any, values: int, settings: Settings) -> bool:
    """Whether so many values of the data must be restored block by block: it is lazy, and one piece is too large."""
    return not in_memory(data) and is_large(values, settings.memory_mb, settings.most_kept_samples)


def check_fits(source: Snapshot, settings: Settings, what: str) -> None:
    """Raise `InputError` if a lazy layer is too large for work that needs all of it in memory, such as "Comparing"."""
    values = math.prod(source.shape)
    if not in_memory(source.data) and is_large(values, settings.memory_mb):
        raise InputError(
            f"{what} needs {source.name!r} in memory, {values / 1e6:.0f} million values, for which it takes about "
            f"{whole_image_bytes(values) / GB:.1f} GB.",
            f"Half of what is free may be taken, {room_bytes(settings.memory_mb) / GB:.1f} GB.",
            "Choose what the canvas shows, a rectangle or the current plane, where that is offered; or crop the layer.",
        )


def check_storable(source: Snapshot, settings: Settings, where: StorePreferences) -> None:
    """Raise before a large layer is restored in a way that cannot be done.

    Raises
    ------
    SettingsError
        Samples are to be kept.
    InputError
        A cluster is to restore what is no whole file.
    """
    if settings.keep_samples and settings.samples != 0:
        raise SettingsError(
            f"{source.name!r} is larger than memory, and its samples are to be kept.",
            "Block by block, their mean and standard deviation are written.",
            "Untick Keep the samples as a layer, or tick Current plane only.",
        )
    whole = _is_whole(source)
    if where.scheduler is not None and (source.file is None or not whole):
        raise InputError(
            f"{source.name!r} was {'not opened from a file' if whole else 'to be restored in one plane'}.",
            f"The workers of {where.scheduler} read whole files themselves.",
            "Open it from a file that they see under the same path, or empty Scheduler under Preferences ▸ VAE Repair.",
        )


def storing_steps(source: Snapshot, settings: Settings, where: StorePreferences) -> Steps[StoredLayers]:
    """Steps that restore a layer into stores of a new folder; ended before these are complete, they leave none.

    Parameters
    ----------
    source : Snapshot
        Of a lazy layer that `check_storable` lets pass.
    settings : Settings
    where : StorePreferences
    """

    def steps(stop: Event) -> Generator[Update, None, StoredLayers]:
        yield Update(0.0, "Starting PyTorch" if "torch" not in sys.modules else "Reading the layer")
        _, choose_device = import_pipeline()
        device = choose_device(settings.device)
        named = device.label + (f"\n{device.hint}" if device.hint else "")
        yield Update(0.0, "Reading the layer" if where.scheduler is None else "Asking the scheduler", device=named)
        folder = ResultFolder(where.folder, source.name, source.data if _is_whole(source) else None)
        try:
            run = _restoration(source, settings, where, folder.path, stop.is_set)
            passes = math.prod(source.shape) * (1 + (settings.samples or 0))
            forecast = forecast_of(settings, blocks=True, passes=passes)
            stored = yield from told(run, forecast, named)
        except BaseException:
            folder.remove()
            raise
        try:
            return StoredLayers(stored, stored_layers(stored, source, folder), folder)
        except Exception:
            folder.keep()  # hours of work, which can be opened from there
            raise

    return steps


def _is_whole(source: Snapshot) -> bool:
    return all(item == slice(None) for item in source.index)


def _restoration(
    source: Snapshot, settings: Settings, where: StorePreferences, folder: Path, should_stop: Callable[[], bool]
) -> Generator[Any, None, Stored]:
    from napari_vae_repair.image.opened import OpenedImage
    from napari_vae_repair.phases import model_of, samples_in_force
    from napari_vae_repair.storing import restore_to_store

    model = model_of(settings)
    samples = (settings.samples or DEFAULT_SAMPLES) if model is None else samples_in_force(model, settings)
    outputs = {
        name: folder / f"{role}.ome.zarr" for role, name in ROLES.items() if role != "uncertainty" or samples > 1
    }
    image: Path | OpenedImage
    mask: Any = source.mask
    if where.scheduler is None:
        image = OpenedImage(
            _Asking(_part(source), should_stop), source.axes, source.shape, source.name, source.pixel_size_um
        )
    else:
        image = _file_of(source)
        if mask is not None:
            mask = _written(mask, folder / "damage.ome.zarr", source.axes.replace("S", ""))
    return restore_to_store(
        image,
        outputs,
        settings,
        axes=source.axes,
        mask=mask,
        dtype="float32",
        scheduler=where.scheduler,
        model=model,
        should_stop=should_stop,
    )


def _part(source: Snapshot) -> Any:
    """What is restored of a lazy array, as a dask array."""
    import dask.array as da

    data = source.data
    lazy = data if isinstance(data, da.Array) else da.from_array(data, chunks=getattr(data, "chunks", None) or "auto")
    return lazy[source.index]


def _file_of(source: Snapshot) -> Path:
    """The layer's file, if it holds what the layer shows."""
    from napari_vae_repair.image.opened import open_image

    assert source.file is not None  # `check_storable`
    with open_image(source.file, source.axes) as opened:
        shape, dtype = tuple(opened.array.shape), str(opened.array.dtype)
    if (shape, dtype) != (source.shape, source.dtype):
        raise InputError(
            f"The layer {source.name!r} has {source.shape} values of {source.dtype}, its file {shape} of {dtype}.",
            "Workers restore the whole file, so that the layer must show all of it.",
            "Open the file with VAE Repair, or empty Scheduler under Preferences ▸ VAE Repair.",
        )
    return source.file


def _written(mask: NDArray[np.bool_], path: Path, axes: str) -> Path:
    from napari_vae_repair.image.files import write_image

    return write_image(path, mask.astype(np.uint8), axes)


class _Asking:
    """A lazy array that raises `Cancelled` where it would be read in vain."""

    def __init__(self, array: Any, should_stop: Callable[[], bool]) -> None:
        self._array, self._should_stop = array, should_stop
        self.shape, self.dtype = tuple(array.shape), array.dtype

    def __getitem__(self, window: tuple[slice, ...]) -> NDArray[Any]:
        if self._should_stop():
            raise Cancelled("read")
        return np.asarray(self._array[window])


# ---- the layers -----------------------------------------------------------------------------------


def stored_layers(stored: Stored, source: Snapshot, folder: ResultFolder) -> list[LayerData]:
    """The stores as layers, in the place and with the look that results in memory have.

    Parameters
    ----------
    stored : Stored
    source : Snapshot
    folder : ResultFolder
        That is held as long as any of the arrays.
    """
    return [
        _stored_layer(role, folder, stored, source) for role in ROLES if (folder.path / f"{role}.ome.zarr").exists()
    ]


def _stored_layer(role: str, folder: ResultFolder, stored: Stored, source: Snapshot) -> LayerData:
    from napari_vae_repair.image.opened import open_image
    from napari_vae_repair.plugin.layer_files import lazy_layer

    path = folder.path / f"{role}.ome.zarr"
    opened = open_image(path)
    seen = _seen(opened)
    report = stored.report
    look: dict[str, Any]
    if role == "restored":
        own_limits = source.look.get("contrast_limits")
        limits = own_limits if report.in_source_units and own_limits else percentile_limits(seen)
        look = source.look | {"contrast_limits": limits}
    elif role == "residual":
        largest = largest_value(seen)
        look = {"colormap": RESIDUAL_COLORMAP, "contrast_limits": [-largest, largest], "visible": False}
    else:
        look = {"colormap": STD_COLORMAP, "contrast_limits": [0.0, largest_value(seen)], "visible": False}
    held = replace(opened, levels=tuple(HeldArray(level, folder) for level in opened.levels))
    data, meta, kind = lazy_layer(held)
    facts = {
        "source": source.name,
        "role": role,
        "store": str(path),
        "report": report.to_dict() | {"training": dict(stored.model.training)},
        "settings": stored.settings.model_dump(mode="json"),
        "axes": opened.axes,
        "in_source_units": report.in_source_units,
        "source_dtype": source.dtype,
        "source_crc32": None,
        "versions": versions(),
    }
    named = {"name": f"{source.name} {role}", "metadata": {METADATA_KEY: facts}}
    kept = {name: meta[name] for name in ("rgb", "multiscale")}
    return data, named | kept | source.space | look, kind


def _seen(opened: OpenedImage) -> NDArray[Any]:
    """Some pixels of the middle plane at full resolution; lower levels have less noise."""
    sides = dict(zip(opened.axes, opened.array.shape, strict=True))

    def window(axis: str, number: int) -> slice:
        if axis == "S":
            return slice(None)
        if axis not in "YX":
            return slice(sides[axis] // 2, sides[axis] // 2 + 1)
        start = max(0, (2 * number + 1) * sides[axis] // (2 * GRID) - SIDE_PX // 2)
        return slice(start, start + SIDE_PX)

    def parts() -> Iterator[NDArray[Any]]:
        for row, column in np.ndindex(GRID, GRID):
            places = {"Y": row, "X": column}
            index = tuple(window(axis, places.get(axis, 0)) for axis in opened.axes)
            yield np.asarray(opened.array[index]).reshape(-1)

    return np.concatenate(list(parts()))
