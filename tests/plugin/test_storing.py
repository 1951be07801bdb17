"""Layers larger than memory in a real viewer: block by block into stores, and shown from there."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

from napari_vae_repair import large
from napari_vae_repair.errors import InputError, SettingsError
from napari_vae_repair.image.files import read_image, write_image
from napari_vae_repair.pipeline import restore
from napari_vae_repair.plugin import result_folder, storing
from napari_vae_repair.plugin.layers import METADATA_KEY
from napari_vae_repair.plugin.snapshot import take_snapshot
from napari_vae_repair.plugin.storing import check_fits, goes_into_stores
from napari_vae_repair.settings import Settings, make_settings
from napari_vae_repair.stored import Stored

pytestmark = pytest.mark.gui

Noisy = Callable[..., np.ndarray]
Finish = Callable[[Any], Any]
SIDES = (1060, 48)  # of two blocks
FAST = make_settings(device="cpu", samples=0)


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, preferences: Any, tmp_path: Path) -> Path:
    """Where large results are written; every lazy layer is large."""
    monkeypatch.setattr(large, "free_memory_bytes", lambda: 10**8)
    preferences.store_folder = str(tmp_path / "results")
    return tmp_path / "results"


def lazy(pixels: np.ndarray) -> da.Array:
    return da.from_array(pixels, chunks=(300, 48, *pixels.shape[2:]))


def level(layer: Any) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers]


# ---- the result


@pytest.mark.usefixtures("float32")
def test_a_large_layer_becomes_stores_that_look_and_lie_as_results_in_memory_do(
    viewer: Any, docked: Any, results: Path, noisy: Noisy, finish: Finish
) -> None:
    pixels = noisy(*SIDES, dtype="uint16")
    space = {"scale": (0.5, 0.2), "translate": (3, 4), "units": ("um", "um")}
    source = viewer.add_image(lazy(pixels), name="a/scan", contrast_limits=(20, 250), gamma=0.7, **space)
    docked.show_settings(FAST)
    docked.restore_button.changed.emit(True)
    stored = finish(docked)
    assert isinstance(stored, Stored)
    assert stored.report.blocks == 2
    assert names(viewer) == ["a/scan", "a/scan residual", "a/scan restored"]
    whole, span = restore(pixels, FAST), float(np.ptp(pixels))
    for role, expected in (("residual", whole.residual), ("restored", whole.restored)):
        layer = viewer.layers[f"a/scan {role}"]
        assert isinstance(level(layer), da.Array)
        assert level(layer).dtype == np.float32
        assert np.abs(level(layer).compute() - expected).max() < 1e-3 * span
        np.testing.assert_allclose(layer.data_to_world((5, 6)), source.data_to_world((5, 6)))
        assert layer.units == source.units
        facts = layer.metadata[METADATA_KEY]
        assert facts["store"] == str(results / "a_scan 1" / f"{role}.ome.zarr")
        np.testing.assert_array_equal(read_image(facts["store"]).pixels, level(layer))
        assert (facts["role"], facts["settings"]["samples"], facts["source_dtype"]) == (role, 0, "uint16")
    restored = viewer.layers["a/scan restored"]
    assert (restored.visible, viewer.layers["a/scan residual"].visible) == (True, False)
    assert (restored.gamma, restored.contrast_limits) == (source.gamma, source.contrast_limits)
    low, high = viewer.layers["a/scan residual"].contrast_limits
    assert -low == high == pytest.approx(np.percentile(np.abs(whole.residual), 99.5), rel=0.2)
    assert str(results / "a_scan 1") in docked.status.value
    assert docked.layer.value is source
    assert "a/scan restored" in docked.take_settings(restored)
    assert docked.save_button.enabled


@pytest.mark.parametrize("rgb", [False, True], ids=["pyramid", "colours"])
def test_pyramids_and_colours_with_their_uncertainty(
    viewer: Any, docked: Any, results: Path, noisy: Noisy, noisy_rgb: np.ndarray, finish: Finish, rgb: bool
) -> None:
    pixels = noisy_rgb if rgb else noisy(40, 48)
    levels = lazy(pixels) if rgb else [lazy(pixels), lazy(pixels[::2, ::2])]
    viewer.add_image(levels, name="it", multiscale=not rgb, rgb=rgb)
    settings = make_settings(FAST, samples=2)
    docked.show_settings(settings)
    docked.start()
    assert finish(docked) is not None
    assert names(viewer) == ["it", "it uncertainty", "it residual", "it restored"]
    expected = restore(pixels, settings)
    for role, values in (("uncertainty", expected.std), ("restored", expected.restored)):
        layer = viewer.layers[f"it {role}"]
        assert layer.rgb == rgb
        assert np.abs(np.asarray(level(layer)) - values).max() < 1e-3 * float(np.ptp(pixels))


def test_what_is_small_or_in_memory_is_restored_in_one_piece(
    results: Path, noisy: Noisy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.layers import Image

    def large_one(layer: Any, at: Any = None) -> bool:
        return goes_into_stores(take_snapshot(layer, plane_at=at), FAST)

    stack = Image(da.from_array(noisy(3, 24, 32), chunks=24))
    assert large_one(stack)
    assert not large_one(Image(noisy(24, 32)))
    monkeypatch.setattr(large, "free_memory_bytes", lambda: 2 * large.whole_image_bytes(2 * 24 * 32))
    assert large_one(stack)
    assert not large_one(stack, (1, 0, 0))


def test_kept_samples_count_also_where_their_number_is_the_usual(
    results: Path, noisy: Noisy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.layers import Image

    source = take_snapshot(Image(da.from_array(noisy(24, 32), chunks=24)))
    monkeypatch.setattr(large, "free_memory_bytes", lambda: 2 * large.whole_image_bytes(24 * 32))
    assert not goes_into_stores(source, make_settings(keep_samples=False))
    assert goes_into_stores(source, make_settings(keep_samples=True))


def test_running_again_takes_the_place_of_the_files_before_in_the_cache_folder(
    viewer: Any, docked: Any, results: Path, noisy: Noisy, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_folder, "cache_folder", lambda: results)
    pixels = lazy(noisy(40, 48))
    viewer.add_image([pixels, pixels[::2, ::2]], name="scan")
    docked.show_settings(FAST)
    for _ in range(2):
        docked.start()
        finish(docked)
    assert names(viewer) == ["scan", "scan residual", "scan restored"]
    assert sorted(path.name for path in results.iterdir()) == ["scan 2"]
    assert np.asarray(level(viewer.layers["scan restored"])).min() > 20  # zarr would give 0 where files are gone


def test_files_of_a_renamed_layer_and_of_a_volume_before_its_plane_stay(
    viewer: Any, docked: Any, results: Path, noisy: Noisy, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_folder, "cache_folder", lambda: results)
    monkeypatch.setattr(large, "free_memory_bytes", lambda: 2 * large.whole_image_bytes(24 * 32))
    viewer.add_image(da.from_array(noisy(2, 24, 32), chunks=24), name="scan")
    docked.show_settings(FAST)
    docked.start()
    finish(docked)
    viewer.layers["scan restored"].name = "mine"
    docked.start()
    finish(docked)
    assert sorted(path.name for path in results.iterdir()) == ["scan 1", "scan 2"]
    assert np.asarray(level(viewer.layers["mine"])).min() > 20
    viewer.layers.remove("mine")
    docked.plane_only.value = True
    docked.start()
    assert finish(docked).restored.shape == (24, 32)
    gc.collect()
    assert sorted(path.name for path in results.iterdir()) == ["scan 1", "scan 2"]


# ---- what does not end well


def test_cancel_leaves_no_layer_and_no_file(
    viewer: Any, docked: Any, results: Path, noisy: Noisy, finish: Finish, qtbot: Any
) -> None:
    viewer.add_image(lazy(np.tile(noisy(*SIDES), (1, 8))), name="scan")
    docked.show_settings(FAST)
    docked.start()
    qtbot.waitUntil(lambda: "of 2 blocks" in docked.status.value, timeout=60_000)
    assert list(results.rglob(".restored.ome.zarr.*.part"))
    assert not docked.finish_button.enabled
    began = time.monotonic()
    docked.cancel()
    assert finish(docked) is None
    assert time.monotonic() - began < 1.5
    assert names(viewer) == ["scan"]
    assert list(results.iterdir()) == []
    assert docked.placed is None


def test_an_error_on_the_way_is_told_and_leaves_nothing(
    viewer: Any, docked: Any, results: Path, noisy: Noisy, finish: Finish, told: list[str]
) -> None:
    def fail(block: np.ndarray) -> np.ndarray:
        raise OSError("the disk is gone")

    broken = da.from_array(noisy(40, 48), chunks=24).map_blocks(fail, dtype="float32", meta=np.empty((0, 0), "float32"))
    layer = viewer.add_image(da.zeros((40, 48), dtype="float32"), name="scan", contrast_limits=(0, 1))
    viewer.layers.selection.active = None
    layer.visible = False
    layer.data = broken
    docked.show_settings(FAST)
    docked.start()
    assert finish(docked) is None
    assert any("the disk is gone" in message for message in told)
    assert (names(viewer), list(results.iterdir())) == (["scan"], [])


def test_a_finished_result_that_cannot_be_shown_stays_in_its_files(
    viewer: Any, docked: Any, results: Path, noisy: Noisy, finish: Finish, told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(*_: Any) -> Any:
        raise OSError("no room for layers")

    monkeypatch.setattr(storing, "stored_layers", fail)
    viewer.add_image(lazy(noisy(40, 48)), name="scan")
    docked.show_settings(FAST)
    docked.start()
    assert finish(docked) is None
    assert any("no room for layers" in message for message in told)
    assert read_image(results / "scan 1" / "restored.ome.zarr").pixels.shape == (40, 48)


def test_what_cannot_be_done_is_told_before_it_begins(
    viewer: Any, docked: Any, results: Path, preferences: Any, noisy: Noisy
) -> None:
    viewer.add_image(lazy(noisy(40, 48)), name="scan")
    docked.show_settings(make_settings(FAST, samples=4, keep_samples=True))
    with pytest.raises(SettingsError, match="its samples are to be kept"):
        docked.start()
    docked.show_settings(FAST)
    preferences.scheduler = "tcp://127.0.0.1:9"
    with pytest.raises(InputError, match="not opened from a file"):
        docked.start()
    preferences.scheduler = "nowhere"
    with pytest.raises(SettingsError, match=r"scheduler is 'nowhere'.*Preferences"):
        docked.start()
    assert not docked.running
    assert not results.exists()


# ---- a cluster


@pytest.fixture
def opened(viewer: Any, noisy: Noisy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A lazy layer that our reader opened."""
    from napari_vae_repair.plugin import reader

    monkeypatch.setattr(reader, "LAZY_FROM_BYTES", 1)
    path = write_image(tmp_path / "scan.ome.zarr", noisy(40, 48), "YX")
    (layer,) = viewer.open(path, plugin="napari-vae-repair")
    return layer


