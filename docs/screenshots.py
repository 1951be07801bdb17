"""Make the README's pictures: the widget before, during and after a restoration, in dark and light theme.

Run ``xvfb-run -a -s "-screen 0 1600x1200x24" python docs/screenshots.py`` (or without ``xvfb-run`` on a screen).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.settings import get_settings
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_vae_repair.plugin.sample_data import noisy_photo
from napari_vae_repair.plugin.widget import VaeRepairWidget

IMAGES = Path(__file__).parent / "images"
COLOURS = 128  # of the palette that keeps the files small
SECONDS_BETWEEN = 0.02


def main() -> None:
    """Write ``docs/images/{before,during,after}-{dark,light}.png``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1280x800", help="of the window, in pixels")
    parser.add_argument("--adapt", type=int, default=15, help="seconds")
    parser.add_argument("--to", type=Path, default=IMAGES)
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    for theme in ("dark", "light"):
        take(theme, tuple(int(side) for side in options.size.split("x")), options.adapt, options.to)


def take(theme: str, size: tuple[int, ...], adapt: int, folder: Path) -> None:
    """Three pictures in one theme."""
    get_settings().appearance.theme = theme
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*size)
    data, meta, _ = noisy_photo()[1]
    viewer.add_image(data[100:356, 130:386], **meta)
    widget = VaeRepairWidget(viewer)
    viewer.window.add_dock_widget(widget, name="VAE Repair")
    widget.adapt.value, widget.samples.value = adapt, 8
    widget.controls.edit_chain.value = True
    settle()
    viewer.reset_view()
    save(viewer, folder / f"before-{theme}.png")
    widget.controls.edit_chain.value = False
    outcomes: list[Any] = []
    widget.finished.connect(outcomes.append)
    widget.start()
    wait(lambda: widget.progress.value > 400 or bool(outcomes))
    save(viewer, folder / f"during-{theme}.png")
    wait(lambda: bool(outcomes))
    settle()
    save(viewer, folder / f"after-{theme}.png")
    viewer.close()
    settle()


def settle(rounds: int = 40) -> None:
    """Let Qt lay out and the canvas draw; fewer rounds leave it black."""
    for _ in range(rounds):
        QApplication.processEvents()
        time.sleep(SECONDS_BETWEEN / 4)


def wait(until: Callable[[], bool]) -> None:
    """Handle events until something holds, leaving the processor to the worker in between."""
    while not until():
        QApplication.processEvents()
        time.sleep(SECONDS_BETWEEN)


def save(viewer: Any, path: Path) -> None:
    """The whole window, with a palette."""
    settle()
    pixels = np.asarray(viewer.screenshot(canvas_only=False, flash=False))[..., :3]
    Image.fromarray(pixels).quantize(COLOURS).save(path, optimize=True)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
