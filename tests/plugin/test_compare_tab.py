"""The tab Compare on the real widget and viewer: rows one by one, sorted, added as layers, saved, cancelled."""

from __future__ import annotations

import csv
import gc
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_vae_repair.contenders import AUTOENCODER, BM3D, OURS, usual_methods
from napari_vae_repair.errors import InputError
from napari_vae_repair.plugin.compare_tab import CANVAS, EMPTY, PLANE, UNJUDGED, CompareTab
from napari_vae_repair.plugin.compare_table import CompareTable, thumbnail
from napari_vae_repair.plugin.layer_combo import LayerCombo
from napari_vae_repair.plugin.layers import METADATA_KEY
from napari_vae_repair.ranking import Compared

pytestmark = pytest.mark.gui

QUICK = ("TV", "Gaussian", "median")
METHOD, LOSS, PSNR, SECONDS, NOTE = 1, 2, 3, 5, 6


@pytest.fixture
def tab(docked: Any, qtbot: Any) -> Iterator[CompareTab]:
    tab = CompareTab(docked)
    qtbot.addWidget(tab)
    tab.methods.tick(*QUICK)
    return tab


@pytest.fixture
def run(qtbot: Any, docked: Any) -> Callable[[CompareTab], None]:
    """Press Compare and wait for the end."""

    def wait(tab: CompareTab) -> None:
        qtbot.mouseClick(tab.compare_button, Qt.MouseButton.LeftButton)
        assert docked.running
        qtbot.waitUntil(lambda: not docked.running, timeout=60_000)

    return wait


def column(table: CompareTable, index: int) -> list[str]:
    return [table.item(row, index).text() for row in range(table.rowCount())]


def select(tab: CompareTab, method: str) -> None:
    tab.table.selectRow(column(tab.table, METHOD).index(method))


def test_rows_are_ranked_by_their_loss_and_sort_as_numbers(viewer: Any, tab: CompareTab, run: Any, noisy: Any) -> None:
    viewer.add_image(noisy(48, 64), name="cells")
    assert tab.sentence.text() == EMPTY
    run(tab)
    assert set(column(tab.table, METHOD)) == set(QUICK)
    losses = [float(text) for text in column(tab.table, LOSS)]
    assert losses == sorted(losses)
    assert [row.method for row in tab.comparison.rows] == column(tab.table, METHOD)
    best = tab.comparison.rows[0].method
    assert tab.sentence.text() == f"cells, 48 x 64 pixels: {best} predicts its pixels best."
    assert not any(column(tab.table, PSNR))
    assert all(not tab.table.item(row, 0).icon().isNull() for row in range(3))
    tab.table.sortByColumn(SECONDS, Qt.SortOrder.DescendingOrder)
    seconds = [row.seconds for row in sorted(tab.comparison.rows, key=lambda row: -row.seconds)]
    assert column(tab.table, SECONDS) == [f"{value:.2f}" for value in seconds]


def test_sorting_is_by_number_and_a_row_keeps_its_method(qtbot: Any) -> None:
    table = CompareTable()
    qtbot.addWidget(table)
    table.begin(np.arange(64.0).reshape(8, 8))
    for loss, psnr in ((100.0, 9.5), (20.0, None), (3.0, 10.5)):
        table.add(Compared(f"m{loss:g}", np.zeros((8, 8), np.float32), loss, psnr, psnr, 1.0, {}, ""))
    assert column(table, METHOD) == ["m3", "m20", "m100"]
    table.sortByColumn(PSNR, Qt.SortOrder.DescendingOrder)
    assert column(table, METHOD) == ["m3", "m100", "m20"]
    table.setCurrentCell(0, METHOD)
    for expected in (["m100", "m20", "m3"], ["m3", "m20", "m100"]):  # by the keyboard, up and then down
        qtbot.keyClick(table, Qt.Key.Key_S)
        assert column(table, METHOD) == expected
    table.sortByColumn(PSNR, Qt.SortOrder.DescendingOrder)
    table.selectRow(1)
    assert table.chosen().loss == 100
    pressed: list[Any] = []
    table.itemDoubleClicked.connect(pressed.append)
    qtbot.keyClick(table, Qt.Key.Key_Return)
    assert [item.row() for item in pressed] == [1]


