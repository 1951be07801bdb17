from __future__ import annotations

from typing import Any

import napari.layers
import numpy as np
import pytest

from napari_vae_repair.errors import InputError
from napari_vae_repair.plugin.snapshot import take_snapshot

SQUARE = np.array([[4.0, 6.0], [4.0, 11.0], [9.0, 11.0], [9.0, 6.0]])


def mask_of(layer: Any, mask_layer: Any, **options: Any) -> np.ndarray:
    mask = take_snapshot(layer, mask_layer=mask_layer, **options).mask
    assert mask is not None
    return mask


def test_labels_mark_where_they_are_not_zero() -> None:
    labels = np.zeros((20, 30), int)
    labels[2, 3], labels[4, 5] = 1, 9
    mask = mask_of(napari.layers.Image(np.zeros((20, 30))), napari.layers.Labels(labels))
    assert sorted(zip(*np.nonzero(mask), strict=True)) == [(2, 3), (4, 5)]


def test_labels_of_a_plane_count_in_every_plane_and_of_a_colour_image_without_samples() -> None:
    labels = np.zeros((40, 50), int)
    labels[2, 3] = 1
    stack = mask_of(napari.layers.Image(np.zeros((4, 40, 50))), napari.layers.Labels(labels))
    colour = mask_of(napari.layers.Image(np.zeros((40, 50, 3), "uint8"), rgb=True), napari.layers.Labels(labels))
    assert stack.shape == (4, 40, 50)
    assert stack.sum() == 4
    assert (colour == (labels > 0)).all()


def test_labels_of_a_stack_are_cut_to_the_current_plane() -> None:
    labels = np.zeros((4, 20, 30), int)
    labels[2, 3, 4] = 1
    image = napari.layers.Image(np.zeros((4, 20, 30)))
    mask = mask_of(image, napari.layers.Labels(labels), plane_at=(2, 0, 0))
    assert list(zip(*np.nonzero(mask), strict=True)) == [(3, 4)]


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_shapes_mark_the_pixels_inside_whatever_the_scales(scale: float) -> None:
    image = napari.layers.Image(np.zeros((20, 30)), scale=(scale, scale))
    shapes = napari.layers.Shapes([SQUARE * scale], shape_type="polygon")
    mask = mask_of(image, shapes)
    assert mask[5:9, 7:11].all()
    assert not mask[:4].any()
    assert not mask[:, 12:].any()


def test_shapes_of_a_stack_mark_their_own_plane_and_flat_ones_all() -> None:
    image = napari.layers.Image(np.zeros((4, 20, 30)))
    there = np.column_stack([np.full(4, 2.0), SQUARE])
    deep = mask_of(image, napari.layers.Shapes([there], shape_type="polygon"))
    flat = mask_of(image, napari.layers.Shapes([SQUARE], shape_type="polygon"))
    assert deep.any(axis=(1, 2)).tolist() == [False, False, True, False]
    assert flat.any(axis=(1, 2)).all()


def test_empty_shapes_mark_nothing() -> None:
    assert not mask_of(napari.layers.Image(np.zeros((20, 30))), napari.layers.Shapes(ndim=2)).any()


@pytest.mark.parametrize(
    ("mask_layer", "match"),
    [
        (napari.layers.Labels(np.zeros((20, 31), int)), "shape"),
        (napari.layers.Labels(np.zeros((3, 20, 30), int)), "shape"),
        (napari.layers.Points(np.zeros((1, 2))), "Points"),
        (napari.layers.Image(np.zeros((20, 30))), "Image"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask_layer: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        take_snapshot(napari.layers.Image(np.zeros((20, 30))), mask_layer=mask_layer)
