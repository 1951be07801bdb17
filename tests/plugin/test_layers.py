from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import napari.layers
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_vae_repair.pipeline import restore
from napari_vae_repair.plugin.layers import METADATA_KEY, add_results, our_facts, result_layers, take_snapshot
from napari_vae_repair.plugin.snapshot import Snapshot
from napari_vae_repair.restoration import Restoration
from napari_vae_repair.settings import Settings

Made = tuple[Restoration, Snapshot]


def made(layer: Any, settings: Settings, **changes: Any) -> Made:
    snapshot = take_snapshot(layer)
    return restore(snapshot.read(), settings, **changes), snapshot


@pytest.fixture(scope="module")
def grey(noisy: Callable[..., np.ndarray], tiny: Settings, one_thread: None) -> Made:
    layer = napari.layers.Image(
        noisy(24, 32, dtype="uint16"),
        name="cells",
        scale=(0.5, 0.25),
        translate=(3, 4),
        rotate=30,
        shear=[0.1],
        affine=np.diag([2, 3, 1]),
        units=("um", "um"),
        axis_labels=("y", "x"),
        colormap="green",
        gamma=0.7,
        blending="additive",
        contrast_limits=(60, 190),
    )
    return made(layer, tiny)


@pytest.fixture(scope="module")
def colour(noisy_rgb: np.ndarray, tiny: Settings, one_thread: None) -> Made:
    return made(napari.layers.Image(noisy_rgb, rgb=True, name="photo"), tiny)


@pytest.fixture(scope="module")
def classic(noisy_rgb: np.ndarray, tiny: Settings, one_thread: None) -> Made:
    return made(napari.layers.Image(noisy_rgb, rgb=True, name="photo"), tiny, preset="classic")


def by_role(restoration: Restoration, snapshot: Snapshot) -> dict[str, Any]:
    results = result_layers(restoration, snapshot)
    return {meta["metadata"][METADATA_KEY]["role"]: (data, meta, kind) for data, meta, kind in results}


def test_names_kinds_and_order(grey: Made, classic: Made) -> None:
    assert [(meta["name"], kind) for _, meta, kind in result_layers(*grey)] == [
        ("cells uncertainty", "image"),
        ("cells residual", "image"),
        ("cells restored", "image"),
    ]
    assert [(meta["name"], kind) for _, meta, kind in result_layers(*classic)][2:] == [
        ("photo segmentation", "labels"),
        ("photo restored", "image"),
    ]


def test_one_sample_has_no_uncertainty(noisy: Callable[..., np.ndarray], tiny: Settings, one_thread: None) -> None:
    results = result_layers(*made(napari.layers.Image(noisy(16, 16)), tiny, samples=1))
    assert [meta["metadata"][METADATA_KEY]["role"] for _, meta, _ in results] == ["residual", "restored"]


def test_results_lie_where_the_source_lies_and_look_like_it(grey: Made) -> None:
    viewer = ViewerModel()
    restored = add_results(viewer, result_layers(*grey))[-1]
    space = grey[1].space
    for key in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_array_equal(getattr(restored, key), space[key])
    np.testing.assert_array_equal(restored.affine.affine_matrix, space["affine"])
    assert [str(unit) for unit in restored.units] == ["micrometer", "micrometer"]
    assert restored.axis_labels == ("y", "x")
    assert (restored.colormap.name, restored.gamma, restored.blending) == ("green", 0.7, "additive")
    assert restored.contrast_limits == [60, 190]
    assert restored.data.dtype == np.float32


def test_residual_is_diverging_with_symmetric_limits(grey: Made) -> None:
    data, meta, _ = by_role(*grey)["residual"]
    low, high = meta["contrast_limits"]
    assert low == -high
    assert 0.98 < np.mean(np.abs(data) <= high) < 1.0
    colours = napari.layers.Image(data, colormap=meta["colormap"]).colormap.map(np.array([0.0, 0.5, 1.0]))
    assert colours[0, 2] > colours[0, 0]  # blue below zero
    assert colours[2, 0] > colours[2, 2]  # red above
    assert np.ptp(colours[1, :3]) < 0.05  # grey at zero


def test_colour_stays_colour_and_keeps_its_limits(colour: Made) -> None:
    for role, (data, meta, _) in by_role(*colour).items():
        assert data.shape == (40, 48, 3), role
        assert meta["rgb"], role
        assert napari.layers.Image(data, **meta).ndim == 2
    assert by_role(*colour)["restored"][1]["contrast_limits"] == [0, 255]


def test_a_chain_with_grey_drops_the_colour_and_takes_limits_from_the_values(classic: Made) -> None:
    restoration, _ = classic
    data, meta, _ = by_role(*classic)["restored"]
    assert (data.shape, meta["rgb"]) == ((40, 48), False)
    low, high = meta["contrast_limits"]
    assert np.percentile(data, 0.4) <= low < high <= np.percentile(data, 99.6)
    assert not restoration.report.in_source_units
    assert by_role(*classic)["segmentation"][0].shape == (40, 48)


def test_provenance_is_plain_and_tells_how(grey: Made, classic: Made) -> None:
    facts = by_role(*grey)["restored"][1]["metadata"][METADATA_KEY]
    assert json.loads(json.dumps(facts))["settings"]["epochs"] == 1
    assert (facts["source"], facts["in_source_units"], facts["inverted_to"]) == ("cells", True, "source")
    assert facts["versions"]["torch"] != "not installed"
    stopped = by_role(*classic)["residual"][1]["metadata"][METADATA_KEY]["inverted_to"]
    assert stopped == classic[0].report.inverted_to == "noise_strength"


def test_a_second_run_gives_our_layers_new_values_and_keeps_what_the_user_set(grey: Made, classic: Made) -> None:
    viewer = ViewerModel()
    layers = add_results(viewer, result_layers(*grey))
    layers[1].visible, layers[1].colormap = True, "PiYG"
    restored, facts = layers[-1], our_facts(layers[-1])
    again = [(data + 1, meta | {"translate": (7, 8)}, kind) for data, meta, kind in result_layers(*grey)]
    assert add_results(viewer, again) == layers == list(viewer.layers)
    assert (layers[1].visible, layers[1].colormap.name) == (True, "PiYG")
    np.testing.assert_array_equal(restored.data, again[-1][0])
    np.testing.assert_array_equal(restored.translate, (7, 8))
    assert our_facts(restored) == facts


def test_a_second_run_that_drops_the_colour_makes_a_new_layer(colour: Made, classic: Made) -> None:
    viewer = ViewerModel()
    add_results(viewer, result_layers(*colour))
    add_results(viewer, result_layers(*classic))
    assert sorted(layer.name for layer in viewer.layers) == [
        "photo residual",
        "photo restored",
        "photo segmentation",
        "photo uncertainty",
    ]
    assert not viewer.layers["photo restored"].rgb


def test_a_users_layer_of_the_same_name_is_left_alone(grey: Made) -> None:
    viewer = ViewerModel()
    users = viewer.add_image(np.zeros((5, 5)), name="cells restored")
    for _ in range(2):
        add_results(viewer, result_layers(*grey))
    assert users in viewer.layers
    assert users.data.shape == (5, 5)
    assert sum(our_facts(layer) is not None for layer in viewer.layers) == 3


def test_a_result_that_the_user_renamed_is_kept(grey: Made) -> None:
    viewer = ViewerModel()
    kept = add_results(viewer, result_layers(*grey))[-1]
    kept.name = "the good one"
    add_results(viewer, result_layers(*grey))
    assert {"the good one", "cells restored"} <= {layer.name for layer in viewer.layers}
