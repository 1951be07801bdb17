from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import napari.layers
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_vae_repair.errors import InputError
from napari_vae_repair.pipeline import restore
from napari_vae_repair.plugin.derived import cast_like_source
from napari_vae_repair.plugin.layers import (
    FILLED_KEY,
    METADATA_KEY,
    add_results,
    our_facts,
    our_layer,
    place_layer,
    result_layers,
    take_snapshot,
)
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


# ---- samples -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampled(grey: Made) -> Made:
    """`grey` with three samples."""
    restoration, snapshot = grey
    samples = np.stack([restoration.restored + step for step in (-1, 0, 1)]).astype(np.float32)
    return replace(restoration, samples=samples), snapshot


def test_samples_are_one_hidden_layer_to_scrub_that_lies_and_looks_like_the_restored(sampled: Made) -> None:
    viewer = ViewerModel()
    layers = {layer.name: layer for layer in add_results(viewer, result_layers(*sampled))}
    samples, restored = layers["cells samples"], layers["cells restored"]
    assert samples.data.shape == (3, 24, 32)
    assert samples.axis_labels == ("sample", "y", "x")
    assert (samples.scale[0], samples.visible) == (1, False)
    assert samples.contrast_limits == restored.contrast_limits
    assert samples.colormap.name == restored.colormap.name
    for point in ((0, 0), (5, 7)):
        np.testing.assert_allclose(samples.data_to_world((2, *point)), [2, *restored.data_to_world(point)])
    assert [str(unit) for unit in samples.units] == ["pixel", "micrometer", "micrometer"]
    viewer.dims.set_current_step(0, 2)
    assert viewer.dims.axis_labels[0] == "sample"
    assert viewer.dims.range[0].stop == 2


def test_samples_of_a_stack_and_of_colours_keep_their_axes(
    noisy: Callable[..., np.ndarray], noisy_rgb: np.ndarray, tiny: Settings, one_thread: None
) -> None:
    stack = made(napari.layers.Image(noisy(2, 24, 32), name="a", scale=(3, 1, 1)), tiny, keep_samples=True)
    photo = made(napari.layers.Image(noisy_rgb, rgb=True, name="b"), tiny, keep_samples=True)
    viewer = ViewerModel()
    for result in (stack, photo):
        add_results(viewer, result_layers(*result))
    assert viewer.layers["a samples"].data.shape == (2, 2, 24, 32)
    np.testing.assert_array_equal(viewer.layers["a samples"].scale, (1, 3, 1, 1))
    assert viewer.layers["b samples"].rgb
    assert viewer.layers["b samples"].ndim == 3


def test_a_run_without_samples_takes_those_of_the_last_away(sampled: Made, grey: Made) -> None:
    viewer = ViewerModel()
    add_results(viewer, result_layers(*sampled))
    assert "cells samples" in viewer.layers
    fewer = replace(grey[0], report=replace(grey[0].report, samples=0))
    add_results(viewer, result_layers(fewer, grey[1]))
    assert [layer.name for layer in viewer.layers] == ["cells residual", "cells restored"]


def test_what_is_not_of_that_run_stays(sampled: Made, grey: Made) -> None:
    viewer = ViewerModel()
    users = viewer.add_image(np.zeros((5, 5)), name="cells samples")
    other = result_layers(sampled[0], replace(sampled[1], name="other"))
    add_results(viewer, other)
    add_results(viewer, result_layers(*sampled))
    viewer.layers["cells samples [1]"].name = "samples I want to keep"
    add_results(viewer, result_layers(*grey))
    names = {layer.name for layer in viewer.layers}
    assert users in viewer.layers
    assert {"samples I want to keep", "other samples", "other uncertainty"} <= names


# ---- filled pixels -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(grey: Made) -> Made:
    """`grey` with two damaged pixels."""
    damaged = np.zeros((24, 32), bool)
    damaged[3, 4:6] = True
    return replace(grey[0], damaged=damaged), grey[1]


