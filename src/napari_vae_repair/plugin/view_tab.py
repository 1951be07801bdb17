"""The tab "View": a live preview of what is in view, and before beside after."""

from __future__ import annotations

import time
import weakref
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QCheckBox, QGroupBox, QLabel, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_vae_repair.errors import InputError
from napari_vae_repair.plugin.desk import Desk
from napari_vae_repair.plugin.layer_combo import LayerCombo
from napari_vae_repair.plugin.layers import our_layer
from napari_vae_repair.plugin.preview import Preview
from napari_vae_repair.plugin.split_view import SplitView, camera_of, flip, share_look

SLIDER_STEPS, PAGE = 1000, 100
FLIP_KEY = "Shift-R"


class ViewTab(QWidget):
    """Preview and split view.

    Parameters
    ----------
    desk : Desk

    Attributes
    ----------
    preview : Preview
    split : SplitView
    """

    title = "View"

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.preview = Preview(desk, self._say)
        self.split = SplitView(desk.viewer(), self._dragged)
        column = QVBoxLayout(self)
        column.addWidget(self._preview_box())
        column.addWidget(self._split_box())
        column.addStretch(1)
        desk.placed_changed.connect(self._placed)
        viewer = desk.viewer()
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._offer)
        self._offer()
        camera = camera_of(viewer)
        for event in (camera.events.center, camera.events.zoom):
            event.connect(self._moved)
        viewer.dims.events.current_step.connect(self.preview.request)

    def _preview_box(self) -> QGroupBox:
        box = QGroupBox("Preview")
        inside = QVBoxLayout(box)
        self.live = QCheckBox("Live preview")
        self.live.setToolTip(
            "Restores what is in view after each change of a setting. API: restore(image[rows, columns], samples=0)."
        )
        self.where = LayerCombo("what is in view")
        self.where.setAccessibleName("What to preview")
        self.where.setToolTip("What to preview: the part in view, or a rectangle in a Shapes layer. API: image.")
        self.said = QLabel("At most 512 x 512 pixels, in one pass, without touching the full result.")
        self.said.setWordWrap(True)
        for widget in (self.live, self.where, self.said):
            inside.addWidget(widget)
        self.live.toggled.connect(self.preview.switch)
        self.where.currentIndexChanged.connect(self._region_chosen)
        return box

    def _split_box(self) -> QGroupBox:
        box = QGroupBox("Before and after")
        inside = QVBoxLayout(box)
        self.splits = QCheckBox("Split view")
        self.splits.setToolTip(
            "The source left of a line, the restored layer right of it. API: w.view.split.show(...)."
        )
        self.line = QSlider(Qt.Orientation.Horizontal)
        self.line.setRange(0, SLIDER_STEPS)
        self.line.setValue(SLIDER_STEPS // 2)
        self.line.setPageStep(PAGE)
        self.line.setAccessibleName("Place of the line")
        self.line.setToolTip("Where the line is; it can be dragged in the canvas, too. API: w.view.split.move(place).")
        self.flip_button = QPushButton(f"Flip ({FLIP_KEY})")
        self.flip_button.setToolTip("Hides the restored layer, or shows it again. API: layer.visible.")
        for widget in (self.splits, self.line, self.flip_button):
            inside.addWidget(widget)
        self.splits.toggled.connect(self._split)
        self.split.hidden.connect(self._split_hidden)
        self.line.valueChanged.connect(lambda value: self.split.move(value / SLIDER_STEPS))
        self.flip_button.clicked.connect(lambda: self.flip())
        return box

    def take_key(self) -> None:
        """Flip by the key: of several widgets that are open, the one that has restored last does."""
        _OPEN[self] = time.monotonic()
        self._desk.viewer().bind_key(FLIP_KEY, _flip_last, overwrite=True)

    def close_down(self) -> None:
        """The dock is closed: end the preview and the split, and leave the key to others."""
        _OPEN.pop(self, None)
        self.live.setChecked(False)
        self.splits.setChecked(False)

    def _offer(self, _: Any = None) -> None:
        shapes = self._desk.layers("shapes")
        self.where.offer(shapes)
        for _, layer in shapes:  # connecting twice does nothing
            layer.events.name.connect(self._offer)
            layer.events.data.connect(self._drawn)

    def _drawn(self, event: Any) -> None:
        """A shape was drawn, moved or taken away."""
        if event.source is self.preview.region_layer:
            self.preview.request()

    def _moved(self, _: Any) -> None:
        """Another part is in view; a rectangle stays what it is."""
        if self.preview.region_layer is None:
            self.preview.request()

    def _say(self, sentence: str) -> None:
        self.said.setText(sentence)

    def _region_chosen(self, _: int) -> None:
        self.preview.region_layer = self.where.layer
        self.preview.request()

    def _placed(self, placed: Any) -> None:
        """The full result is there: the preview would cover it, and the split shows the new one."""
        if placed is not None:
            self.take_key()
        self.live.setChecked(False)
        if self.splits.isChecked():
            self._split(True)

    def _split(self, on: bool) -> None:
        if not on:
            self.split.hide()
            return
        try:
            source, restored = self._pair()
            placed = self._desk.placed
            link = placed is not None and placed.result.report.in_source_units
            self.split.show(source, restored, self.line.value() / SLIDER_STEPS, link=link)
        except InputError as error:
            self.splits.setChecked(False)
            self._desk.tell(error)

    def _split_hidden(self) -> None:
        with QSignalBlocker(self.splits):
            self.splits.setChecked(False)

    def _dragged(self, place: float) -> None:
        with QSignalBlocker(self.line):
            self.line.setValue(round(place * SLIDER_STEPS))

    def _pair(self) -> tuple[Any, Any]:
        """The source and the restored layer of the last restoration."""
        viewer, placed = self._desk.viewer(), self._desk.placed
        source = None if placed is None or placed.layer is None else placed.layer()
        restored = None if placed is None else our_layer(viewer, placed.source.name, "restored")
        if source is None or source not in viewer.layers or restored is None:
            raise InputError(
                "There is no restored layer beside its source.",
                "Before and after need both in the viewer.",
                "Press Restore first.",
            )
        return source, restored

    def viewer(self) -> Any:
        """In which the tab is docked."""
        return self._desk.viewer()

    @property
    def restored(self) -> bool:
        """Whether there is a result to flip."""
        return self._desk.placed is not None

    def flip(self) -> None:
        """Hide the restored layer, or show it again."""
        try:
            source, restored = self._pair()
        except InputError as error:
            self._desk.tell(error)
            return
        self.splits.setChecked(False)
        self.live.setChecked(False)
        shown = flip(self._desk.viewer(), restored)
        placed = self._desk.placed
        if placed is not None and placed.result.report.in_source_units:
            share_look(*((source, restored) if shown else (restored, source)))
        self._desk.tell("After: the restored layer." if shown else "Before: the source.")


_OPEN: weakref.WeakKeyDictionary[ViewTab, float] = weakref.WeakKeyDictionary()  # since when each has the key


def _flip_last(viewer: Any) -> None:
    """What the viewer binds: it keeps that for ever, and must not keep a widget."""
    tabs = [tab for tab in _OPEN if tab.viewer() is viewer]
    if tabs:
        max(tabs, key=lambda tab: (tab.restored, _OPEN[tab])).flip()
