"""The tab "Trust": how far the last restoration can be trusted, with its plots; saved as a page for a supplement."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from html import escape
from threading import Event
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QPalette, QShowEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_vae_repair.plugin.focus_order import set_reading_order
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.tab_parts import file_to_save, in_files

if TYPE_CHECKING:
    from napari_vae_repair.plugin.desk import Desk, Placed
    from napari_vae_repair.trust import Finding, Trust

EMPTY = "Restore a layer first: this tab then says how far the result can be trusted, and why."
WAITING = "Not judged yet. Press Judge when the present work is over."
STORED = in_files("Judging it")
PLOT_HEIGHT_PX, MARGIN_PX = 250, 6


class TrustTab(QWidget):
    """Judges the restoration that lies in the viewer as soon as the tab is looked at.

    Parameters
    ----------
    desk : Desk
        What the widget lends.

    Attributes
    ----------
    trust : Trust or None
        Of the last restoration; None until it is judged.
    """

    title = "Trust"

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.trust: Trust | None = None
        self._desk = desk
        self._judged: Placed | None = None  # what `trust` is of
        self._drawn_in = ""
        self._build()
        # a moment later: once the run that placed a result is over, once a theme is in force
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._catch_up)
        self._to_come: Iterator[QWidget] = iter(())
        self._next = QTimer(self)
        self._next.setSingleShot(True)
        self._next.timeout.connect(self._show_next)
        desk.placed_changed.connect(self._placed_changed)
        self._show_state()

    def _build(self) -> None:
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self._inside = QWidget()
        self._list = QVBoxLayout(self._inside)
        self._list.setContentsMargins(0, 0, MARGIN_PX, 0)
        self.list_area = QScrollArea()
        self.list_area.setWidget(self._inside)
        self.list_area.setWidgetResizable(True)
        self.list_area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list_area.setToolTip("What was measured, what it says and what to do. API: result.trust().findings.")
        self.judge_button = QPushButton("Judge")
        self.judge_button.setToolTip("Measure how far the result can be trusted. API: result.trust().")
        self.judge_button.clicked.connect(self.judge)
        self.save_button = QPushButton("Save report…")
        self.save_button.setToolTip(
            "Write a page with all findings, figures and settings, to open or print in a browser. "
            "API: napari_vae_repair.trust_page.write_trust_page(result, path); vae-repair restore --report P.html."
        )
        self.save_button.clicked.connect(self._save_pressed)
        buttons = QHBoxLayout()
        buttons.addWidget(self.judge_button)
        buttons.addWidget(self.save_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(MARGIN_PX, MARGIN_PX, MARGIN_PX, MARGIN_PX)
        layout.addWidget(self.summary)
        layout.addWidget(self.list_area, 1)
        layout.addLayout(buttons)

    # ---- judging -----------------------------------------------------------------------------

    def judge(self) -> bool:
        """Judge the restoration in the viewer, in a thread; False when there is none or other work is under way."""
        placed = self._desk.placed
        restoration = None if placed is None else placed.restoration
        if placed is None or restoration is None:
            self._desk.tell(EMPTY if placed is None else STORED)
            return False

        def steps(stop: Event) -> Generator[Update, None, Trust]:
            yield Update(0.0, "Judging the result")
            return restoration.trust(stop.is_set)

        return self._desk.work(steps, lambda trust: self._take(placed, trust), "judging")

    def _take(self, placed: Placed, trust: Trust) -> None:
        if _alive(self) and placed is self._desk.placed:
            self.trust, self._judged = trust, placed
            self._show_state()

    def _placed_changed(self, placed: Placed | None) -> None:
        if _alive(self):
            self.trust, self._judged = None, None
            self._show_state()
            self._soon.start(0)

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """Judge what came while the tab was hidden."""
        super().showEvent(event)
        self._soon.start(0)

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Draw in the colours of the new theme."""
        super().changeEvent(event)
        if event is not None and event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._soon.start(0)

    def _catch_up(self) -> None:
        if self.trust is not None and self._ink() != self._drawn_in:
            self._show_state()
        elif self.isVisible() and self.trust is None and self._judgeable and not self._desk.running:
            self.judge()

    @property
    def _judgeable(self) -> bool:
        return self._desk.placed is not None and self._desk.placed.restoration is not None

    def _ink(self) -> str:
        return self.palette().color(QPalette.ColorRole.WindowText).name()

    # ---- showing -----------------------------------------------------------------------------

    def _show_state(self) -> None:
        self._next.stop()
        while (item := self._list.takeAt(0)) is not None:
            old = item.widget()
            if old is not None:
                old.setParent(None)  # gone at once; deleted when the event loop is free
                old.deleteLater()
        placed = self._desk.placed
        self.judge_button.setEnabled(self._judgeable and self.trust is None)
        self.save_button.setEnabled(self.trust is not None)
        if self.trust is None or placed is None:
            self.summary.setText(EMPTY if placed is None else WAITING if self._judgeable else STORED)
            return
        self.summary.setText(f"{placed.source.name}: {self.trust.summary()}")
        self._drawn_in, self._to_come = self._ink(), self._parts(self.trust)
        self._show_next()

    def _show_next(self) -> None:
        """One part after the other, so that the viewer can handle its events in between."""
        part = next(self._to_come, None)
        if part is None:
            self._list.addStretch(1)
            before = self.judge_button.previousInFocusChain()
            set_reading_order(self, after=before)  # Tab came to the new findings last
        else:
            self._list.addWidget(part)
            self._next.start(0)

    def _parts(self, trust: Trust) -> Iterator[QWidget]:
        """The findings, and a canvas for each plot of each channel."""
        for finding in trust.findings:
            yield _described(finding)
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        from napari_vae_repair.trust_figures import draw_correlation, draw_scatter, draw_structure

        for plots in trust.plots:
            for draw in (draw_scatter, draw_correlation, draw_structure):
                figure = Figure(layout="constrained")
                figure.patch.set_alpha(0)
                draw(figure.subplots(subplot_kw={"facecolor": "none"}), plots, self._drawn_in)
                canvas = FigureCanvasQTAgg(figure)  # type: ignore[no-untyped-call]
                canvas.setStyleSheet("background-color: transparent;")
                canvas.setFixedHeight(PLOT_HEIGHT_PX)
                # the wheel scrolls the list
                canvas.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
                canvas.setFocusPolicy(Qt.FocusPolicy.NoFocus)
                yield canvas

    # ---- saving ------------------------------------------------------------------------------

    def save(self, path: str) -> None:
        """Write the page, in a thread; what went wrong is told."""
        placed, trust = self._judged, self.trust
        if placed is None or placed.restoration is None or trust is None:
            self._desk.tell(self.summary.text())
            return
        restoration, name = placed.restoration, placed.source.name

        def steps(stop: Event) -> Generator[Update, None, str]:
            from napari_vae_repair.trust_page import write_trust_page

            yield Update(0.0, "Drawing the report")
            write_trust_page(restoration, path, source=name, trust=trust)
            return path

        self._desk.work(steps, lambda written: self._desk.tell(f"The report was written to {written}"), "saving")

    def _save_pressed(self) -> None:
        if path := file_to_save(self, "Save report", "trust-report.html", "Web pages (*.html *.htm)"):
            self.save(path)


def _alive(widget: QWidget) -> bool:
    return bool(isalive(widget))  # type: ignore[no-untyped-call]


def _described(finding: Finding) -> QLabel:
    """Grade as sign and word, number, reason, meaning and advice; it can be selected and copied by keyboard too."""
    from napari_vae_repair.trust import SIGNS

    lines = [
        f"<b>{SIGNS[finding.grade]} {escape(finding.grade)}: {escape(finding.name)}</b>",
        f"{escape(finding.text)} ({escape(finding.reason)})",
        f"<i>{escape(finding.meaning)}</i>",
    ]
    if finding.grade != "good":
        lines.append(f"→ {escape(finding.advice)}")
    label = QLabel("<br>".join(lines))
    label.setTextFormat(Qt.TextFormat.RichText)
    label.setWordWrap(True)
    label.setTextInteractionFlags(
        Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
    )
    label.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    label.setToolTip(f"{finding.advice} API: result.trust().findings.")
    return label
