"""The folder of one large result: removed if the result is dropped, and after a newer one once nothing reads from it.

zarr reads files when pixels are shown, and gives zeros where a file is gone: a folder must outlive all arrays over it.
Each of them holds its `ResultFolder`, so that Python itself tells when the last one is gone.
"""

from __future__ import annotations

import re
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import ImageFileError

MOST_RUNS = 10_000
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]+')
_LONGEST_NAME = 60


class ResultFolder:
    """A new folder ``NAME N``; until `keep` is called it is removed with this object.

    Parameters
    ----------
    within : Path
        Made if it is not there.
    name : str
        Of the layer; what file systems refuse is left out.

    Attributes
    ----------
    path : Path

    Raises
    ------
    ImageFileError
        No folder can be made there.
    """

    def __init__(self, within: Path, name: str) -> None:
        self.path = _new_folder(within, name)
        self._removal: weakref.finalize[..., ResultFolder] = _removed_with(self, self.path)

    def keep(self) -> None:
        """The result is in the viewer: its folder stays, also when napari ends."""
        self._removal.detach()

    def give_up(self) -> None:
        """Another result took its place: remove it as soon as no array reads from it, and never when napari ends."""
        self._removal.detach()
        self._removal = _removed_with(self, self.path)
        self._removal.atexit = False

    def remove(self) -> None:
        """Remove it now."""
        self._removal()


class ResultFolders:
    """The folder of the last large result of each layer, by the layer's name."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[weakref.ref[ResultFolder], Path]] = {}

    def put(self, source: str, folder: ResultFolder | None, viewer: Any) -> None:
        """There is a newer result of a layer, None = one in memory: the folder of the last one goes once it may.

        It stays where the viewer shows a file of it that the user has opened.
        """
        if source in self._last:
            last, path = self._last.pop(source)
            opened = [Path(layer.source.path) for layer in viewer.layers if layer.source.path]
            owner = last()
            if any(file.is_relative_to(path) for file in opened):
                pass
            elif owner is None:  # its layers are gone already
                shutil.rmtree(path, ignore_errors=True)
            else:
                owner.give_up()
        if folder is not None:
            self._last[source] = weakref.ref(folder), folder.path


def _removed_with(owner: ResultFolder, path: Path) -> weakref.finalize[..., ResultFolder]:
    return weakref.finalize(owner, shutil.rmtree, path, ignore_errors=True)


def _new_folder(within: Path, name: str) -> Path:
    """The first ``NAME N`` that is free; two that look for one at the same time get two."""
    safe = _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME].strip(" .") or "image"
    try:
        within.mkdir(parents=True, exist_ok=True)
        for number in range(1, MOST_RUNS):
            path = within / f"{safe} {number}"
            if not path.exists():
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return path
        problem = f"{MOST_RUNS - 1} results of this name are there"
    except OSError as error:
        problem = error.strerror or str(error)
    raise ImageFileError(
        f"No folder for results can be made in {within}: {problem}.",
        "A folder that can be written to is needed.",
        "Choose another under Preferences ▸ VAE Repair ▸ Folder for large results.",
    )


class HeldArray:
    """A lazy array that keeps the folder it reads from.

    Parameters
    ----------
    array : array-like
        With ``shape``, ``dtype`` and indexing by slices.
    folder : ResultFolder
    """

    def __init__(self, array: Any, folder: ResultFolder) -> None:
        self._array, self._folder = array, folder
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Values in memory."""
        return np.asarray(self._array[key])
