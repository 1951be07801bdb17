"""`Waiting`: layers that are to be restored one after the other, held weakly."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

from napari_vae_repair.settings import Settings


class Waiting:
    """First in, first out; a layer that leaves the viewer meanwhile is passed over.

    Attributes
    ----------
    now : weakref.ref or None
        The layer whose restoration is under way.
    """

    def __init__(self) -> None:
        self.now: weakref.ref[Any] | None = None
        self._queue: deque[tuple[weakref.ref[Any], Settings | None]] = deque()

    def add(self, layer: Any, settings: Settings | None) -> None:
        """Put a layer at the end, None = with the settings that are in Preferences when its turn comes."""
        self._queue.append((weakref.ref(layer), settings))

    def next(self, viewer: Any) -> tuple[Any, Settings | None] | None:
        """The first that is still in the viewer, taken out; None when there is none."""
        while self._queue:
            reference, settings = self._queue.popleft()
            layer = reference()
            if layer is not None and layer in viewer.layers:
                return layer, settings
        return None

    def takes(self, layer: Any) -> bool:
        """Whether a layer is neither under way nor waiting."""
        busy = [self.now, *(reference for reference, _ in self._queue)]
        return layer is not None and all(reference is None or reference() is not layer for reference in busy)

    def clear(self) -> None:
        """Forget those that wait."""
        self._queue.clear()

    def text(self) -> str:
        """How many wait, for the end of a status line; "" for none."""
        return f" · {len(self._queue)} waiting" if self._queue else ""
