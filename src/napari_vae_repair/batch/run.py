"""`restore_files`: many files restored by several processes, with a table of what came of each."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_vae_repair.batch.job import Job, Row
from napari_vae_repair.batch.journal import FOLDER, Journal, check_place
from napari_vae_repair.batch.listing import find_inputs
from napari_vae_repair.batch.naming import FileOptions, make_jobs
from napari_vae_repair.batch.supervisor import supervise
from napari_vae_repair.batch.table import CSV_NAME, JSON_NAME, write_table
from napari_vae_repair.errors import VaeRepairError
from napari_vae_repair.preflight import UsageError, with_samples
from napari_vae_repair.settings import Settings, make_settings

TILE_PX = 512  # of a batch: what memory is free at the moment must not decide the last bits of a result
TABLE_SHARE = 0.05  # of the time, at most, goes into writing the table
ORPHANS_WITHIN_S = 60.0  # workers of a killed run end at their next step


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far a batch is.

    Attributes
    ----------
    done, total : int
        Files that are done, skipped or failed, and all.
    failed : int
        Files that failed.
    row : Row or None
        The file that was just finished, if one was.
    name, phase : str
        The file that a step was just made of, and its phase as in `Progress`; "" with `row`.
    share : float
        How much of that phase is done, 0 to 1.
    """

    done: int
    total: int
    failed: int
    row: Row | None = None
    name: str = ""
    phase: str = ""
    share: float = 0.0


def restore_files(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    jobs: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[BatchProgress], None] | None = None,
    on_listed: Callable[[list[Path]], None] | None = None,
    **options: Any,
) -> list[Row]:
    """Restore files, folders and patterns of them into a folder that mirrors their tree.

    Each file is restored by a worker process; a file that fails, even one that ends its process, does not stop the
    others. ``OUTPUT/results.csv`` and ``results.json`` hold the table, and are kept up to date. An exception, Ctrl-C
    among them, ends the workers, leaves nothing half-written, and a later call with `resume` goes on.

    Parameters
    ----------
    inputs : path or sequence of paths
        Files, folders, and patterns such as ``data/**/*.tif``; see `find_inputs`.
    output : path
        The folder for the results; it is made.
    settings : Settings, optional
        For all files. Without `tile_px` and `memory_mb`, tiles have 512 pixels.
    jobs : int
        How many processes work at the same time; each has its part of the processor's cores, and of `memory_mb`.
    resume : bool
        Skip files whose results are there, from the same content, settings and version.
    overwrite : bool
        Replace what is in `output` already. Without `resume`, all is restored anew.
    on_progress : callable, optional
        Called with each `BatchProgress`, ten times a second and file at most.
    on_listed : callable, optional
        Called before anything runs with the files that were left out as results of this package.
    **options
        Fields of `FileOptions`. With `std`, 16 samples are drawn where the settings leave their number open.

    Returns
    -------
    list of Row
        One for each input, in the order of their places in the tree.

    Raises
    ------
    UsageError
        Nothing is found, results would replace each other or what is there already, an option cannot be used, or
        `std` is asked for with fewer than two samples.
    ImageFileError
        Another run is writing to the folder, or it cannot be written at all.
    """
    if jobs < 1:
        raise UsageError(f"{jobs} jobs were asked for.", "At least one is needed.", "Leave --jobs out for one.")
    folder, chosen = Path(output), settings or make_settings()
    if chosen.tile_px is None and chosen.memory_mb is None:
        chosen = chosen.model_copy(update={"tile_px": TILE_PX})
    if options.get("std") is not None:
        chosen = with_samples(chosen)
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    listing = find_inputs([os.fspath(each) for each in given], folder, Journal(folder).results())
    planned = make_jobs(listing.found, folder, chosen, FileOptions(**options))
    if on_listed is not None:
        on_listed(list(listing.ours))
    from napari_vae_repair.image.atomic import writing
    from napari_vae_repair.image.lock import only_writer

    check_place(folder, planned, Journal(folder), resume=resume, overwrite=overwrite)
    hidden = folder / FOLDER
    with writing(folder):
        hidden.mkdir(parents=True, exist_ok=True)
    with only_writer(folder, hidden / "lock"):
        for lock_file in sorted(hidden.glob("worker-*.lock")):
            with only_writer(folder, lock_file, wait_s=ORPHANS_WITHIN_S):
                pass
        journal = Journal(folder)  # anew: the run before may have ended just now
        check_place(folder, planned, journal, resume=resume, overwrite=overwrite)
        if not resume:
            journal.forget()
        return _Batch(planned, folder, journal, on_progress or _ignore).run(jobs)


