"""The box "Means of labels" of the tab Uncertainty: measures the regions of a Labels layer into a table."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QFormLayout, QGroupBox, QHBoxLayout, QSizePolicy, QVBoxLayout

from napari_vae_repair.errors import Cancelled, InputError, VaeRepairError
from napari_vae_repair.image.atomic import replacing
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.label_view import LabelView
from napari_vae_repair.plugin.layers import our_facts
from napari_vae_repair.plugin.tab_parts import HOW, PART, button, file_to_save, in_lines, wrapped
from napari_vae_repair.uncertainty import FEWEST_SAMPLES, label_table_steps

if TYPE_CHECKING:
    from napari_vae_repair.label_means import LabelTable
    from napari_vae_repair.plugin.desk import Desk, Placed

NOT_KEPT = (
    f"Intervals need {FEWEST_SAMPLES} samples or more that were kept. "
    "Set Samples to 16, tick Keep the samples as a layer, and press Restore."
)
NO_LABELS = "Add a Labels layer that marks the regions (third button above the layer list)."


class LabelsBox(QGroupBox):
    """Measures labels in the last restoration.

    Parameters
    ----------
    desk : Desk

    Attributes
    ----------
    table : LabelTable or None
        What was last measured.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__("Means of labels")
        self._desk = desk
        self.table: LabelTable | None = None
        self.labels = QComboBox()
        self.labels.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.labels.setToolTip(in_lines("API: label_table(restoration, labels). Each label is measured by itself."))
        self.measure_button = button(
            "Measure labels",
            self._measure_pressed,
            "API: label_table(restoration, labels). Area, mean and the mean's 90 % interval of each label.",
        )
        self.save_button = button("Save CSV…", self._save_pressed, "API: label_table(…).csv(). The whole table.")
        self.save_button.setEnabled(False)
        self.view = LabelView()
        self.hint = wrapped("")
        form = QFormLayout()
        form.addRow("Labels", self.labels)
        buttons = QHBoxLayout()
        buttons.addWidget(self.measure_button)
        buttons.addWidget(self.save_button)
        column = QVBoxLayout(self)
        column.addLayout(form)
        column.addLayout(buttons)
        column.addWidget(self.hint)
        column.addWidget(self.view)
        viewer = desk.viewer()
        if viewer is not None:
            viewer.layers.events.inserted.connect(self._layer_inserted)
            viewer.layers.events.removed.connect(self._show_choices)
            for layer in viewer.layers:
                layer.events.name.connect(self._show_choices)

    def show_placed(self) -> None:
        """Forget the table of the last restoration, and say what another one needs."""
        self.table = None
        self.view.clear_table()
        self.save_button.setEnabled(False)
        self._show_choices()

    def _layer_inserted(self, event: Any) -> None:
        event.value.events.name.connect(self._show_choices)
        self._show_choices()

    def _show_choices(self, _: Any = None) -> None:
        """Offer the Labels layers as they are now, those of the user first."""
        chosen = self.labels.currentData()
        found = sorted(self._desk.layers("labels"), key=lambda item: our_facts(item[1]) is not None)
        with QSignalBlocker(self.labels):
            self.labels.clear()
            for name, layer in found:
                self.labels.addItem(name, layer)
                if layer is chosen:
                    self.labels.setCurrentIndex(self.labels.count() - 1)
        restoration = None if self._desk.placed is None else self._desk.placed.restoration
        kept = None if restoration is None else restoration.samples
        enough = kept is not None and len(kept) >= FEWEST_SAMPLES
        self.labels.setEnabled(bool(found))
        self.measure_button.setEnabled(enough and bool(found))
        self.hint.setText((NO_LABELS if enough else NOT_KEPT) if not (enough and found) else self.view.summary)
        if self._desk.placed is not None and restoration is None:  # in files; the tab says so
            self.hint.setText("")
        self.hint.setVisible(bool(self.hint.text()))

    def measure(self, labels: Any = None) -> None:
        """Measure each label of a Labels layer, None = the chosen one; the table is shown when it is done.

        Raises
        ------
        InputError
            Nothing is restored yet, there is no Labels layer, or it does not fit.
        """
        placed, layer = self._desk.placed, self.labels.currentData() if labels is None else labels
        restoration = None if placed is None else placed.restoration
        if placed is None:
            raise InputError("Nothing is restored yet.", "Labels are measured in a restored layer.", HOW)
        if restoration is None:
            raise InputError("The last result lies in files.", "Labels are measured in one in memory.", PART)
        if layer is None:
            raise InputError("There is no Labels layer.", "Regions are marked in one.", NO_LABELS)
        marked = labels_of(layer, placed)

        def steps(stop: Event) -> Generator[Update, None, LabelTable]:
            measuring = label_table_steps(restoration, marked, pixel_size_um=placed.source.pixel_size_um)
            while True:
                try:
                    done, total = next(measuring)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                if stop.is_set():
                    raise Cancelled("measure")
                yield Update(done / total, "Measuring labels")

        self._desk.work(steps, self._measured, f"Measuring {layer.name}")

    def _measured(self, table: LabelTable) -> None:
        self.table = table
        self.view.show_table(table)
        self.save_button.setEnabled(True)
        self._show_choices()

    def save_csv(self, path: str | Path) -> Path:
        """Write the last table as comma-separated values.

        Raises
        ------
        InputError
            Nothing was measured yet.
        ImageFileError
            The file cannot be written.
        """
        if self.table is None:
            raise InputError("There is no table yet.", "A table can be saved.", "Press Measure labels first.")
        with replacing(path) as stream:
            stream.write(self.table.csv().encode())
        return Path(path)

    def _measure_pressed(self) -> None:
        self._do(self.measure)

    def _save_pressed(self) -> None:
        if path := file_to_save(self, "Save table", "labels.csv", "Tables (*.csv)"):
            self._do(lambda: self._desk.tell(f"Saved {self.save_csv(path)}"))

    def _do(self, action: Callable[[], None]) -> None:
        try:
            action()
        except VaeRepairError as error:
            self._desk.tell(error)


def labels_of(layer: Any, placed: Placed) -> Any:
    """The labels of what was restored: of one plane where only one was; an array in memory is copied."""
    data, index = layer.data[0] if layer.multiscale else layer.data, placed.source.index
    if data.ndim == len(index):
        data = data[index]
    return np.array(data) if isinstance(data, np.ndarray) else data
