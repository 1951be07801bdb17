"""The writer hooks: a restored copy of an image, and layers with their provenance, each under an extension of its own.

napari calls writers in the Qt thread. The long parts run there too, and handle Qt's events at every chance, so
that the window lives and the button in napari's activity dock cancels; nested threads would gain nothing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vae_repair.errors import Cancelled, InputError
from napari_vae_repair.image.files import StoredImage, to_dtype, write_image
from napari_vae_repair.image.files import write_layers as write_images
from napari_vae_repair.plugin.forecast import forecast_of
from napari_vae_repair.plugin.layer_files import snapshot_of, to_stored
from napari_vae_repair.plugin.layers import METADATA_KEY, our_facts, result_layers
from napari_vae_repair.plugin.preferences import read_preferences
from napari_vae_repair.plugin.snapshot import LayerData, Snapshot
from napari_vae_repair.plugin.storing import check_fits
from napari_vae_repair.plugin.worker import free_device_memory, import_pipeline

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration

RESTORED_EXTENSION, LAYERS_EXTENSION = ".restored.ome.tif", ".layers.ome.tif"
RESTORED_STORE_EXTENSION = ".restored.ome.zarr"
BAR_STEPS = 1000


def write_restored(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write an image's restoration and residual in one OME-TIFF, or its restoration alone as OME-Zarr.

    The restoration that the viewer holds of this very image is taken; without one, the image is restored with
    the settings from Preferences.

    Parameters
    ----------
    path : str
        Where to; ``.restored.ome.tif`` is added where it is missing, or ``.restored.ome.zarr`` to ``.zarr``.
    layers : sequence of layer data tuples
        One image and, where there is damage, one Labels layer that marks it (not zero).

    Returns
    -------
    list of str
        The file or the store; empty when it was cancelled, and then nothing is written.

    Raises
    ------
    ImageFileError
        The file cannot be written.
    InputError
        The image lies in a file or a lazy array, and is larger than memory.
    VaeRepairError
        Whatever keeps the image from being restored.
    """
    is_store = path.lower().rstrip("/").endswith(".zarr")
    target = with_extension(path.rstrip("/"), RESTORED_STORE_EXTENSION if is_store else RESTORED_EXTENSION)
    data, meta, _ = next(layer for layer in layers if layer[2] == "image")
    marked = next((layer for layer in layers if layer[2] == "labels"), None)
    try:
        with _progress(f"Restoring {meta.get('name', 'image')}") as (show, should_stop):
            source = snapshot_of(data, meta)
            check_fits(source, read_preferences(), "Saving a restoration")
            pixels = source.pixels(should_stop)
            source = replace(source, data=pixels, mask=None if marked is None else _mask(marked, source))
            results = _existing(source) if marked is None else None
            if results is None:
                results = result_layers(_restore(source, show, should_stop), source)
            stored = _as_written(results, pixels.dtype)
            if is_store:
                restored = stored[0]
                sizes = restored.pixel_size_um
                facts = _facts(results)
                return [str(write_image(target, restored.pixels, restored.axes, pixel_size_um=sizes, provenance=facts))]
            return [str(write_images(target, stored, _facts(results)))]
    except Cancelled:
        return []


