"""Preview, split view and flip in a real viewer, by the canvas and by the fields."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_vae_repair.pipeline import restore
from napari_vae_repair.plugin.desk import Chosen
from napari_vae_repair.plugin.preview import LARGEST_PX, middle
from napari_vae_repair.plugin.widget import VaeRepairWidget
from napari_vae_repair.settings import Settings

pytestmark = pytest.mark.gui

Noisy = Callable[..., np.ndarray]
Finish = Callable[[Any], Any]


@pytest.fixture
def starter(docked: Any) -> Any:
    """The widget with the starter chosen."""
    docked.show_settings(Settings())
    return docked


def previewed(widget: Any, qtbot: Any, name: str) -> Any:
    """The preview's layer, once there is one of this name."""
    qtbot.waitUntil(lambda: name in widget.viewer().layers, timeout=60_000)
    return widget.viewer().layers[name]


def test_a_preview_is_what_restore_gives_there_and_lies_there(
    viewer: Any, starter: Any, noisy: Noisy, qtbot: Any
) -> None:
    source = viewer.add_image(noisy(60, 80), name="image", scale=(2, 0.5), translate=(7, 9))
    marks = viewer.add_shapes([[[20, 12], [20, 30], [90, 30], [90, 12]]], shape_type="rectangle", name="here")
    viewer.layers.selection.active = source
    starter.view.where.setCurrentIndex(1)
    assert starter.view.where.layer is marks
    starter.view.live.setChecked(True)
    layer = previewed(starter, qtbot, "image preview")
    rows, columns = slice(7, 42), slice(6, 43)
    np.testing.assert_allclose(layer.data, restore(source.data[rows, columns]).restored, atol=1e-4)
    np.testing.assert_allclose(layer.data_to_world((0, 0)), source.data_to_world((rows.start, columns.start)))
    assert viewer.layers.selection.active is source
    assert f"{layer.data.shape[0]} x {layer.data.shape[1]} pixels" in starter.view.said.text()


def test_a_preview_follows_its_rectangle_and_the_rectangles_name(
    viewer: Any, starter: Any, noisy: Noisy, qtbot: Any
) -> None:
    source = viewer.add_image(noisy(60, 80), name="image")
    marks = viewer.add_shapes([[[5, 5], [5, 30], [30, 30], [30, 5]]], shape_type="rectangle", name="here")
    viewer.layers.selection.active = source
    starter.view.where.setCurrentIndex(1)
    starter.view.live.setChecked(True)
    assert previewed(starter, qtbot, "image preview").data.shape == (26, 26)
    marks.name = "there"
    assert starter.view.where.currentText() == "there"
    marks.data = [[[5, 5], [5, 44], [30, 44], [30, 5]]]
    qtbot.waitUntil(lambda: viewer.layers["image preview"].data.shape == (26, 40), timeout=60_000)


def test_a_preview_follows_settings_and_goes_with_the_switch(
    viewer: Any, starter: Any, noisy: Noisy, qtbot: Any
) -> None:
    viewer.add_image(noisy(40, 48), name="image")
    starter.view.live.setChecked(True)
    before = previewed(starter, qtbot, "image preview").data.copy()
    starter.chain.set_chain((*starter.chain.chain, starter.chain.chain[0].__class__()))
    starter.preset.value = "classic"
    qtbot.waitUntil(lambda: not np.array_equal(viewer.layers["image preview"].data, before), timeout=60_000)
    starter.view.live.setChecked(False)
    assert [layer.name for layer in viewer.layers] == ["image"]


def test_a_full_result_takes_the_previews_place(
    viewer: Any, starter: Any, noisy: Noisy, qtbot: Any, finish: Finish
) -> None:
    viewer.add_image(noisy(3, 40, 48), name="image")
    viewer.dims.set_current_step(0, 1)
    starter.view.live.setChecked(True)
    layer = previewed(starter, qtbot, "image preview")
    np.testing.assert_allclose(layer.data, restore(viewer.layers["image"].data[1]).restored, atol=1e-4)
    starter.start()
    assert finish(starter) is not None
    assert not starter.view.live.isChecked()
    assert [layer.name for layer in viewer.layers] == ["image", "image residual", "image restored"]


def test_what_cannot_be_previewed_is_said(viewer: Any, starter: Any, noisy: Noisy, qtbot: Any) -> None:
    starter.view.live.setChecked(True)
    assert "no image layer" in starter.view.said.text()
    viewer.add_image(noisy(40, 48), name="image")
    viewer.add_shapes(name="empty")
    starter.view.where.setCurrentIndex(1)
    qtbot.waitUntil(lambda: "holds no rectangle" in starter.view.said.text(), timeout=10_000)


def test_large_views_are_previewed_in_their_middle() -> None:
    rows, columns = middle((slice(100, 2100), slice(10, 200)))
    assert (rows.stop - rows.start, columns) == (LARGEST_PX, slice(10, 200))
    assert rows.start + rows.stop == 2200


