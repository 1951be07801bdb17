"""What a batch has begun and ended, line by line, so that a killed run can be taken up where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_vae_repair.batch.job import Job, Row
from napari_vae_repair.batch.table import JSON_NAME
from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.atomic import writing
from napari_vae_repair.preflight import UsageError

FOLDER, FILE = ".vae-repair", "journal.jsonl"
_SHOWN = 3  # names in a message


class Journal:
    """The lines in ``OUTPUT/.vae-repair/journal.jsonl``; a torn last one, of a killed run, is ignored.

    Parameters
    ----------
    output : Path
        The folder of the results.

    Attributes
    ----------
    begun : set of str
        Paths, relative to `output`, of all files that a run set out to write.
    ended : dict of str to Row
        The latest row of each output, by its path relative to `output`.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self.path = output / FOLDER / FILE
        self.begun: set[str] = set()
        self.ended: dict[str, Row] = {}
        for line in self._lines():
            # one that is torn, with the next run's lines behind it, or of another version
            with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                self._take(json.loads(line))

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ImageFileError(
                f"The journal {self.path} cannot be read: {error.strerror or error}.",
                "It must be a readable file, or not there.",
                "Choose another folder, or make it readable.",
            ) from error

    def _take(self, entry: dict[str, Any]) -> None:
        if "begun" in entry:
            self.begun.update(str(name) for name in entry["begun"])
        elif "row" in entry:
            row = Row.from_dict(entry["row"])
            self.ended[row.output] = row

    def results(self) -> set[str]:
        """Real paths of all files that runs set out to write."""
        return {os.path.realpath(self._output / name) for name in self.begun}

    def forget(self) -> None:
        """Begin anew."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)
        self.begun, self.ended = set(), {}

    def begin(self, job: Job) -> None:
        """Note that a job's files are going to be written; raises `ImageFileError` if the note cannot be."""
        names = [self._relative(path) for path in job.written]
        if self.begun.issuperset(names):
            return
        self._append({"begun": names})
        self.begun.update(names)

    def end(self, row: Row) -> None:
        """Note what became of a job; raises `ImageFileError` if the note cannot be written."""
        # paths inside the folder are relative, so that it can be moved
        files = None if row.files is None else {self._relative(path): digest for path, digest in row.files.items()}
        self._append({"row": row.to_dict() | {"output": self._relative(row.output), "files": files}})

    def earlier(self, job: Job) -> Row | None:
        """The row of an earlier run that wrote the job's files."""
        row = self.ended.get(self._relative(job.output))
        if row is None or row.files is None or row.status not in ("done", "skipped"):
            return None
        if set(row.files) != {self._relative(path) for path in job.written}:
            return None
        return row

    def digests(self, row: Row) -> dict[str, str]:
        """SHA-256 of each file of an earlier row, by its path."""
        return {str(self._output / name): digest for name, digest in (row.files or {}).items()}

    def _relative(self, path: str) -> str:
        return Path(os.path.relpath(path, self._output)).as_posix()

    def _append(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        with writing(self.path), self.path.open("ab") as stream:
            if stream.tell() and not _ends_a_line(self.path):
                line = b"\n" + line
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())


def check_place(output: Path, jobs: Sequence[Job], journal: Journal, *, resume: bool, overwrite: bool) -> None:
    """Raise `UsageError` where results of an earlier run, or files of others, would be written over unasked."""
    if overwrite:
        return
    if not resume and (journal.begun or (output / JSON_NAME).exists()):
        raise UsageError(
            f"{output} holds results of an earlier run.",
            "A new run needs a folder of its own.",
            "Add --resume to go on with it, --overwrite to restore all files anew, or choose another folder.",
        )
    known: Collection[str] = journal.results() if resume else ()
    paths = [path for job in jobs for path in job.written]
    others = [path for path in paths if Path(path).exists() and os.path.realpath(path) not in known]
    if others:
        names = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        raise UsageError(
            f"{names} would be written over ({len(others)} of {len(paths)} files are there already).",
            "A batch replaces only files that it wrote itself, with --resume.",
            "Choose another folder, add to the names as in --suffix _restored, or add --overwrite.",
        )


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
