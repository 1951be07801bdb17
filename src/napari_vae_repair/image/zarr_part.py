"""The hidden folder in which a store is written: one for each plan, with a journal and notes for whoever goes on.

A part belongs to one plan alone, and its name says which. Workers of a run that was given up may still be at a block
when the next run begins with another plan: their blocks go to a folder of another name, or find it gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.atomic import check_folder, replacing

_LINE = re.compile(rb"^(\d+)\.$", re.MULTILINE)
_PLAN = "plan.json"
_TRIES = 5  # to remove a folder into which somebody may still be writing
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Part:
    """The folder of one store and one plan; `OSError` comes through from all methods but those that say otherwise.

    Attributes
    ----------
    target : Path
        Where the store will stand.
    plan : mapping
        JSON values; all that tells this store from another one at the same place.
    """

    target: Path
    plan: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Beside the target, hidden, named after both."""
        plan = hashlib.sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()
        return self.target.with_name(f".{self.target.name}.{plan[:8]}.part")

    @property
    def store(self) -> Path:
        """The store that is being written."""
        return self.folder / "store"

    @property
    def whole(self) -> bool:
        """Whether a part of this plan is there and can be gone on with."""
        try:
            known = json.loads((self.folder / _PLAN).read_bytes())
        except (OSError, ValueError):
            return False
        # more than its folder: a late chunk makes that again after the store was put in its place
        level_0 = self.store / "0"
        return known == dict(self.plan) and ((level_0 / "zarr.json").is_file() or (level_0 / ".zarray").is_file())

    def clear(self, *, keep: bool) -> None:
        """Remove the parts of other plans, and unless told to keep it this one; only under the lock of the run."""
        ours = re.compile(rf"\.{re.escape(self.target.name)}\.[0-9a-f]{{8}}\.part")
        for folder in self.target.parent.iterdir():
            if folder == self.folder or not ours.fullmatch(folder.name):
                continue
            if (folder / _PLAN).is_file() or (folder / "store").is_dir():
                _remove(folder)
        if not keep and self.folder.exists():
            _remove(self.folder)

    def seal(self) -> None:
        """Say whose the part is; last, so that a part with a plan has everything else."""
        with replacing(self.folder / _PLAN) as stream:
            stream.write(json.dumps(self.plan).encode())

    def check(self) -> None:
        """Raise `ImageFileError` if the part was removed; what is written to it then would make the folder again."""
        if not (self.folder / _PLAN).is_file():
            raise ImageFileError(
                f"{self.folder}, in which {self.target.name} is written, was removed by a later run or the user.",
                "The hidden folder must stay until the store is complete.",
                "Nothing needs to be done if another run took over; otherwise start again.",
            )

    def remove(self) -> None:
        """Remove the folder, as far as that is possible."""
        _remove(self.folder)

    # ---- the place of the store ----------------------------------------------------------------

    def put_in_place(self) -> None:
        """Let the store appear at the target; one that stands there waits aside meanwhile."""
        check_folder(self.target)
        if self.target.exists():
            self.target.rename(self._aside)
        try:
            self.store.rename(self.target)
        except OSError:
            with suppress(OSError):
                self.put_back()
            raise
        shutil.rmtree(self._aside, ignore_errors=True)

    def put_back(self) -> None:
        """Put back what waits aside since a process was killed at the very end."""
        if self._aside.exists():
            if self.target.exists():
                shutil.rmtree(self._aside)
            else:
                self._aside.rename(self.target)

    @property
    def _aside(self) -> Path:
        return self.target.with_name(f".{self.target.name}.old")

    # ---- journal and notes --------------------------------------------------------------------

    @property
    def done(self) -> set[int]:
        """All numbers in the journal."""
        journal = self.folder / "journal"
        return {int(number) for number in _LINE.findall(journal.read_bytes())} if journal.exists() else set()

    def mark_done(self, number: int) -> None:
        """Add a number to the journal."""
        # one write of a whole line to the file's end; a line torn by a full disk is told by its missing point
        journal = os.open(self.folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(journal, b"\n%d.\n" % number)
        finally:
            os.close(journal)

    def note(self, name: str, content: bytes) -> None:
        """Keep a small file; it is replaced as a whole."""
        with replacing(self._note(name)) as stream:
            stream.write(content)

    def noted(self, name: str) -> bytes | None:
        """The content of a small file, None if there is none."""
        try:
            return self._note(name).read_bytes()
        except FileNotFoundError:
            return None

    def _note(self, name: str) -> Path:
        assert re.fullmatch(r"[a-z0-9_.]+", name), name
        return self.folder / f"note.{name}"


def _remove(folder: Path) -> None:
    """Remove a part; where others keep writing to it, it stays without its plan, which tells them to end."""
    for attempt in range(_TRIES):
        with suppress(OSError):
            (folder / _PLAN).unlink(missing_ok=True)
            shutil.rmtree(folder)
        if not folder.exists():
            return
        if attempt < _TRIES - 1:
            time.sleep(_PAUSE_S)