def test_thumbnails_show_the_middle_in_one_grey_scale(qtbot: Any) -> None:
    pixels = np.full((200, 300), -5, np.float32)
    pixels[52:148, 102:198] = 10
    shown = thumbnail(pixels, 0, 20).toImage()
    assert (shown.width(), shown.height()) == (48, 48)
    assert {shown.pixelColor(x, y).red() for x in (0, 24, 47) for y in (0, 24, 47)} == {128}
    colours = np.zeros((40, 20, 3), np.float32)
    colours[..., 1] = 20
    shown = thumbnail(colours, 0, 20).toImage()
    assert (shown.width(), shown.height()) == (24, 48)
    assert shown.pixelColor(12, 24).getRgb()[:3] == (0, 255, 0)


def test_a_region_of_a_scaled_layer_is_added_where_it_lies(
    viewer: Any, tab: CompareTab, run: Any, noisy: Any, qtbot: Any
) -> None:
    source = viewer.add_image(
        noisy(80, 100), name="cells", scale=(0.5, 0.25), translate=(3, 4), contrast_limits=(60, 190), colormap="green"
    )
    before = source.data.copy()
    corners = [source.data_to_world(corner) for corner in ((10, 20), (10, 59), (49, 59), (49, 20))]
    viewer.add_shapes([np.array(corners)], name="here")
    viewer.layers.selection.active = source
    tab.region.setCurrentText("Rectangle in here")
    run(tab)
    assert tab.sentence.text().startswith("cells, 40 x 40 pixels:")
    select(tab, "TV")
    assert tab.add_button.isEnabled()
    qtbot.mouseClick(tab.add_button, Qt.MouseButton.LeftButton)
    added = viewer.layers["cells TV"]
    assert added.data.shape == (40, 40)
    np.testing.assert_allclose(added.data_to_world((0, 0)), source.data_to_world((10, 20)))
    assert tuple(added.scale) == (0.5, 0.25)
    assert added.contrast_limits == [60, 190]
    assert added.colormap.name == "green"
    assert np.array_equal(source.data, before)
    assert added.metadata[METADATA_KEY]["role"] == "TV"


def test_running_again_replaces_our_own_layer_and_no_other(
    viewer: Any, docked: Any, tab: CompareTab, run: Any, noisy: Any
) -> None:
    source = viewer.add_image(noisy(48, 64), name="cells")
    users = viewer.add_image(np.ones((5, 5)), name="cells median")
    docked.layer.value = source
    run(tab)
    select(tab, "median")
    first = tab.add_layer()
    assert first is not users
    assert (first.name, users.data.shape) == ("cells median [1]", (5, 5))
    select(tab, "TV")
    tab.table.itemDoubleClicked.emit(tab.table.currentItem())
    layers = len(viewer.layers)
    data = viewer.layers["cells TV"].data
    source.data = source.data + 40
    docked.layer.value = source
    run(tab)
    select(tab, "TV")
    assert tab.add_layer() is viewer.layers["cells TV"]
    assert len(viewer.layers) == layers
    assert 35 < np.mean(viewer.layers["cells TV"].data - data) < 45


def test_a_reference_gives_psnr_and_ssim(viewer: Any, docked: Any, tab: CompareTab, run: Any, noisy: Any) -> None:
    y, x = np.mgrid[:48, :64]
    truth = (125 + 50 * np.sin(y / 7) * np.cos(x / 9)).astype("float32")
    viewer.add_image(truth, name="truth")
    docked.layer.value = viewer.add_image(noisy(48, 64), name="cells")
    tab.reference.setCurrentText("truth")
    run(tab)
    assert all(float(text) > 15 for text in column(tab.table, PSNR))
    best = max(tab.comparison.rows, key=lambda row: row.psnr)
    tab.table.sortByColumn(PSNR, Qt.SortOrder.DescendingOrder)
    assert tab.table.item(0, METHOD).text() == best.method