def test_the_split_shows_the_source_to_the_left_of_a_line_that_can_be_dragged(
    viewer: Any, starter: Any, noisy_rgb: np.ndarray, finish: Finish
) -> None:
    source = viewer.add_image(noisy_rgb, name="photo", scale=(2, 2), translate=(5, 11))
    starter.start()
    finish(starter)
    restored = viewer.layers["photo restored"]
    starter.view.splits.setChecked(True)
    before = viewer.layers["photo before"]
    np.testing.assert_array_equal(before.data, noisy_rgb[:, :24])
    assert before.data.base is not None  # a view, not a copy
    np.testing.assert_array_equal(before.translate, source.translate)
    starter.view.line.setValue(250)
    assert before.data.shape == (40, 12, 3)

    def event(kind: str, column: float) -> Any:
        return SimpleNamespace(type=kind, position=source.data_to_world((3, column)))

    viewer.mouse_move_callbacks[-1](viewer, event("mouse_move", 11.5))
    assert not viewer.scene.camera.mouse_pan
    moving = event("mouse_press", 11.5)
    drag = viewer.mouse_drag_callbacks[-1](viewer, moving)
    next(drag)
    moving.type, moving.position = "mouse_move", source.data_to_world((9, 35.5))
    next(drag)
    assert before.data.shape == (40, 36, 3)
    assert starter.view.line.value() == 750
    moving.type = "mouse_release"
    assert next(drag, "over") == "over"
    assert viewer.scene.camera.mouse_pan
    viewer.mouse_move_callbacks[-1](viewer, event("mouse_move", 2))
    assert viewer.scene.camera.mouse_pan
    assert next(viewer.mouse_drag_callbacks[-1](viewer, event("mouse_press", 2)), "over") == "over"
    starter.view.splits.setChecked(False)
    assert "photo before" not in viewer.layers
    assert restored in viewer.layers


def test_contrast_is_linked_while_split_and_no_longer(viewer: Any, starter: Any, noisy: Noisy, finish: Finish) -> None:
    source = viewer.add_image(noisy(40, 48), name="image")
    starter.start()
    finish(starter)
    restored = viewer.layers["image restored"]
    starter.view.splits.setChecked(True)
    source.contrast_limits = (20, 90)
    assert restored.contrast_limits == viewer.layers["image before"].contrast_limits == [20, 90]
    starter.view.splits.setChecked(False)
    source.contrast_limits = (30, 80)
    assert restored.contrast_limits == [20, 90]


def test_a_key_flips_between_before_and_after(
    viewer: Any, starter: Any, noisy: Noisy, finish: Finish, told: list[str]
) -> None:
    viewer.add_image(noisy(40, 48), name="image")
    flip = viewer.keymap[next(key for key in viewer.keymap if str(key) == "Shift+R")]
    flip(viewer)
    assert "Press Restore first" in told[-1]
    starter.start()
    finish(starter)
    restored = viewer.layers["image restored"]
    flip(viewer)
    assert not restored.visible
    assert starter.status.value.startswith("Before")
    viewer.layers["image"].contrast_limits = (20, 90)
    starter.view.flip_button.click()
    assert restored.visible
    assert restored.contrast_limits == [20, 90]  # else the two would differ by how they are shown


def test_of_two_widgets_the_key_flips_what_was_restored_last(
    viewer: Any, starter: Any, noisy: Noisy, finish: Finish
) -> None:
    second = VaeRepairWidget(viewer)
    viewer.window.add_dock_widget(second, name="second")  # takes the key
    second.show_settings(Settings())
    key = next(key for key in viewer.keymap if str(key) == "Shift+R")
    for widget, name in ((starter, "first"), (second, "other"), (starter, "first")):
        viewer.layers.selection.active = (
            viewer.layers[name] if name in viewer.layers else viewer.add_image(noisy(40, 48), name=name)
        )
        widget.reset_choices()
        widget.layer.value = viewer.layers[name]
        widget.start()
        finish(widget)
        viewer.keymap[key](viewer)
        assert [layer.name for layer in viewer.layers if layer.name.endswith("restored") and not layer.visible] == [
            f"{name} restored"
        ]
        viewer.keymap[key](viewer)
    second.native.parent().close()
    viewer.layers["first restored"].visible = True
    viewer.keymap[key](viewer)
    assert not viewer.layers["first restored"].visible  # the one that is left has the key


def test_all_levels_of_a_multiscale_layer_are_split_at_one_line(
    viewer: Any, starter: Any, noisy: Noisy, finish: Finish
) -> None:
    whole = noisy(20, 261)
    levels = [whole, whole[::2, ::2], whole[::4, ::4], whole[::6, ::10]]
    source = viewer.add_image(levels, name="pyramid", multiscale=True)
    starter.start()
    finish(starter)
    starter.view.splits.setChecked(True)
    before = viewer.layers["pyramid before"]
    assert before.multiscale
    for place, columns in ((500, 132), (730, 192), (0, 4), (1000, 261)):
        starter.view.line.setValue(place)
        # the level of 27 columns would let the line move in steps of ten
        assert [level.shape[1] for level in before.data] == [columns, -(-columns // 2), -(-columns // 4)]
        np.testing.assert_array_equal(before.data[0], whole[:, :columns])
    source.contrast_limits = (20, 90)
    assert viewer.layers["pyramid restored"].contrast_limits == before.contrast_limits == [20, 90]
    starter.view.splits.setChecked(False)
    assert "pyramid before" not in viewer.layers


def test_chosen_gives_a_snapshot(noisy: Noisy) -> None:
    import napari.layers

    layer = napari.layers.Image(noisy(4, 20, 24))
    assert Chosen(layer, Settings(), plane_at=(2, 0, 0)).snapshot().axes == "YX"
