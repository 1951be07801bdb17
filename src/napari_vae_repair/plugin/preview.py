"""`Preview`: what is in view, restored again after each change of a setting, beside the full result."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.compat import isalive
from qtpy.QtCore import QTimer

from napari_vae_repair.errors import VaeRepairError
from napari_vae_repair.plugin.desk import Desk, Steps
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.layers import METADATA_KEY, our_layer, percentile_limits, place_layer
from napari_vae_repair.plugin.region import Region, cut, moved, shapes_rectangle, visible_region
from napari_vae_repair.plugin.runner import Runner
from napari_vae_repair.plugin.snapshot import Snapshot
from napari_vae_repair.plugin.worker import import_pipeline
from napari_vae_repair.settings import SCRATCH, STARTER, Settings

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration

ROLE = "preview"
LARGEST_PX = 512  # side of the part that is restored: half a second of work
# A change after a pause is followed at once, further ones at their end; what is under way is stopped between two layers
PAUSE_S, PATIENCE_MS = 0.2, 20


@dataclass(frozen=True, slots=True)
class Previewed:
    """A part of a plane, restored.

    Attributes
    ----------
    restoration : Restoration
        Of the region alone: its noise was estimated there.
    source : Snapshot
        Of the plane, without its pixels.
    region : tuple of slice
        Of the plane, in pixels.
    seconds : float
        That it took.
    """

    restoration: Restoration
    source: Snapshot
    region: Region
    seconds: float


class Preview:
    """Keeps a layer "NAME preview" up to date while it is on; never beside a restoration.

    Parameters
    ----------
    desk : Desk
    tell : callable
        Takes a sentence on the last preview, or on why there is none.

    Attributes
    ----------
    placed : Signal
        Emitted with each `Previewed` that is in the viewer now.
    """

    placed = Signal(object)

    def __init__(self, desk: Desk, tell: Callable[[str], None]) -> None:
        self.on = False
        self.region_layer: Any = None
        self._desk, self._tell = desk, tell
        self._runner, self._again = Runner(), False
        self._layer: weakref.ref[Any] | None = None
        self._source = ""
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._requested = 0.0
        self._timer.timeout.connect(self._begin)

    def switch(self, on: bool) -> None:
        """Begin to follow changes, or stop and remove the layer."""
        self.on = on
        if on:
            self._begin()
        else:
            self._timer.stop()
            self._runner.cancel()
            self.remove()

    def request(self, *_: Any) -> None:
        """Something changed: restore again, at once after a pause, else when changes have ended."""
        last, self._requested = self._requested, time.perf_counter()
        if self.on:
            self._timer.start(0 if self._requested - last > PAUSE_S else PATIENCE_MS)

    def pause(self) -> None:
        """Something else begins: stop what runs; `request` goes on."""
        self._timer.stop()
        self._again = False
        self._runner.cancel()

    def close(self) -> None:
        """Stop for ever: the widget is gone."""
        self.on = False
        if isalive(self._timer):  # type: ignore[no-untyped-call]  # Qt may have deleted it before
            self._timer.stop()
        self._runner.close()

    def remove(self) -> None:
        """Take the preview's layer out of the viewer, unless the user renamed it to keep it."""
        viewer, layer = self._desk.viewer(), None if self._layer is None else self._layer()
        if viewer is not None and layer is not None and our_layer(viewer, self._source, ROLE) is layer:
            viewer.layers.remove(layer)
        self._layer = None

    def _begin(self) -> None:
        if not self.on or self._desk.viewer() is None:
            return
        if self._desk.running:
            self._tell("Waits while something else is under way.")
        elif self._runner.worker is not None:
            self._again = True
            self._runner.cancel()
        else:
            try:
                steps = self._steps()
            except VaeRepairError as error:
                self.remove()
                self._tell(str(error))
            else:
                self._runner.start(steps, self._done, self._failed, None)

    def _steps(self) -> Steps[Previewed]:
        chosen, viewer = self._desk.chosen(), self._desk.viewer()
        layer = chosen.layer
        if self.region_layer is None:
            region = visible_region(viewer, layer)
        else:
            region = shapes_rectangle(self.region_layer, layer)
        plane = replace(chosen, plane_at=tuple(viewer.dims.point)).snapshot()
        return preview_steps(plane, middle(region), chosen.settings)

    def _done(self, previewed: Previewed) -> None:
        viewer = self._desk.viewer()
        if self.on and viewer is not None:
            active = viewer.layers.selection.active
            if self._layer is not None and self._source != previewed.source.name:
                self.remove()
            self._layer, self._source = weakref.ref(place_preview(viewer, previewed)), previewed.source.name
            viewer.layers.selection.active = active
            self._tell(_sentence(previewed))
            self.placed.emit(previewed)
        self._go_on()

    def _failed(self, error: Exception | None) -> None:
        if error is not None:
            self._tell(str(error))
        self._go_on()

    def _go_on(self) -> None:
        again, self._again = self._again, False
        if again:
            self._begin()


def middle(region: Region) -> Region:
    """At most `LARGEST_PX` of each side, from its middle."""
    starts = [part.start + max(0, part.stop - part.start - LARGEST_PX) // 2 for part in region]
    rows, columns = (
        slice(start, min(part.stop, start + LARGEST_PX)) for start, part in zip(starts, region, strict=True)
    )
    return rows, columns


def preview_steps(plane: Snapshot, region: Region, settings: Settings) -> Steps[Previewed]:
    """Steps that restore a region of a plane in one pass, with the starter where a training was asked for."""
    given = [plane]
    model = STARTER if settings.model == SCRATCH else settings.model
    quick = settings.without_adapting().model_copy(update={"model": model, "samples": 0, "keep_samples": False})

    def steps(stop: Event) -> Generator[Update, None, Previewed]:
        began, source = time.perf_counter(), given.pop()
        restore_steps, _ = import_pipeline()
        image = cut(source, region).read(stop.is_set)
        run = restore_steps(image, quick, should_stop=stop.is_set)
        while True:
            try:
                next(run)
            except StopIteration as end:
                return Previewed(end.value, source.without_pixels(), region, time.perf_counter() - began)
            yield Update(0.0, "Preview")

    return steps


def place_preview(viewer: Any, previewed: Previewed) -> Any:
    """The layer "NAME preview", added or changed."""
    restoration, source = previewed.restoration, previewed.source
    limits = source.look.get("contrast_limits")
    if limits is None or not restoration.report.in_source_units:
        limits = percentile_limits(restoration.restored)
    meta = {
        "name": f"{source.name} {ROLE}",
        "metadata": {METADATA_KEY: {"source": source.name, "role": ROLE}},
        "rgb": restoration.axes.endswith("S"),
        **source.look,
        **moved(source.space, previewed.region),
        "contrast_limits": limits,
    }
    return place_layer(viewer, (restoration.restored, meta, "image"))


def _sentence(previewed: Previewed) -> str:
    height, width = (part.stop - part.start for part in previewed.region)
    trained = previewed.restoration.settings.model == STARTER
    who = " by the starter" if trained else ""
    return f"{height} x {width} pixels{who} in {previewed.seconds:.1f} s; the noise is estimated there."
