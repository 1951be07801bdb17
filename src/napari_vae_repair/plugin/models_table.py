"""The table of saved models: what each is called, what it was trained on, when, and which one is the default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem

from napari_vae_repair.settings import STARTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_vae_repair.model_store import Entry

COLUMNS = ("Model", "Trained on", "Date, size")
NOT_TOLD = "not told"
MOST_NAMES = 4
_LOWEST_PX = 110
_ROW_GAP_PX = 6
_KINDS = {"starter": "the starter, unchanged", "adapted": "adapted from the starter", "scratch": "trained from scratch"}


class ModelsTable(QTableWidget):
    """The starter, and below it the saved models; one row can be selected."""

    def __init__(self) -> None:
        super().__init__(0, len(COLUMNS))
        self.entries: Sequence[Entry] = ()
        self.setHorizontalHeaderLabels(COLUMNS)
        self.setAccessibleName("Saved models")
        self.setToolTip("API: model_store.ModelStore().entries(). Enter uses the selected model.")
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)  # the key leads on to the buttons
        self.setShowGrid(False)
        self.setMinimumHeight(_LOWEST_PX)
        rows, header = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert header is not None
        rows.hide()
        header.setSectionResizeMode(header.ResizeMode.Stretch)
        header.setSectionResizeMode(len(COLUMNS) - 1, header.ResizeMode.ResizeToContents)
        header.setHighlightSections(False)

    def show_entries(self, entries: Sequence[Entry], default: str) -> None:
        """List these models; what was selected stays so.

        Parameters
        ----------
        entries : sequence of Entry
        default : str
            `Settings.model` of a new widget.
        """
        selected = self.selected
        self.entries = entries
        self.setRowCount(1 + len(entries))
        self._fill(0, (STARTER, "many images", "shipped"), is_default=same_model(STARTER, default))
        for row, entry in enumerate(entries, start=1):
            what = "broken" if entry.problem else images_of(entry)
            when = f"{entry.date.astimezone():%Y-%m-%d}\n{_size(entry)}"
            self._fill(row, (entry.name, what, when), is_default=same_model(str(entry.path), default))
        self.resizeRowsToContents()
        for row in range(self.rowCount()):
            self.setRowHeight(row, self.rowHeight(row) + _ROW_GAP_PX)
        self.select(STARTER if selected is None else selected.name)

    def _fill(self, row: int, cells: tuple[str, str, str], *, is_default: bool) -> None:
        name, *others = cells
        for column, text in enumerate((f"{name}\n(default)" if is_default else name, *others)):
            item = QTableWidgetItem(text)
            item.setToolTip(text)
            self.setItem(row, column, item)

    @property
    def selected(self) -> Entry | None:
        """The selected saved model; None = the starter."""
        row = self.currentRow()
        return self.entries[row - 1] if 0 < row <= len(self.entries) else None

    def select(self, name: str) -> None:
        """Select a saved model by its name, or the starter if there is none."""
        names = [entry.name for entry in self.entries]
        self.selectRow(names.index(name) + 1 if name in names else 0)


def description(entry: Entry | None, *, is_default: bool) -> str:
    """What is known of a saved model, in sentences; None = the starter."""
    mark = " Default." if is_default else ""
    if entry is None:
        return f"The starter, shipped with the plugin. It restores any image at once.{mark}"
    if entry.problem:
        return f"{entry.name}: cannot be used. {entry.problem}{mark}"
    length = f", {entry.epochs} epochs" if entry.epochs else f", {entry.steps} steps" if entry.steps else ""
    kind = {1: ", for grey images", 3: ", for colour images"}.get(entry.colours or 0, "")
    return (
        f"{entry.name}: {_KINDS[entry.kind]}{length}{kind}. Trained on: {images_of(entry)}. "
        f"{entry.date.astimezone():%Y-%m-%d %H:%M}, {_size(entry)}.{mark}"
    )


def images_of(entry: Entry) -> str:
    """Names of the images that a model was trained on, the first few of many."""
    names, more = entry.trained_on[:MOST_NAMES], len(entry.trained_on) - MOST_NAMES
    return ", ".join(names) + (f" and {more} more" if more > 0 else "") or NOT_TOLD


def same_model(first: str, second: str) -> bool:
    """Whether two values of `Settings.model` name the same."""
    return first == second or Path(first) == Path(second)


def _size(entry: Entry) -> str:
    return f"{entry.size_bytes / 1e6:.1f} MB"
