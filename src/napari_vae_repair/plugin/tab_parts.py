"""Labels, buttons, sortable tables and the question for a file, alike in all tabs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QLabel, QMessageBox, QPushButton, QTableWidget, QWidget

HOW = "Set Samples to 16 and press Restore."
SORT_KEY = "S"
PART = "Restore the current plane, or a crop of the layer."


def in_files(what: str) -> str:
    """That `what`, the beginning of a sentence, cannot be had of a result that lies in files."""
    return (
        f"The last result is larger than memory and lies in files. {what} needs all of it in memory: "
        "restore the current plane or a crop of the layer for that."
    )


def wrapped(text: str) -> QLabel:
    """A label of plain text that breaks into lines."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    return label


def in_lines(tooltip: str) -> str:
    """A tooltip as rich text, which Qt breaks into lines."""
    return f"<span>{tooltip}</span>"


def button(text: str, action: Callable[[], None], tooltip: str) -> QPushButton:
    """A button that does `action`."""
    made = QPushButton(text)
    made.setToolTip(in_lines(tooltip))
    made.clicked.connect(lambda: action())
    return made


class SortableTable(QTableWidget):
    """Sorted by a click on a heading, or by `SORT_KEY` on a cell of that column; once more turns the order round."""

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        """Sort by the column of the current cell."""
        header, column = self.horizontalHeader(), self.currentColumn()
        if event.text().upper() != SORT_KEY or header is None or column < 0:
            super().keyPressEvent(event)
            return
        again = header.sortIndicatorSection() == column
        ascending = header.sortIndicatorOrder() == Qt.SortOrder.AscendingOrder
        self.sortByColumn(column, Qt.SortOrder.DescendingOrder if again and ascending else Qt.SortOrder.AscendingOrder)


def file_to_save(parent: QWidget, title: str, proposed: str, kinds: str) -> str:
    """Where the user wants a file; "" for nowhere.

    A name with none of the endings of `kinds`, as in "Tables (*.csv)", gets that of the proposed one. The dialog has
    asked about the name that was typed; a file of the longer name is replaced only if the user says so here.
    """
    typed, _ = QFileDialog.getSaveFileName(parent, title, proposed, kinds)
    if not typed or typed.lower().endswith(tuple(re.findall(r"\*(\.\w+)", kinds))):
        return typed
    path = typed + Path(proposed).suffix
    question = f"{path} is there already. Replace it?"
    if Path(path).exists() and QMessageBox.question(parent, title, question) != QMessageBox.StandardButton.Yes:
        return ""
    return path
