from __future__ import annotations

from typing import Any

import dask.array as da
import napari.layers
import numpy as np
import pytest

from napari_vae_repair.errors import Cancelled, InputError
from napari_vae_repair.plugin.snapshot import fingerprint, take_snapshot

Image = napari.layers.Image


def pyramid() -> list[np.ndarray]:
    full = np.arange(40 * 48, dtype="float32").reshape(40, 48)
    return [full, full[::2, ::2]]


@pytest.mark.parametrize(
    ("layer", "axes", "shape"),
    [
        (Image(np.zeros((20, 30), "uint8")), "YX", (20, 30)),
        (Image(np.zeros((40, 50, 3), "uint8"), rgb=True), "YXS", (40, 50, 3)),
        (Image(np.zeros((2, 40, 50, 4), "uint8"), rgb=True), "ZYXS", (2, 40, 50, 4)),
        (Image(np.zeros((4, 20, 30))), "ZYX", (4, 20, 30)),
        (Image(np.zeros((2, 4, 20, 30)), axis_labels=("t", "c", "y", "x")), "TCYX", (2, 4, 20, 30)),
        (Image(np.zeros((20, 30, 4)), axis_labels=("y", "x", "c")), "YXC", (20, 30, 4)),
        (Image(np.zeros((2, 3, 4, 20, 30))), "ITZYX", (2, 3, 4, 20, 30)),
        (Image(pyramid(), multiscale=True), "YX", (40, 48)),
        (Image(da.zeros((3, 20, 30), chunks=10, dtype="int16")), "ZYX", (3, 20, 30)),
        (Image(np.zeros((20, 30), bool)), "YX", (20, 30)),
    ],
    ids=["grey", "rgb", "rgba stack", "stack", "labelled", "y first", "5-D", "multiscale", "dask", "bool"],
)
def test_layer_becomes_image_at_full_resolution_in_its_own_dtype(layer: Any, axes: str, shape: tuple[int, ...]) -> None:
    image = take_snapshot(layer).read()
    data = layer.data[0] if layer.multiscale else layer.data
    assert (image.axes, image.pixels.shape, image.pixels.dtype) == (axes, shape, data.dtype)
    np.testing.assert_array_equal(image.pixels, np.asarray(data))


def test_what_the_user_edits_afterwards_does_not_matter() -> None:
    pixels = np.ones((20, 30))
    layer, labels = Image(pixels), napari.layers.Labels(np.zeros((20, 30), int))
    snapshot = take_snapshot(layer, mask_layer=labels)
    pixels[:], labels.data[:] = 7, 1
    image = snapshot.read()
    assert image.pixels.max() == 1
    assert image.mask is not None
    assert not image.mask.any()


def test_dask_is_computed_only_when_read() -> None:
    computed = []

    def block(values: np.ndarray) -> np.ndarray:
        computed.append(values.shape)
        return values

    lazy = da.zeros((3, 20, 30), chunks=(1, 20, 30)).map_blocks(block, meta=np.empty((0, 0, 0)))
    layer = Image(lazy, contrast_limits=(0, 1))
    before = len(computed)
    snapshot = take_snapshot(layer, plane_at=(1.0, 0.0, 0.0))
    assert len(computed) == before
    assert snapshot.read().pixels.shape == (20, 30)
    assert len(computed) == before + 1  # one plane, one block


def test_reading_a_lazy_stack_stops_between_planes() -> None:
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(Cancelled, match="read"):
        take_snapshot(Image(da.zeros((9, 20, 30), chunks=(1, 20, 30)), contrast_limits=(0, 1))).read(stop)
    assert len(asked) == 3


@pytest.mark.parametrize(("point", "plane"), [((4.2, 0, 0), 2), ((0, 0, 0), 0), ((99, 0, 0), 4), ((-9, 0, 0), 0)])
def test_current_plane_is_the_one_through_the_point_in_world_coordinates(point: Any, plane: int) -> None:
    pixels = np.arange(5, dtype="float32")[:, None, None] * np.ones((20, 30), "float32")
    snapshot = take_snapshot(Image(pixels, scale=(2, 0.5, 0.5)), plane_at=point)
    assert snapshot.axes == "YX"
    assert (snapshot.read().pixels == plane).all()


def test_current_plane_takes_its_part_of_the_space() -> None:
    angle = np.deg2rad(30)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    layer = Image(
        np.zeros((5, 20, 30)),
        scale=(2, 0.5, 0.25),
        translate=(10, 3, 4),
        rotate=turn,
        affine=np.diag([1, 2, 3, 1]),
        units=("s", "um", "nm"),
        axis_labels=("t", "y", "x"),
    )
    space = take_snapshot(layer, plane_at=(0, 0, 0)).space
    np.testing.assert_allclose(space["scale"], (0.5, 0.25))
    np.testing.assert_allclose(space["translate"], (3, 4))
    np.testing.assert_allclose(space["rotate"], turn[1:, 1:], atol=1e-12)
    np.testing.assert_allclose(space["affine"], np.diag([2, 3, 1]))
    assert [str(unit) for unit in space["units"]] == ["micrometer", "nanometer"]
    assert space["axis_labels"] == ("y", "x")
    assert take_snapshot(layer).pixel_size_um == pytest.approx({"Y": 0.5, "X": 0.00025})


def test_fingerprint_tells_single_values_apart() -> None:
    pixels = np.zeros((20, 30), "uint16")
    other = pixels.copy()
    other[3, 4] = 1
    assert fingerprint(pixels) == fingerprint(np.asfortranarray(pixels)) != fingerprint(other)


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (napari.layers.Labels(np.zeros((20, 30), int)), "Labels layer"),
        (napari.layers.Points(np.zeros((2, 2))), "Points layer"),
    ],
)
def test_other_layers_are_refused(layer: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        take_snapshot(layer)
