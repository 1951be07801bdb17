"""`SplitView`: the source to the left of a line that can be dragged, what lies below it to the right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from psygnal import Signal

from napari_vae_repair.plugin.layers import METADATA_KEY, our_facts

ROLE = "before"
LINKED = ("contrast_limits", "gamma")
LEAST_COLUMNS = 64  # of a level, so that the line can be moved in steps that are small enough
NEAR_PX = 8  # canvas pixels from the line at which it can be grabbed


class SplitView:
    """Before and after in one canvas.

    A layer "NAME before" shows the left part of the source, a view of its pixels, over the restored layer; their
    contrast limits are linked. Its edge is the line: napari's bounding box, which would draw one, ends the process
    when its layer is removed under Mesa's software renderer (napari 0.9.2), as do Shapes layers.

    Parameters
    ----------
    viewer : napari.Viewer
    moved : callable
        Called with the line's place, 0 to 1, when it was dragged.

    Attributes
    ----------
    hidden : Signal
        Emitted when it has ended, also because one of its layers was removed.
    """

    hidden = Signal()

    def __init__(self, viewer: Any, moved: Callable[[float], None]) -> None:
        self._viewer, self._moved = viewer, moved
        self._source: Any = None
        self._before: Any = None
        self._linked: list[Any] = []
        self._pair: tuple[Any, ...] = ()
        self._place = 0.5

    @property
    def shown(self) -> bool:
        """Whether the split is in the viewer; the user may have removed its layer."""
        return self._before is not None and self._before in self._viewer.layers

    def show(self, source: Any, restored: Any, place: float, *, link: bool) -> None:
        """Begin.

        Parameters
        ----------
        source, restored : napari.layers.Image
            Of the same pixels.
        place : float
            Of the line, 0 (left) to 1.
        link : bool
            Whether both have the same units, so that contrast limits mean the same.
        """
        from napari.experimental import link_layers

        self.hide()
        self._source = source
        active = self._viewer.layers.selection.active
        self._before = self._viewer.add_image(
            self._part(place),
            multiscale=source.multiscale,
            name=f"{source.name} {ROLE}",
            metadata={METADATA_KEY: {"source": source.name, "role": ROLE}},
            rgb=source.rgb,
            colormap=source.colormap if not source.rgb else None,
            contrast_limits=source.contrast_limits,
            gamma=source.gamma,
            scale=source.scale,
            translate=source.translate,
            rotate=source.rotate,
            shear=source.shear,
            affine=source.affine,
            units=source.units,
            axis_labels=source.axis_labels,
        )
        self._viewer.layers.selection.active = active
        self._linked = [source, self._before, *([restored] if link else [])]
        link_layers(self._linked, LINKED)
        self._viewer.layers.events.removed.connect(self._removed)
        self._viewer.dims.events.order.connect(self._again)
        self._pair, self._place = (source, restored), place
        self._viewer.mouse_move_callbacks.append(self._hover)
        self._viewer.mouse_drag_callbacks.append(self._drag)

    def hide(self) -> None:
        """End, and remove the layer."""
        from napari.experimental import unlink_layers

        if self._before is None:
            return
        unlink_layers(self._linked, LINKED)
        self._viewer.layers.events.removed.disconnect(self._removed)
        self._viewer.dims.events.order.disconnect(self._again)
        for callbacks, ours in (
            (self._viewer.mouse_move_callbacks, self._hover),
            (self._viewer.mouse_drag_callbacks, self._drag),
        ):
            if ours in callbacks:
                callbacks.remove(ours)
        camera_of(self._viewer).mouse_pan = True
        if self.shown:
            self._viewer.layers.remove(self._before)
        self._source = self._before = None
        self._linked, self._pair = [], ()
        self.hidden.emit()

    def move(self, place: float) -> None:
        """Put the line elsewhere."""
        if self.shown:
            self._place = place
            self._before.data = self._part(place)

    def _again(self, _: Any = None) -> None:
        """The canvas shows other dimensions."""
        self.move(self._place)

    def _removed(self, event: Any) -> None:
        """One of the layers has left the viewer."""
        if event.value in (*self._pair, self._before):
            self.hide()

    def _part(self, place: float) -> Any:
        """The source's pixels left of the line, of each level; at least one column: a layer cannot be empty."""
        levels = self._levels()
        width, coarsest = self._width, max(levels)
        shown = max(1, round(place * width / coarsest)) * coarsest if place < 1 else width
        parts = []
        for factor, level in levels.items():
            index = [slice(None)] * self._source.ndim
            index[self._axis] = slice(0, -(-shown // factor))  # all levels end at one line
            parts.append(level[tuple(index)])
        return parts if self._source.multiscale else parts[0]

    def _levels(self) -> dict[int, Any]:
        """By how many of its columns make one: the source, and those levels that a line can cut like it."""
        if not self._source.multiscale:
            return {1: self._source.data}
        width = self._width
        levels: dict[int, Any] = {}
        for level in self._source.data:
            columns = level.shape[self._axis]
            factor = round(width / columns)
            if factor == 1 or (columns >= LEAST_COLUMNS and columns in (width // factor, -(-width // factor))):
                levels.setdefault(factor, level)
        return levels

    @property
    def _axis(self) -> int:
        """The layer's dimension that the canvas shows from left to right."""
        axis: int = self._viewer.dims.displayed[-1] - (self._viewer.dims.ndim - self._source.ndim)
        return max(0, axis)

    @property
    def _width(self) -> int:
        return self._columns(self._source)

    def _columns(self, layer: Any) -> int:
        columns: int = (layer.data[0] if layer.multiscale else layer.data).shape[self._axis]
        return columns

    def _column(self, position: Any) -> float:
        """Column of the source under the cursor."""
        there = self._source.world_to_data(position[-self._source.ndim :])
        return float(there[self._axis]) + 0.5

    def _near(self, position: Any) -> bool:
        step = float(self._source.scale[self._axis])
        distance = abs(self._column(position) - self._columns(self._before)) * step
        return bool(distance * camera_of(self._viewer).zoom < NEAR_PX)

    def _hover(self, viewer: Any, event: Any) -> None:
        """Near the line the mouse moves it and not the image."""
        if self.shown:
            camera_of(viewer).mouse_pan = not self._near(event.position)

    def _drag(self, viewer: Any, event: Any) -> Iterator[None]:
        if not self.shown or not self._near(event.position):
            return
        camera_of(viewer).mouse_pan = False
        yield
        while event.type == "mouse_move":
            place = min(max(self._column(event.position) / self._width, 0.0), 1.0)
            self.move(place)
            self._moved(place)
            yield
        camera_of(viewer).mouse_pan = True


def camera_of(viewer: Any) -> Any:
    """The camera; napari 0.9 moved it from the viewer to its scene."""
    return getattr(viewer, "scene", viewer).camera


def share_look(left: Any, comes: Any) -> None:
    """Give the layer that comes into view the contrast limits and gamma of the one that is left, as while split."""
    for name in LINKED:
        setattr(comes, name, getattr(left, name))


def flip(viewer: Any, restored: Any) -> bool:
    """Show the restored layer if it is hidden, else hide it; whether it is shown now.

    Layers of ours that would cover it (a preview, the split) are hidden too, and the view stays what it was.
    """
    restored.visible = not restored.visible
    for layer in viewer.layers:
        if layer is not restored and (our_facts(layer) or {}).get("role") in (ROLE, "preview"):
            layer.visible = False
    return bool(restored.visible)
