"""Masks by hand and by `find_damage`, in a real viewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_vae_repair.damage import find_damage
from napari_vae_repair.plugin.damage_row import TO_FIND
from napari_vae_repair.settings import Settings

pytestmark = pytest.mark.gui

Noisy = Callable[..., np.ndarray]


@pytest.fixture
def widget(docked: Any) -> Any:
    docked.show_settings(Settings())
    return docked


def hot(image: np.ndarray) -> np.ndarray:
    """The image with three hot pixels in each plane."""
    damaged = image.copy()
    damaged[..., [5, 20, 31], [7, 33, 18]] = 900
    return damaged


def test_a_new_mask_lies_over_the_image_with_the_brush_picked(viewer: Any, widget: Any, noisy: Noisy) -> None:
    image = viewer.add_image(noisy(40, 48), name="image", scale=(0.5, 0.2), translate=(3, 4), units=("um", "um"))
    widget.damage.new.changed.emit(True)
    mask = viewer.layers["image damage"]
    assert viewer.layers.selection.active is mask
    assert (mask.mode, mask.selected_label, widget.mask_layer.value) == ("paint", 1, mask)
    np.testing.assert_array_equal(mask.extent.world, image.extent.world)
    assert mask.units == image.units
    widget.damage.new_mask()
    assert len(viewer.layers) == 2  # the empty one again


@pytest.mark.parametrize(
    ("shape", "options"), [((40, 48), {}), ((2, 40, 48), {}), ((40, 48, 3), {"rgb": True})], ids=["2D", "stack", "rgb"]
)
def test_found_damage_is_marked_and_can_be_undone(
    viewer: Any, widget: Any, noisy: Noisy, qtbot: Any, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    pixels = np.moveaxis(hot(noisy(3, 40, 48)), 0, -1) if options else hot(noisy(*shape))
    viewer.add_image(pixels.astype(np.uint16), name="image", **options)
    widget.damage.find.changed.emit(True)
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    mask = viewer.layers["image damage"]
    axes = "YXS" if options else "ZYX"[-len(shape) :]
    expected = find_damage(pixels.astype(np.uint16), axes=axes)
    np.testing.assert_array_equal(mask.data > 0, expected)
    assert expected[..., 5, 7].all()
    assert widget.mask_layer.value is mask
    assert "a proposal" in widget.status.value
    mask.undo()
    assert not mask.data.any()


def test_found_damage_is_added_to_what_was_marked_by_hand(viewer: Any, widget: Any, noisy: Noisy, qtbot: Any) -> None:
    viewer.add_image(hot(noisy(40, 48)), name="image")
    mask = widget.damage.new_mask()
    mask.data_setitem((np.array([0, 0]), np.array([0, 1])), 3)
    widget.damage.find_damage()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert len(viewer.layers) == 2
    assert (mask.data[0, :2] == 3).all()
    assert mask.data[5, 7] == 1


def test_what_is_looked_for_can_be_chosen(viewer: Any, widget: Any, noisy: Noisy, qtbot: Any) -> None:
    image = noisy(64, 96)
    image[10:50, 40:42] += 3 * image.std()
    viewer.add_image(image, name="image")
    assert list(widget.damage.to_find.choices) == list(TO_FIND)
    widget.damage.to_find.value = list(TO_FIND)[-1]
    widget.damage.find_damage()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    expected = find_damage(image, threshold=0.9)
    assert expected[10:50, 40:42].mean() > 0.5 > find_damage(image)[10:50, 40:42].mean()
    np.testing.assert_array_equal(viewer.layers["image damage"].data > 0, expected)


@pytest.mark.parametrize("kind", ["shapes", "labels of one plane"])
def test_what_another_kind_of_layer_marks_is_not_lost(
    viewer: Any, widget: Any, noisy: Noisy, qtbot: Any, kind: str
) -> None:
    viewer.add_image(hot(noisy(2, 40, 48)), name="stack")
    drawn = np.zeros((40, 48), np.uint8)
    drawn[10:15, 10:16] = 1
    if kind == "shapes":
        given = viewer.add_shapes([[[10, 10], [10, 15], [14, 15], [14, 10]]], shape_type="rectangle", name="drawn")
    else:
        given = viewer.add_labels(drawn, name="drawn")
    widget.reset_choices()
    widget.mask_layer.value = given
    widget.damage.find_damage()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    mask = viewer.layers["stack damage"]
    assert widget.mask_layer.value is mask
    assert (mask.data[:, 10:14, 10:15] == 1).all()
    assert (mask.data[:, 5, 7] == 1).all()
    assert "beside what 'drawn' marks" in widget.status.value


def test_the_current_plane_alone_is_looked_at_and_marked(viewer: Any, widget: Any, noisy: Noisy, qtbot: Any) -> None:
    viewer.add_image(hot(noisy(3, 40, 48)), name="stack")
    viewer.dims.set_current_step(0, 1)
    widget.plane_only.value = True
    widget.damage.find_damage()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert (viewer.layers["stack damage"].data[:, 5, 7] > 0).tolist() == [False, True, False]


def test_an_image_without_damage_gets_no_mask(viewer: Any, widget: Any, noisy: Noisy, qtbot: Any) -> None:
    viewer.add_image(noisy(40, 48), name="image")
    widget.damage.find_damage()
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)
    assert "No damage was found" in widget.status.value
    assert len(viewer.layers) == 1


def test_without_a_layer_the_buttons_tell(widget: Any, told: list[str]) -> None:
    for button in (widget.damage.new, widget.damage.find):
        button.changed.emit(True)
        assert "no image layer" in told.pop()
