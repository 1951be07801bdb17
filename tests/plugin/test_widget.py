"""The widget in a real viewer, from Restore to the layers, and everything that comes in between."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import dask.array as da
import numpy as np
import pytest

from napari_vae_repair.chain import PRESETS, Normalise
from napari_vae_repair.errors import InputError, SettingsError
from napari_vae_repair.plugin import widget as widget_module
from napari_vae_repair.plugin.layers import METADATA_KEY
from napari_vae_repair.plugin.noise_fields import GIVEN, JOINT
from napari_vae_repair.plugin.snapshot import Snapshot
from napari_vae_repair.plugin.widget import VaeRepairWidget
from napari_vae_repair.restoration import Restoration
from napari_vae_repair.settings import EstimatedNoise, GivenNoise, LearnedNoise, Settings, make_settings

pytestmark = pytest.mark.gui

Noisy = Callable[..., np.ndarray]
Finish = Callable[[Any], Any]


def state(viewer: Any) -> list[tuple[str, int]]:
    return [(layer.name, id(layer)) for layer in viewer.layers]


def train(widget: Any, qtbot: Any, endless: Settings) -> Any:
    """Start a run that would take hours and wait until it trains."""
    widget.show_settings(endless)
    worker = widget.start()
    qtbot.waitUntil(lambda: "Training" in widget.status.value, timeout=60_000)
    return worker


# ---- the main job


def test_restore_adds_the_layers_with_name_space_and_look(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish
) -> None:
    source = viewer.add_image(noisy(24, 32, dtype="uint16"), name="cells", scale=(0.5, 0.2), units=("um", "um"))
    before = source.data.copy()
    docked.restore_button.changed.emit(True)
    result = finish(docked)
    assert isinstance(result, Restoration)
    assert docked.restoration is result
    assert docked.model is result.model
    assert [layer.name for layer in viewer.layers] == [
        "cells",
        "cells uncertainty",
        "cells residual",
        "cells restored",
    ]
    for layer in viewer.layers:
        np.testing.assert_array_equal(layer.scale, (0.5, 0.2))
        assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    np.testing.assert_array_equal(source.data, before)
    np.testing.assert_array_equal(viewer.layers["cells restored"].data, result.restored)
    np.testing.assert_allclose(result.restored + result.residual, before, atol=1e-3)
    assert viewer.layers["cells restored"].contrast_limits == source.contrast_limits
    assert viewer.layers["cells restored"].metadata[METADATA_KEY]["settings"]["epochs"] == 1
    assert docked.restore_button.enabled
    assert not docked.cancel_button.enabled
    assert docked.layer.value is source  # not the result that napari has selected


@pytest.mark.parametrize(
    ("make", "options", "shape"),
    [
        (lambda noisy: noisy(3, 24, 32), {}, (3, 24, 32)),
        (lambda noisy: noisy(2, 3, 24, 32), {"axis_labels": ("t", "c", "y", "x")}, (2, 3, 24, 32)),
        (lambda noisy: np.moveaxis(noisy(3, 40, 48, dtype="uint8"), 0, -1), {"rgb": True}, (40, 48, 3)),
        (lambda noisy: np.moveaxis(noisy(4, 40, 48, dtype="uint8"), 0, -1), {"rgb": True}, (40, 48, 3)),
        (lambda noisy: [noisy(24, 32), noisy(12, 16)], {"multiscale": True}, (24, 32)),
        (lambda noisy: da.from_array(noisy(3, 24, 32), chunks=(1, 24, 32)), {}, (3, 24, 32)),
        (lambda noisy: noisy(24, 32) > 125, {}, (24, 32)),
        (lambda noisy: noisy(24, 32, dtype=">u2")[::-1], {}, (24, 32)),
    ],
    ids=["stack", "time and channels", "rgb", "rgba", "multiscale", "dask", "bool", "big-endian, reversed"],
)
def test_every_kind_of_image_layer(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, make: Any, options: dict[str, Any], shape: Any
) -> None:
    viewer.add_image(make(noisy), name="layer", **options)
    docked.start()
    assert finish(docked) is not None
    restored = viewer.layers["layer restored"]
    assert restored.data.shape == shape
    assert restored.data.dtype == np.float32
    assert restored.rgb == bool(options.get("rgb"))
    assert restored.axis_labels == viewer.layers["layer"].axis_labels


@pytest.mark.parametrize("rgb", [False, True], ids=["grey", "rgb"])
def test_multiscale_in_multiscale_out(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, qtbot: Any, rgb: bool
) -> None:
    whole = np.moveaxis(noisy(3, 48, 64), 0, -1).astype(np.uint8) if rgb else noisy(48, 64, dtype="uint8")
    viewer.add_image([whole, whole[::2, ::2], whole[::4, ::4]], name="pyramid", multiscale=True, rgb=rgb)
    for _ in range(2):  # the second takes the place of the first
        docked.start()
        result = finish(docked)
        restored = viewer.layers["pyramid restored"]
        assert restored.multiscale
        assert [level.shape for level in restored.data] == [whole.shape, whole[::2, ::2].shape, whole[::4, ::4].shape]
        np.testing.assert_array_equal(restored.data[0], result.restored)
        halved = result.restored.reshape(24, 2, 32, 2, -1).mean(axis=(1, 3)).reshape(whole[::2, ::2].shape)
        np.testing.assert_allclose(restored.data[1], halved, rtol=1e-4, atol=1e-3)
    assert len(viewer.layers) == 4
    docked.uncertainty.cast_button.click()
    qtbot.waitUntil(lambda: "pyramid restored uint8" in viewer.layers, timeout=30_000)
    cast = viewer.layers["pyramid restored uint8"]
    assert cast.multiscale
    assert cast.data[2].dtype == np.uint8


def test_current_plane_only(viewer: Any, docked: Any, noisy: Noisy, finish: Finish) -> None:
    stack = noisy(4, 24, 32)
    viewer.add_image(stack, name="stack", scale=(2, 0.5, 0.5))
    viewer.dims.set_current_step(0, 2)
    docked.plane_only.value = True
    docked.start()
    result = finish(docked)
    np.testing.assert_allclose(result.prepared, stack[2], atol=1e-3)
    np.testing.assert_array_equal(viewer.layers["stack restored"].scale, (0.5, 0.5))


def test_a_mask_layer_marks_damage(viewer: Any, docked: Any, noisy: Noisy, finish: Finish) -> None:
    viewer.add_image(noisy(24, 32), name="image")
    labels = np.zeros((24, 32), int)
    labels[:6] = 1
    docked.mask_layer.value = viewer.add_labels(labels, name="scratch")
    docked.start()
    assert finish(docked).report.damaged_share == pytest.approx(0.25)


def test_a_saved_model_is_loaded_and_not_trained(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, tmp_path: Path
) -> None:
    viewer.add_image(noisy(24, 32), name="image")
    with pytest.raises(InputError, match="no model"):
        docked.save_model(tmp_path / "early.safetensors")
    docked.start()
    first = finish(docked)
    saved = docked.save_model(tmp_path / "model.safetensors")
    docked.model_from.value = "load a file"
    with pytest.raises(SettingsError, match="No model file"):
        docked.start()
    docked.model_file.value = saved
    docked.start()
    second = finish(docked)
    np.testing.assert_allclose(second.restored, first.restored, atol=1e-3)
    assert "train" not in second.report.seconds


def test_running_again_replaces_our_layers(viewer: Any, docked: Any, noisy: Noisy, finish: Finish) -> None:
    viewer.add_image(noisy(24, 32), name="image")
    for _ in range(2):
        docked.start()
        finish(docked)
    assert len(viewer.layers) == 4


def test_once_docked_it_loads_ahead_what_the_first_run_needs(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(widget_module, "load_ahead", lambda: calls.append(True))
    widget = VaeRepairWidget(viewer)
    assert calls == []
    viewer.window.add_dock_widget(widget)
    assert calls == [True]


# ---- cancelling, closing, pressing twice


def test_cancel_ends_within_a_second_and_leaves_the_viewer_as_it_was(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, qtbot: Any, endless: Settings
) -> None:
    viewer.add_image(noisy(64, 64), name="image")
    before = state(viewer), viewer.layers.selection.active
    train(docked, qtbot, endless)
    began = time.monotonic()
    docked.cancel_button.changed.emit(True)
    assert finish(docked) is None
    assert time.monotonic() - began < 1.0
    assert (state(viewer), viewer.layers.selection.active) == before
    assert docked.restoration is None
    assert docked.restore_button.enabled


def test_the_starters_result_comes_first_and_stays_when_adapting_is_cancelled(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, qtbot: Any
) -> None:
    viewer.add_image(noisy(64, 64), name="image")
    docked.show_settings(make_settings(adapt_seconds=600))
    docked.start()
    qtbot.waitUntil(lambda: "image restored" in viewer.layers, timeout=60_000)
    first = viewer.layers["image restored"].data.copy()
    qtbot.waitUntil(lambda: docked.finish_button.enabled, timeout=60_000)
    docked.cancel()
    assert finish(docked) is None
    np.testing.assert_array_equal(viewer.layers["image restored"].data, first)
    np.testing.assert_array_equal(docked.restoration.restored, first)
    assert "the result so far is kept" in docked.status.value
    assert not docked.finish_button.enabled


def test_cancelling_a_second_run_brings_the_first_result_back(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, qtbot: Any
) -> None:
    viewer.add_image(noisy(64, 64), name="image")
    docked.show_settings(make_settings(samples=3, keep_samples=True))
    docked.start()
    first = finish(docked)
    before = {layer.name: layer.data for layer in viewer.layers}
    docked.show_settings(make_settings(adapt_seconds=600, chain="float32, normalise(low=5)"))
    docked.start()
    qtbot.waitUntil(lambda: docked.finish_button.enabled, timeout=60_000)
    assert "image samples" not in viewer.layers
    docked.cancel()
    assert finish(docked) is None
    assert {layer.name for layer in viewer.layers} == set(before)
    for layer in viewer.layers:
        np.testing.assert_array_equal(layer.data, before[layer.name])
    assert docked.restoration is first
    assert "earlier result is back" in docked.status.value
    assert docked.take_settings(viewer.layers["image restored"])
    assert docked.current_settings() == first.settings


def test_cancelling_brings_back_what_was_left_of_the_first_result_alone(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, qtbot: Any
) -> None:
    viewer.add_image(noisy(64, 64), name="image")
    docked.show_settings(Settings())
    docked.start()
    finish(docked)
    viewer.layers.remove("image restored")
    docked.show_settings(make_settings(adapt_seconds=600))
    docked.start()
    qtbot.waitUntil(lambda: docked.finish_button.enabled, timeout=60_000)
    docked.cancel()
    assert finish(docked) is None
    assert [layer.name for layer in viewer.layers] == ["image", "image residual"]


def test_finish_ends_adapting_and_copies_a_call_that_does_it_again(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, qtbot: Any
) -> None:
    layer = viewer.add_image(noisy(64, 64), name="image")
    docked.show_settings(make_settings(adapt_seconds=600))
    docked.start()
    qtbot.waitUntil(lambda: docked.panel.loss_plot.isVisibleTo(docked.native), timeout=60_000)
    docked.finish_button.changed.emit(True)
    result = finish(docked)
    assert f"adapted in {result.model.training['adapted']['stopped_at']} steps" in result.report.text()
    names: dict[str, Any] = {"viewer": viewer}
    exec(docked.as_python(), names)
    np.testing.assert_array_equal(names["result"].restored, viewer.layers["image restored"].data)
    assert docked.take_settings(viewer.layers["image restored"]).endswith("'image restored'.")
    assert docked.current_settings().adapt_stop == result.model.training["adapted"]["stopped_at"]
    assert docked.layer.value is layer


def test_layers_wait_their_turn(viewer: Any, docked: Any, noisy: Noisy, finish: Finish, qtbot: Any) -> None:
    first, second, third = (viewer.add_image(noisy(24, 32), name=name) for name in "abc")
    marks = np.zeros((2, 24, 32), int)
    marks[0, :6], marks[1, :, :8] = 1, 1
    masks = [viewer.add_labels(mask, name=name) for name, mask in zip(("ma", "mb"), marks, strict=True)]
    docked.layer.value, docked.mask_layer.value = first, masks[0]
    docked.start()
    docked.mask_layer.value = masks[1]
    assert not docked.restore_button.enabled  # it is under way already
    for layer in (second, third):
        docked.layer.value = layer
        assert docked.restore_button.text == "Queue"
        docked.restore_button.changed.emit(True)
        assert not docked.restore_button.enabled
    docked.mask_layer.value, docked.samples.value = masks[0], 7
    viewer.layers.remove(third)
    qtbot.waitUntil(lambda: "b restored" in viewer.layers and not docked.running, timeout=60_000)
    assert "a restored" in viewer.layers
    assert "c restored" not in viewer.layers
    np.testing.assert_array_equal(docked.restoration.damaged, marks[1] > 0)  # its own mask, not the one shown now
    assert docked.samples.value == 7
    assert docked.restore_button.text == "Restore"


def test_quitting_the_worker_as_napari_does_is_cancelling(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, qtbot: Any, endless: Settings
) -> None:
    viewer.add_image(noisy(24, 32), name="image")
    train(docked, qtbot, endless).quit()
    assert finish(docked) is None
    assert len(viewer.layers) == 1


def test_pressing_twice_starts_once(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, qtbot: Any, endless: Settings
) -> None:
    viewer.add_image(noisy(24, 32), name="image")
    worker = train(docked, qtbot, endless)
    assert docked.start() is worker
    assert not docked.restore_button.enabled
    docked.cancel()
    finish(docked)


def test_a_layer_deleted_meanwhile_still_gets_its_results(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish
) -> None:
    viewer.add_image(noisy(24, 32), name="image")
    docked.start()
    viewer.layers.clear()
    assert finish(docked) is not None
    assert "image restored" in viewer.layers


@pytest.mark.parametrize("what", ["viewer", "dock", "dock's button"])
def test_closing_while_it_runs_stops_it(
    viewer: Any, docked: Any, noisy: Noisy, qtbot: Any, endless: Settings, what: str
) -> None:
    viewer.add_image(noisy(24, 32), name="image")
    worker = train(docked, qtbot, endless)
    if what == "viewer":
        viewer.close()
    elif what == "dock":
        viewer.window.remove_dock_widget(docked.native)
        docked.native.deleteLater()
    else:
        docked.native.parent().destroyOnClose()
    qtbot.waitUntil(lambda: not worker.is_running, timeout=5000)
    qtbot.wait(50)
    if what != "viewer":
        assert [layer.name for layer in viewer.layers] == ["image"]


def test_closing_the_dock_ends_preview_and_split_and_frees_the_widget(
    viewer: Any, noisy: Noisy, finish: Finish, qtbot: Any
) -> None:
    widget = viewer.window.add_plugin_dock_widget("napari-vae-repair", "VAE Repair")[1]
    widget.show_settings(Settings())
    viewer.add_image(noisy(40, 48), name="image")
    widget.start()
    finish(widget)
    callbacks = len(viewer.mouse_move_callbacks), len(viewer.mouse_drag_callbacks)
    widget.view.splits.setChecked(True)
    widget.view.live.setChecked(True)
    qtbot.waitUntil(lambda: "image preview" in viewer.layers, timeout=30_000)
    widget.native.parent().destroyOnClose()
    assert [layer.name for layer in viewer.layers] == ["image", "image residual", "image restored"]
    assert (len(viewer.mouse_move_callbacks), len(viewer.mouse_drag_callbacks)) == callbacks
    gone = weakref.ref(widget)
    del widget
    qtbot.wait(100)
    gc.collect()
    assert gone() is None


def test_two_widgets_work_side_by_side(viewer: Any, docked: Any, noisy: Noisy, finish: Finish, tiny: Settings) -> None:
    second = VaeRepairWidget(viewer)
    viewer.window.add_dock_widget(second)
    second.show_settings(tiny)
    first_layer, second_layer = (viewer.add_image(noisy(24, 32), name=name) for name in ("a", "b"))
    docked.layer.value, second.layer.value = first_layer, second_layer
    outcomes: list[Any] = []
    docked.finished.connect(outcomes.append)
    docked.start()
    second.start()
    finish(second)
    if not outcomes:
        finish(docked)
    assert {"a restored", "b restored"} <= {layer.name for layer in viewer.layers}


# ---- what goes wrong


def test_without_a_layer_the_button_tells_and_start_raises(viewer: Any, docked: Any, told: list[str]) -> None:
    with pytest.raises(InputError, match="no image layer"):
        docked.start()
    docked.restore_button.changed.emit(True)
    assert "no image layer" in told[-1]
    viewer.add_labels(np.zeros((20, 30), int))
    assert docked.layer.value is None


def test_an_error_is_told_and_the_widget_goes_on(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, told: list[str]
) -> None:
    bad = viewer.add_image(np.full((24, 32), 3.0, complex).real[:4], name="too small")
    docked.start()
    assert finish(docked) is None
    assert "4 x 32" in told[-1]
    viewer.layers.remove(bad)
    viewer.add_image(noisy(24, 32), name="image")
    docked.start()
    assert finish(docked) is not None


def test_a_runtime_error_in_the_worker_does_not_vanish(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, told: list[str]
) -> None:
    armed = Event()

    def block(values: np.ndarray) -> np.ndarray:
        if armed.is_set():
            raise RuntimeError("disk gone")
        return values

    lazy = da.from_array(noisy(2, 24, 32), chunks=(1, 24, 32)).map_blocks(block, meta=np.empty((0, 0, 0), "float32"))
    viewer.add_image(lazy, name="lazy", contrast_limits=(0, 255))
    armed.set()
    docked.start()
    assert finish(docked) is None
    armed.clear()
    assert "disk gone" in told[-1]
    assert docked.restore_button.enabled
    assert [layer.name for layer in viewer.layers] == ["lazy"]


# ---- choices


def test_layer_choice_follows_selection_names_and_removal_but_not_results(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish
) -> None:
    first, second = (viewer.add_image(noisy(24, 32), name=name) for name in ("a", "b"))
    assert docked.layer.value is second
    viewer.layers.selection.active = first
    assert docked.layer.value is first
    first.name = "renamed"
    assert docked.layer.current_choice == "renamed"
    docked.start()
    finish(docked)
    assert docked.layer.value is first
    viewer.layers.remove(first)
    assert docked.layer.value is not first


def test_fields_become_settings_and_back(docked: Any) -> None:
    assert docked.current_settings().steps == PRESETS["standard"]
    docked.preset.value, docked.epochs.value, docked.samples.value = "classic", 7, 3
    docked.seed.value, docked.device.value = 11, "cpu"
    settings = docked.current_settings()
    assert (settings.preset, settings.epochs, settings.samples, settings.seed, settings.device) == (
        "classic",
        7,
        3,
        11,
        "cpu",
    )
    assert settings.network == docked.base_settings.network
    docked.chain.select(2)
    docked.chain.move_selected(1)
    assert docked.preset.value == "custom"
    custom = docked.current_settings()
    assert custom.chain == docked.chain.chain
    docked.show_settings(Settings())
    docked.show_settings(custom)
    assert docked.current_settings() == custom
    docked.chain.set_chain((PRESETS["standard"][0], Normalise(low=3)))
    assert docked.current_settings().steps[1] == Normalise(low=3)


def test_the_noise_can_be_given_or_shared_by_all_channels(docked: Any) -> None:
    fields, numbers = docked.controls.noise, ("gain", "read_noise", "offset")

    def shown() -> list[bool]:
        return [getattr(fields, name).native.isVisibleTo(docked.controls.form.native) for name in numbers]

    assert shown() == [False, False, False]
    fields.kind.value = JOINT
    assert docked.current_settings().noise == EstimatedNoise(joint=True)
    fields.kind.value = GIVEN
    assert shown() == [True, True, True]
    fields.gain.value, fields.read_noise.value, fields.offset.value = "1.25e-05", "3.5", "-100"
    given = docked.current_settings()
    assert given.noise == GivenNoise(gain=1.25e-5, read_noise=3.5, offset=-100)
    for gain, complaint in (("0", "cannot both be 0"), ("-1", "greater than or equal to 0"), ("much", "valid number")):
        fields.gain.value, fields.read_noise.value = gain, "0"
        with pytest.raises(SettingsError, match=complaint):
            docked.current_settings()
    for noise in (GivenNoise(read_noise=2.0, correlation=(0.3, 0.1)), LearnedNoise(), EstimatedNoise(), given.noise):
        docked.show_settings(Settings(noise=noise))
        assert docked.current_settings().noise == noise


def test_tooltips_name_the_parameters_of_the_api(docked: Any) -> None:
    for field in ("epochs", "samples", "seed", "device", "preset", "layer", "mask_layer", "model_from"):
        assert "API: " in getattr(docked, field).tooltip


# ---- nothing is left behind


def test_ten_runs_leave_one_result_and_no_worker(viewer: Any, docked: Any, noisy: Noisy, finish: Finish) -> None:
    from napari.qt.threading import GeneratorWorker

    viewer.add_image(noisy(24, 32), name="image")
    for _ in range(10):
        docked.start()
        assert finish(docked) is not None
    gc.collect()
    alive = gc.get_objects()
    assert len(viewer.layers) == 4
    assert sum(type(thing) is Restoration for thing in alive) == 1
    assert not [thing for thing in alive if type(thing) is Snapshot and thing.data is not None]
    assert not [thing for thing in GeneratorWorker._worker_set if thing.is_running]


def test_memory_stays_flat_over_ten_restores_and_ten_cancels(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, qtbot: Any
) -> None:
    import psutil
    from napari.qt.threading import GeneratorWorker

    def megabytes() -> float:
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)  # what is free, but kept by the allocator for each thread, does not count
        return psutil.Process().memory_info().rss / 1e6

    viewer.add_image(noisy(512, 512), name="image")
    docked.show_settings(Settings())
    after = []
    for _ in range(10):
        docked.start()
        assert finish(docked) is not None
        after.append(megabytes())
    before = state(viewer)
    docked.show_settings(make_settings(adapt_seconds=600))
    for _ in range(10):
        docked.start()
        qtbot.waitUntil(lambda: docked.panel.finish_button.enabled, timeout=60_000)
        docked.cancel()
        assert finish(docked) is None
        after.append(megabytes())
    assert state(viewer) == before
    assert not [thing for thing in GeneratorWorker._worker_set if thing.is_running]
    # what one run makes is 8 MB and more, and with the weights and moments of adapting 50 more
    assert min(after[6:10]) - min(after[1:4]) < 60, after
    assert min(after[16:]) - min(after[10:13]) < 60, after
