"""The windows of a TIFF, read where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_vae_repair.image.orientation import orientation_of
from napari_vae_repair.image.tiff import (
    DECODING_ERRORS,
    check_series,
    decoding,
    opened_tiff,
    what_is_known,
)

GRAIN_PX = 512  # of files that are mapped into memory and have no grain of their own


class ReadWholeError(Exception):
    """A TIFF has no windows: it must be read whole."""


class TiffWindows:
    """The first image of a TIFF at full resolution as a lazy array; picklable, each process opens the file itself.

    Values that stand in the file as numpy has them are mapped into memory; others are decoded strip by strip or
    tile by tile through the zarr store of tifffile.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ImageFileError
        The file is no TIFF, is damaged or incomplete.
    ReadWholeError
        It can only be read whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tif: Any = None
        self._values: Any = None
        with decoding(path), opened_tiff(path) as tif:
            series = tif.series[0]
            check_series(path, series)
            self.shape = tuple(int(n) for n in series.get_shape(squeeze=False))
            self.axes = str(series.get_axes(squeeze=False))
            self.dtype = np.dtype(series.dtype)
            if orientation_of(tif) > 1:
                raise ReadWholeError(f"windows of {path}: it is to be turned")
            self.known = what_is_known(tif)
        self.chunks = self._grain()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tif": None, "_values": None}

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        with decoding(self.path):
            return np.asarray(self._opened()[key])

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading opens it again."""
        tif, self._tif, self._values = getattr(self, "_tif", None), None, None
        if tif is not None:
            tif.close()

    def _opened(self) -> Any:
        if self._values is None:
            self._tif = tifffile.TiffFile(self.path)
            series = self._tif.series[0]
            if series.dataoffset is not None:
                # unlike tifffile.memmap in any byte order
                dtype = self.dtype.newbyteorder(self._tif.byteorder)
                self._values = np.memmap(self.path, dtype, "r", series.dataoffset, self.shape)
            else:
                import zarr

                store = series.aszarr(level=0, squeeze=False)
                self._values = zarr.open_array(store, mode="r", zarr_format=2)
        return self._values

    def _grain(self) -> tuple[int, ...]:
        try:
            values = self._opened()
            if values.shape != self.shape:
                raise ReadWholeError(f"windows of {self.path}: its shape is {values.shape} in parts")
        except DECODING_ERRORS as error:
            self.close()
            raise ReadWholeError(f"windows of {self.path}: {error}") from error
        if isinstance(values, np.memmap):
            grain = {"Y": GRAIN_PX, "X": GRAIN_PX, "S": 4}
            return tuple(min(n, grain.get(a, 1)) for a, n in zip(self.axes, self.shape, strict=True))
        return tuple(int(c) for c in values.chunks)
