"""One run at a time writes to a place; what killed runs left there is cleared away."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from napari_vae_repair.errors import ImageFileError

_PART = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{12}\.part", re.DOTALL)  # as `atomic.replacing` names them
_NAME_CHARACTERS = 60  # of the target's name, both here and there


@contextmanager
def only_writer(path: str | os.PathLike[str], lock_file: Path | None = None, *, wait_s: float = 0.0) -> Iterator[None]:
    """Within the block no other process or thread that asks for the same lock has it.

    The system gives the lock back when the process ends, however it ends. What killed runs left half-written beside
    `path` is removed.

    Parameters
    ----------
    path : str or path
        What is to be written; a link stands for the file behind it.
    lock_file : Path, optional
        Which file to lock, and to leave in place; None = a hidden one beside `path`, removed at the end.
    wait_s : float
        How long to wait for another holder to end.

    Raises
    ------
    ImageFileError
        Another run has the lock (the message names its process and host), or no lock can be made there.
    """
    target = Path(os.path.realpath(path))
    place = lock_file or target.with_name(f".{target.name[:_NAME_CHARACTERS]}.lock")
    lock = FileLock(place)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise ImageFileError(
            f"{path} is being written by another run{_holder(place)}.",
            "One run at a time writes to a place.",
            "Wait until it has ended, or choose another place.",
        ) from None
    except (OSError, NotImplementedError) as error:
        raise ImageFileError(
            f"{path} could not be written: {getattr(error, 'strerror', None) or error} (its lock {place.name}).",
            "The folder must exist, be writable and have room for the file.",
            "Choose another place or free some space; a file that was there before is unchanged.",
        ) from error
    try:
        _sign(place)
        remove_leftovers(target.parent, [target.name])
        yield
    finally:
        if lock_file is None:
            # while it is still held: afterwards it could be another run's. Windows removes it at the release itself
            with suppress(OSError):
                place.unlink()
        lock.release()


def remove_leftovers(folder: Path, names: Collection[str]) -> list[Path]:
    """Remove the hidden parts of files of these names that killed runs left, and say which; only under their lock."""
    wanted = {name[:_NAME_CHARACTERS] for name in names}
    found = []
    with suppress(OSError):  # an unreadable folder is told by whatever writes to it
        for entry in os.scandir(folder):
            match = _PART.fullmatch(entry.name)
            if match is not None and match["name"] in wanted and entry.is_file(follow_symlinks=False):
                found.append(Path(entry.path))
    for part in found:
        with suppress(OSError):
            part.unlink()
    return found


def _sign(place: Path) -> None:
    """Leave a note of who has the lock; Windows lets nobody write to a locked file."""
    with suppress(OSError):
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        place.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}\n", encoding="utf-8")


def _holder(place: Path) -> str:
    try:
        signed = place.read_text(encoding="utf-8", errors="replace")[:200].strip()
    except OSError:
        return ""
    return f" ({signed})" if signed.isprintable() and signed else ""
