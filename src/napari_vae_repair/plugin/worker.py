"""Work in a thread of its own, the restoration above all: what it tells, how it stops, what it leaves behind.

napari keeps every worker until the viewer closes, so a worker must end by returning, hold nothing but
its stop flag, and never let an exception carry frames with tensors out. A `RuntimeError` would vanish in
superqt; none leaves `guarded`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from napari_vae_repair.errors import Cancelled, DeviceError, DeviceMemoryError, VaeRepairError
from napari_vae_repair.plugin.forecast import Forecast, Update, forecast_of
from napari_vae_repair.plugin.loss_plot import warm_up
from napari_vae_repair.plugin.snapshot import fingerprint
from napari_vae_repair.settings import SCRATCH

if TYPE_CHECKING:
    from napari_vae_repair.pipeline import Progress
    from napari_vae_repair.plugin.desk import Steps
    from napari_vae_repair.plugin.snapshot import Snapshot
    from napari_vae_repair.restoration import Restoration
    from napari_vae_repair.settings import Settings
    from napari_vae_repair.vae.record import Losses

T = TypeVar("T")

SWITCH_S = 0.0005  # after which a thread that wants Python's lock gets it
_SWITCHING = threading.Lock()
_at_work, _usual_switch_s = 0, 0.005

SECONDS_BETWEEN_UPDATES = 0.05
WORKER_NICENESS = 10
LOOK_EVERY_S = 20.0  # after which adapting shows what it has led to so far
LONGEST_TAKE_S, DRAWING_S = 2.0, 0.3  # for which the viewer may add the layers of a result, and then draw them


class RestorationFailed(VaeRepairError):
    """Something that no other error foresees; its note holds the traceback as text, without any tensor."""


def guarded(steps: Steps[T], stop: Event) -> Generator[Update, None, T | None]:
    """Run steps in the worker's thread, so that whatever goes wrong can be told.

    Parameters
    ----------
    steps : callable
        Takes `stop`, yields each `Update`, returns the result.
    stop : Event
        Set to end them.

    Returns
    -------
    object or None
        None when `stop` was set.

    Raises
    ------
    VaeRepairError
        Whatever went wrong, without a traceback that would keep tensors; never a `RuntimeError`.
    """
    failure: VaeRepairError | None = None
    result: T | None = None
    try:
        give_way()
        with switching_often():
            result = yield from steps(stop)
    except Cancelled:
        pass
    except Exception as error:
        failure = without_frames(error)
    finally:
        del steps
        free_device_memory()
    if failure is not None:
        gc.collect()  # what failed may hold its tensors in circles
        raise failure
    return None if stop.is_set() else result


def give_way() -> None:
    """Let the viewer's thread go first where cores are short; threads that PyTorch starts from here do so too.

    On Linux alone a priority is a thread's own. One that is lower already, as after ``nice napari``, stays.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < WORKER_NICENESS:
            os.setpriority(os.PRIO_PROCESS, thread, WORKER_NICENESS)


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    """Let the viewer have Python's lock soon: each of some hundred OpenGL calls of a drawing asks for it anew.

    With Python's own 5 ms a drawing takes half a second while another thread imports modules or copies objects.
    """
    global _at_work, _usual_switch_s
    with _SWITCHING:
        if _at_work == 0:
            _usual_switch_s = sys.getswitchinterval()
            sys.setswitchinterval(min(SWITCH_S, _usual_switch_s))
        _at_work += 1
    try:
        yield
    finally:
        with _SWITCHING:
            _at_work -= 1
            if _at_work == 0:
                sys.setswitchinterval(_usual_switch_s)


def restoration_steps(snapshot: Snapshot, settings: Settings, finish: Event) -> Steps[Restoration]:
    """Steps that restore a snapshot; `finish` ends adapting early.

    The snapshot is given away: its pixels are freed as soon as they are restored.
    """
    given = [snapshot]

    def steps(stop: Event) -> Generator[Update, None, Restoration]:
        yield Update(0.0, "Starting PyTorch" if "torch" not in sys.modules else "Reading the layer")
        restore_steps, choose_device = import_pipeline()
        if settings.adapts or settings.model == SCRATCH:
            warm_up()  # half a second for which the viewer need not wait
        device = choose_device(settings.device)
        named = device.label + (f"\n{device.hint}" if device.hint else "")
        yield Update(0.0, "Reading the layer", device=named)
        image = given.pop().read(stop.is_set)
        yield Update(0.0, "Preparing", device=named, source_crc32=fingerprint(image.pixels))
        passes = image.pixels.size * (1 + (settings.samples or 0))
        forecast = forecast_of(settings, passes=passes)
        run: Generator[Progress, None, Restoration] = restore_steps(
            image, settings, should_stop=stop.is_set, should_finish=finish.is_set, look_every=LOOK_EVERY_S
        )
        del image  # held by the run alone, and freed with it
        result = yield from told(run, forecast, named)
        yield from shown(Update(1.0, "Showing the result", device=named, result=result))
        return result

    return steps


