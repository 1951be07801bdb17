"""The reader hook: opens an image and restores it with the settings from Preferences."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

EXTENSIONS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
STORES = (".zarr",)  # folders
LAZY_FROM_BYTES = 256 * 2**20  # larger images stay in their file until they are shown
PLUGIN_NAME, WIDGET_NAME = "napari-vae-repair", "VAE Repair"
TRIES, MILLISECONDS_BETWEEN = 100, 20

LayerData = tuple[Any, dict[str, Any], str]
PathOrPaths = str | Path | Sequence[str | Path]


def get_reader(path: PathOrPaths) -> Callable[[PathOrPaths], list[LayerData]] | None:
    """The function that reads `path`, or None where its name is not that of an image; never raises, opens nothing.

    Of folders only those are taken whose name ends in .zarr.
    """
    paths = _listed(path)
    return read_and_restore if paths and all(_is_image_name(one) for one in paths) else None


def read_and_restore(path: PathOrPaths) -> list[LayerData]:
    """Layers of an image file; with a viewer the restoration follows in a worker, without one it is done here.

    Returns
    -------
    list of layer data tuples
        In a viewer the image alone, at once; without one the image, ``NAME restored`` and ``NAME residual``.
        Files that this plugin wrote open as the layers they hold, and nothing is restored. An image of more than
        256 MB stays in its file: its layer is lazy, of all levels of its pyramid, and its restoration is not started.
        Layers that this plugin saved are read whole, however large they are.

    Raises
    ------
    ImageFileError
        A file cannot be read.
    InputError
        Several files were to be stacked and do not have one shape.
    VaeRepairError
        Without a viewer: whatever keeps the image from being restored.
    """
    from napari_vae_repair.image.files import is_restored_file
    from napari_vae_repair.plugin.layer_files import image_layer

    paths = _listed(path)
    is_ours = len(paths) == 1 and is_restored_file(paths[0])
    viewer = _viewer()
    large = _large(paths[0]) if len(paths) == 1 and not (is_ours and _holds_layers(paths[0])) else None
    if large is not None:
        if viewer is not None and not is_ours:
            _dock_widget(viewer)
        return [large]
    if is_ours:
        return _written_by_us(paths[0])
    layer = image_layer(_read(paths))
    if viewer is None:
        return _restored_here(layer)
    _restore_when_inserted(viewer, layer[0])
    return [layer]


def _is_image_name(path: Any) -> bool:
    if not isinstance(path, str | Path):
        return False
    name = str(path).lower()
    if name.rstrip("/\\").endswith(STORES):
        return True
    return name.endswith(EXTENSIONS) and not Path(path).is_dir()


def _large(path: Any) -> LayerData | None:
    """The lazy layer of an image that is too large to be read at once; None for others."""
    import numpy as np

    from napari_vae_repair.image.opened import open_image
    from napari_vae_repair.plugin.layer_files import lazy_layer

    if not _is_large_file(path):
        return None
    opened = open_image(path)
    if isinstance(opened.array, np.ndarray) or opened.array.nbytes <= LAZY_FROM_BYTES:
        opened.close()
        return None
    return lazy_layer(opened)


def _is_large_file(path: Any) -> bool:
    """Whether it is worth looking how large the image is: not for a file of less than a hundredth of the limit."""
    return Path(path).is_dir() or (Path(path).is_file() and Path(path).stat().st_size * 100 > LAZY_FROM_BYTES)


def _holds_layers(path: Any) -> bool:
    """Whether a file of ours was saved from layers, of which an image alone would lose some; not by the shell."""
    from napari_vae_repair.image.atomic import is_store
    from napari_vae_repair.image.tiff import decoding
    from napari_vae_repair.image.tiff_notes import first_record

    if is_store(path):
        return False
    with decoding(Path(path)):
        return "layer" in (first_record(Path(path)) or {}).get("meta", {})


def _listed(path: PathOrPaths) -> list[Any]:
    return list(path) if isinstance(path, list | tuple) else [path]


def _written_by_us(path: Any) -> list[LayerData]:
    """The layers of an OME-TIFF by `write_layers`, or the one image of a TIFF by the shell's command."""
    from napari_vae_repair.errors import ImageFileError
    from napari_vae_repair.image.files import read_image, read_layers
    from napari_vae_repair.plugin.layer_files import from_stored, image_layer

    try:
        return [from_stored(stored) for stored in read_layers(path)]
    except ImageFileError:  # a plain TIFF holds no layers; a damaged file fails again
        return [image_layer(read_image(path))]


def _read(paths: list[Any]) -> Any:
    """One image, or several of one shape as a stack along T."""
    import numpy as np

    from napari_vae_repair.errors import InputError
    from napari_vae_repair.image.files import read_image
    from napari_vae_repair.image.record import Image

    images = [read_image(path) for path in paths]
    first = images[0]
    if len(images) == 1:
        return first
    shapes = {(image.pixels.shape, image.axes) for image in images}
    if len(shapes) > 1 or "T" in first.axes:
        raise InputError(
            f"The files to be stacked hold {', '.join(f'{axes} {shape}' for shape, axes in sorted(shapes))}.",
            "A stack needs images of one shape, without a time axis of their own.",
            "Open them one by one.",
        )
    pixels = np.stack([image.pixels for image in images])
    return Image(pixels, "T" + first.axes, name=first.name, pixel_size_um=first.pixel_size_um)


def _viewer() -> Any:
    """The viewer that is open, without importing napari where it is not running."""
    if "napari" not in sys.modules:
        return None
    from napari import current_viewer

    return current_viewer()


def _restored_here(layer: LayerData) -> list[LayerData]:
    from napari_vae_repair.plugin.layer_files import snapshot_of
    from napari_vae_repair.plugin.layers import METADATA_KEY, result_layers
    from napari_vae_repair.plugin.preferences import read_preferences
    from napari_vae_repair.plugin.worker import import_pipeline
    from napari_vae_repair.running import finished

    source = snapshot_of(layer[0], layer[1])
    restore_steps, _ = import_pipeline()
    steps = restore_steps(source.read(), read_preferences())
    results = {data[1]["metadata"][METADATA_KEY]["role"]: data for data in result_layers(finished(steps), source)}
    return [layer, results["restored"], results["residual"]]


def _dock_widget(viewer: Any) -> None:
    """Show the widget once napari has inserted the layer, and start nothing."""
    from qtpy.QtCore import QTimer

    QTimer.singleShot(0, lambda: viewer.window.add_plugin_dock_widget(PLUGIN_NAME, WIDGET_NAME))


def _restore_when_inserted(viewer: Any, pixels: Any, tries: int = TRIES) -> None:
    """Dock the widget and start it on the layer that holds `pixels`, once napari has inserted that layer.

    napari inserts it after this reader has returned, and handles events in between; when it never does
    (the reader was called by other code than the viewer's), nothing happens.
    """
    from qtpy.QtCore import QTimer

    def look(left: int) -> None:
        layer = next((layer for layer in viewer.layers if getattr(layer, "data", None) is pixels), None)
        if layer is not None:
            _, widget = viewer.window.add_plugin_dock_widget(PLUGIN_NAME, WIDGET_NAME)
            widget.start_later(layer)
        elif left > 0:
            QTimer.singleShot(MILLISECONDS_BETWEEN, lambda: look(left - 1))

    QTimer.singleShot(0, lambda: look(tries))
