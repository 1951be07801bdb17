import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_vae_repair.errors import InputError
from napari_vae_repair.image.axes import Layout, check_axes, default_axes, spatial_shape


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((8, 8), "YX"),
        ((5, 64, 64), "ZYX"),
        ((2, 5, 64, 64), "TZYX"),
        ((2, 2, 5, 64, 64), "ITZYX"),
        ((30, 30, 3), "YXS"),
        ((30, 30, 4), "YXS"),
        ((7, 30, 30, 3), "ZYXS"),
        ((2, 2, 2, 64, 64, 3), "ITZYXS"),
        ((29, 30, 3), "ZYX"),  # too small to be taken for a colour image
        ((30, 30, 5), "ZYX"),
        ((3, 30, 30), "ZYX"),
    ],
)
def test_default_axes_follow_the_shape(shape: tuple[int, ...], axes: str) -> None:
    assert default_axes(shape) == axes
    check_axes(axes, shape)


@pytest.mark.parametrize("shape", [(), (64,), (2, 2, 2, 2, 64, 64)])
def test_too_few_or_too_many_dimensions_have_no_default_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=rf"{len(shape)} dimension\(s\)"):
        default_axes(shape)


@pytest.mark.parametrize(
    ("axes", "shape", "match"),
    [
        ("YX", (2, 8, 8), "one capital letter"),
        ("yx", (8, 8), "one capital letter"),
        ("Y1", (8, 8), "one capital letter"),
        ("", (), "one capital letter"),
        ("ZZYX", (2, 2, 8, 8), "no letter may stand twice"),
        ("ZY", (8, 8), "Y and X must be there"),
        ("TZX", (8, 8, 8), "Y and X must be there"),
        ("SYX", (3, 8, 8), "S, the colour samples, must be last"),
        ("YXS", (8, 8, 2), "S, the colour samples, must be last"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes: str, shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(InputError, match=match):
        check_axes(axes, shape)


def test_spatial_shape_is_height_and_width_wherever_they_stand() -> None:
    assert spatial_shape((7, 5, 6), "XZY") == (6, 7)


@given(letters=st.permutations("CTZYX"), count=st.integers(2, 5), colour=st.booleans())
def test_planes_lead_exactly_back_for_any_order_of_axes(letters, count: int, colour: bool) -> None:
    axes = "".join([a for a in letters if a in "YX" or letters.index(a) < count]) + ("S" if colour else "")
    shape = tuple({"C": 2, "T": 3, "Z": 4, "Y": 5, "X": 6, "S": 3}[a] for a in axes)
    array = np.arange(np.prod(shape)).reshape(shape)
    layout = Layout(axes, shape)
    planes = layout.to_planes(array)
    assert planes.shape == (array.size // (30 * planes.shape[1]), 3 if colour else 1, 5, 6)
    np.testing.assert_array_equal(layout.from_planes(planes), array)
    assert layout.out_axes(planes.shape[1]) == axes


@pytest.mark.parametrize("axes", ["".join(order) for order in itertools.permutations("CZYX")])
def test_planes_of_one_channel_are_one_block(axes: str) -> None:
    shape = tuple({"C": 2, "Z": 3, "Y": 4, "X": 5}[a] for a in axes)
    array = np.zeros(shape)
    array[(slice(None),) * axes.index("C") + (1,)] = 1
    layout = Layout(axes, shape)
    assert layout.channels == 2
    np.testing.assert_array_equal(layout.to_planes(array)[:, 0, 0, 0], [0, 0, 0, 1, 1, 1])


def test_planes_hold_rows_and_columns_where_they_belong() -> None:
    array = np.random.default_rng(0).random((3, 4, 5, 3))  # X Z Y S
    planes = Layout("XZYS", array.shape).to_planes(array)
    assert planes[2, 1, 4, 0] == array[0, 2, 4, 1]


def test_colour_that_has_become_grey_loses_its_axis() -> None:
    layout = Layout("ZYXS", (2, 4, 5, 3))
    grey = np.arange(40.0).reshape(2, 1, 4, 5)
    assert layout.out_axes(1) == "ZYX"
    np.testing.assert_array_equal(layout.from_planes(grey), grey[:, 0])
    assert Layout("YXS", (4, 5, 4)).from_planes(np.zeros((1, 3, 4, 5))).shape == (4, 5, 3)  # alpha was dropped


def test_layout_without_channel_axis_has_one_channel() -> None:
    assert Layout("ZYX", (2, 8, 8)).channels == 1


def test_planes_of_usual_axes_are_views() -> None:
    array = np.zeros((2, 8, 8))
    assert np.shares_memory(Layout("ZYX", array.shape).to_planes(array), array)
    colour = np.zeros((8, 8, 3))
    assert np.shares_memory(Layout("YXS", colour.shape).to_planes(colour), colour)
