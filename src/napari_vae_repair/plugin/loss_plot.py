"""`LossPlot`: loss and KL of a running training, drawn while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_vae_repair.vae.record import Losses

HEIGHT_PX = 150
SECONDS_BETWEEN = 0.7  # a drawing keeps Qt's thread busy for some 30 ms
MOST_POINTS = 400
DASHES = ("--", "-.", ":", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))


class LossPlot(QWidget):
    """Hidden until the first losses come; two panels, for the loss and for the KL divergence of each level."""

    def __init__(self) -> None:
        super().__init__()
        QVBoxLayout(self).setContentsMargins(0, 0, 0, 0)
        self.setFixedHeight(HEIGHT_PX)
        self.setToolTip(
            "Loss and KL divergence of each level (nats per pixel), finest first; while adapting the error of one pass "
            "is in the loss. API: on_step of restore."
        )
        self.hide()
        self._canvas: Any = None
        self._soon = QTimer(self)  # once a theme is in force
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.draw)
        self._clear()

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Draw in the colours of the new theme."""
        super().changeEvent(event)
        drawn = getattr(self, "_lines", None)  # Qt styles a widget while it is made, too
        if drawn and event is not None and event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._soon.start(0)

    def begin(self) -> None:
        """Forget what was drawn as soon as there is something new."""
        self._stale = True

    def _clear(self) -> None:
        self._stale = False
        self._steps: list[int] = []
        self._loss: list[float] = []
        self._kl: list[tuple[float, ...]] = []
        self._lines: list[Any] = []
        self._count, self._every, self._drawn_at, self._verdict = 0, 1, 0.0, ""

    def add(self, losses: Sequence[Losses]) -> None:
        """Take more training steps; drawn now and then."""
        if losses and self._stale:
            self._clear()
        for step in losses:
            self._count += 1
            if self._count % self._every == 0:
                self._steps.append(self._count)
                self._loss.append(step.loss)
                self._kl.append(step.kl)
        if len(self._steps) > MOST_POINTS:
            self._every *= 2
            self._steps, self._loss, self._kl = self._steps[1::2], self._loss[1::2], self._kl[1::2]
        if self._canvas is None and losses:
            self._make_canvas()  # drawn with the next ones: both at once would hold up the viewer
        elif len(self._steps) > 1 and losses and time.monotonic() - self._drawn_at > SECONDS_BETWEEN:
            self.show()
            self.draw()

    def end(self, verdict: str) -> None:
        """Draw what there is, with a few words on what came of it; what an earlier run drew goes."""
        if self._stale:
            self.hide()
        elif len(self._steps) > 1:
            self._verdict = verdict
            self.show()
            self.draw()

    def draw(self) -> None:
        """Draw all that was taken."""
        if self._canvas is None:
            self._make_canvas()
        levels = len(self._kl[0])
        if len(self._lines) != 1 + levels:
            self._begin(levels)
        curves = [self._loss, *([kl[level] for kl in self._kl] for level in range(levels))]
        for line, values in zip(self._lines, curves, strict=True):
            line.set_data(self._steps, values)
        ink = self.palette().color(QPalette.ColorRole.WindowText).name()
        figure = self._canvas.figure
        figure.suptitle(self._verdict, fontsize=8, color=ink, y=0.99)
        for axes in figure.axes:
            _ink(axes, ink)
            axes.relim()
            axes.autoscale_view()
        self._canvas.draw()
        self._drawn_at = time.monotonic()

    def _make_canvas(self) -> None:
        self._canvas, layout = _canvas(), self.layout()
        assert layout is not None
        layout.addWidget(self._canvas)

    def _begin(self, levels: int) -> None:
        figure = self._canvas.figure
        figure.clear()
        self._lines = _empty_panels(figure, levels)


def warm_up() -> None:
    """Load and do once what makes the first drawing of a process take half a second; in the worker's thread."""
    import matplotlib.backends.backend_qtagg  # noqa: F401
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    _empty_panels(figure, 1)
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]


def _empty_panels(figure: Any, levels: int) -> list[Any]:
    """Panels without data, and the lines that are to have it: the loss, and the KL of each level."""
    left, right = figure.subplots(1, 2)
    lines: list[Any] = left.plot([], [], linewidth=1)
    for level, dash in zip(range(levels), DASHES * 2, strict=False):
        lines += right.plot([], [], linestyle=dash, linewidth=1, label=f"KL {level}")
    left.set_title("loss, by step", fontsize=8)
    legend = {"loc": "lower right", "bbox_to_anchor": (1.02, 0.97), "ncols": levels, "borderpad": 0.1}
    right.legend(fontsize=6, frameon=False, handlelength=1.6, columnspacing=0.6, handletextpad=0.3, **legend)
    for axes in (left, right):
        axes.locator_params(nbins=4)
        axes.set_facecolor("none")
    # a layout engine would take longer than the drawing
    figure.subplots_adjust(left=0.11, right=0.98, bottom=0.14, top=0.78, wspace=0.25)
    return lines


def _canvas() -> Any:
    from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
    from matplotlib.figure import Figure

    figure = Figure()
    figure.patch.set_alpha(0)
    canvas = FigureCanvasQTAgg(figure)  # type: ignore[no-untyped-call]
    canvas.setStyleSheet("background-color: transparent;")
    return canvas


def _ink(axes: Any, ink: str) -> None:
    """Everything in the colour of the theme's text; lines differ by their dashes."""
    axes.tick_params(labelsize=6, colors=ink)
    axes.title.set_color(ink)
    for drawn in (*axes.lines, *axes.spines.values()):
        drawn.set_color(ink)
    legend = axes.get_legend()
    if legend is not None:
        for drawn in (*legend.get_lines(), *legend.get_texts()):
            drawn.set_color(ink)