def test_a_scheduler_has_the_layers_file_restored_by_its_workers(
    viewer: Any, docked: Any, results: Path, opened: Any, preferences: Any, finish: Finish
) -> None:
    from distributed import LocalCluster

    marks = np.zeros((40, 48), dtype=np.uint8)
    marks[10:14, 10:14] = 1
    docked.mask_layer.value = viewer.add_labels(marks, name="marks")
    docked.layer.value = opened
    docked.show_settings(FAST)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as one:
        preferences.scheduler = one.scheduler_address
        docked.start()
        stored = finish(docked)
    assert stored.report.device == one.scheduler_address
    pixels = np.asarray(level(opened))
    expected = restore(pixels, FAST, mask=marks > 0).restored
    restored = np.asarray(level(viewer.layers["scan restored"]))
    assert np.abs(restored - expected).max() < 1e-3 * float(np.ptp(pixels))


def test_a_wrong_address_is_told_in_the_viewer(
    viewer: Any, docked: Any, results: Path, opened: Any, preferences: Any, finish: Finish, told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("napari_vae_repair.cluster.CONNECT_S", 1)
    preferences.scheduler = "tcp://127.0.0.1:9"
    docked.layer.value = opened
    docked.show_settings(FAST)
    docked.start()
    assert finish(docked) is None
    assert any("No scheduler answers at tcp://127.0.0.1:9" in message for message in told)
    assert docked.status.value == "Stopped by an error; nothing was changed."
    assert (names(viewer), list(results.iterdir())) == (["scan"], [])


# ---- the tabs


def test_tabs_say_what_a_large_result_cannot_give_and_nothing_fails(
    viewer: Any, docked: Any, results: Path, noisy: Noisy, finish: Finish, qtbot: Any, told: list[str]
) -> None:
    source = viewer.add_image(lazy(noisy(40, 48)), name="scan", contrast_limits=(50, 200))
    docked.show_settings(FAST)
    docked.start()
    finish(docked)
    for tab in (docked.view, docked.trust, docked.uncertainty, docked.comparison, docked.models):
        docked.tabs.setCurrentWidget(tab)
    assert (docked.restoration, docked.placed.layer()) == (None, source)
    assert "larger than memory" in docked.trust.summary.text()
    assert not docked.trust.judge_button.isEnabled()
    assert not docked.trust.judge()
    docked.trust.save("nowhere.html")
    assert "larger than memory" in docked.status.value
    assert "larger than memory" in docked.uncertainty.hint.text()
    assert not docked.uncertainty.hint.isHidden()
    assert not docked.uncertainty.probability.isEnabled()
    assert not docked.uncertainty.cast_button.isEnabled()
    assert not docked.uncertainty.labels.measure_button.isEnabled()
    assert docked.uncertainty.labels.hint.text() == ""
    with pytest.raises(InputError, match="lies in files"):
        docked.uncertainty.probability.show_probability(100)
    with pytest.raises(InputError, match="lies in files"):
        docked.uncertainty.labels.measure(viewer.add_labels(np.ones((40, 48), dtype=int)))
    viewer.layers.selection.active = viewer.layers["scan restored"]
    docked.uncertainty.cast()
    qtbot.waitUntil(lambda: any("lies in files" in message for message in told), timeout=20_000)
    qtbot.waitUntil(lambda: not docked.running)
    docked.view.splits.setChecked(True)
    assert "scan before" in viewer.layers
    docked.view.flip()
    assert docked.status.value == "Before: the source."
    assert docked.models.save_button.isEnabled()
    assert "restore_lazily(" in docked.as_python()
    with pytest.raises(InputError, match="Finding damage needs 'scan' in memory"):
        docked.damage.find_damage()


def test_what_is_in_view_of_a_large_layer_is_compared_and_all_of_it_refused(
    viewer: Any, docked: Any, noisy: Noisy, qtbot: Any, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = viewer.add_image(lazy(noisy(600, 600)), name="scan", contrast_limits=(50, 200))
    monkeypatch.setattr(large, "free_memory_bytes", lambda: 2 * large.whole_image_bytes(100 * 100))
    viewer.add_shapes([[[20, 30], [20, 70], [60, 70], [60, 30]]], shape_type="rectangle", name="part")
    docked.layer.value = layer
    docked.show_settings(FAST)
    tab = docked.comparison
    tab.methods.tick("median")
    tab.start()
    qtbot.waitUntil(lambda: any("Comparing needs 'scan' in memory" in message for message in told), timeout=20_000)
    qtbot.waitUntil(lambda: not docked.running)
    tab.region.setCurrentIndex(tab.region.count() - 1)
    tab.start()
    qtbot.waitUntil(lambda: tab.comparison is not None and not docked.running, timeout=30_000)
    assert tab.comparison.rows[0].restored.shape == (41, 41)


def test_layers_in_memory_always_fit(results: Path, noisy: Noisy) -> None:
    import napari

    check_fits(take_snapshot(napari.layers.Image(noisy(40, 48))), Settings(), "Training")
    with pytest.raises(InputError, match="Training needs 'scan' in memory"):
        check_fits(take_snapshot(napari.layers.Image(lazy(noisy(40, 48)), name="scan")), Settings(), "Training")
