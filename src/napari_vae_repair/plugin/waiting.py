"""`Waiting`: what is to be restored one after the other, layers held weakly."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

from napari_vae_repair.plugin.desk import Chosen


class Waiting:
    """First in, first out; what has left the viewer meanwhile is passed over.

    Attributes
    ----------
    now : weakref.ref or None
        The layer whose restoration is under way.
    """

    def __init__(self) -> None:
        self.now: weakref.ref[Any] | None = None
        self._queue: deque[_Held] = deque()

    def add(self, chosen: Chosen) -> None:
        """Put a choice at the end, as it is now: layer, settings, damage and plane."""
        self._queue.append(_Held(chosen))

    def next(self, viewer: Any) -> Chosen | None:
        """The first whose layers are still in the viewer, taken out; None when there is none."""
        while self._queue:
            chosen = self._queue.popleft().chosen()
            if chosen is not None and all(
                layer is None or layer in viewer.layers for layer in (chosen.layer, chosen.mask_layer)
            ):
                return chosen
        return None

    def takes(self, layer: Any) -> bool:
        """Whether a layer is neither under way nor waiting."""
        busy = [self.now, *(held.layer for held in self._queue)]
        return layer is not None and all(reference is None or reference() is not layer for reference in busy)

    def clear(self) -> None:
        """Forget those that wait."""
        self._queue.clear()

    def text(self) -> str:
        """How many wait, for the end of a status line; "" for none."""
        return f" · {len(self._queue)} waiting" if self._queue else ""


class _Held:
    """A choice that keeps no layer alive."""

    def __init__(self, chosen: Chosen) -> None:
        self.layer = weakref.ref(chosen.layer)
        self._mask = None if chosen.mask_layer is None else weakref.ref(chosen.mask_layer)
        self._settings, self._plane_at = chosen.settings, chosen.plane_at

    def chosen(self) -> Chosen | None:
        """The choice; None once one of its layers is gone."""
        layer, mask = self.layer(), None if self._mask is None else self._mask()
        if layer is None or (self._mask is not None and mask is None):
            return None
        return Chosen(layer, self._settings, mask, self._plane_at)
