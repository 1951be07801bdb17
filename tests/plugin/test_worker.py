from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any

import dask.array as da
import napari.layers
import numpy as np
import pytest

from napari_vae_repair.errors import DeviceError, DeviceMemoryError, InputError, VaeRepairError
from napari_vae_repair.pipeline import Progress
from napari_vae_repair.plugin.forecast import Forecast, Update, forecast_of
from napari_vae_repair.plugin.snapshot import take_snapshot
from napari_vae_repair.plugin.worker import RestorationFailed, guarded, restoration_steps, without_frames
from napari_vae_repair.settings import Settings


def run(data: Any, settings: Settings, armed: Event | None = None) -> tuple[list[Update], Any]:
    layer = napari.layers.Image(data, contrast_limits=(0, 1))
    (armed or Event()).set()
    steps = guarded(restoration_steps(take_snapshot(layer), settings, Event()), Event())
    updates = []
    while True:
        try:
            updates.append(next(steps))
            updates[-1].taken.set()
        except StopIteration as end:
            return updates, end.value


def failing(error: Exception, armed: Event) -> Any:
    """A dask array whose values cannot be computed once it is armed; before, napari looks at them."""

    def fail(block: np.ndarray) -> np.ndarray:
        if armed.is_set():
            raise error
        return block

    return da.zeros((2, 20, 30), chunks=(1, 20, 30)).map_blocks(fail, meta=np.empty((0, 0, 0)))


def test_updates_grow_to_the_end_and_name_device_and_model(
    noisy: Callable[..., np.ndarray], tiny: Settings, one_thread: None
) -> None:
    updates, result = run(noisy(24, 32), tiny)
    fractions = [update.fraction for update in updates]
    assert fractions == sorted(fractions)
    assert 0.9 < fractions[-1] <= 1.0
    assert any(update.model is result.model for update in updates)
    assert any("CPU" in update.device or "cuda" in update.device.lower() for update in updates)
    assert result.restored.shape == (24, 32)


@pytest.mark.parametrize("already", [True, False], ids=["before", "while training"])
def test_a_set_event_ends_the_generator_by_a_return(
    noisy: Callable[..., np.ndarray], endless: Settings, already: bool, one_thread: None
) -> None:
    stop = Event()
    steps = guarded(restoration_steps(take_snapshot(napari.layers.Image(noisy(24, 32))), endless, Event()), stop)
    if already:
        stop.set()
    else:
        while not next(steps).text.startswith("Training"):
            pass
        stop.set()
    with pytest.raises(StopIteration) as ended:
        while True:
            next(steps)
    assert ended.value.value is None
    assert steps.gi_frame is None  # nothing of it is kept alive


@pytest.mark.parametrize(
    ("error", "kind", "match"),
    [
        (RuntimeError("boom"), RestorationFailed, "RuntimeError: boom"),
        (KeyError("k"), RestorationFailed, "KeyError"),
        (MemoryError(), DeviceMemoryError, "memory"),
        (InputError("a", "b", "c"), InputError, "a b c"),
    ],
)
def test_whatever_fails_comes_out_as_our_own_error_without_frames(
    error: Exception, kind: type[VaeRepairError], match: str, tiny: Settings, one_thread: None
) -> None:
    armed = Event()
    with pytest.raises(kind, match=match) as caught:
        run(failing(error, armed), tiny, armed)
    assert not isinstance(caught.value, RuntimeError)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    frames = []
    trace = caught.value.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    worker = [frame for frame in frames if frame.f_code.co_name == "guarded"]
    assert len(worker) == 1
    assert "steps" not in worker[0].f_locals
    assert not [frame for frame in frames if frame.f_code.co_filename.endswith("pipeline.py")]


def test_memory_of_the_device_running_out_is_a_memory_error(one_thread: None) -> None:
    import torch

    assert isinstance(without_frames(torch.OutOfMemoryError("CUDA out of memory")), DeviceMemoryError)


def test_the_note_of_an_unforeseen_error_tells_where_it_happened() -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as error:
        failure = without_frames(error)
    assert failure.__traceback__ is None
    assert "test_worker.py" in failure.__notes__[0]


def test_an_absent_device_is_told(noisy: Callable[..., np.ndarray], tiny: Settings, one_thread: None) -> None:
    with pytest.raises(DeviceError, match="cuda:63"):
        run(noisy(24, 32), tiny.model_copy(update={"device": "cuda:63"}))


