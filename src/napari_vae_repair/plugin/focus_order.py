"""The order in which the Tab key goes through a window: that in which one reads it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QLayout, QScrollArea, QTabWidget, QWidget


def set_reading_order(root: QWidget) -> None:
    """Let Tab go through all that lies in `root` from top to bottom; Qt's own order is that in which it was made.

    What is added to the layouts later comes last, until this is called again.
    """
    for before, after in pairwise(in_reading_order(root)):
        QWidget.setTabOrder(before, after)


def in_reading_order(widget: QWidget) -> Iterator[QWidget]:
    """The widget, if Tab stops at it, and then all that lies in it, layout by layout and tab by tab."""
    if widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
        yield widget
    if isinstance(widget, QTabWidget):
        yield widget.tabBar()
        for index in range(widget.count()):
            yield from in_reading_order(widget.widget(index))
    elif isinstance(widget, QScrollArea):
        if widget.widget() is not None:
            yield from in_reading_order(widget.widget())
    elif not isinstance(widget, QAbstractSpinBox | QComboBox) and (layout := widget.layout()) is not None:
        yield from _laid_out(layout)


def _laid_out(layout: QLayout) -> Iterator[QWidget]:
    for index in range(layout.count()):
        item = layout.itemAt(index)
        if item.widget() is not None:
            yield from in_reading_order(item.widget())
        elif item.layout() is not None:
            yield from _laid_out(item.layout())