def test_a_reference_of_another_shape_is_told(
    viewer: Any, docked: Any, tab: CompareTab, run: Any, noisy: Any, told: list[str]
) -> None:
    viewer.add_image(np.ones((90, 90)), name="truth")
    docked.layer.value = viewer.add_image(noisy(48, 64), name="cells")
    tab.reference.setCurrentText("truth")
    run(tab)
    assert any("The reference has shape (90, 90)" in message for message in told)
    assert tab.comparison is None


@pytest.mark.parametrize("rgb", [False, True])
def test_the_plane_in_view_of_a_stack_is_compared(
    viewer: Any, docked: Any, tab: CompareTab, run: Any, noisy: Any, rgb: bool
) -> None:
    stack = np.stack([noisy(40, 48), noisy(40, 48) + 300, noisy(40, 48) + 600])
    stack = np.stack([stack / 4] * 3, axis=-1).astype(np.uint8) if rgb else stack
    viewer.add_image(stack, rgb=rgb, name="stack", scale=(2, 1, 1))
    viewer.dims.set_point(0, 2.0)
    run(tab)
    select(tab, "Gaussian")
    added = tab.add_layer()
    assert added.data.shape == stack.shape[1:]
    assert added.rgb == rgb
    assert abs(float(np.mean(added.data)) - float(np.mean(stack[1]))) < 3


def test_ours_and_the_autoencoder_run_with_the_widgets_settings(
    viewer: Any, tab: CompareTab, run: Any, noisy: Any
) -> None:
    viewer.add_image(noisy(48, 64), name="cells")
    tab.methods.tick(OURS, AUTOENCODER)
    run(tab)
    assert set(column(tab.table, METHOD)) == {OURS, AUTOENCODER}
    (row,) = (row for row in tab.comparison.rows if row.method == AUTOENCODER)
    assert row.parameters == {"epochs": 1}
    assert "without KL" in column(tab.table, NOTE)[column(tab.table, METHOD).index(AUTOENCODER)]


def test_rows_come_one_by_one_and_stay_after_cancel(
    viewer: Any, docked: Any, endless: Any, tab: CompareTab, noisy: Any, qtbot: Any
) -> None:
    viewer.add_image(noisy(48, 64), name="cells")
    docked.show_settings(endless)
    tab.methods.tick("Gaussian", AUTOENCODER)
    assert tab.start()
    qtbot.waitUntil(lambda: tab.table.rowCount() == 1, timeout=60_000)
    qtbot.waitUntil(lambda: "autoencoder (2 of 2)" in docked.status.value, timeout=60_000)
    assert not tab.start()  # one thing at a time
    docked.cancel()
    qtbot.waitUntil(lambda: not docked.running, timeout=2_000)
    assert column(tab.table, METHOD) == ["Gaussian"]
    assert [row.method for row in tab.comparison.rows] == ["Gaussian"]
    assert tab.table_button.isEnabled()
    assert tab.sentence.text().endswith("is judged at the end.")
    assert tab.comparison.doubt == UNJUDGED
    docked.show_settings(endless.model_copy(update={"epochs": 1}))
    tab.methods.tick("median")
    assert tab.start()
    qtbot.waitUntil(lambda: not docked.running, timeout=60_000)
    assert column(tab.table, METHOD) == ["median"]


def test_the_table_and_the_figure_are_saved(
    viewer: Any, tab: CompareTab, run: Any, noisy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    assert not tab.table_button.isEnabled()
    assert not tab.figure_button.isEnabled()
    viewer.add_image(noisy(48, 64), name="cells")
    run(tab)
    asked = iter([str(tmp_path / "table"), str(tmp_path / "sheet.png"), ""])
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (next(asked), ""))
    for button in (tab.table_button, tab.figure_button, tab.figure_button):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == column(tab.table, METHOD)
    assert iio.imread(tmp_path / "sheet.png").shape == (2 * (256 + 34), 3 * 256, 3)
    assert {path.name for path in tmp_path.iterdir() if path.suffix in ("", ".csv", ".png")} == {
        "table.csv",
        "sheet.png",
    }


