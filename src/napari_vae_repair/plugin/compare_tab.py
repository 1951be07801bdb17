"""`CompareTab`: ours beside classical methods on the plane in view or a part of it, ranked in a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_vae_repair.contenders import NOTES
from napari_vae_repair.errors import InputError, VaeRepairError
from napari_vae_repair.plugin.compare_table import CompareTable
from napari_vae_repair.plugin.comparing import Compares, Question, comparison_steps, row_layer
from napari_vae_repair.plugin.layer_combo import LayerCombo
from napari_vae_repair.plugin.layers import add_results
from napari_vae_repair.plugin.method_list import MethodList
from napari_vae_repair.plugin.region import Region, shapes_rectangle, visible_region
from napari_vae_repair.plugin.snapshot import take_snapshot
from napari_vae_repair.plugin.tab_parts import file_to_save, wrapped
from napari_vae_repair.ranking import Compared, Comparison

if TYPE_CHECKING:
    from napari_vae_repair.plugin.desk import Desk

PLANE, CANVAS, NO_REFERENCE = "Plane in view", "What the canvas shows", "None"
EMPTY = "Tick methods and press Compare: each is tuned on the image and ranked without a truth."
UNJUDGED = "whether it can is judged once all methods are compared, which they are not"


class CompareTab(QWidget):
    """Compares methods on the layer that the widget shows.

    Parameters
    ----------
    desk : Desk
        What the widget lends.

    Attributes
    ----------
    comparison : Comparison or None
        The rows so far.
    """

    title = "Compare"

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._compares: Compares | None = None
        self._doubt = ""
        self._run = 0
        self._alive = True
        self.destroyed.connect(self._gone)
        self._build()
        self._connect()
        self.reset_choices()

    # ---- the parts

    def _build(self) -> None:
        self.methods = MethodList()
        self.notes = wrapped("")
        self.region, self.reference = LayerCombo(PLANE, CANVAS), LayerCombo(NO_REFERENCE)
        self.region.setToolTip(
            "API: compare(image[...]). On which part of the layer: the plane in view, what the canvas shows of it, or "
            "the rectangle in a Shapes layer (the selected one, else the last)."
        )
        self.reference.setToolTip(
            "API: compare(reference=...). The true image, of the same shape, for PSNR and SSIM; the loss needs none."
        )
        self.compare_button = self._button(
            "Compare", self.start, "API: compare(image, only=...). Run the ticked methods."
        )
        self.sentence = wrapped(EMPTY)
        self.table = CompareTable()
        self.add_button = self._button(
            "Add as layer", self.add_layer, "API: Compared.restored. Add the selected row's result as a layer."
        )
        self.table_button = self._button(
            "Save table…", self._ask_table, "API: Comparison.csv(). Comma-separated values."
        )
        self.figure_button = self._button(
            "Save figure…", self._ask_figure, "API: contact_sheet(image, comparison). All results as a PNG."
        )
        form = QFormLayout()
        form.addRow("On", self.region)
        form.addRow("Reference", self.reference)
        buttons = QHBoxLayout()
        buttons.addWidget(self.table_button)
        buttons.addWidget(self.figure_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.methods)
        layout.addWidget(self.notes)
        layout.addLayout(form)
        layout.addWidget(self.compare_button)
        layout.addWidget(self.sentence)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.add_button)
        layout.addLayout(buttons)

    def _button(self, text: str, act: Callable[[], Any], tooltip: str) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tooltip)
        button.clicked.connect(lambda: self._try(act))
        return button

    def _connect(self) -> None:
        self.methods.itemChanged.connect(self._show_notes)
        self.table.itemDoubleClicked.connect(lambda: self._try(self.add_layer))
        self.table.itemSelectionChanged.connect(self._show_buttons)
        viewer = self._desk.viewer()
        if viewer is not None:
            for event in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.reordered):
                event.connect(self.reset_choices)
            viewer.layers.events.inserted.connect(self._watch_name)
            for layer in viewer.layers:
                layer.events.name.connect(self.reset_choices)
        self._show_notes()
        self._show_buttons()

    def reset_choices(self, _: Any = None) -> None:
        """Offer the layers that there are; what was chosen stays chosen."""
        if self._alive:
            shapes = [(f"Rectangle in {name}", layer) for name, layer in self._desk.layers("shapes")]
            self.region.offer(shapes)
            self.reference.offer(self._desk.layers("image"))

    # ---- a comparison

    @property
    def comparison(self) -> Comparison | None:
        """The rows so far, the smallest loss first; None before the first."""
        rows = sorted(self.table.compared, key=lambda row: row.loss)
        return Comparison(tuple(rows), self._doubt) if rows else None

    def start(self) -> bool:
        """Compare, as the button does; False when something else is under way.

        Raises
        ------
        InputError
            No layer, no method, or a region or reference that does not fit.
        SettingsError
            When a setting of the widget is missing or wrong.
        """
        question, post, run = self._question(), _Post(), self._run + 1
        post.news.connect(self._show)

        def tell(news: Compares | Compared) -> None:
            post.news.emit(run, news)

        before, self._run = self._run, run
        started = self._desk.work(
            comparison_steps(question, tell), self._finished, f"Comparing on {question.source.name}"
        )
        if not started:
            self._run = before  # which may be what is under way
        return started

    def _question(self) -> Question:
        chosen, viewer = self._desk.chosen(), self._desk.viewer()
        if not self.methods.ticked:
            raise InputError(
                "No method is ticked.", "A comparison needs one or more.", "Tick methods in the list, then Compare."
            )
        at = tuple(viewer.dims.point)
        region: Region | None = None
        if (shapes := self.region.layer) is not None:
            region = shapes_rectangle(shapes, chosen.layer)
        elif self.region.currentText() == CANVAS:
            region = visible_region(viewer, chosen.layer)
        reference = self.reference.layer
        return Question(
            take_snapshot(chosen.layer, mask_layer=chosen.mask_layer, plane_at=at),
            None if reference is None else take_snapshot(reference, plane_at=at),
            region,
            self.methods.ticked,
            chosen.settings,
        )

    def _show(self, run: int, news: Compares | Compared) -> None:
        """In Qt's thread: what is compared, or another row."""
        if run != self._run:  # the last words of a comparison that was cancelled
            return
        if isinstance(news, Compares):
            self._compares, self._doubt = news, UNJUDGED
            self.table.begin(news.pixels)
            self.sentence.setText(f"{_what(news)}. Whether the loss can rank methods here is judged at the end.")
        else:
            self.table.add(news)
        self._show_buttons()

    def _finished(self, comparison: Comparison) -> None:
        self._doubt = comparison.doubt
        if comparison.doubt:
            self.sentence.setText(f"The loss ranks nothing here: {comparison.doubt}.")
        else:
            assert self._compares is not None  # told before the first row
            self.sentence.setText(f"{_what(self._compares)}: {comparison.rows[0].method} predicts its pixels best.")
        self._desk.tell(f"{len(comparison.rows)} methods were compared.")

    # ---- what is made of it

    def add_layer(self) -> Any:
        """Add the selected row as a layer "NAME METHOD", in the place of an earlier one of ours; gives the layer."""
        row, viewer = self.table.chosen(), self._desk.viewer()
        if row is None or self._compares is None or viewer is None:
            return None
        (layer,) = add_results(viewer, [row_layer(row, self._compares)])
        return layer

    def save_table(self, path: str | Path) -> None:
        """Write the rows as comma-separated values.

        Raises
        ------
        ImageFileError
            The file cannot be written.
        """
        from napari_vae_repair.image.atomic import replacing

        if self.comparison is not None:
            with replacing(path) as stream:
                stream.write(self.comparison.csv().encode())

    def save_figure(self, path: str | Path) -> None:
        """Write all results side by side as a PNG.

        Raises
        ------
        ImageFileError
            The file cannot be written.
        """
        from napari_vae_repair.contact_sheet import contact_sheet
        from napari_vae_repair.image.atomic import replacing

        if self.comparison is not None and self._compares is not None:
            with replacing(path) as stream:
                contact_sheet(self._compares.pixels, self.comparison).save(stream, format="PNG")

    def _ask_table(self) -> None:
        if path := file_to_save(self, "Save table", "comparison.csv", "Comma-separated values (*.csv)"):
            self.save_table(path)

    def _ask_figure(self) -> None:
        if path := file_to_save(self, "Save figure", "comparison.png", "PNG (*.png)"):
            self.save_figure(path)

    # ---- what is shown

    def _try(self, act: Callable[[], Any]) -> None:
        """Do what a button is for; what is wrong becomes a notification."""
        try:
            act()
        except VaeRepairError as error:
            self._desk.tell(error)

    def _show_notes(self, _: Any = None) -> None:
        notes = [f"{name}: {NOTES[name]}." for name in self.methods.ticked if name in NOTES]
        self.notes.setText(" ".join(notes))
        self.notes.setVisible(bool(notes))

    def _show_buttons(self) -> None:
        self.add_button.setEnabled(self.table.chosen() is not None)
        for save in (self.table_button, self.figure_button):
            save.setEnabled(bool(self.table.compared))

    def _watch_name(self, event: Any) -> None:
        event.value.events.name.connect(self.reset_choices)

    def _gone(self) -> None:
        self._alive = False


class _Post(QObject):
    """Carries news from the worker's thread to Qt's."""

    news = Signal(int, object)


def _what(compares: Compares) -> str:
    height, width = compares.pixels.shape[:2]
    return f"{compares.source.name}, {height} x {width} pixels"
