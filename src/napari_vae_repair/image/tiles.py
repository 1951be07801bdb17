"""An integer plan of tiles: read, crop and write windows, and weights that add up to one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a plan.

    Attributes
    ----------
    read : Window
        Part of the image that is looked at; its corner is a multiple of the stride.
    write : Window
        Part of the image to which the tile contributes, within `read`.
    crop : Window
        `write` in the coordinates of `read`.
    weight_y, weight_x : ndarray of float32
        Weight of each row and column of `write`; over all tiles, the products add up to one at each pixel.
    """

    read: Window
    write: Window
    crop: Window
    weight_y: NDArray[np.float32]
    weight_x: NDArray[np.float32]

    @property
    def weight(self) -> NDArray[np.float32]:
        """``(Y, X)`` of `write`."""
        return self.weight_y[:, None] * self.weight_x[None, :]


def plan_tiles(
    height: int, width: int, *, tile_px: int, halo_px: int, blend_px: int, stride: int, wanted: Window | None = None
) -> list[Tile]:
    """Tiles that cover an image of which both sides are multiples of `stride`, or a part of it.

    Parameters
    ----------
    height, width : int
        In pixels.
    tile_px : int
        Side of the region that a tile owns; rounded up to a multiple of `stride`.
    halo_px : int
        Margin that is read and thrown away on each side; rounded up to a multiple of `stride`.
    blend_px : int
        Width, centred on each seam, over which neighbouring tiles fade into each other; at most `tile_px`.
    stride : int
        Grid of the windows' corners, in pixels.
    wanted : tuple of slice or None
        Rows and columns that are covered; None = all.
    """
    covered = (slice(0, height), slice(0, width)) if wanted is None else wanted
    rows = _plan_axis(height, covered[0], tile_px, halo_px, blend_px, stride)
    columns = _plan_axis(width, covered[1], tile_px, halo_px, blend_px, stride)
    tiles = []
    for read_y, write_y, weight_y in rows:
        for read_x, write_x, weight_x in columns:
            crop = (_shifted(write_y, read_y.start), _shifted(write_x, read_x.start))
            tiles.append(Tile((read_y, read_x), (write_y, write_x), crop, weight_y, weight_x))
    return tiles


def _plan_axis(
    length: int, covered: slice, tile_px: int, halo_px: int, blend_px: int, stride: int
) -> list[tuple[slice, slice, NDArray[np.float32]]]:
    tile, halo = (-(-size // stride) * stride for size in (tile_px, halo_px))
    half = min(blend_px, tile) // 2
    margin = halo + -(-half // stride) * stride
    count = max(1, -(-(covered.stop - covered.start) // tile))
    out = []
    for index in range(count):
        start = covered.start + index * tile
        stop = min(start + tile, covered.stop)
        has_before, has_after = index > 0, index < count - 1
        write = slice(
            start - half if has_before else covered.start, min(stop + half, covered.stop) if has_after else covered.stop
        )
        read = slice(max(start - margin, 0) // stride * stride, min(-(-(stop + margin) // stride) * stride, length))
        out.append((read, write, _ramp(write, start, stop, half, has_before, has_after)))
    return out


def _ramp(write: slice, start: int, stop: int, half: int, has_before: bool, has_after: bool) -> NDArray[np.float32]:
    centre = np.arange(write.start, write.stop) + 0.5
    weight = np.ones(centre.size)
    if half:
        # past the image's end a seam's ramp is cut short, on both of its sides alike
        if has_before:
            weight = np.minimum(weight, (centre - (start - half)) / (2 * half))
        if has_after:
            weight = np.minimum(weight, ((stop + half) - centre) / (2 * half))
    return weight.astype(np.float32)


def _shifted(window: slice, by: int) -> slice:
    return slice(window.start - by, window.stop - by)
