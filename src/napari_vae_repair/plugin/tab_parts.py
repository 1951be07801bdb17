"""Labels and buttons of the tabs."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton

HOW = "Set Samples to 16 and press Restore."
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
