"""Vendors' files through bioio, each by the package of its vendor's format."""

from __future__ import annotations

import importlib
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.arranged import ArrangedArray
from napari_vae_repair.image.formats import VENDORS
from napari_vae_repair.image.limits import check_size
from napari_vae_repair.image.record import Known
from napari_vae_repair.image.tiff import decoding, tidy_dimensions


def open_vendor_file(path: Path, axes: str | None = None) -> tuple[ArrangedArray, str, tuple[int, ...], Known]:
    """The first scene of a vendor's file: its lazy pixels, axes, chunks and what else is known.

    Of a mosaic bioio gives the tiles put together where its package can. Physical sizes are micrometres by
    bioio's own rule.

    Parameters
    ----------
    path : Path
    axes : str or None
        Names that replace the file's.

    Raises
    ------
    ImageFileError
        bioio or the package for this format is not installed, or it cannot read the file.
    """
    package = VENDORS[path.suffix.lower()]
    reader = _reader(path, package)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that the vendor wrote in its own way
        try:
            from bioio import BioImage

            with decoding(path):
                scene = BioImage(path, reader=reader)
                names = [str(axis) for axis in scene.dims.order]
                data = _czi_colours(path, scene) if package == "bioio-czi" and "S" in names else scene.dask_data
                known = _known(scene)
        except ImageFileError:
            raise
        except Exception as error:  # each package has errors of its own
            raise ImageFileError(
                f"{path} cannot be read by {package}: {(str(error) or type(error).__name__).splitlines()[0]}.",
                "Complete files of the vendor's own programs can be read.",
                "Copy the file again, or export the image as OME-TIFF.",
            ) from error
    dims, letters = tidy_dimensions(data.shape, names, axes)
    grain = getattr(data, "chunksize", data.shape)
    return ArrangedArray(_Windows(path, data), dims), letters, tuple(int(grain[d]) for d in dims), known


class _Windows:
    """A dask array whose windows are computed here, in one thread, with the file's name in every error."""

    def __init__(self, path: Path, data: Any) -> None:
        self.path, self.data = path, data
        self.shape, self.dtype = tuple(int(n) for n in data.shape), data.dtype

    def __getitem__(self, key: Any) -> Any:
        with decoding(self.path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            window = self.data[key]
            return window if isinstance(window, np.ndarray) else window.compute(scheduler="synchronous")


def _reader(path: Path, package: str) -> Any:
    """The class that reads this kind of file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("bioio")
            return importlib.import_module(package.replace("-", "_")).Reader
    except ImportError as error:
        raise ImageFileError(
            f"{path} needs the package {package}, which cannot be imported: {error}.",
            "Vendors' files are read through bioio where the package for their format is installed.",
            f"Install it with `python -m pip install bioio {package}`, or export the image as OME-TIFF.",
        ) from error


def _czi_colours(path: Path, scene: Any) -> Any:
    """The colours of a CZI, read whole: bioio-czi 3.0.1 gives them blue first, and its lazy array blue alone."""
    check_size(path, scene.shape, scene.dtype)
    return scene.data[..., [2, 1, 0, *range(3, scene.shape[-1])]]


def _known(scene: Any) -> Known:
    """Sizes and channel names; a file may lack either."""
    steps = scene.physical_pixel_sizes
    sizes = {axis: float(step) for axis in "ZYX" if (step := getattr(steps, axis, None)) and math.isfinite(step)}
    return Known(sizes, [str(name) for name in scene.channel_names or ()])
