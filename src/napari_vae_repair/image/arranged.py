"""An array on a disk in another order of its axes, read only where it is asked for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.image.tiff import decoding


class ArrangedArray:
    """A view of a lazy array with its axes in another order and single entries dropped; as picklable as its source.

    Parameters
    ----------
    source : array-like
        With ``shape``, ``dtype`` and indexing by a tuple of slices: zarr, dask, memory map, ndarray.
    order : sequence of int
        Which dimension of `source` each dimension of the view is; those left out must have length 1.
    dtype : dtype, optional
        What the values are converted to on reading; None keeps the source's.
    """

    __slots__ = ("_dtype", "order", "source")

    def __init__(self, source: Any, order: Any, dtype: Any = None) -> None:
        self.source = source
        self.order = tuple(int(d) for d in order)
        self._dtype: np.dtype[Any] = np.dtype(source.dtype if dtype is None else dtype)
        dropped = set(range(len(source.shape))) - set(self.order)
        assert all(source.shape[d] == 1 for d in dropped)

    @property
    def shape(self) -> tuple[int, ...]:
        """Entries along each dimension of the view."""
        return tuple(int(self.source.shape[d]) for d in self.order)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values that are read."""
        return self._dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions of the view."""
        return len(self.order)

    @property
    def nbytes(self) -> int:
        """Size of all values in memory."""
        return math.prod(self.shape) * int(self._dtype.itemsize)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Values in memory; `key` is made of slices with positive steps, integers and an ellipsis.

        Raises
        ------
        ImageFileError
            The pixels are damaged, or not all there.
        """
        wanted = self._completed(key)
        windows = [slice(k, k + 1) if isinstance(k, int) else k for k in wanted]
        inside: list[slice] = [slice(None)] * len(self.source.shape)
        for d, window in zip(self.order, windows, strict=True):
            inside[d] = window
        with decoding(self._path()):
            values = np.asarray(self.source[tuple(inside)])
        dropped = [d for d in range(values.ndim) if d not in self.order]
        values = np.transpose(values, [*self.order, *dropped])
        values = values.reshape(values.shape[: self.ndim])
        values = values[tuple(0 if isinstance(k, int) else slice(None) for k in wanted)]
        return np.asarray(values).astype(self._dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All values, as numpy asks for them."""
        return np.asarray(self[...], dtype=dtype)

    def _path(self) -> Path:
        """Where the pixels lie, for messages."""
        store = getattr(self.source, "store_path", None)  # of a zarr array
        return Path(str(getattr(self.source, "path", "the image") if store is None else store).removeprefix("file://"))

    def _completed(self, key: Any) -> list[int | slice]:
        """One non-negative integer or slice for each dimension."""
        items = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in items:
            at = items.index(Ellipsis)
            items[at : at + 1] = [slice(None)] * (self.ndim - len(items) + 1)
        items += [slice(None)] * (self.ndim - len(items))
        if len(items) > self.ndim:
            raise IndexError(f"{len(items)} indices for {self.ndim} dimensions")
        completed: list[int | slice] = []
        for item, length in zip(items, self.shape, strict=True):
            if isinstance(item, slice):
                start, stop, step = item.indices(length)
                if step < 1:
                    raise IndexError(f"a step of {step}; lazy arrays are read forwards")
                completed.append(slice(start, max(stop, start), step))
            else:
                number = int(item)
                if not -length <= number < length:
                    raise IndexError(f"index {number} for a length of {length}")
                completed.append(number % length)
        return completed