def test_filled_pixels_can_be_told_from_measured_ones(filled: Made, grey: Made) -> None:
    viewer = ViewerModel()
    layers = {layer.name: layer for layer in add_results(viewer, result_layers(*filled))}
    restored, outline = layers["cells restored"], layers["cells filled"]
    np.testing.assert_array_equal(restored.metadata[FILLED_KEY], filled[0].damaged)
    assert FILLED_KEY not in layers["cells residual"].metadata
    np.testing.assert_array_equal(outline.data, filled[0].damaged)
    assert (outline.contour, outline.visible) == (1, False)
    np.testing.assert_allclose(outline.data_to_world((3, 4)), restored.data_to_world((3, 4)))
    add_results(viewer, result_layers(*grey))  # nothing was filled
    assert FILLED_KEY not in viewer.layers["cells restored"].metadata
    assert "cells filled" not in viewer.layers


def test_layers_with_filled_pixels_can_be_saved_and_opened(filled: Made, tmp_path: Path) -> None:
    from napari_vae_repair.plugin.reader import get_reader
    from napari_vae_repair.plugin.writer import write_layers

    layers = add_results(ViewerModel(), result_layers(*filled))
    (path,) = write_layers(str(tmp_path / "x.layers.ome.tif"), [layer.as_layer_data_tuple() for layer in layers])
    read = {meta["name"]: data for data, meta, _ in get_reader(path)(path)}  # type: ignore[misc]
    np.testing.assert_array_equal(read["cells filled"] > 0, filled[0].damaged)
    np.testing.assert_array_equal(read["cells restored"], filled[0].restored)


# ---- the source's dtype --------------------------------------------------------------------------


def restored_of(made_: Made, values: np.ndarray | None = None) -> Any:
    restoration, snapshot = made_
    changed = restoration if values is None else replace(restoration, restored=values.astype(np.float32))
    return add_results(ViewerModel(), result_layers(changed, snapshot.without_pixels()))[-1]


def test_a_restored_layer_is_rounded_to_its_sources_dtype(grey: Made) -> None:
    restored = restored_of(grey)
    (data, meta, kind), clipped = cast_like_source(restored)
    assert (data.dtype, meta["name"], kind, clipped) == (np.uint16, "cells restored uint16", "image", 0)
    assert np.abs(data - restored.data).max() <= 0.5
    viewer = ViewerModel()
    layer = place_layer(viewer, (data, meta, kind))
    assert our_layer(viewer, "cells", "cast") is layer
    assert json.loads(json.dumps(our_facts(layer)))["clipped"] == 0
    np.testing.assert_allclose(layer.data_to_world((5, 7)), restored.data_to_world((5, 7)))
    assert layer.contrast_limits == restored.contrast_limits
    assert our_facts(restored)["role"] == "restored"  # type: ignore[index]


def test_only_what_leaves_the_range_is_clipped_and_it_is_told(grey: Made) -> None:
    values = np.full((24, 32), 7.5)
    values[0, :5] = (-0.4, -0.6, 65535.4, 65535.6, np.nan)
    (data, _, _), clipped = cast_like_source(restored_of(grey, values))
    assert clipped == 3
    np.testing.assert_array_equal(data[0, :6], (0, 0, 65535, 65535, 0, 8))


def test_what_cannot_be_cast_is_refused(grey: Made, classic: Made) -> None:
    with pytest.raises(InputError, match="not a result of this plugin"):
        cast_like_source(napari.layers.Image(np.zeros((4, 4))))
    with pytest.raises(InputError, match="units after the step 'noise_strength'"):
        cast_like_source(restored_of(classic))
    with pytest.raises(InputError, match="dtype is float32"):
        cast_like_source(restored_of((grey[0], replace(grey[1], dtype="float32"))))
    with pytest.raises(InputError, match="dtype is unknown"):
        cast_like_source(restored_of((grey[0], replace(grey[1], dtype=""))))