class _Batch:
    """The rows of one run, while they fill."""

    def __init__(
        self, planned: list[Job], folder: Path, journal: Journal, on_progress: Callable[[BatchProgress], None]
    ) -> None:
        self._planned, self._folder, self._journal, self._on_progress = planned, folder, journal, on_progress
        self._rows = [Row(job.input, job.output) for job in planned]
        self._done = self._failed = 0
        self._next_table = 0.0

    def run(self, jobs: int) -> list[Row]:
        _clear(self._planned, self._folder)
        self._write_table()
        tasks = ((number, self._task(job)) for number, job in enumerate(self._planned))
        try:
            with closing(supervise(tasks, jobs, self._folder / FOLDER, self._begin)) as messages:  # type: ignore[type-var]
                for number, message in messages:
                    self._take(number, message)
        except BaseException:
            with suppress(VaeRepairError):  # what ended the run is the news, not that the disk is full as well
                self._write_table()
            raise
        self._write_table()
        return self._rows

    def _task(self, job: Job) -> dict[str, Any]:
        row = self._journal.earlier(job)
        earlier = None if row is None else {"row": row.to_dict(), "files": self._journal.digests(row)}
        return {"job": job.to_dict(), "earlier": earlier}

    def _begin(self, number: int) -> str:
        """Note it before anything is written, so that a killed run's files are known as ours."""
        try:
            self._journal.begin(self._planned[number])
        except VaeRepairError as error:
            return str(error)
        return ""

    def _take(self, number: int, message: dict[str, Any]) -> None:
        if "phase" in message:
            share = message["done"] / message["total"] if message["total"] else 1.0
            name = self._planned[number].input
            self._tell(name=name, phase=message["phase"], share=share)
            return
        row = self._rows[number]
        if "row" in message:
            row = Row.from_dict(row.to_dict() | message["row"])
        else:
            row = dataclasses.replace(row, status="failed", error=message["error"])
        if row.status != "skipped":
            try:
                self._journal.end(row)
            except VaeRepairError as error:
                row = dataclasses.replace(row, status="failed", error=row.error or str(error))
        self._rows[number] = row
        self._done += 1
        self._failed += row.status == "failed"
        if time.monotonic() >= self._next_table:
            with suppress(VaeRepairError):  # told at the end, when it is written for the last time
                self._write_table()
        self._tell(row=row)

    def _tell(self, **facts: Any) -> None:
        self._on_progress(BatchProgress(self._done, len(self._rows), self._failed, **facts))

    def _write_table(self) -> None:
        started = time.monotonic()
        write_table(self._rows, self._folder)
        now = time.monotonic()
        self._next_table = now + (now - started) / TABLE_SHARE


def _clear(planned: list[Job], folder: Path) -> None:
    """Remove what a killed run left half-written; the folder's lock is held."""
    from napari_vae_repair.image.lock import remove_leftovers

    names: dict[Path, list[str]] = {folder: [CSV_NAME, JSON_NAME]}
    for job in planned:
        for path in map(Path, job.written):
            names.setdefault(path.parent, []).append(path.name)
    for parent, written in names.items():
        remove_leftovers(parent, written)


def _ignore(_: BatchProgress) -> None:
    pass