def test_a_file_that_cannot_be_written_is_told(
    viewer: Any, tab: CompareTab, run: Any, noisy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    viewer.add_image(noisy(48, 64), name="cells")
    run(tab)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (str(tmp_path / "gone" / "table.csv"), ""))
    tab.table_button.click()
    assert any("gone" in message for message in told)


def test_mistakes_are_told(viewer: Any, docked: Any, tab: CompareTab, noisy: Any, told: list[str]) -> None:
    tab.compare_button.click()
    assert "no image layer" in told[-1]
    viewer.add_image(noisy(48, 64), name="cells")
    tab.methods.tick()
    tab.compare_button.click()
    assert "No method is ticked" in told[-1]
    tab.methods.tick("TV")
    viewer.add_shapes(name="marks")
    tab.region.setCurrentText("Rectangle in marks")
    with pytest.raises(InputError, match="holds no rectangle"):
        tab.start()
    assert not docked.running


def test_choices_follow_the_layers_and_keep_none_alive(viewer: Any, tab: CompareTab) -> None:
    shapes, image = viewer.add_shapes(name="marks"), viewer.add_image(np.zeros((40, 40)), name="truth")

    def texts(combo: Any) -> list[str]:
        return [combo.itemText(index) for index in range(combo.count())]

    assert texts(tab.region) == [PLANE, CANVAS, "Rectangle in marks"]
    assert texts(tab.reference) == ["None", "truth"]
    tab.region.setCurrentText("Rectangle in marks")
    tab.reference.setCurrentText("truth")
    shapes.name = "here"
    assert tab.region.currentText() == "Rectangle in here"
    assert tab.region.layer is shapes
    viewer.add_image(np.zeros((40, 40)), name="truth 2")
    assert tab.reference.layer is image
    viewer.layers.remove(shapes)
    assert (tab.region.currentText(), tab.region.layer) == (PLANE, None)
    tab.region.setCurrentText(CANVAS)
    viewer.layers.reverse()
    assert tab.region.currentText() == CANVAS


def test_a_choice_keeps_no_layer_alive(qtbot: Any) -> None:
    combo, layer = LayerCombo("None"), Image(np.zeros((40, 40)))
    qtbot.addWidget(combo)
    combo.offer([("cells", layer)])
    combo.setCurrentIndex(1)
    assert combo.layer is layer
    del layer
    gc.collect()
    assert combo.layer is None


def test_what_takes_minutes_is_not_ticked_and_licences_are_said(docked: Any, qtbot: Any) -> None:
    tab = CompareTab(docked)
    qtbot.addWidget(tab)
    assert tab.methods.ticked == usual_methods()
    assert AUTOENCODER not in tab.methods.ticked
    installed = importlib.util.find_spec("bm3d") is not None
    assert ("non-commercial" in tab.notes.text()) == installed
    tab.methods.tick(AUTOENCODER)
    assert tab.notes.text() == "autoencoder: plain, without KL; trains on the image for minutes."
    tab.methods.tick("TV")
    assert tab.notes.isHidden()
    assert (BM3D in [tab.methods.item(index).text() for index in range(tab.methods.count())]) == installed


def test_nothing_is_cut_off_in_a_narrow_dock(tab: CompareTab) -> None:
    tab.resize(280, 500)
    tab.show()
    QApplication.processEvents()
    assert tab.minimumSizeHint().width() <= 280
    assert tab.minimumSizeHint().height() <= 500
    methods = tab.methods
    last = methods.visualItemRect(methods.item(methods.count() - 1))
    assert methods.viewport().rect().contains(last)


def test_every_control_names_its_parameter_and_can_be_reached_by_keys(tab: CompareTab) -> None:
    controls = [tab.methods, tab.region, tab.reference, tab.compare_button, tab.table]
    controls += [tab.add_button, tab.table_button, tab.figure_button]
    for control in controls:
        assert control.toolTip().startswith("API: ")
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus
    order, widget = [], tab.nextInFocusChain()
    while widget is not tab:
        order += [widget] if widget in controls else []
        widget = widget.nextInFocusChain()
    assert order == controls