def test_forecast_measures_the_pace_of_the_training() -> None:
    now = [0.0]
    forecast = Forecast(epochs=10, from_scratch=True, clock=lambda: now[0])
    assert forecast.update(Progress("prepare", 0, 1)).seconds_left is None
    updates = []
    for done in range(0, 101, 10):  # 100 steps, each half a second
        updates.append(forecast.update(Progress("train", done, 100)))
        now[0] += 5.0
    assert updates[0].seconds_left is None
    # 40 steps, and the later phases in their share of the pace
    assert updates[6].seconds_left == pytest.approx(20 + 50 * 0.15 / 0.83, rel=0.01)
    assert updates[6].seconds_per_epoch == pytest.approx(5.0)
    assert updates[0].seconds_per_epoch is None
    assert updates[4].text == "Training: epoch 5 of 10"
    assert forecast.update(Progress("report", 1, 1)).fraction == pytest.approx(1.0)


def test_forecast_of_an_adaptation_counts_its_steps() -> None:
    now = [0.0]
    forecast = Forecast(epochs=50, from_scratch=False, adapts=True, clock=lambda: now[0])
    forecast.update(Progress("adapt", 0, 10))
    now[0] += 2.0
    update = forecast.update(Progress("adapt", 1, 10))
    assert update.seconds_left == pytest.approx(18 + 20 * 0.10 / 0.77)
    assert update.text == "Adapting to the image 10 %"
    assert update.seconds_per_epoch is None


def test_a_budget_of_seconds_tells_the_time_left_before_a_pace_is_known() -> None:
    now = [0.0]
    forecast = forecast_of(Settings(adapt_seconds=77), passes=10)
    forecast.clock = lambda: now[0]
    assert forecast.update(Progress("prepare", 0, 1)).seconds_left == pytest.approx(100)
    now[0] += 2.0
    assert forecast.update(Progress("first", 0, 4)).seconds_left == pytest.approx(95)
    assert forecast_of(Settings(adapt_steps=3)).update(Progress("prepare", 0, 1)).seconds_left is None


def test_forecast_of_a_loaded_model_spends_its_time_on_restoring() -> None:
    now = [0.0]
    forecast = Forecast(epochs=50, from_scratch=False, clock=lambda: now[0])
    forecast.update(Progress("restore", 0, 4))
    now[0] += 2.0
    update = forecast.update(Progress("restore", 1, 4))
    assert update.seconds_left == pytest.approx(6 + 8 * 0.10 / 0.70)
    assert update.text == "Restoring 25 %"


def test_a_second_run_tells_its_time_from_the_first_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_vae_repair.plugin.forecast._EARLIER", {})
    now = [0.0]

    def begun(passes: int, **options: bool) -> Forecast:
        return Forecast(epochs=50, from_scratch=False, passes=passes, clock=lambda: now[0], **options)

    first = begun(1000)
    assert first.update(Progress("prepare", 0, 2)).seconds_left is None
    now[0] += 10.0
    first.ended()
    second = begun(3000)
    assert second.update(Progress("prepare", 0, 2)).seconds_left == pytest.approx(30)
    now[0] += 4.0
    assert second.update(Progress("prepare", 1, 2)).seconds_left == pytest.approx(26)
    assert begun(3000, blocks=True).update(Progress("prepare", 0, 2)).seconds_left is None
    adapted = begun(3000, adapts=True)
    assert adapted.update(Progress("prepare", 0, 2)).seconds_left is None
    adapted.ended()  # how long it adapted tells nothing of the next
    assert begun(1000).update(Progress("prepare", 0, 2)).seconds_left == pytest.approx(10)


@pytest.mark.parametrize(
    ("options", "phase"), [({}, None), ({"from_scratch": True}, "train"), ({"adapts": True}, "adapt")]
)
def test_forecast_of_a_large_layer_counts_its_blocks(options: dict[str, bool], phase: str | None) -> None:
    now = [0.0]
    forecast = Forecast(**({"epochs": 1, "from_scratch": False} | options), blocks=True, clock=lambda: now[0])
    seen = [forecast.update(Progress("prepare", 1, 1)).fraction]
    if phase is not None:
        seen.append(forecast.update(Progress(phase, 1, 1)).fraction)
    forecast.update(Progress("restore", 0, 4))
    now[0] += 2.0
    update = forecast.update(Progress("restore", 1, 4))
    assert update.text == "Restoring: 1 of 4 blocks"
    assert update.seconds_left is not None
    assert 6 < update.seconds_left < 8
    seen += [update.fraction, forecast.update(Progress("write", 2, 2)).fraction]
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)
