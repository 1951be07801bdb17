"""The folder of one large result: removed with a run that fails, and a finished one only after the same run again.

zarr reads files when pixels are shown, and gives zeros where a file is gone: a folder must outlive all arrays over it.
Each of them holds its `ResultFolder`, so that Python itself tells when the last one is gone.
"""

from __future__ import annotations

import gc
import re
import shutil
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.plugin.preferences import cache_folder

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
    pixels : array-like, optional
        The lazy array that is restored, if all of it is; held weakly.

    Attributes
    ----------
    path : Path

    Raises
    ------
    ImageFileError
        No folder can be made there.
    """

    def __init__(self, within: Path, name: str, pixels: Any = None) -> None:
        self.path = _new_folder(within, name)
        self._pixels = None if pixels is None else _weakly(pixels)
        self._removal = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def keep(self) -> None:
        """The result is finished: its folder stays when this object is gone, also when napari ends."""
        self._removal.detach()

    def remove(self) -> None:
        """Remove it now, unless it is kept."""
        self._removal()

    def is_again(self, earlier: ResultFolder) -> bool:
        """Whether both results are of all of one array, the same object."""
        of, earlier_of = (None if one._pixels is None else one._pixels() for one in (self, earlier))
        return of is not None and of is earlier_of


class ResultFolders:
    """The folder of the last large result of each layer, so that running again does not fill the cache folder."""

    def __init__(self) -> None:
        self._last: weakref.WeakKeyDictionary[Any, weakref.ref[ResultFolder]] = weakref.WeakKeyDictionary()

    @contextmanager
    def replacing(self, source: Any, folder: ResultFolder) -> Iterator[None]:
        """Keep a new folder; within the block, its layers take the place of those before.

        The folder before is removed if the same layer was restored whole again, in the cache folder, and what took
        its place was all that read from it. In any other case it stays for good.

        Parameters
        ----------
        source : napari.layers.Image or None
            The layer that was restored; None once it is gone.
        folder : ResultFolder
            Of the new result.
        """
        folder.keep()  # whatever becomes of its layers
        gc.collect()  # garbage reads from nothing
        earlier = None if source is None else self._of(source, folder)
        yield
        if source is not None:
            self._last[source] = weakref.ref(folder)
        if earlier is not None:
            last, path = weakref.ref(earlier), earlier.path
            del earlier
            gc.collect()
            if last() is None and not _is_read(path):
                shutil.rmtree(path, ignore_errors=True)

    def _of(self, source: Any, folder: ResultFolder) -> ResultFolder | None:
        """The last result of the layer, if something still shows it, and if the new one may take its place on disk."""
        last = self._last.pop(source, None)
        earlier = None if last is None else last()
        if earlier is None or earlier.path.parent != cache_folder() or not folder.is_again(earlier):
            return None
        return earlier


def _weakly(pixels: Any) -> weakref.ref[Any] | None:
    try:
        return weakref.ref(pixels)
    except TypeError:  # a kind of array that cannot tell whether it is the same one later
        return None


def _is_read(folder: Path) -> bool:
    """Whether a layer of any viewer was opened from a file in the folder, or any zarr array lies in it.

    napari has no list of its viewers, and arrays live in consoles and scripts: Python is asked for all.
    """
    layers, zarr = sys.modules.get("napari.layers"), sys.modules.get("zarr")
    layer_type = () if layers is None else (layers.Layer,)
    array_type = () if zarr is None else (zarr.Array,)
    for one in gc.get_objects():
        if issubclass(type(one), layer_type):  # isinstance would wake lazy objects
            opened = one.source.path
            if isinstance(opened, str | Path) and Path(opened).absolute().is_relative_to(folder):
                return True
        elif issubclass(type(one), array_type) and f"{folder.as_posix()}/" in str(one.store_path):
            return True
    return False


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
