"""Worker processes that are given one job at a time, and replaced when one dies."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

WORKER = "napari_vae_repair.batch.worker"
STOP_WITHIN_S = 10.0  # of a worker that removes what is half-written; a longer step of PyTorch is cut off
_POLL_S = 0.5  # Windows hands a Ctrl-C on between two waits only
Message = dict[str, Any]


class Worker:
    """One process and the thread that listens to it.

    Parameters
    ----------
    jobs : int
        How many workers share the machine.
    lock_file : Path
        Locked while the process lives.
    events : SimpleQueue
        Receives ``(worker, message)``; None = the process has ended.
    """

    def __init__(self, jobs: int, lock_file: Path, events: queue.SimpleQueue[tuple[Worker, Message | None]]) -> None:
        self.lock_file = lock_file
        self.task: int | None = None
        self._events = events
        # -P: a file in the working folder must not take the place of a library; a session of its own: Ctrl-C comes to
        # the run's process alone
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER, str(jobs), str(lock_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def give(self, number: int, task: Message) -> None:
        """Hand over one task; a dead worker is told by its event."""
        self.task = number
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines, suppress(ValueError):  # torn by its death
            for line in lines:
                self._events.put((self, json.loads(line)))
        self._process.wait()
        self._events.put((self, None))

    def ask_to_stop(self) -> None:
        """End it after it has removed what is half-written: it sees the end of its input."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def stop_by(self, deadline: float) -> None:
        """Wait for its end until then (`time.monotonic`), and kill it if need be."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def how_it_ended(self) -> str:
        """Why a job was not done, in sentences."""
        code = self._process.returncode
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in {each.value for each in signal.Signals} else str(-code)
            killer = " The system does so when the memory is full." if name == "SIGKILL" else ""
            return f"The worker process was ended by {name}.{killer} Use fewer --jobs, a smaller --memory, or --resume."
        return f"The worker process ended with exit code {code}. See what it wrote above. Try the file by itself."


def supervise(
    tasks: Iterable[tuple[int, Message]], jobs: int, folder: Path, on_start: Callable[[int], str]
) -> Iterator[tuple[int, Message]]:
    """The messages of all tasks, by number, until each has a ``row`` or an ``error``.

    Closing the iterator, or an exception in it, ends all workers.

    Parameters
    ----------
    tasks : iterable of (int, dict)
        Numbers and tasks as `worker.work` takes them.
    jobs : int
        Workers at most.
    folder : Path
        For their lock files.
    on_start : callable
        Called with a task's number before it is given away; what it returns, unless "", is the task's error instead.
    """
    waiting = deque(tasks)
    events: queue.SimpleQueue[tuple[Worker, Message | None]] = queue.SimpleQueue()
    workers: list[Worker] = []

    def next_task(worker: Worker) -> Iterator[tuple[int, Message]]:
        worker.task = None
        while waiting and worker.task is None:
            number, task = waiting.popleft()
            if error := on_start(number):
                yield number, {"error": error}
            else:
                worker.give(number, task)

    try:
        for index in range(min(jobs, len(waiting))):
            workers.append(Worker(jobs, folder / f"worker-{index}.lock", events))
            yield from next_task(workers[-1])
        while any(worker.task is not None for worker in workers):
            try:
                worker, message = events.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if worker not in workers or worker.task is None:
                continue
            if message is None:
                yield worker.task, {"error": worker.how_it_ended}
                workers.remove(worker)
                worker.ask_to_stop()  # it has: only its input is left to close
                if waiting:
                    workers.append(Worker(jobs, worker.lock_file, events))
                    yield from next_task(workers[-1])
                continue
            yield worker.task, message
            if "row" in message:
                yield from next_task(worker)
    finally:
        _end(workers)


def _end(workers: list[Worker]) -> None:
    deadline = time.monotonic() + STOP_WITHIN_S
    for worker in workers:
        worker.ask_to_stop()
    for worker in workers:
        worker.stop_by(deadline)