def write_layers(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write image and Labels layers with scale, units, look and provenance in one OME-TIFF, values unchanged.

    Parameters
    ----------
    path : str
        Where to; ``.layers.ome.tif`` is added where it is missing.
    layers : sequence of layer data tuples

    Returns
    -------
    list of str
        The file; empty when it was cancelled, and then nothing is written.

    Raises
    ------
    ImageFileError
        The file cannot be written.
    """
    target = with_extension(path, LAYERS_EXTENSION)
    try:
        with _progress("Saving layers") as (show, should_stop):
            stored = []
            for number, (data, meta, kind) in enumerate(layers):
                show(number / len(layers), f"Saving {meta.get('name', 'image')}")
                stored.append(to_stored(data, meta, kind, should_stop))
            return [str(write_images(target, stored, {"layers": [image.name for image in stored]}))]
    except Cancelled:
        return []


def with_extension(path: str, extension: str) -> Path:
    """`path` with `extension`, in place of a plain ending; a save dialog may leave either in the name."""
    target = Path(path)
    if target.name.lower().endswith(extension):
        return target
    stem = target.name
    for plain in (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".ome.zarr", ".zarr"):
        if stem.lower().endswith(plain):
            stem = stem[: -len(plain)]
            break
    return target.with_name(stem + extension)


def _restore(source: Snapshot, show: Callable[[float, str], None], should_stop: Callable[[], bool]) -> Restoration:
    settings = read_preferences()
    restore_steps, _ = import_pipeline()
    forecast = forecast_of(settings)
    steps = restore_steps(source.read(should_stop), settings, should_stop=should_stop)
    try:
        while True:
            update = forecast.update(next(steps))
            show(update.fraction, update.text)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        free_device_memory()


def _mask(marked: LayerData, source: Snapshot) -> Any:
    labels = np.asarray(marked[0][0] if marked[1].get("multiscale") else marked[0])
    shape = source.data.shape[: len(source.index)]
    if labels.shape != shape:
        raise InputError(
            f"The Labels layer {marked[1].get('name')!r} has shape {labels.shape}.",
            f"To mark damage in {source.name!r} it must have its shape, {shape}.",
            "Save the image alone, or make a Labels layer of its shape.",
        )
    return labels != 0


def _existing(source: Snapshot) -> list[LayerData] | None:
    """The restored and residual layers that the viewer holds of exactly these pixels."""
    viewer = _viewer()
    fingerprint = source.fingerprint()
    found: dict[str, LayerData] = {}
    for layer in [] if viewer is None else viewer.layers:
        facts = our_facts(layer)
        if facts and (facts["source"], facts.get("source_crc32")) == (source.name, fingerprint):
            data, meta, kind = layer.as_layer_data_tuple()
            found[facts["role"]] = (
                (data[0], meta | {"multiscale": False}, kind) if meta.get("multiscale") else (data, meta, kind)
            )
    return [found["restored"], found["residual"]] if {"restored", "residual"} <= set(found) else None


def _as_written(results: Sequence[LayerData], dtype: np.dtype[Any]) -> list[StoredImage]:
    """Restored and residual for the file; restored in the source's own dtype where it has the source's units."""
    stored = []
    by_role = {meta["metadata"][METADATA_KEY]["role"]: (data, meta, kind) for data, meta, kind in results}
    for role in ("restored", "residual"):
        data, meta, kind = by_role[role]
        if role == "restored" and meta["metadata"][METADATA_KEY]["in_source_units"]:
            data = to_dtype(np.asarray(data), dtype)
        stored.append(to_stored(data, meta | {"visible": True}, kind))
    return stored


def _facts(results: Sequence[LayerData]) -> dict[str, Any]:
    facts = results[-1][1]["metadata"][METADATA_KEY]
    return {key: value for key, value in facts.items() if key not in ("role", "layer_name")}


# ---- progress in the Qt thread ----------------------------------------------------------------


def _viewer() -> Any:
    if "napari" not in sys.modules:
        return None
    from napari import current_viewer

    return current_viewer()


@contextmanager
def _progress(description: str) -> Iterator[tuple[Callable[[float, str], None], Callable[[], bool]]]:
    """How to show a fraction, and how to ask whether to stop; both let Qt handle its events.

    Without a viewer, or in another thread than Qt's, nothing is shown and nothing stops.
    """
    viewer = _viewer()
    if viewer is None or threading.current_thread() is not threading.main_thread():
        yield (lambda fraction, text: None), (lambda: False)
        return
    from napari.utils import cancelable_progress
    from qtpy.QtWidgets import QApplication

    bar = cancelable_progress(total=BAR_STEPS, desc=description)
    closed = False

    def should_stop() -> bool:
        nonlocal closed
        QApplication.processEvents()
        closed = closed or _viewer() is None
        return closed or bool(bar.is_canceled)

    def show(fraction: float, text: str) -> None:
        if not should_stop():
            bar.set_description(text)
            bar.update(max(round(fraction * BAR_STEPS) - bar.n, 0))

    try:
        yield show, should_stop
    finally:
        if not closed:
            bar.close()
