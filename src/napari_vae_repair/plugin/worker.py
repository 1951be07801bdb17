"""The restoration in a thread of its own: what it tells on the way, how it stops, what it leaves behind.

napari keeps every worker until the viewer closes, so a worker must end by returning, hold nothing but
its stop flag, and never let an exception carry frames with tensors out. A `RuntimeError` would vanish in
superqt; none leaves `restoration_updates`.
"""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from napari_vae_repair.errors import Cancelled, DeviceError, DeviceMemoryError, VaeRepairError
from napari_vae_repair.plugin.snapshot import fingerprint
from napari_vae_repair.settings import SCRATCH

if TYPE_CHECKING:
    from napari_vae_repair.pipeline import Progress
    from napari_vae_repair.plugin.snapshot import Snapshot
    from napari_vae_repair.restoration import Restoration
    from napari_vae_repair.settings import Settings
    from napari_vae_repair.vae.record import Model

SECONDS_BETWEEN_UPDATES = 0.05
# share of the whole run that each phase takes, before it has been measured
SHARES_SCRATCH = {"prepare": 0.02, "train": 0.83, "restore": 0.12, "report": 0.03}
SHARES_ADAPTED = {"prepare": 0.05, "adapt": 0.85, "restore": 0.08, "report": 0.02}
SHARES_LOADED = {"prepare": 0.2, "restore": 0.7, "report": 0.10}


class RestorationFailed(VaeRepairError):
    """Something that no other error foresees; its note holds the traceback as text, without any tensor."""


@dataclass(frozen=True, slots=True)
class Update:
    """Where a running restoration stands.

    Attributes
    ----------
    fraction : float
        Share of the whole run that is done, 0 to 1.
    text : str
        What it is doing, for people.
    seconds_left : float or None
        None until it can be told.
    seconds_per_epoch : float or None
        As measured in this run, once an epoch is over.
    model : Model or None
        The trained or loaded model, from the end of its training on.
    device : str
        The device's label and, after a line break, its hint; "" until it is chosen.
    source_crc32 : int or None
        Of the pixels that are restored, once they are read.
    """

    fraction: float
    text: str
    seconds_left: float | None = None
    seconds_per_epoch: float | None = None
    model: Model | None = None
    device: str = ""
    source_crc32: int | None = None


