"""A worker process: takes one job after the other from stdin, restores, and tells on stdout; all as lines of JSON.

Started by `supervisor.Worker`. The end of stdin, be it that the run is over or that its process was killed, ends the
worker at once: what is half-written is removed.
"""

from __future__ import annotations

import _thread
import dataclasses
import functools
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from napari_vae_repair.batch.hashes import key_of, sha256_of, state_of
from napari_vae_repair.batch.job import Job
from napari_vae_repair.batch.table import measured
from napari_vae_repair.errors import ImageFileError, RepairWarning, VaeRepairError
from napari_vae_repair.settings import LEAST_MEMORY_MB

if TYPE_CHECKING:
    from napari_vae_repair.pipeline import Progress

TOLD_EVERY_S, STOP_EVERY_S = 0.1, 2.0
_busy, _ended = threading.Event(), threading.Event()  # a job is under way; stdin has ended
Tell = Callable[[dict[str, Any]], None]


def main(arguments: list[str] | None = None) -> None:
    """Work until stdin ends.

    Parameters
    ----------
    arguments : list of str or None
        How many workers share the machine, and a file that is locked for as long as the process lives; None = those
        of the process.
    """
    jobs, lock_file = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run's process decides
    signal.signal(signal.SIGTERM, _stop)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    tasks: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, tasks), daemon=True).start()
    from napari_vae_repair.image.lock import only_writer

    with only_writer(lock_file, Path(lock_file), wait_s=60):
        while (task := tasks.get()) is not None:
            _busy.set()
            if _ended.is_set():
                break
            row = work(task, int(jobs), lambda message: _tell(answers, message))
            _busy.clear()
            _tell(answers, {"row": row})
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def work(task: dict[str, Any], jobs: int, tell: Tell) -> dict[str, Any]:
    """The row, as a dict, of one task: ``job`` and, to resume, ``earlier`` with ``key``, ``row`` and ``files``."""
    job, started = Job.from_dict(task["job"]), time.perf_counter()
    row: dict[str, Any] = {"input": job.input, "output": job.output, "status": "failed", "notes": ()}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RepairWarning)
            row |= _skipped_or_done(job, task.get("earlier"), jobs, tell)
        said = [str(each.message) for each in caught if issubclass(each.category, RepairWarning)]
        row["notes"] = (*dict.fromkeys(said), *row["notes"])
    except VaeRepairError as error:
        row["error"] = str(error)
    except MemoryError:
        row["error"] = (
            "The memory is full. Each worker needs its own. Use fewer --jobs, a smaller --memory, or smaller tiles, as "
            "in --set tile_px=256."
        )
    except Exception as error:  # one file, whatever is wrong with it, must not stop the others
        at = traceback.extract_tb(error.__traceback__)[-1]
        row["error"] = f"{type(error).__name__}: {error} ({Path(at.filename).name}:{at.lineno})"
    if row["status"] != "skipped":
        row["seconds"] = time.perf_counter() - started
    return row


def _skipped_or_done(job: Job, earlier: dict[str, Any] | None, jobs: int, tell: Tell) -> dict[str, Any]:
    before = state_of(Path(job.input))
    key = key_of(job)
    if earlier is not None and earlier["row"]["key"] == key and _still_there(earlier["files"]):
        return {**earlier["row"], "input": job.input, "output": job.output, "status": "skipped"} | {
            "files": earlier["files"]
        }
    _use_share(jobs)
    written: list[str] = []
    report = _restore(job, jobs, tell, written)
    if state_of(Path(job.input)) != before:
        raise ImageFileError(
            f"{job.input} changed while it was being restored.",
            "A file must stay as it is meanwhile.",
            "Restore it again with --resume.",
        )
    files = {path: sha256_of(Path(path)) for path in written}
    return measured({"key": key, "status": "done", "files": files}, report)


def _restore(job: Job, jobs: int, tell: Tell, written: list[str]) -> Any:
    from napari_vae_repair.batch.one import restore_one
    from napari_vae_repair.image.atomic import writing

    last, phase = 0.0, ""

    def on_step(progress: Progress) -> None:
        nonlocal last, phase
        now = time.monotonic()
        if progress.phase != phase or now - last >= TOLD_EVERY_S:
            last, phase = now, progress.phase
            tell({"phase": phase, "done": progress.done, "total": progress.total})

    with writing(Path(job.output)):
        Path(job.output).parent.mkdir(parents=True, exist_ok=True)
    return restore_one(_with_share(job, jobs), on_step, written.append).report


def _with_share(job: Job, jobs: int) -> Job:
    """The job with its share of the memory, which is that of all workers together."""
    memory_mb = job.settings.memory_mb
    if memory_mb is None:
        return job
    share = max(LEAST_MEMORY_MB, memory_mb // jobs)
    return dataclasses.replace(job, settings=job.settings.model_copy(update={"memory_mb": share}))


@functools.cache
def _use_share(jobs: int) -> None:
    """Leave the other workers their cores; alone, PyTorch's own choice stays."""
    if jobs > 1:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // jobs))


def _still_there(files: dict[str, str]) -> bool:
    """Whether all files of an earlier run have the bytes that it wrote."""
    try:
        return all(sha256_of(Path(path)) == digest for path, digest in files.items())
    except ImageFileError:
        return False


def _listen(stream: BinaryIO, tasks: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in stream:
        tasks.put(json.loads(line))
    _ended.set()
    tasks.put(None)
    while _busy.is_set():  # once is not enough: what is raised amid an import of PyTorch can be swallowed there
        _thread.interrupt_main(signal.SIGTERM)
        time.sleep(STOP_EVERY_S)


def _stop(*_: object) -> None:
    raise SystemExit(0)


def _tell(stream: TextIO, message: dict[str, Any]) -> None:
    try:
        stream.write(json.dumps(message) + "\n")
        stream.flush()
    except BrokenPipeError:
        raise SystemExit(0) from None  # nobody listens any more


if __name__ == "__main__":
    main()
