"""Patches of many files: as many windows as the memory may hold, renewed one after the other while a model trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_vae_repair.errors import SettingsError
from napari_vae_repair.file_training.places import Grid, HeldOut, Order, common_side, evenly
from napari_vae_repair.file_training.surveyed import Place, Surveyed
from napari_vae_repair.vae.patches import BLOB_SHARE, BLOB_SHARE_DAMAGED, Batch, PatchSource, block_px
from napari_vae_repair.vae.record import ValueRange


@dataclass(frozen=True, slots=True)
class Need:
    """What a training asks of its patches.

    Attributes
    ----------
    patch_px, stride : int
        As of `PatchSource`.
    held_out : float
        Share of the area that is held out where there are no files for validation.
    validation : int
        Patches that decide.
    an_epoch : int
        Patches after which the oldest windows, as many as that at most, are renewed.
    in_all : int
        Patches of the whole training, if that is known; more windows are never held.
    """

    patch_px: int
    stride: int
    held_out: float
    validation: int
    an_epoch: int
    in_all: int


class _Held:
    """Windows in memory, each in the planes of one slot.

    Parameters
    ----------
    files : sequence of Surveyed
        That places are numbered by.
    first : sequence of int
        Of each file the number of its first channel.
    side : tuple of int
    slots : int
    """

    def __init__(self, files: Sequence[Surveyed], first: Sequence[int], side: tuple[int, int], slots: int) -> None:
        self._files, self._first, self._side = files, first, side
        self._each, colours = planes_of_window(files[0])
        count = slots * self._each
        self.planes = np.zeros((count, colours, *side), dtype=np.float32)
        self.damaged = np.zeros((count, *side), dtype=bool)
        self.held_out = np.zeros((count, *side), dtype=bool)
        self.channel = np.zeros(count, dtype=np.int64)

    def put(self, wanted: Iterable[tuple[int, Place]], held_out: HeldOut | None) -> Iterator[int]:
        """Read places into slots, each file opened once; yields how many are read. Without blocks all is held out."""
        chosen = sorted(wanted, key=lambda entry: (entry[1].file, entry[1].plane, entry[1].y, entry[1].x))
        done = 0
        for number in sorted({place.file for _, place in chosen}):
            file = self._files[number]
            of_file = [entry for entry in chosen if entry[1].file == number]
            windows = file.windows([place for _, place in of_file], self._side)
            for (slot, place), window in zip(of_file, windows, strict=True):
                part = slice(slot * self._each, (slot + 1) * self._each)
                channel = place.plane // (file.planes // file.layout.channels)
                self.planes[part], self.damaged[part] = window.planes, window.damaged
                self.held_out[part] = True if held_out is None else held_out.mask(place, self._side)
                self.channel[part] = self._first[number] + channel * self._each + np.arange(self._each)
                done += 1
                yield done


class FilePatches:
    """Patches of files, most of which lie in their files.

    Parameters
    ----------
    files : sequence of Surveyed
        To train on.
    validation : sequence of Surveyed
        For `validation` alone; without any, blocks of `files` are held out for it.
    need : Need
    seed : int
        Of the windows, the held-out blocks and all patches.
    memory_bytes : int
        Most that the windows may take; what is read to fill one of them comes on top.
    start : dict or None
        What `state` gave, to begin there; None = at the beginning.

    Raises
    ------
    SettingsError
        If not one window fits.

    Notes
    -----
    Nothing is read before `fill`.
    """

    def __init__(
        self,
        files: Sequence[Surveyed],
        validation: Sequence[Surveyed],
        need: Need,
        seed: int,
        memory_bytes: int,
        start: dict[str, Any] | None = None,
    ) -> None:
        self._need, self._files, everyone = need, tuple(files), (*files, *validation)
        self._first = np.cumsum([0, *(file.layout.channels * planes_of_window(file)[0] for file in everyone)]).tolist()
        side = _side([file.shape for file in files], need)
        patch = min(need.patch_px, *side) // need.stride * need.stride
        self._patch = (patch, patch)
        grid = Grid(self._files, side, seed)
        slots = min(int(grid.counts.sum()), _fitting(files[0], side, memory_bytes), max(need.in_all, len(files)))
        self._order = Order(grid, slots)
        self._held_out = HeldOut(grid, 0.0 if validation else need.held_out, block_px(patch), need.validation)
        self._pool = _Held(files, self._first, side, slots)
        self._slots = slots
        self._next: int
        self._drawn: int
        self._next, self._drawn = (start["next"], start["drawn"]) if start else (slots, 0)
        self._damage = any(file.damaged for file in files)
        self._seed, self._everyone = seed, everyone
        self._training = self._source(self._pool)
        self._fixed = self._places_of(tuple(validation), len(files))

    # ---- what is read --------------------------------------------------------------------------

    def fill(self) -> Iterator[tuple[int, int]]:
        """Read what training begins with; yields windows done and in all."""
        total = self._slots + sum(len(places) for places, _ in self._fixed)
        done = 0
        for _ in self._pool.put(self._present(), self._held_out):
            done += 1
            yield done, total
        sources = []
        for places, held_out in self._fixed:
            held = _Held(self._everyone, self._first, self._patch, len(places))
            for _ in held.put(enumerate(places), held_out):
                done += 1
                yield done, total
            sources.append(self._source(held))
        self._validation, self._visible = sources[0], sources[-1]

    def _places_of(self, validation: tuple[Surveyed, ...], before: int) -> list[tuple[list[Place], HeldOut | None]]:
        """Windows of one patch: those for validation, and those for the report where they are others."""
        size = self._patch
        if not validation:
            return [([self._around(place) for place in self._held_out.places[: self._need.validation]], self._held_out)]
        apart = list(evenly(Grid(validation, size, self._seed), self._need.validation))
        apart = [Place(place.file + before, place.plane, place.y, place.x) for place in apart]
        return [(apart, None), (list(evenly(Grid(self._files, size, self._seed), len(apart))), self._held_out)]

    def _around(self, block: Place) -> Place:
        """The patch that has a block in its middle, or as near to it as the plane allows."""
        middle = self._held_out.block_px // 2 - self._patch[0] // 2
        y, x = (
            int(np.clip(at + middle, 0, max(0, length - size)))
            for at, length, size in zip((block.y, block.x), self._everyone[block.file].shape, self._patch, strict=True)
        )
        return Place(block.file, block.plane, y, x)

    def _present(self) -> list[tuple[int, Place]]:
        """Slots, and what is in them."""
        return [(at % self._slots, self._order.place(at)) for at in range(self._next - self._slots, self._next)]

    def _source(self, held: _Held) -> PatchSource:
        return PatchSource(
            held.planes,
            held.damaged,
            held.channel,
            patch_px=self._need.patch_px,
            stride=self._need.stride,
            held_out=held.held_out,
            seed=self._seed,
            blob_share=BLOB_SHARE_DAMAGED if self._damage else BLOB_SHARE,
        )

    def _renew(self) -> None:
        count = min(self._slots, self._need.an_epoch)
        new = [(at % self._slots, self._order.place(at)) for at in range(self._next, self._next + count)]
        for _ in self._pool.put(new, self._held_out):
            pass
        self._next, self._drawn = self._next + count, 0

    # ---- what is known -------------------------------------------------------------------------

    @property
    def bytes_held(self) -> int:
        """What the windows to train on take."""
        pool = self._pool
        return pool.planes.nbytes + pool.damaged.nbytes + pool.held_out.nbytes

    @property
    def files_read(self) -> list[int]:
        """Numbers of the files of which windows have been trained on."""
        return self._order.files_within(self._next)

    def value_range(self) -> ValueRange:
        """Of the windows in memory."""
        return ValueRange.of(self._pool.planes)

    # ---- `Patches` -----------------------------------------------------------------------------

    def training(self, size: int) -> Batch:
        """Random patches of the windows in memory, of which the oldest are renewed first where that is due."""
        if not self._order.all_fit and self._drawn >= self._need.an_epoch:
            self._renew()
        self._drawn += size
        return self._training.training(size)

    def validation(self, at_most: int) -> Batch:
        """The same patches at each call, of which nothing is ever in `training`."""
        return self._validation.validation(at_most)

    def visible(self, at_most: int) -> Batch:
        """Patches at fixed places of the files to train on."""
        return self._visible.visible(at_most)

    def state(self) -> dict[str, Any]:
        """Which windows are in memory, and where the random numbers are."""
        return {"next": self._next, "drawn": self._drawn, **self._training.state()}

    def put_back(self, state: dict[str, Any]) -> None:
        """Go on with the patches that followed; the windows of `start` must be those of `state`."""
        if (self._next, self._drawn) != (state["next"], state["drawn"]):
            raise ValueError("the windows in memory are others")
        self._training.put_back(state)


def planes_of_window(file: Surveyed) -> tuple[int, int]:
    """How many planes, and of how many colours, a window becomes."""
    return (file.colours, 1) if file.views else (1, file.colours)


def _side(shapes: Sequence[tuple[int, int]], need: Need) -> tuple[int, int]:
    heights, widths = zip(*shapes, strict=True)
    return common_side(heights, need.patch_px, need.stride), common_side(widths, need.patch_px, need.stride)


def _fitting(file: Surveyed, side: tuple[int, int], memory_bytes: int) -> int:
    """How many windows fit: values, damage and what is held out of each."""
    planes, colours = planes_of_window(file)
    each = planes * side[0] * side[1] * (4 * colours + 2)
    if memory_bytes < each:
        raise SettingsError(
            f"The windows of the images may take {memory_bytes / 1e6:.1f} MB.",
            f"At least one of {side[0]} x {side[1]} pixels must fit ({each / 1e6:.1f} MB).",
            "Give more memory (--memory).",
        )
    return memory_bytes // each
