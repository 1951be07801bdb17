"""Which windows there are in many files, in which order they are read, and which blocks of them are held out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.file_training.surveyed import Place, Surveyed

LONGEST_WINDOW_PX = 256
GOLDEN = (math.sqrt(5) - 1) / 2
_UINT64 = 0xFFFFFFFFFFFFFFFF


def common_side(lengths: Sequence[int], patch_px: int, stride: int) -> int:
    """Side of the windows of planes of these lengths: that of the shortest, within one patch and some patches."""
    most = max(LONGEST_WINDOW_PX, 2 * patch_px)
    return max(stride, min(most, max(min(lengths), min(patch_px, max(lengths)))))


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows of one size that cover every plane of every file with the least overlap.

    Attributes
    ----------
    files : tuple of Surveyed
    side : tuple of int
        Height and width of a window, in pixels.
    seed : int
        Of the order.
    """

    files: tuple[Surveyed, ...]
    side: tuple[int, int]
    seed: int

    @property
    def counts(self) -> NDArray[np.int64]:
        """Windows of each file."""
        return np.array([file.planes * math.prod(self._rows_columns(file)) for file in self.files], dtype=np.int64)

    def _rows_columns(self, file: Surveyed) -> tuple[int, int]:
        rows, columns = (math.ceil(length / side) for length, side in zip(file.shape, self.side, strict=True))
        return rows, columns

    def place(self, file: int, number: int) -> Place:
        """A window of a file, counted row by row, plane by plane."""
        rows, columns = self._rows_columns(self.files[file])
        plane, cell = divmod(number, rows * columns)
        corner = [
            round(at * (length - side) / max(1, count - 1)) if length > side else 0
            for at, length, side, count in zip(
                divmod(cell, columns), self.files[file].shape, self.side, (rows, columns), strict=True
            )
        ]
        return Place(file, plane, *corner)


class Order:
    """The windows of a grid in the order in which they are read: endless, and the same for the same seed.

    If all fit, each comes once, as they lie. Else one of each file comes first, and then steps of the golden ratio lead
    through all windows: however many are taken, they are spread evenly over all files and planes.

    Parameters
    ----------
    grid : Grid
    at_a_time : int
        How many windows are held.
    """

    def __init__(self, grid: Grid, at_a_time: int) -> None:
        self.grid = grid
        self._counts = grid.counts
        self._ends = np.cumsum(self._counts)
        self.total = int(self._ends[-1])
        self.all_fit = self.total <= at_a_time
        rng = np.random.default_rng([grid.seed, 0])
        self._files = rng.permutation(len(grid.files))
        self._first = int(rng.integers(self.total))
        step = max(1, round(GOLDEN * self.total))
        while math.gcd(step, self.total) > 1:
            step += 1
        self._step = step

    def place(self, position: int) -> Place:
        """What is read at that position."""
        if self.all_fit:
            return self._of(position % self.total)
        if position < len(self._files):
            file = int(self._files[position])
            count = int(self._counts[file])
            return self.grid.place(file, int((position * GOLDEN % 1) * count))
        return self._of((self._first + (position - len(self._files)) * self._step) % self.total)

    def files_within(self, positions: int) -> list[int]:
        """Numbers of the files that so many positions are sure to meet."""
        if self.all_fit or positions >= len(self._files):
            return list(range(len(self._files)))
        return sorted(int(file) for file in self._files[:positions])

    def _of(self, number: int) -> Place:
        file = int(np.searchsorted(self._ends, number, side="right"))
        return self.grid.place(file, number - (int(self._ends[file - 1]) if file else 0))


class HeldOut:
    """Blocks of the files' planes that are never trained on, chosen by a hash of where they lie.

    Parameters
    ----------
    grid : Grid
    share : float
        Of the area; 0 = none. At least one block is held out otherwise.
    block_px : int
    wanted : int
        For how many patches places are to be found.
    """

    def __init__(self, grid: Grid, share: float, block_px: int, wanted: int) -> None:
        self.block_px, self._seed, self._grid = block_px, grid.seed, grid
        self._below = int(share * _UINT64)
        self.places: list[Place] = []
        if share > 0:
            self._find(wanted)

    def mask(self, place: Place, side: tuple[int, int]) -> NDArray[np.bool_]:
        """Held-out pixels of a window, ``(Y, X)``."""
        rows, columns = (
            (start + np.arange(n)) // self.block_px for start, n in zip((place.y, place.x), side, strict=True)
        )
        if not self._below:
            return np.zeros(side, dtype=bool)
        some_rows, some_columns = np.unique(rows), np.unique(columns)
        chosen = self._hash(place, some_rows, some_columns) <= self._below
        return np.asarray(chosen[np.ix_(rows - some_rows[0], columns - some_columns[0])])

    def _find(self, wanted: int) -> None:
        """Corners of held-out blocks, a few of each window, from windows in their order."""
        order = Order(self._grid, 0)
        each = math.ceil(wanted / order.total)
        nearest: tuple[int, Place] | None = None
        for position in range(min(order.total + len(self._grid.files), 100 * wanted)):
            for value, place in self._blocks(order.place(position))[:each]:
                nearest = min(nearest or (value, place), (value, place), key=lambda entry: entry[0])
                if value <= self._below and place not in self.places:
                    self.places.append(place)
            if len(self.places) >= wanted:
                return
        if not self.places and nearest is not None:
            self._below = nearest[0]
            self.places.append(nearest[1])

    def _blocks(self, window: Place) -> list[tuple[int, Place]]:
        """Hash and corner of the blocks that begin in a window, those that are held out first."""
        ends = [
            min(at + n, end)
            for at, n, end in zip(
                (window.y, window.x), self._grid.side, self._grid.files[window.file].shape, strict=True
            )
        ]
        rows, columns = (
            np.arange(-(-start // self.block_px), (end - 1) // self.block_px + 1)
            for start, end in zip((window.y, window.x), ends, strict=True)
        )
        hashes = self._hash(window, rows, columns)
        found = [
            (int(hashes[i, j]), Place(window.file, window.plane, int(row) * self.block_px, int(column) * self.block_px))
            for i, row in enumerate(rows)
            for j, column in enumerate(columns)
        ]
        return sorted(found, key=lambda entry: entry[0])

    def _hash(self, place: Place, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Evenly distributed over all 64-bit integers, ``(rows, columns)``."""
        start = _mixed(
            _mixed(_mixed(np.array([self._seed], dtype=np.uint64)) + np.uint64(place.file)) + np.uint64(place.plane)
        )
        return _mixed(_mixed(start + rows.astype(np.uint64))[:, None] + columns.astype(np.uint64))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele et al. 2014, doi:10.1145/2714064.2660195)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def evenly(grid: Grid, wanted: int) -> Iterator[Place]:
    """So many windows of a grid, or all if there are fewer, spread over all files."""
    order = Order(grid, wanted)
    seen: set[Place] = set()
    for position in range(order.total if order.all_fit else order.total + len(grid.files)):
        place = order.place(position)
        if place not in seen:
            seen.add(place)
            yield place
        if len(seen) == wanted:
            return
