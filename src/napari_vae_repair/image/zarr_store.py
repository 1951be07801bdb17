"""OME-Zarr stores that are written block by block, by several processes if need be, and appear only when complete.

What is atomic: every chunk's file; the journal's lines; and the store itself, which is written to a hidden folder
beside its place and renamed there at the end, so that a reader never sees a part of it. What is not: a store that
already stands at the place is moved aside first, and between those two renames nothing stands there. A process
killed just then leaves both stores whole, and the next `create_store` puts the old one back. All of this is about
processes that are killed and disks that are full; after a power failure the file system decides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_vae_repair.errors import Cancelled, InputError
from napari_vae_repair.image.atomic import check_folder, writing
from napari_vae_repair.image.axes import check_axes
from napari_vae_repair.image.ngff import VERSIONS, stored_axes
from napari_vae_repair.image.record import Colours
from napari_vae_repair.image.tiff import json_metadata
from napari_vae_repair.image.zarr_contents import new_array, store_attributes
from napari_vae_repair.image.zarr_levels import build_level, level_shapes
from napari_vae_repair.image.zarr_part import Part

CHUNK_PX = 512


def create_store(
    path: str | Path,
    shape: Sequence[int],
    dtype: DTypeLike,
    axes: str,
    *,
    chunks: Sequence[int] | None = None,
    pixel_size_um: Mapping[str, float] | None = None,
    channel_names: Sequence[str] = (),
    channel_colours: Colours = (),
    provenance: Mapping[str, Any] | None = None,
    version: str = "0.5",
    plan_key: str = "",
) -> StoreWriter:
    """A writer of an OME-Zarr store; `StoreWriter.finish` makes the store appear at `path`.

    Until then everything lies in a hidden folder beside it, ``.NAME.PLAN.part``, where PLAN stands for `plan_key`,
    shape, dtype, axes, chunks and version. Where a run of the same plan left that folder, the writer goes on with it
    and its `done` says which blocks are there. Those of other plans are removed: one run at a time (`only_writer`).

    Parameters
    ----------
    path : str or Path
        A folder, by custom ending in ``.ome.zarr``; a store that stands there is replaced at the end.
    shape : sequence of int
    dtype : dtype
        Boolean, integer or float.
    axes : str
        One letter for each dimension; see `Image`. Axes are stored in OME-Zarr's order and come back in this one.
    chunks : sequence of int, optional
        Entries of a chunk along each axis; None = 512 x 512 pixels of one plane, all colour samples together.
    pixel_size_um : mapping of str to float, optional
        Micrometres per step along an axis letter.
    channel_names, channel_colours : sequence, optional
        One for each entry of ``C``.
    provenance : mapping, optional
        JSON values on how the image came to be; `finish` may replace it.
    version : str
        "0.5" (zarr 3) or "0.4" (zarr 2).
    plan_key : str
        Whatever makes the values what they are, such as a hash of image and settings.

    Raises
    ------
    ImageFileError
        OME-Zarr cannot hold such axes, something that is no store stands at `path`, or its folder cannot be written.
    InputError
        Shape, axes, chunks or dtype do not fit.
    """
    path, target, kind = Path(path), Path(os.path.realpath(path)), np.dtype(dtype)
    check_axes(axes, tuple(shape))
    letters = stored_axes(path, axes)
    whole = tuple(int(n) for n in shape)
    grain = _chunks(whole, axes, chunks)
    if kind.kind not in "buif" or 0 in whole or version not in VERSIONS:
        raise InputError(
            f"A store of dtype {kind}, shape {whole} and version {version!r} was asked for.",
            f"Boolean, integer and real floating-point images with pixels can be written, as {' or '.join(VERSIONS)}.",
            "Convert the image first, or choose another version.",
        )
    plan = {
        "plan_key": plan_key, "shape": whole, "dtype": kind.newbyteorder("=").name, "axes": axes, "chunks": grain,
        "version": version,
    }  # fmt: skip
    about = {
        "pixel_size_um": dict(pixel_size_um or {}), "channel_names": list(channel_names),
        "channel_colours": [list(colour) for colour in channel_colours],
        "provenance": None if provenance is None else dict(provenance),
    }  # fmt: skip
    writer = StoreWriter(target, letters, json.loads(json.dumps(plan)), json_metadata(about, path))
    with writing(path):
        check_folder(target)
        writer._start()
    return writer


class StoreWriter:
    """Writes the blocks of one store; made by `create_store`, and picklable for other processes.

    Attributes
    ----------
    path : Path
        Where the store will stand.
    shape, chunks : tuple of int
        In the order of `axes`.
    dtype : dtype
    axes : str
    """

    def __init__(self, path: Path, letters: str, plan: dict[str, Any], about: dict[str, Any]) -> None:
        self.path = path
        self.shape: tuple[int, ...] = tuple(plan["shape"])
        self.chunks: tuple[int, ...] = tuple(plan["chunks"])
        self.dtype = np.dtype(plan["dtype"])
        self.axes: str = plan["axes"]
        self._plan, self._about, self._letters = plan, about, letters
        self._part = Part(path, plan)
        self._order = [self.axes.replace("S", "C").index(letter) for letter in letters]
        self._array: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_array": None}

    @property
    def part(self) -> Path:
        """The hidden folder that holds everything until `finish`."""
        return self._part.folder

    @property
    def done(self) -> set[int]:
        """The numbers given to `mark_done`, also by earlier runs of the same plan."""
        return self._part.done

    def write(self, window: Sequence[slice], values: NDArray[Any]) -> None:
        """Store the values of one window; windows of several processes must not share a chunk.

        Parameters
        ----------
        window : sequence of slice
            Along each axis; starts at multiples of `chunks`, and ends there or at the image's end.
        values : ndarray
            Of the window's shape and the store's dtype.

        Raises
        ------
        InputError
            The window cuts a chunk, or the values have another shape or dtype.
        ImageFileError
            The disk is full, or the hidden folder was removed, such as by a run of another plan.
        """
        ends = [window[d].indices(self.shape[d]) for d in range(len(self.shape))]
        whole_chunks = all(
            start % c == 0 and (stop % c == 0 or stop == n) and step == 1
            for (start, stop, step), c, n in zip(ends, self.chunks, self.shape, strict=True)
        )
        expected = tuple(stop - start for start, stop, _ in ends)
        if not whole_chunks or values.shape != expected or values.dtype.newbyteorder("=") != self.dtype:
            raise InputError(
                f"Values of shape {values.shape} and dtype {values.dtype} were given for the window {tuple(window)}.",
                f"A window is made of whole chunks of {self.chunks} of the shape {self.shape}, of {self.dtype} values.",
                "Cut the image along its chunks.",
            )
        inside = tuple(slice(*ends[d][:2]) for d in self._order)
        with writing(self.path):
            self._part.check()
            self._level_0()[inside] = np.transpose(values, self._order).astype(self.dtype, copy=False)

    def mark_done(self, number: int) -> None:
        """Note that a block is written; survives a kill at any moment, from several processes of one machine."""
        with writing(self.path):
            self._part.check()
            self._part.mark_done(number)

    def note(self, name: str, content: bytes) -> None:
        """Keep a small file until the store appears, for whoever goes on with this plan; whole or not at all.

        The name is a fixed word of lower-case letters, digits, points and underscores.
        """
        self._part.check()
        self._part.note(name, content)

    def noted(self, name: str) -> bytes | None:
        """What was given to `note`, also by earlier runs of the same plan; None if nothing was."""
        return self._part.noted(name)

    def finish(
        self, provenance: Mapping[str, Any] | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> Path:
        """Make the lower levels and the metadata, and let the store appear at its place: `build` and `appear`."""
        self.build(provenance, should_stop)
        return self.appear()

    def build(
        self, provenance: Mapping[str, Any] | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Make the lower levels and the metadata; can be repeated.

        Parameters
        ----------
        provenance : mapping, optional
            Takes the place of that given to `create_store`.
        should_stop : callable
            Asked before each block of a level; `Cancelled` is raised, and the hidden folder can be gone on with.

        Raises
        ------
        ImageFileError
            The disk is full, the hidden folder was removed, or the provenance is not JSON.
        """
        if provenance is not None:
            self._about = self._about | json_metadata({"provenance": dict(provenance)}, self.path)
        with writing(self.path):
            self._part.check()
            levels = self._build_levels(should_stop)
            name = self.path.name.split(".")[0]
            self._group().attrs.update(store_attributes(self._plan, self._about, name, self._letters, levels))

    def appear(self) -> Path:
        """Put the store that `build` has made in its place, by renaming; what stands there must be a store, too."""
        with writing(self.path):
            self._part.check()
            self._part.put_in_place()
            self.discard()
        return self.path

    def discard(self) -> None:
        """Remove the hidden folder; what stands at the place stays."""
        self._array = None
        self._part.remove()

    def _start(self) -> None:
        """Go on with a part of the same plan, or begin a new one."""
        self._part.put_back()
        whole = self._part.whole
        self._part.clear(keep=whole)
        if not whole:
            self.part.mkdir()
            self._make_array("0", self.shape)
            self._part.seal()

    def _group(self) -> Any:
        import zarr

        return zarr.open_group(self._part.store, mode="a", zarr_format=self._zarr_format)

    @property
    def _zarr_format(self) -> Any:
        return 3 if self._plan["version"] == "0.5" else 2

    def _level_0(self) -> Any:
        if self._array is None:
            self._array = self._group()["0"]
        return self._array

    def _make_array(self, name: str, shape: Sequence[int]) -> Any:
        """An empty array; `shape` is in the order of `axes`."""
        stored = [shape[d] for d in self._order]
        chunks = [min(self.chunks[d], shape[d]) for d in self._order]
        return new_array(self._group(), name, stored, chunks, self.dtype, self._letters)

    # ---- the end ------------------------------------------------------------------------------

    def _build_levels(self, should_stop: Callable[[], bool]) -> list[Any]:
        y, x = self.axes.index("Y"), self.axes.index("X")
        yx = (self._letters.index("Y"), self._letters.index("X"))
        levels = [self._level_0()]
        for number, shape in enumerate(level_shapes(self.shape, (y, x))[1:], start=1):
            levels.append(self._make_array(str(number), shape))
            if not build_level(levels[-2], levels[-1], yx, should_stop):
                raise Cancelled("write")
        return levels


def _chunks(shape: tuple[int, ...], axes: str, chunks: Sequence[int] | None) -> tuple[int, ...]:
    if chunks is None:
        return tuple(min(n, CHUNK_PX) if a in "YX" else n if a == "S" else 1 for a, n in zip(axes, shape, strict=True))
    if len(chunks) != len(shape) or any(int(c) < 1 for c in chunks):
        raise InputError(
            f"Chunks of {tuple(chunks)} were given for the shape {shape}.",
            "One positive number for each axis is needed.",
            "Leave them out for 512 x 512 pixels.",
        )
    return tuple(min(int(c), n) for c, n in zip(chunks, shape, strict=True))
