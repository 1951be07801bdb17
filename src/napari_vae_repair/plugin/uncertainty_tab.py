"""The tab "Uncertainty": probability above a threshold, means of labels with intervals, the source's dtype."""

from __future__ import annotations

from collections.abc import Generator
from threading import Event
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFrame, QGroupBox, QScrollArea, QVBoxLayout, QWidget

from napari_vae_repair.errors import InputError, VaeRepairError
from napari_vae_repair.plugin.derived import cast_like_source
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.labels_box import LabelsBox
from napari_vae_repair.plugin.layers import our_facts, our_layer, place_layer
from napari_vae_repair.plugin.probability_box import ProbabilityBox
from napari_vae_repair.plugin.tab_parts import HOW, button, in_files, wrapped

if TYPE_CHECKING:
    from napari_vae_repair.plugin.desk import Desk, Placed
    from napari_vae_repair.plugin.snapshot import LayerData

NOTHING_YET = f"Nothing is restored yet. {HOW}"
NO_SAMPLES = f"The last result has no uncertainty: it was made with fewer than two samples. {HOW}"
STORED = in_files("What is offered here")


class UncertaintyTab(QWidget):
    """Asks the restoration that lies in the viewer how sure it is.

    Parameters
    ----------
    desk : Desk

    Attributes
    ----------
    probability : ProbabilityBox
    labels : LabelsBox
    """

    title = "Uncertainty"

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.hint = wrapped(NOTHING_YET)
        self.probability, self.labels = ProbabilityBox(desk), LabelsBox(desk)
        self.cast_button = button(
            "Same dtype as the source",
            self._cast_pressed,
            "API: plugin.derived.cast_like_source(layer). A copy of the restored layer, rounded to the source's dtype; "
            "says how many values had to be clipped.",
        )
        cast_box = QGroupBox("Restored layer")
        QVBoxLayout(cast_box).addWidget(self.cast_button)
        inside = QWidget()
        column = QVBoxLayout(inside)
        for widget in (self.hint, self.probability, self.labels, cast_box):
            column.addWidget(widget)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        desk.placed_changed.connect(self._show_placed)
        self._show_placed(desk.placed)

    def _show_placed(self, placed: Placed | None) -> None:
        restoration = None if placed is None else placed.restoration
        self.hint.setText(NOTHING_YET if placed is None else NO_SAMPLES if restoration is not None else STORED)
        self.hint.setVisible(restoration is None or restoration.report.samples < 2)
        self.probability.show_placed(placed)
        self.labels.show_placed()
        self.cast_button.setEnabled(restoration is not None)

    def cast(self) -> None:
        """Add the restored layer in its source's dtype: the selected one, if it is one of ours, else the last.

        Raises
        ------
        InputError
            There is none, or it cannot be cast.
        """
        viewer, placed = self._desk.viewer(), self._desk.placed
        if placed is None:
            raise InputError("Nothing is restored yet.", "A restored layer can be cast.", HOW)
        active = viewer.layers.selection.active
        ours = (our_facts(active) or {}).get("role") == "restored" if active is not None else False
        layer = active if ours else our_layer(viewer, placed.source.name, "restored")
        if layer is None:
            raise InputError("The restored layer is gone.", "A restored layer can be cast.", "Press Restore again.")

        def steps(stop: Event) -> Generator[Update, None, tuple[LayerData, int]]:
            yield Update(0.0, "Rounding")
            return cast_like_source(layer)

        self._desk.work(steps, self._show_cast, f"Casting {layer.name}")

    def _show_cast(self, result: tuple[LayerData, int]) -> None:
        viewer, (data, clipped) = self._desk.viewer(), result
        if viewer is None:
            return
        layer = place_layer(viewer, data)
        lost = "nothing was clipped" if clipped == 0 else f"{clipped} values were outside its range and clipped"
        self._desk.tell(f"Added {layer.name!r}; {lost}.")

    def _cast_pressed(self) -> None:
        try:
            self.cast()
        except VaeRepairError as error:
            self._desk.tell(error)