def shown(update: Update) -> Generator[Update, None, None]:
    """An update with a result, and a wait for the viewer to add its layers."""
    yield update
    update.taken.wait(LONGEST_TAKE_S)


def told(run: Generator[Progress, None, T], forecast: Forecast, device: str = "") -> Generator[Update, None, T]:
    """The steps of a run as updates: one now and then, and whenever there is news; gives back what the run does."""
    told_at, told_phase, told_model = 0.0, "", False
    losses: list[Losses] = []
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            forecast.ended()
            return end.value  # type: ignore[no-any-return]
        update = forecast.update(progress, device=device)
        if progress.losses is not None:
            losses.append(progress.losses)
        news = progress.phase != told_phase or (progress.model is not None and not told_model)
        if news or progress.result is not None or time.monotonic() - told_at > SECONDS_BETWEEN_UPDATES:
            told_at, told_phase = time.monotonic(), progress.phase
            told_model = told_model or progress.model is not None
            update = replace(update, losses=tuple(losses))
            if update.result is None:
                yield update
            else:
                yield from shown(update)
                time.sleep(DRAWING_S)  # beside a thread that computes, drawing would take twice as long
            losses.clear()


def import_pipeline() -> tuple[Any, Any]:
    """`restore_steps` and `choose_device`; this is where PyTorch is loaded.

    Raises
    ------
    DeviceError
        When PyTorch is not installed or its libraries cannot be loaded.
    """
    try:
        from napari_vae_repair.pipeline import restore_steps
        from napari_vae_repair.vae.device import choose_device
    except (ImportError, OSError) as error:
        # on Windows, Qt's libraries can keep torch's from loading (WinError 1114, 126)
        raise DeviceError(
            f"PyTorch could not be loaded: {error}.",
            "It must be installed and loadable in the environment of napari.",
            "Run 'python -c \"import torch\"' there; on Windows install the Visual C++ redistributable, or load "
            "PyTorch before Qt, as in 'python -c \"import torch, napari; napari.Viewer(); napari.run()\"'.",
        ) from None
    return restore_steps, choose_device


def without_frames(error: Exception) -> VaeRepairError:
    """The same complaint as an error of our own, freed of the frames that hold arrays and tensors."""
    if isinstance(error, VaeRepairError):
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return DeviceMemoryError(
            "The memory ran out.",
            "The image, the network and one batch or tile must fit.",
            "Restore the current plane only, choose the device cpu, or lower tile_px and batch_size in base_settings.",
        )
    failure = RestorationFailed(
        f"The restoration failed: {type(error).__name__}: {error}.",
        "No setting and no image should do that.",
        "Please report it with the traceback; another device or the preset standard may get round it.",
    )
    failure.add_note("".join(traceback.format_exception(error)))
    return failure


def free_device_memory() -> None:
    """Give memory that nothing uses any more back to a GPU.

    On the CPU nothing is done: collecting garbage would hold up the viewer for a quarter of a second.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        gc.collect()
        torch.mps.empty_cache()


def start_worker(
    steps: Steps[Any], connect: dict[str, Callable[..., Any]], description: str | None
) -> tuple[Any, Event]:
    """A started napari worker over `guarded` steps, and the event that ends it; no description, no progress bar.

    ``worker.quit()`` sets that event too, so that closing the viewer and napari's own task list end the
    run the same way.
    """
    from napari.qt.threading import GeneratorWorker, create_worker

    stop = Event()

    class StoppingWorker(GeneratorWorker):  # type: ignore[misc]
        """A worker whose generator returns when it is told to quit, so that its locals are freed."""

        def quit(self) -> None:
            stop.set()

    worker = create_worker(
        guarded,
        steps,
        stop,
        _start_thread=False,
        _connect=connect,
        _worker_class=StoppingWorker,
        # indeterminate at first; the runner sets total and value
        _progress=False if description is None else {"total": 0, "desc": description},
    )
    worker.start()
    return worker, stop
