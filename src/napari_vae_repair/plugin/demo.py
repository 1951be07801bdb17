"""The end of `vae-repair demo`: an example image, and the layers of its restoration in a viewer."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_vae_repair.errors import VaeRepairError
from napari_vae_repair.image.record import Image

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration

EXAMPLE_SIGMA = 25.0  # of 255 grey values, the strength at which denoisers are usually compared
EXAMPLE_SEED = 0
_EVENT_ROUNDS = 20  # until the canvas has been drawn; fewer leave it black


class ViewerError(VaeRepairError):
    """There is no napari, no Qt or no screen to show layers with."""


def check_viewer() -> None:
    """Raise `ViewerError` unless napari, Qt and a screen are there; without a screen Qt would abort the process."""
    if find_spec("napari") is None or not any(find_spec(name) for name in ("PyQt6", "PySide6", "PyQt5", "PySide2")):
        raise ViewerError(
            "napari or its Qt is not installed.",
            "The demo shows its result in napari.",
            'Run: pip install "napari-vae-repair[all]"; `vae-repair restore` works without.',
        )
    has_screen = os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}
    if sys.platform == "linux" and not has_screen:
        raise ViewerError(
            "There is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set).",
            "napari needs one, which may be virtual.",
            "Run: xvfb-run -a vae-repair demo --screenshot",
        )


def example_image() -> Image:
    """The photo "camera" of scikit-image with seeded Gaussian noise, (512, 512) float32."""
    from skimage.data import camera

    clean = np.asarray(camera(), dtype=np.float32)
    noise = np.random.default_rng(EXAMPLE_SEED).normal(0, EXAMPLE_SIGMA, clean.shape)
    return Image((clean + noise).astype(np.float32), "YX", name="noisy camera")


def show(image: Image, restoration: Restoration, screenshot: Path | None = None) -> None:
    """Open napari with the image and its results; return when the viewer is closed.

    Parameters
    ----------
    image : Image
    restoration : Restoration
    screenshot : Path or None
        Write the window to this PNG file and close it instead of waiting for the user.
    """
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_vae_repair.plugin.layers import add_results, result_layers, take_snapshot

    viewer = napari.Viewer(title="VAE Repair", show=True)
    scale = [image.pixel_size_um.get(axis, 1.0) for axis in image.axes if axis != "S"]
    labels = [axis.lower() for axis in image.axes if axis != "S"]
    layer = viewer.add_image(image.pixels, name=image.name, rgb=image.is_colour, scale=scale, axis_labels=labels)
    add_results(viewer, result_layers(restoration, take_snapshot(layer)))
    if screenshot is None:
        napari.run()
        return
    viewer.reset_view()
    for _ in range(_EVENT_ROUNDS):
        QApplication.processEvents()
    viewer.screenshot(str(screenshot), canvas_only=False, flash=False)
    print(screenshot, flush=True)
    viewer.close()
