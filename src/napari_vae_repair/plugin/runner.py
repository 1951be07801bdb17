"""`Runner`: one piece of work at a time in a thread, with its progress, its end and its failure."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import Event
from typing import Any

from psygnal import Signal

from napari_vae_repair.plugin.desk import Steps
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.worker import start_worker

BAR_STEPS = 1000


class Runner:
    """Runs steps in a worker's thread; all signals are emitted in Qt's.

    Attributes
    ----------
    started : Signal
        With what is being done.
    updated : Signal
        With each `Update`, not after Cancel.
    ended : Signal
        When nothing runs any more, before `done` or `failed` are called.
    """

    started = Signal(str)
    updated = Signal(Update)
    ended = Signal()

    def __init__(self) -> None:
        self._worker: Any = None
        self._stop: Event | None = None
        self._orphaned: weakref.finalize[..., Runner] | None = None
        self._alive = True
        self._done: Callable[[Any], None] = _nothing
        self._failed: Callable[[Any], None] = _nothing

    @property
    def worker(self) -> Any:
        """The napari worker that runs, or is on its way to end after Cancel; None when nothing runs."""
        return self._worker

    @property
    def cancelled(self) -> bool:
        """Whether what runs has been told to stop."""
        return self._stop is not None and self._stop.is_set()

    def start(
        self,
        steps: Steps[Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception | None], None],
        doing: str | None,
    ) -> Any:
        """Run the steps; nothing else may be running.

        Parameters
        ----------
        steps : callable
            See `worker.guarded`.
        done : callable
            Called with the result.
        failed : callable
            Called with the error, or with None after Cancel.
        doing : str or None
            For napari's list of activities; None = not in it.
        """
        assert self._worker is None
        self._done, self._failed = done, failed
        connect = {
            "yielded": _weakly(self._yielded),
            "returned": _weakly(self._returned),
            "errored": _weakly(self._errored),
        }
        self.started.emit(doing or "")
        self._worker, self._stop = start_worker(steps, connect, doing)
        self._orphaned = weakref.finalize(self, self._stop.set)  # nobody would be left to cancel it
        return self._worker

    def cancel(self) -> None:
        """Tell what runs to stop."""
        if self._stop is not None:
            self._stop.set()

    def close(self) -> None:
        """Stop, and never call anything again: the widget is gone."""
        self._alive = False
        self.cancel()

    def _yielded(self, update: Update) -> None:
        if self.cancelled:
            update.taken.set()
            return
        self.updated.emit(update)
        # the last thing done here: napari's bar handles events, among which the widget may be closed
        bar = getattr(self._worker, "pbar", None)
        if bar is not None:
            if bar.total != BAR_STEPS:
                bar.total = BAR_STEPS
            bar.update(max(round(update.fraction * BAR_STEPS) - bar.n, 0))

    def _returned(self, result: Any) -> None:
        done, failed, cancelled = self._done, self._failed, self.cancelled
        self._end()
        if result is None or cancelled:
            failed(None)
        else:
            done(result)

    def _errored(self, error: Exception) -> None:
        failed = self._failed
        self._end()
        failed(error)

    def _end(self) -> None:
        self._worker = self._stop = None
        self._done = self._failed = _nothing
        if self._orphaned is not None:
            self._orphaned.detach()
        self.ended.emit()


def _nothing(_: Any) -> None:
    """What is called when nothing runs."""


def _weakly(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """A callback that does nothing once the runner is gone; the worker, which napari keeps, must not keep it."""
    reference = weakref.WeakMethod(method)

    def call(value: Any) -> None:
        alive = reference()
        if alive is not None and alive.__self__._alive:  # type: ignore[attr-defined]
            alive(value)

    return call
