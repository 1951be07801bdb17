"""Regions of the plane in view, in pixels of real layers that are scaled, moved, turned, coloured and stacked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels, Shapes
from qtpy.QtWidgets import QApplication

from napari_vae_repair.errors import InputError
from napari_vae_repair.plugin.region import cropped, moved, shapes_rectangle, visible_region
from napari_vae_repair.plugin.snapshot import take_snapshot

pytestmark = pytest.mark.gui


def box(first: tuple[float, ...], last: tuple[float, ...]) -> np.ndarray:
    (y0, x0), (y1, x1) = first[-2:], last[-2:]
    return np.array([(*first[:-2], *corner) for corner in ((y0, x0), (y0, x1), (y1, x1), (y1, x0))], dtype=float)


def spans(region: tuple[slice, slice]) -> tuple[int, int, int, int]:
    return region[0].start, region[0].stop, region[1].start, region[1].stop


def test_a_rectangle_marks_the_pixels_whose_middles_it_holds() -> None:
    layer = Image(np.zeros((40, 60)))
    assert spans(shapes_rectangle(Shapes([box((9.6, 20.4), (19.9, 30.0))]), layer)) == (10, 20, 21, 31)
    assert spans(shapes_rectangle(Shapes([box((-5, 50), (10, 99))]), layer)) == (0, 11, 50, 60)


def test_scale_and_translate_of_both_layers_count() -> None:
    layer = Image(np.zeros((40, 60)), scale=(0.5, 2), translate=(100, -10))
    shapes = Shapes([box((0, 0), (10, 10))], scale=(1, 4), translate=(105, 10))
    # rows (105..115 - 100) / 0.5, columns (10..50 + 10) / 2
    assert spans(shapes_rectangle(shapes, layer)) == (10, 31, 10, 31)


def test_a_quarter_turn_swaps_rows_and_columns() -> None:
    layer = Image(np.zeros((40, 60)), rotate=90)
    corners = np.array([layer.data_to_world(corner) for corner in box((5, 10), (15, 40))])
    assert spans(shapes_rectangle(Shapes([corners]), layer)) == (5, 16, 10, 41)


@pytest.mark.parametrize("rgb", [False, True])
def test_the_plane_of_a_stack_is_meant(rgb: bool) -> None:
    layer = Image(np.zeros((3, 40, 60, 3) if rgb else (3, 40, 60)), rgb=rgb)
    flat, deep = Shapes([box((5, 6), (9, 12))]), Shapes([box((2, 5, 6), (2, 9, 12))])
    assert spans(shapes_rectangle(flat, layer)) == spans(shapes_rectangle(deep, layer)) == (5, 10, 6, 13)
    assert spans(shapes_rectangle(deep, Image(np.zeros((40, 60))))) == (5, 10, 6, 13)


def test_the_selected_shape_counts_else_the_last() -> None:
    layer = Image(np.zeros((40, 60)))
    shapes = Shapes([box((0, 0), (4, 4)), box((20, 20), (24, 24))])
    assert spans(shapes_rectangle(shapes, layer)) == (20, 25, 20, 25)
    shapes.selected_data = {0}
    assert spans(shapes_rectangle(shapes, layer)) == (0, 5, 0, 5)


def test_without_a_rectangle_over_the_image_it_is_said() -> None:
    layer = Image(np.zeros((40, 60)), name="cells")
    with pytest.raises(InputError, match="'marks' holds no rectangle.*draw one over 'cells'"):
        shapes_rectangle(Shapes(name="marks"), layer)
    with pytest.raises(InputError, match="holds no rectangle"):
        shapes_rectangle(Labels(np.ones((40, 60), int)), layer)
    with pytest.raises(InputError, match="lies beside the image 'cells'"):
        shapes_rectangle(Shapes([box((50, 0), (70, 20))]), layer)


# ---- the canvas ---------------------------------------------------------------------------------


@pytest.fixture
def shown(make_napari_viewer: Any) -> Any:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(700, 500)
    return viewer


def draw() -> None:
    for _ in range(20):
        QApplication.processEvents()


def look_at(viewer: Any, centre: tuple[float, float], zoom: float) -> None:
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0.0, *centre), zoom
    draw()


def test_what_the_canvas_shows_follows_the_camera(shown: Any) -> None:
    layer = shown.add_image(np.zeros((400, 600)), scale=(0.5, 0.5), translate=(10, 20))
    look_at(shown, (110, 170), 0.5)
    assert spans(visible_region(shown, layer)) == (0, 400, 0, 600)
    look_at(shown, tuple(layer.data_to_world((200, 300))), 20)
    y0, y1, x0, x1 = spans(visible_region(shown, layer))
    height, width = shown.canvas.size
    assert 0 < y0 < 200 < y1 < 400
    assert 0 < x0 < 300 < x1 < 600
    assert abs((y0 + y1) / 2 - 200) <= 2
    assert abs((x0 + x1) / 2 - 300) <= 2
    # 20 canvas pixels and 2 pixels of the image a unit
    assert abs((y1 - y0) - height / 10) <= 3
    assert abs((x1 - x0) - width / 10) <= 3


def test_a_small_window_shows_less(shown: Any) -> None:
    layer = shown.add_image(np.zeros((4000, 4000)))
    look_at(shown, (2000, 2000), 1)
    large = visible_region(shown, layer)
    shown.window.resize(420, 320)
    draw()
    look_at(shown, (2000, 2000), 1)
    small = visible_region(shown, layer)
    assert all(0 < s.stop - s.start <= part.stop - part.start for s, part in zip(small, large, strict=True))
    assert small[0].start <= 2000 < small[0].stop


@pytest.mark.parametrize("rgb", [False, True])
def test_the_plane_in_view_of_a_stack(shown: Any, rgb: bool) -> None:
    layer = shown.add_image(np.zeros((3, 400, 600, 3) if rgb else (3, 400, 600)), rgb=rgb)
    look_at(shown, (0, 0), 4)  # the upper left corner in the middle of the canvas
    y0, y1, x0, x1 = spans(visible_region(shown, layer))
    assert (y0, x0) == (0, 0)
    assert 0 < y1 < 400
    assert 0 < x1 < 600
    shown.dims.order = (1, 0, 2)  # Z and X are displayed, all of Y lies behind
    draw()
    assert spans(visible_region(shown, layer))[:2] == (0, 400)


def test_a_pyramid_is_told_in_pixels_of_its_full_resolution(shown: Any) -> None:
    full = np.zeros((4096, 4096), dtype=np.uint8)
    layer = shown.add_image([full, full[::4, ::4], full[::16, ::16]], multiscale=True)
    look_at(shown, (2048, 2048), 0.05)
    assert layer.data_level == 2
    assert spans(visible_region(shown, layer)) == (0, 4096, 0, 4096)


def test_nothing_in_view_is_said_and_3d_means_the_whole_plane(shown: Any) -> None:
    layer = shown.add_image(np.zeros((3, 400, 600)), name="cells")
    look_at(shown, (5000, 5000), 1)
    with pytest.raises(InputError, match="Nothing of the image 'cells' is in view"):
        visible_region(shown, layer)
    shown.dims.ndisplay = 3
    draw()
    assert spans(visible_region(shown, layer)) == (0, 400, 0, 600)


def test_before_the_first_draw_the_whole_plane_is_meant(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    assert spans(visible_region(viewer, viewer.add_image(np.zeros((40, 60))))) == (0, 40, 0, 60)


# ---- crops --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rgb", [False, True])
def test_a_crop_lies_where_it_was_cut_out(noisy: Any, rgb: bool) -> None:
    data = np.stack([noisy(40, 60, dtype="uint8")] * 3, axis=-1) if rgb else noisy(40, 60)
    space = {"scale": (0.5, 2), "translate": (3, 4), "rotate": 30, "shear": [0.2], "affine": np.diag([2.0, 3, 1])}
    layer = Image(data, rgb=rgb, **space)
    snapshot, region = take_snapshot(layer), (slice(5, 25), slice(10, 40))
    crop = cropped(snapshot.read(), region)
    assert np.array_equal(crop.pixels, data[5:25, 10:40])
    part = Image(crop.pixels, rgb=rgb, **moved(snapshot.space, region))
    for corner in ((0, 0), (19, 0), (7, 29)):
        np.testing.assert_allclose(part.data_to_world(corner), layer.data_to_world(np.add(corner, (5, 10))), atol=1e-9)
