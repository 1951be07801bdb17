"""The layer "NAME probability", made and updated in place while a threshold is dragged, never long in Qt's thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QObject, QTimer

from napari_vae_repair.plugin.derived import probability_layer
from napari_vae_repair.plugin.desk import Desk, Placed
from napari_vae_repair.plugin.layers import our_layer, place_layer
from napari_vae_repair.uncertainty import Index, probability_above

BLOCK_PX = 250_000  # some 15 ms in Qt's thread
SURELY = 0.95
DONE = object()


class LiveProbability(QObject):
    """Computes probabilities block by block between Qt's events, the plane in view first.

    A new threshold waits until the plane in view is shown with the one before, so that it moves while one drags; what
    other planes lack of the old threshold is left out.

    Parameters
    ----------
    desk : Desk
    parent : QObject
        With which it ends.

    Attributes
    ----------
    shown : Signal
        Emitted when the plane in view is shown: threshold, share of its values that are surely above (probability over
        0.95), and share that are undecided (0.05 to 0.95).
    """

    shown = Signal(float, float, float)

    def __init__(self, desk: Desk, parent: QObject) -> None:
        super().__init__(parent)
        self._desk = desk
        self._placed: Placed | None = None
        self._values: NDArray[np.float32] | None = None
        self._wanted: float | None = None
        self._parts: Iterator[None] | None = None
        self._in_view = False
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._step)

    @property
    def busy(self) -> bool:
        """Whether values are still to be computed."""
        return self._timer.isActive()

    @property
    def active(self) -> bool:
        """Whether a probability was asked for since `stop`."""
        return self._placed is not None

    def show(self, placed: Placed, threshold: float) -> None:
        """Show the probability of lying above a threshold, as soon as may be."""
        if placed is not self._placed:
            self.stop()
            self._placed, self._values = placed, None
        self._wanted = threshold
        self._timer.start()

    def stop(self) -> None:
        """Compute no more, and forget the restoration."""
        self._timer.stop()
        self._placed = self._values = self._wanted = self._parts = None
        self._in_view = False

    def _step(self) -> None:
        if self._desk.viewer() is None:
            self.stop()
            return
        if self._wanted is not None and not self._in_view:
            self._parts, self._wanted = self._compute(self._wanted), None
        assert self._parts is not None
        if next(self._parts, DONE) is DONE and self._wanted is None:
            self._timer.stop()

    def _compute(self, threshold: float) -> Iterator[None]:
        """Fill the values block by block; shows them after the plane in view, and at the end if there are others."""
        assert self._placed is not None
        placed, restoration = self._placed, self._placed.restoration
        assert restoration is not None  # the box offers no other
        if self._values is None:
            self._values = np.zeros_like(restoration.restored)
        values = self._values
        first = self._position_in_view()
        lengths = [side for side, axis in zip(values.shape, restoration.axes, strict=True) if axis not in "YXS"]
        others = [position for position in np.ndindex(*lengths) if position != first]
        self._in_view = True
        for part in blocks(values.shape, restoration.axes, first):
            values[part] = probability_above(restoration, threshold, part=part)
            yield
        self._place(placed, threshold, values)
        self._in_view = False
        plane = values[plane_index(restoration.axes, first)]
        above = np.count_nonzero(plane > SURELY) / plane.size
        self.shown.emit(threshold, above, 1 - above - np.count_nonzero(plane < 1 - SURELY) / plane.size)
        for position in others:
            for part in blocks(values.shape, restoration.axes, position):
                yield
                values[part] = probability_above(restoration, threshold, part=part)
        if others:
            self._place(placed, threshold, values)

    def _place(self, placed: Placed, threshold: float, values: NDArray[np.float32]) -> None:
        viewer = self._desk.viewer()
        active = viewer.layers.selection.active
        place_layer(viewer, probability_layer(placed, threshold, values))
        if active is not None:  # napari selects what is added; one goes on with what one was at
            viewer.layers.selection.active = active

    def _position_in_view(self) -> tuple[int, ...]:
        """Along the axes other than ``Y``, ``X`` and ``S``."""
        assert self._placed is not None
        restoration, source, viewer = self._placed.restoration, self._placed.source, self._desk.viewer()
        assert restoration is not None
        axes = restoration.axes.removesuffix("S")
        lies = next(
            (found for role in ("probability", "restored") if (found := our_layer(viewer, source.name, role))), None
        )
        at = np.zeros(len(axes)) if lies is None else lies.world_to_data(viewer.dims.point)
        return tuple(
            int(np.clip(round(float(at[d])), 0, restoration.restored.shape[d] - 1))
            for d, axis in enumerate(axes)
            if axis not in "YX"
        )


def plane_index(axes: str, position: tuple[int, ...]) -> Index:
    """The index of a plane; `position` runs along the axes other than ``Y``, ``X`` and ``S``."""
    steps = iter(position)
    return tuple(slice(None) if axis in "YXS" else next(steps) for axis in axes)


def blocks(shape: tuple[int, ...], axes: str, position: tuple[int, ...]) -> Iterator[Index]:
    """Indices of the rows of a plane, some at a time."""
    rows = axes.index("Y")
    index: list[Any] = list(plane_index(axes, position))
    row_px = max(1, int(np.prod([side for side, axis in zip(shape, axes, strict=True) if axis in "XS"])))
    step = max(1, BLOCK_PX // row_px)
    for start in range(0, shape[rows], step):
        index[rows] = slice(start, start + step)
        yield tuple(index)