@dataclass(slots=True)
class Forecast:
    """Turns `Progress` into fractions and times left, from the pace measured so far.

    Attributes
    ----------
    epochs : int
        Epochs of the training.
    from_scratch : bool
        False with the starter or a loaded model, which are not trained.
    adapts : bool
        Whether the starter is adapted to the image.
    clock : callable
        Seconds, growing.
    """

    epochs: int
    from_scratch: bool
    adapts: bool = False
    clock: Callable[[], float] = time.monotonic
    _phase: str = ""
    _began: float = 0.0
    _done_at_start: int = 0
    _seconds_per_epoch: float | None = None
    _pace: float | None = field(default=None)  # seconds for a share of 1, from the phase that told most

    def update(self, progress: Progress, device: str = "") -> Update:
        """The fraction done, the time left and a sentence for this progress."""
        if progress.phase != self._phase:
            self._phase, self._began, self._done_at_start = progress.phase, self.clock(), progress.done
        shares = SHARES_SCRATCH if self.from_scratch else SHARES_ADAPTED if self.adapts else SHARES_LOADED
        total = max(progress.total, 1)
        part = min(progress.done / total, 1.0)
        before = sum(list(shares.values())[: list(shares).index(progress.phase)])
        after = 1.0 - before - shares[progress.phase]
        seconds_left = self._seconds_left(progress.done, total, shares[progress.phase], max(after, 0.0))
        if progress.phase == "train" and progress.done > self._done_at_start:
            per_step = (self.clock() - self._began) / (progress.done - self._done_at_start)
            if progress.done * self.epochs >= total:
                self._seconds_per_epoch = per_step * total / self.epochs
        return Update(
            fraction=min(before + shares[progress.phase] * part, 1.0),
            text=self._text(progress, total),
            seconds_left=seconds_left,
            seconds_per_epoch=self._seconds_per_epoch,
            model=progress.model,
            device=device,
        )

    def _seconds_left(self, done: int, total: int, share: float, after: float) -> float | None:
        steps = done - self._done_at_start
        if steps > 0 and self._phase in ("train", "adapt", "restore"):
            per_step = (self.clock() - self._began) / steps
            self._pace = per_step * total / share
            return per_step * (total - done) + after * (self._pace or 0.0)
        return None if self._pace is None else self._pace * (share * (1 - done / total) + after)

    def _text(self, progress: Progress, total: int) -> str:
        if progress.phase == "train":
            epoch = min(progress.done * self.epochs // total + 1, self.epochs)
            loss = "" if progress.losses is None else f", loss {progress.losses.loss:.4g}"
            return f"Training: epoch {epoch} of {self.epochs}{loss}"
        names = {
            "prepare": "Preparing",
            "adapt": "Adapting to the image",
            "restore": "Restoring",
            "report": "Measuring the result",
        }
        share = f" {100 * progress.done // total} %" if total > 1 else ""
        return names[progress.phase] + share


def restoration_updates(
    snapshot: Snapshot, settings: Settings, stop: Event
) -> Generator[Update, None, Restoration | None]:
    """Restore a snapshot, telling where it stands; runs in the worker's thread.

    Returns
    -------
    Restoration or None
        None when `stop` was set.

    Raises
    ------
    VaeRepairError
        Whatever went wrong, without a traceback that would keep tensors; never a `RuntimeError`.
    """
    failure: VaeRepairError | None = None
    result: Restoration | None = None
    try:
        result = yield from _updates(snapshot, settings, stop)
    except Cancelled:
        pass
    except Exception as error:
        failure = without_frames(error)
    finally:
        del snapshot
        free_device_memory()
    if failure is not None:
        raise failure
    return None if stop.is_set() else result


def _updates(snapshot: Snapshot, settings: Settings, stop: Event) -> Generator[Update, None, Restoration]:
    yield Update(0.0, "Starting PyTorch" if "torch" not in sys.modules else "Reading the layer")
    restore_steps, choose_device = import_pipeline()
    device = choose_device(settings.device)
    named = device.label + (f"\n{device.hint}" if device.hint else "")
    yield Update(0.0, "Reading the layer", device=named)
    image = snapshot.read(stop.is_set)
    yield Update(0.0, "Preparing", device=named, source_crc32=fingerprint(image.pixels))
    forecast = Forecast(settings.epochs, settings.model == SCRATCH, settings.adapts)
    steps = restore_steps(image, settings, should_stop=stop.is_set)
    del image  # held by the steps alone, and freed with them
    told_at, told_phase, told_model = 0.0, "", False
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        update = forecast.update(progress, device=named)
        news = progress.phase != told_phase or (progress.model is not None and not told_model)
        if news or time.monotonic() - told_at > SECONDS_BETWEEN_UPDATES:
            told_at, told_phase = time.monotonic(), progress.phase
            told_model = told_model or progress.model is not None
            yield update


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
    """Give memory that nothing uses any more back to the device."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def start_worker(
    snapshot: Snapshot, settings: Settings, connect: dict[str, Callable[..., Any]], description: str
) -> tuple[Any, Event]:
    """A started napari worker over `restoration_updates`, and the event that ends it.

    ``worker.quit()`` sets that event too, so that closing the viewer and napari's own task list end the
    run the same way.
    """
    from napari.qt.threading import GeneratorWorker, create_worker

    stop = Event()

    class RestorationWorker(GeneratorWorker):  # type: ignore[misc]
        """A worker whose generator returns when it is told to quit, so that its locals are freed."""

        def quit(self) -> None:
            stop.set()

    worker = create_worker(
        restoration_updates,
        snapshot,
        settings,
        stop,
        _start_thread=False,
        _connect=connect,
        _worker_class=RestorationWorker,
        _progress={"total": 0, "desc": description},  # indeterminate at first; the widget sets total and value
    )
    worker.start()
    return worker, stop
