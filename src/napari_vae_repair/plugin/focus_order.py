"""The order in which the Tab key goes through a window: that in which one reads it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QLayout, QScrollArea, QTabWidget, QWidget


def set_reading_order(root: QWidget, after: QWidget | None = None) -> None:
    """Let Tab go through all that lies in `root` from top to bottom; Qt's own order is that in which it was made.

    What is added to the layouts later comes last, until this is called again: with `after`, a widget before `root`, for
    what lies in `root` alone.
    """
    stops = list(in_reading_order(root))
    for first, second in pairwise(stops if after is None or after in stops else [after, *stops]):
        QWidget.setTabOrder(first, second)


def in_reading_order(widget: QWidget | None) -> Iterator[QWidget]:
    """The widget, if Tab stops at it, and then all that lies in it, layout by layout and tab by tab."""
    if widget is None:
        return
    if widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
        yield widget
    if isinstance(widget, QTabWidget):
        for part in (widget.tabBar(), *(widget.widget(index) for index in range(widget.count()))):
            yield from in_reading_order(part)
    elif isinstance(widget, QScrollArea):
        yield from in_reading_order(widget.widget())
    elif not isinstance(widget, QAbstractSpinBox | QComboBox):
        yield from _laid_out(widget.layout())


def _laid_out(layout: QLayout | None) -> Iterator[QWidget]:
    items = [] if layout is None else [layout.itemAt(index) for index in range(layout.count())]
    for item in items:
        if item is not None:
            yield from in_reading_order(item.widget())
            yield from _laid_out(item.layout())
