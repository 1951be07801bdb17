"""How long the viewer's events wait while a layer of 2048 x 2048 pixels is restored, and how soon a preview is there.

    xvfb-run -a -s "-screen 0 1600x1200x24" python -m benchmarks.latency [--side 2048] [--adapt 40]

A timer of 10 ms ticks in the viewer's event loop: what a tick comes late, a click would have waited. The same is
measured before in the idle viewer, which redraws its canvas ten times a second in both. Writes
benchmarks/results/latency.md and .csv.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from skimage.data import camera
from skimage.transform import resize

from benchmarks import report
from napari_vae_repair.plugin.ahead import load_ahead
from napari_vae_repair.plugin.widget import VaeRepairWidget

TICK_MS, REDRAW_MS = 10, 100
IDLE_SECONDS, PREVIEWS, PREVIEW_PX = 10.0, 15, 256
COLUMNS = ("what", "ticks", "median", "99th percentile", "maximum", "over 100 ms")
PACKAGES = ("napari", "torch", "PyQt6")


class Waits:
    """Milliseconds that each tick comes late, while the canvas redraws regularly."""

    def __init__(self, viewer: Any) -> None:
        self.late: list[float] = []
        self._viewer, self._last = viewer, 0.0
        self._tick, self._redraw = QTimer(), QTimer()
        self._tick.setInterval(TICK_MS)
        self._redraw.setInterval(REDRAW_MS)
        self._tick.timeout.connect(self._ticked)
        self._redraw.timeout.connect(self._move)

    def during(self, until: Callable[[], bool], *, redrawing: bool = True) -> list[float]:
        self.late, self._last = [], time.perf_counter()
        self._tick.start()
        if redrawing:
            self._redraw.start()
        while not until():
            QApplication.processEvents()
            time.sleep(0.001)
        self._tick.stop()
        self._redraw.stop()
        return self.late

    def _ticked(self) -> None:
        now = time.perf_counter()
        self.late.append(max(0.0, 1000 * (now - self._last) - TICK_MS))
        self._last = now

    def _move(self) -> None:
        camera = self._viewer.scene.camera
        camera.zoom = camera.zoom * (1.001 if camera.zoom < 1 else 0.999)


def row(what: str, late: list[float]) -> dict[str, Any]:
    """Of milliseconds."""
    values = np.array(late)
    return {
        "what": what,
        "ticks": len(values),
        "median": f"{np.median(values):.0f}",
        "99th percentile": f"{np.percentile(values, 99):.0f}",
        "maximum": f"{values.max():.0f}",
        "over 100 ms": int((values > 100).sum()),
    }


def noisy(side: int) -> np.ndarray:
    """The photo "camera" magnified, with noise of 25 of 255 grey values."""
    clean = resize(camera(), (side, side), order=1, preserve_range=True)
    return (clean + np.random.default_rng(0).normal(0, 25, clean.shape)).astype(np.float32)


def previews(viewer: Any, widget: VaeRepairWidget) -> tuple[list[float], list[float]]:
    """Seconds from a changed setting to the changed layer, at 256 x 256 pixels; the waits during the very first."""
    marks = viewer.add_shapes(
        [[[100, 100], [100, 99 + PREVIEW_PX], [99 + PREVIEW_PX, 99 + PREVIEW_PX], [99 + PREVIEW_PX, 100]]],
        shape_type="rectangle",
    )
    widget.view.where.setCurrentIndex(1)
    viewer.layers.selection.active = widget.layer.value
    widget.view.live.setChecked(True)
    there: list[float] = []

    def waiting_for(count: int) -> Callable[[], bool]:
        return lambda: len(there) >= count

    widget.view.preview.placed.connect(lambda _: there.append(time.perf_counter()))
    waits, seconds = Waits(viewer), []
    loading = waits.during(waiting_for(1))
    for count in range(2, PREVIEWS + 2):
        began = time.perf_counter()
        widget.seed.value = count
        waits.during(waiting_for(count), redrawing=False)
        seconds.append(there[-1] - began)
    widget.view.live.setChecked(False)
    marks.visible = False  # removed, it would end the process under Mesa's software renderer (napari 0.9.2)
    return seconds, loading


def redraw(viewer: Any) -> float:
    """Median seconds in which the idle viewer takes new pixels of the preview's size and draws them."""
    layer = viewer.add_image(np.zeros((PREVIEW_PX, PREVIEW_PX), np.float32), contrast_limits=(0, 1))
    seconds = []
    for value in range(PREVIEWS):
        began = time.perf_counter()
        layer.data = np.full((PREVIEW_PX, PREVIEW_PX), value / PREVIEWS, np.float32)
        QApplication.processEvents()
        seconds.append(time.perf_counter() - began)
    viewer.layers.remove(layer)
    return float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2048, help="pixels")
    parser.add_argument("--adapt", type=int, default=40, help="seconds")
    options = parser.parse_args()
    viewer = napari.Viewer(show=True)
    viewer.add_image(noisy(options.side), name="photo")
    widget = VaeRepairWidget(viewer)
    viewer.window.add_dock_widget(widget, name="VAE Repair")
    waits, loading = Waits(viewer), load_ahead()  # which the dock has begun
    loaded = waits.during(lambda: not loading.is_alive())
    drawn = redraw(viewer)
    seconds, first = previews(viewer, widget)
    ends = time.perf_counter() + IDLE_SECONDS
    rows = [row("idle viewer", waits.during(lambda: time.perf_counter() > ends))]
    rows.append(row("after docking, while PyTorch is loaded ahead", loaded))
    rows.append(row("the first preview of a process", first))
    widget.adapt.value = options.adapt
    outcomes: list[Any] = []
    widget.finished.connect(outcomes.append)
    began = time.perf_counter()
    for count, what in enumerate(("the first run of a process", "a later run"), 1):
        widget.start()
        rows.append(row(what, waits.during(lambda count=count: len(outcomes) >= count)))
    ran = (time.perf_counter() - began) / 2
    viewer.close()
    lines = [
        "# Does the viewer stay responsive?",
        "",
        report.provenance("python -m benchmarks.latency", PACKAGES, 2),
        "",
        f"{options.side} x {options.side} pixels, adapted for {options.adapt} s; a run took {ran:.0f} s. "
        f"Milliseconds that a timer of {TICK_MS} ms comes late; the canvas redraws every {REDRAW_MS} ms, by software.",
        "",
        *report.markdown(rows, COLUMNS),
        "",
        f"Preview of {PREVIEW_PX} x {PREVIEW_PX} pixels, from the changed setting to the changed layer, {PREVIEWS} "
        f"times: median {np.median(seconds):.2f} s, longest {max(seconds):.2f} s. The idle viewer takes {drawn:.3f} s "
        "to draw new pixels of that size.",
    ]
    report.write("latency", lines, rows, COLUMNS)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
