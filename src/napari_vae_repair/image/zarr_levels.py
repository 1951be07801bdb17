"""The levels of lower resolution of a store, each made of the one before, block by block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_SIDE_PX = 256  # of the coarsest level with another one below it
BLOCK_BYTES = 2**24  # read at a time


def level_shapes(shape: tuple[int, ...], yx: tuple[int, int]) -> list[tuple[int, ...]]:
    """Shapes of all levels: halved along Y and X, rounded up, until the smaller side is below 256 pixels."""
    shapes = [tuple(shape)]
    while min(shapes[-1][d] for d in yx) >= LEAST_SIDE_PX:
        shapes.append(tuple(-(-n // 2) if d in yx else n for d, n in enumerate(shapes[-1])))
    return shapes


def build_level(source: Any, target: Any, yx: tuple[int, int], should_stop: Callable[[], bool]) -> bool:
    """Fill `target` with the mean of each 2 x 2 pixels of `source`; False when it was stopped.

    Memory is that of one block of some chunks.

    Parameters
    ----------
    source, target : zarr.Array
        `target` has a shape of `level_shapes`.
    yx : tuple of int
        The dimensions to halve.
    should_stop : callable
        Asked before each block.
    """
    for window in blocks(target.shape, target.chunks, target.dtype.itemsize * 4):
        if should_stop():
            return False
        under = tuple(
            slice(2 * w.start, min(2 * w.stop, source.shape[d])) if d in yx else w for d, w in enumerate(window)
        )
        target[window] = halved(np.asarray(source[under]), yx)
    return True


def blocks(shape: tuple[int, ...], chunks: tuple[int, ...], bytes_per_entry: int) -> Iterator[tuple[slice, ...]]:
    """Windows of whole chunks that cover an array once, each of about 16 MB or of one chunk."""
    step = list(chunks)
    for d in reversed(range(len(step))):
        room = BLOCK_BYTES // (math.prod(step) * bytes_per_entry)
        step[d] = min(max(room, 1) * step[d], -(-shape[d] // step[d]) * step[d])
    starts = (range(0, n, s) for n, s in zip(shape, step, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(c, min(c + s, n)) for c, s, n in zip(corner, step, shape, strict=True))


def halved(values: NDArray[Any], yx: tuple[int, int]) -> NDArray[Any]:
    """The mean of each 2 x 2 pixels along two dimensions, in the same dtype.

    At an odd end the pixels that are there count. Integers are rounded, halves to the even one, exactly
    even for 64 bits; of boolean values True stands for more than half; NaN is left out of the mean.
    """
    odd = [(0, values.shape[d] % 2 if d in yx else 0) for d in range(values.ndim)]
    even = np.pad(values, odd, mode="edge")
    quarters = []
    for corner in itertools.product((0, 1), repeat=2):
        index: list[slice] = [slice(None)] * values.ndim
        for d, start in zip(yx, corner, strict=True):
            index[d] = slice(start, None, 2)
        quarters.append(even[tuple(index)])
    if values.dtype.kind == "b":
        return np.asarray(np.sum(quarters, axis=0, dtype=np.uint8) > 2)
    if values.dtype.kind in "ui":
        return _integer_mean(quarters)
    return _float_mean(quarters)


def _integer_mean(quarters: list[NDArray[Any]]) -> NDArray[Any]:
    """Rounded mean of four; no sum on the way leaves the dtype."""
    dtype = quarters[0].dtype
    whole = np.zeros_like(quarters[0])
    rest = np.zeros_like(quarters[0])
    for part in quarters:
        whole += part >> 2
        rest += part & 3
    whole += rest >> 2
    rest &= 3
    up = (rest == 3) | ((rest == 2) & ((whole & 1) == 1))
    return np.asarray(whole + up.astype(dtype))


def _float_mean(quarters: list[NDArray[Any]]) -> NDArray[Any]:
    dtype = quarters[0].dtype
    wide = [part.astype(np.float32) if dtype.itemsize == 2 else part for part in quarters]
    with np.errstate(invalid="ignore"):  # of infinities
        mean = sum((part * wide[0].dtype.type(0.25) for part in wide[1:]), wide[0] * wide[0].dtype.type(0.25))
        missing = np.isnan(mean)
        if missing.any():
            stack = np.stack([part[missing] for part in wide])
            there = ~np.isnan(stack)
            count = there.sum(axis=0)
            total = np.where(there, stack, 0).sum(axis=0)
            mean[missing] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.asarray(mean.astype(dtype))
