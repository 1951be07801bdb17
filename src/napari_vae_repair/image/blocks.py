"""The blocks of a large image, each within one plane."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from napari_vae_repair.image.axes import Layout, spatial_shape
from napari_vae_repair.image.tiles import Window


@dataclass(frozen=True, slots=True)
class Block:
    """A part of one plane.

    Attributes
    ----------
    number : int
        Counted over the whole image.
    index : tuple of int
        Position along each axis but ``Y``, ``X`` and ``S``, in the image's order.
    window : tuple of slice
        Rows and columns, in pixels.
    """

    number: int
    index: tuple[int, ...]
    window: Window


@dataclass(frozen=True, slots=True)
class Grid:
    """The blocks of an image, each within one plane.

    Attributes
    ----------
    layout : Layout
        Of the image.
    block_px : int
        Side of a block.
    """

    layout: Layout
    block_px: int

    @property
    def stack(self) -> str:
        """Letters of the axes along which planes are stacked."""
        return "".join(letter for letter in self.layout.axes if letter not in "YXS")

    @property
    def shape(self) -> tuple[int, ...]:
        """Blocks along each axis of `stack`, along ``Y`` and along ``X``."""
        height, width = spatial_shape(self.layout.shape, self.layout.axes)
        sizes = [self.layout.shape[self.layout.axes.index(letter)] for letter in self.stack]
        return (*sizes, -(-height // self.block_px), -(-width // self.block_px))

    def __len__(self) -> int:
        return int(np.prod(self.shape))

    def __iter__(self) -> Iterator[Block]:
        height, width = spatial_shape(self.layout.shape, self.layout.axes)
        for number, (*index, row, column) in enumerate(np.ndindex(self.shape)):
            rows, columns = (
                slice(at * self.block_px, min((at + 1) * self.block_px, side))
                for at, side in ((row, height), (column, width))
            )
            yield Block(number, tuple(index), (rows, columns))

    def place(self, index: tuple[int, ...]) -> tuple[int, int]:
        """Channel, and number of the plane as `Layout.to_planes` counts them."""
        at = dict(zip(self.stack, index, strict=True))
        letters = sorted(self.stack, key=lambda letter: letter != "C")
        sizes = [self.layout.shape[self.layout.axes.index(letter)] for letter in letters]
        number = int(np.ravel_multi_index([at[letter] for letter in letters], sizes)) if letters else 0
        return at.get("C", 0), number

    def slices(
        self, index: tuple[int, ...], window: Window, axes: str | None = None, colours: int | None = None
    ) -> tuple[slice, ...]:
        """A window of one plane as slices along the image's axes, or along `axes` with so many `colours`."""
        at = dict(zip(self.stack, index, strict=True))
        parts = {letter: slice(position, position + 1) for letter, position in at.items()}
        parts |= {"Y": window[0], "X": window[1], "S": slice(0, colours)}
        return tuple(parts[letter] for letter in (axes or self.layout.axes))
