"""Files that are either written completely or not at all, and what may be replaced."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from napari_vae_repair.errors import ImageFileError

_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary stream whose content becomes the file `path` once the block ends without an error.

    The content goes to a hidden file in the same folder, which is renamed at the end; whatever happens
    before, the hidden file is removed and a file that stood at `path` is unchanged. A link is followed.

    Raises
    ------
    ImageFileError
        The folder is missing or read-only, the disk is full, or `path` is a folder.
    """
    # a rename onto a link would replace the link, not the file behind it
    target = Path(os.path.realpath(path))
    with writing(Path(path)):
        # a file name may have 255 bytes; the tail keeps it unique
        temporary = target.with_name(f".{target.name[:60]}.{secrets.token_hex(6)}.part")
        try:
            with temporary.open("xb+") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        finally:
            with suppress(OSError):
                temporary.unlink()


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise `ImageFileError` unless a file can be created beside `path` and `path` is no folder but a zarr store."""
    target = Path(os.path.realpath(path))
    with writing(Path(path)):
        if target.name.lower().endswith(".zarr"):
            check_folder(target)
        elif target.is_dir():
            raise IsADirectoryError(f"{target} is a folder")
        # asking for permissions is not enough: they do not know network shares, nor that root may do all
        probe = target.with_name(f".{secrets.token_hex(6)}.part")
        probe.open("xb").close()
        probe.unlink()


def check_folder(path: Path) -> None:
    """Raise an `OSError` unless nothing, an empty folder or a zarr store stands at `path`, for another store."""
    if path.is_file():
        raise NotADirectoryError(f"{path} is a file, and a zarr store is a folder")
    if path.is_dir() and not is_store(path) and any(path.iterdir()):
        raise FileExistsError(f"{path} is a folder with other things than a zarr store, which stay")


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is an array or a group of zarr; False for anything else, missing ones included."""
    return any((Path(path) / name).is_file() for name in _ZARR_FILES)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError` within the block into an `ImageFileError` about `path`."""
    try:
        yield
    except OSError as error:
        raise ImageFileError(
            f"{path} could not be written: {error.strerror or error}.",
            "The folder must exist, be writable and have room for the file.",
            "Choose another place or free some space; a file that was there before is unchanged.",
        ) from error
