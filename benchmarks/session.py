"""A session in a real viewer: how long Cancel takes, and whether ten runs leave memory flat.

    xvfb-run -a -s "-screen 0 1600x1200x24" python benchmarks/session.py      (or without xvfb-run, on a screen)

Drives the widget's own buttons on the sample photo (512 x 512, default network). Writes benchmarks/results/session.md.
"""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import napari
import numpy as np
import psutil
from qtpy.QtWidgets import QApplication

from napari_vae_repair.plugin.sample_data import noisy_photo
from napari_vae_repair.plugin.widget import VaeRepairWidget
from napari_vae_repair.settings import make_settings

RESULTS = Path(__file__).parent / "results"
RUNS, CANCELS = 10, 10


def wait(until: Callable[[], bool]) -> float:
    """Process the viewer's events until something is so; the seconds that took."""
    started = time.perf_counter()
    while not until():
        QApplication.processEvents()
        time.sleep(0.005)
    return time.perf_counter() - started


def memory_mb() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 1e6


def cancel_while_training(widget: VaeRepairWidget, after_fraction: float) -> float:
    """Seconds from pressing Cancel until the widget can restore again."""
    widget.restore_button.native.click()
    wait(lambda: widget.status.value.startswith("Training"))
    wait(lambda: widget.progress.value >= 1000 * after_fraction)
    widget.cancel_button.native.click()
    return wait(lambda: not widget.running)


def main() -> None:
    viewer = napari.Viewer(show=True)
    data, meta, _ = noisy_photo()[1]
    layer = viewer.add_image(data, **meta)
    before = np.array(layer.data)
    widget = VaeRepairWidget(viewer)
    viewer.window.add_dock_widget(widget, name="VAE Repair")
    settings = make_settings(epochs=1, samples=2, training={"patches_per_epoch": 32})
    widget.show_settings(settings)

    memory = []
    for _ in range(RUNS):
        widget.restore_button.native.click()
        wait(lambda: not widget.running)
        memory.append(memory_mb())
    names = [layer.name for layer in viewer.layers]
    widget.show_settings(make_settings(epochs=50))
    seconds = [cancel_while_training(widget, 0.03 + 0.003 * index) for index in range(CANCELS)]
    unchanged = [layer.name for layer in viewer.layers] == names and np.array_equal(layer.data, before)
    viewer.close()

    lines = [
        "# A session in a real viewer",
        "",
        f"`python benchmarks/session.py`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, 2 threads, "
        f"napari {version('napari')}, torch {version('torch')}; 512 x 512 pixels, default network.",
        "",
        "| measure | value |",
        "|---|---|",
        f"| Cancel pressed while training until the widget is free, median of {CANCELS} | {np.median(seconds):.2f} s |",
        f"| the longest | {max(seconds):.2f} s |",
        f"| layers and pixels afterwards as before | {'yes' if unchanged else 'NO'} |",
        f"| resident memory after each of {RUNS} runs, MB | {', '.join(f'{value:.0f}' for value in memory)} |",
        f"| layers after them | {', '.join(names)} |",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "session.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
