"""`Docking`: tells when a widget is docked and when its dock is closed."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QWidget


class Docking(QObject):
    """Watches a widget's parent: napari gives it one with the dock and takes it away with the dock's close button.

    Parameters
    ----------
    widget : QWidget
        To watch.
    docked, closed : callable
        Called after the one and the other.
    """

    def __init__(self, widget: QWidget, docked: Callable[[], None], closed: Callable[[], None]) -> None:
        super().__init__(widget)
        self._docked, self._closed = docked, closed
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Look at every event, keep none."""
        if event is not None and event.type() == QEvent.Type.ParentChange and watched is not None:
            (self._closed if watched.parent() is None else self._docked)()
        return False
