"""The tab "Uncertainty" in a real viewer, on a small desk that does its work at once."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QLabel

from napari_vae_repair.errors import InputError
from napari_vae_repair.pipeline import restore
from napari_vae_repair.plugin.damage_mask import type_of
from napari_vae_repair.plugin.desk import Placed
from napari_vae_repair.plugin.layers import add_results, our_facts, result_layers, take_snapshot
from napari_vae_repair.plugin.uncertainty_tab import NO_SAMPLES, NOTHING_YET, UncertaintyTab
from napari_vae_repair.restoration import Restoration
from napari_vae_repair.settings import Settings
from napari_vae_repair.uncertainty import label_table, probability_above

pytestmark = pytest.mark.gui

Noisy = Callable[..., np.ndarray]


class SmallDesk:
    """A desk for one tab: work is done at once, what is told is kept."""

    placed_changed = Signal(object)

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self.placed: Placed | None = None
        self.told: list[str | Exception] = []
        self.doing: list[str] = []
        self.cancelled = False

    def viewer(self) -> Any:
        return self._viewer

    def layers(self, *kinds: str) -> list[tuple[str, Any]]:
        return [(layer.name, layer) for layer in self._viewer.layers if type_of(layer) in kinds]

    def tell(self, news: str | Exception) -> None:
        self.told.append(news)

    def work(self, steps: Any, done: Callable[[Any], None], doing: str) -> bool:
        stop = Event()
        running = steps(stop)
        self.doing.append(doing)
        while True:
            try:
                assert 0 <= next(running).fraction <= 1
                if self.cancelled:
                    stop.set()
            except StopIteration as end:
                done(end.value)
                return True
            except Exception as error:
                self.tell(error)
                return True

    def place(self, restoration: Restoration, layer: Any, **snapshot: Any) -> None:
        source = take_snapshot(layer, **snapshot).without_pixels()
        add_results(self._viewer, result_layers(restoration, source))
        self.placed = Placed(restoration, source)
        self.placed_changed.emit(self.placed)


@pytest.fixture(scope="module")
def restored(noisy: Noisy, tiny: Settings, one_thread: None) -> Restoration:
    return restore(noisy(24, 32, dtype="uint16"), tiny, samples=8, keep_samples=True)


@pytest.fixture
def desk(viewer: Any) -> SmallDesk:
    return SmallDesk(viewer)


@pytest.fixture
def tab(desk: SmallDesk, qtbot: Any) -> UncertaintyTab:
    made = UncertaintyTab(desk)
    qtbot.addWidget(made)
    made.show()
    return made


@pytest.fixture
def source(viewer: Any, noisy: Noisy) -> Any:
    return viewer.add_image(noisy(24, 32, dtype="uint16"), name="cells", scale=(0.5, 0.25), units=("um", "um"))


def settled(tab: UncertaintyTab, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not tab.probability.live.busy, timeout=20_000)


# ---- empty states --------------------------------------------------------------------------------


def test_each_empty_state_says_what_to_do(
    desk: SmallDesk, tab: UncertaintyTab, source: Any, restored: Restoration
) -> None:
    assert tab.hint.text() == NOTHING_YET
    assert not tab.probability.isEnabled()
    assert not tab.labels.measure_button.isEnabled()
    desk.place(replace(restored, samples=None, report=replace(restored.report, samples=0)), source)
    assert tab.hint.text() == NO_SAMPLES
    assert "kept" in tab.labels.hint.text()
    assert "tick Keep the samples" in tab.labels.hint.text()
    assert tab.cast_button.isEnabled()
    desk.place(restored, source)
    assert not tab.hint.isVisible()
    assert tab.probability.isEnabled()
    assert "Labels layer" in tab.labels.hint.text()
    desk.viewer().add_labels(np.ones((24, 32), int), name="regions")
    assert tab.labels.measure_button.isEnabled()
    assert not tab.labels.hint.isVisible()


def test_without_a_result_calls_are_refused(tab: UncertaintyTab, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no result with an uncertainty"):
        tab.probability.show_probability(3.0)
    with pytest.raises(InputError, match="Nothing is restored"):
        tab.labels.measure()
    with pytest.raises(InputError, match="Nothing is restored"):
        tab.cast()
    with pytest.raises(InputError, match="no table"):
        tab.labels.save_csv(tmp_path / "x.csv")


# ---- probability ---------------------------------------------------------------------------------


def test_the_slider_makes_one_layer_and_updates_it_in_place(
    desk: SmallDesk, tab: UncertaintyTab, source: Any, restored: Restoration, qtbot: Any
) -> None:
    desk.place(restored, source)
    viewer = desk.viewer()
    viewer.layers.selection.active = source
    tab.probability.slider.setValue(120)
    settled(tab, qtbot)
    layer = viewer.layers["cells probability"]
    np.testing.assert_array_equal(layer.data, probability_above(restored, tab.probability.threshold.value()))
    assert tab.probability.threshold.value() == pytest.approx(120, abs=0.1)
    assert (layer.colormap.name, layer.contrast_limits) == ("viridis", [0, 1])
    np.testing.assert_array_equal(layer.scale, source.scale)
    assert viewer.layers.selection.active is source
    layer.colormap = "magma"
    tab.probability.threshold.setValue(140)
    settled(tab, qtbot)
    assert [each for each in viewer.layers if "probability" in each.name] == [layer]
    np.testing.assert_array_equal(layer.data, probability_above(restored, 140.0))
    assert layer.colormap.name == "magma"
    assert our_facts(layer)["threshold"] == 140  # type: ignore[index]
    assert tab.probability.slider.value() == pytest.approx(140)
    share = 100 * np.mean(layer.data > 0.95)
    assert f"{share:.1f} % of the values lie above 140" in tab.probability.summary.text()


def test_a_new_result_takes_its_probability_along_and_one_without_samples_none(
    desk: SmallDesk, tab: UncertaintyTab, source: Any, restored: Restoration, qtbot: Any
) -> None:
    desk.place(restored, source)
    assert "cells probability" not in desk.viewer().layers
    tab.probability.show_button.click()
    settled(tab, qtbot)
    threshold = tab.probability.threshold.value()
    other = replace(restored, samples=restored.samples[::-1] + 5)  # type: ignore[index]
    desk.place(other, source)
    settled(tab, qtbot)
    assert tab.probability.threshold.value() == threshold
    np.testing.assert_array_equal(desk.viewer().layers["cells probability"].data, probability_above(other, threshold))
    desk.place(replace(restored, samples=None, report=replace(restored.report, samples=0)), source)
    assert not tab.probability.live.busy
    assert "cells probability" not in desk.viewer().layers


def test_of_a_stack_the_plane_in_view_comes_first_and_the_others_follow(
    desk: SmallDesk, tab: UncertaintyTab, noisy: Noisy, tiny: Settings, qtbot: Any
) -> None:
    stack = noisy(3, 24, 32)
    layer = desk.viewer().add_image(stack, name="stack", scale=(2, 1, 1))
    result = restore(stack, tiny, samples=2)
    desk.place(result, layer)
    desk.viewer().dims.set_current_step(0, 2)
    seen: list[np.ndarray] = []
    tab.probability.live.shown.connect(
        lambda *_: seen.append(desk.viewer().layers["stack probability"].data.copy()), check_nargs=False
    )
    tab.probability.show_probability(125.0)
    settled(tab, qtbot)
    expected = probability_above(result, 125.0)
    np.testing.assert_array_equal(seen[0][2], expected[2])
    assert not seen[0][:2].any()
    np.testing.assert_array_equal(desk.viewer().layers["stack probability"].data, expected)


def test_dragging_over_a_large_image_does_not_block_qt(
    desk: SmallDesk, tab: UncertaintyTab, viewer: Any, restored: Restoration, qtbot: Any
) -> None:
    side = 1024
    values = np.random.default_rng(0).uniform(0, 1, (side, side)).astype(np.float32)
    layer = viewer.add_image(values, name="large")
    large = replace(
        restored, restored=values, residual=values, std=values, samples=None, damaged=np.zeros((side, side), bool)
    )
    desk.place(large, layer)
    tab.probability.show_probability(0.1)  # adding a layer takes napari as long as it takes
    settled(tab, qtbot)
    longest, shown = 0.0, []
    tab.probability.live.shown.connect(lambda *_: shown.append(1), check_nargs=False)
    step = tab.probability.live._step
    tab.probability.live._timer.timeout.disconnect()

    def timed() -> None:
        nonlocal longest
        began = time.perf_counter()
        step()
        longest = max(longest, time.perf_counter() - began)

    tab.probability.live._timer.timeout.connect(timed)
    for threshold in np.linspace(0.2, 0.8, 20):
        tab.probability.slider.setValue(threshold)
        qtbot.wait(20)
    settled(tab, qtbot)
    assert len(shown) >= 2  # it moved on the way
    assert longest < 0.3  # 0.02 s; 0.08 s with 2048 x 2048 pixels, most of it napari's own
    np.testing.assert_array_equal(
        viewer.layers["large probability"].data, probability_above(large, tab.probability.threshold.value())
    )


# ---- labels --------------------------------------------------------------------------------------


def labels(height: int = 24, width: int = 32) -> np.ndarray:
    marked = np.zeros((height, width), int)
    marked[2:8, 3:9], marked[10:20, 12:30] = 12, 3
    return marked


def test_labels_are_measured_into_a_sortable_table_that_can_be_saved(
    desk: SmallDesk,
    tab: UncertaintyTab,
    source: Any,
    restored: Restoration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk.place(restored, source)
    desk.viewer().add_labels(labels(), name="regions")
    tab.labels.measure_button.click()
    expected = label_table(restored, labels(), pixel_size_um={"Y": 0.5, "X": 0.25})
    assert tab.labels.table == expected
    view = tab.labels.view
    assert view.isVisible()
    assert [view.horizontalHeaderItem(column).text() for column in range(view.columnCount())] == [
        "Label",
        "Mean",
        "90 % from",
        "to",
        "Pixels",
        "µm²",
        "Pixel ±",
    ]
    assert [view.item(row, 0).data(Qt.ItemDataRole.DisplayRole) for row in range(2)] == [3, 12]
    view.sortByColumn(4, Qt.SortOrder.AscendingOrder)  # 36 before 180: numbers, not text
    assert [view.item(row, 4).text() for row in range(2)] == ["36", "180"]
    path = tmp_path / "means.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    tab.labels.save_button.click()
    assert desk.told == [f"Saved {path}"]
    read = list(csv.DictReader(path.read_text().splitlines()))
    assert [float(row["mean"]) for row in read] == [row.mean for row in expected.rows]
    desk.place(restored, source)  # another result: its labels are not measured yet
    assert tab.labels.table is None
    assert not tab.labels.save_button.isEnabled()


def test_labels_of_the_stack_serve_a_plane_of_it(
    desk: SmallDesk, tab: UncertaintyTab, noisy: Noisy, restored: Restoration
) -> None:
    stack = np.stack([np.zeros((24, 32), "uint16"), noisy(24, 32, dtype="uint16")])
    layer = desk.viewer().add_image(stack, name="stack")
    desk.place(restored, layer, plane_at=(1, 0, 0))
    desk.viewer().add_labels(np.stack([np.zeros((24, 32), int), labels()]), name="regions")
    tab.labels.measure()
    assert tab.labels.table == label_table(restored, labels())


def test_what_does_not_fit_is_told_and_cancelling_leaves_no_table(
    desk: SmallDesk, tab: UncertaintyTab, source: Any, restored: Restoration
) -> None:
    desk.place(restored, source)
    regions = desk.viewer().add_labels(np.ones((5, 5), int), name="regions")
    tab.labels.measure_button.click()
    assert "shape (5, 5)" in str(desk.told.pop())
    regions.data = labels()
    desk.cancelled = True
    tab.labels.measure_button.click()
    assert "cancelled" in str(desk.told.pop())
    assert tab.labels.table is None


def test_labels_are_offered_under_their_present_names(desk: SmallDesk, tab: UncertaintyTab) -> None:
    combo = tab.labels.labels
    first = desk.viewer().add_labels(labels(), name="first")
    desk.viewer().add_labels(labels(), name="second")
    combo.setCurrentIndex(1)
    first.name = "renamed"
    assert [combo.itemText(row) for row in range(combo.count())] == ["renamed", "second"]
    assert combo.currentText() == "second"
    desk.viewer().layers.remove("second")
    assert [combo.itemText(row) for row in range(combo.count())] == ["renamed"]


def test_layers_may_come_and_go_after_the_tab_is_gone(
    desk: SmallDesk, viewer: Any, source: Any, restored: Restoration, qtbot: Any
) -> None:
    gone = UncertaintyTab(desk)
    desk.place(restored, source)
    gone.probability.show_probability(120.0)
    desk._viewer = None
    with qtbot.waitSignal(gone.destroyed):
        gone.deleteLater()
    viewer.add_labels(labels(), name="later").name = "much later"
    viewer.layers.remove("much later")
    assert "cells probability" not in viewer.layers


# ---- dtype ---------------------------------------------------------------------------------------


def test_the_button_adds_the_restored_layer_in_its_sources_dtype(
    desk: SmallDesk, tab: UncertaintyTab, source: Any, restored: Restoration
) -> None:
    desk.place(restored, source)
    tab.cast_button.click()
    cast = desk.viewer().layers["cells restored uint16"]
    assert cast.data.dtype == np.uint16
    np.testing.assert_array_equal(cast.scale, source.scale)
    assert desk.told == ["Added 'cells restored uint16'; nothing was clipped."]
    desk.viewer().layers["cells restored"].data = restored.restored - 125
    desk.viewer().layers.selection.active = None
    tab.cast_button.click()
    assert "outside its range and clipped" in str(desk.told[-1])
    assert sum("uint16" in layer.name for layer in desk.viewer().layers) == 1
    desk.viewer().layers.remove("cells restored")
    tab.cast_button.click()
    assert "is gone" in str(desk.told[-1])


def test_every_control_names_its_place_in_the_api_and_nothing_is_wider_than_the_dock(
    desk: SmallDesk, tab: UncertaintyTab, source: Any, restored: Restoration
) -> None:
    desk.place(restored, source)
    desk.viewer().add_labels(labels(), name="regions with quite a long name that nobody wants to read")
    tab.labels.measure()
    boxes = (tab.probability, tab.labels)
    controls = [box.__dict__[name] for box in boxes for name in box.__dict__ if not name.startswith("_")]
    shown = [c for c in [*controls, tab.cast_button] if hasattr(c, "toolTip") and not isinstance(c, QLabel)]
    assert len(shown) == 8
    assert all("API: " in control.toolTip() for control in shown)
    tab.resize(310, 500)
    assert tab.minimumSizeHint().width() <= 310
    assert all(child.width() <= 310 for child in shown)
