"""The kinds of image files: what can be read, by which package, and what each can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from napari_vae_repair.errors import ImageFileError, SettingsError
from napari_vae_repair.image.atomic import is_store
from napari_vae_repair.image.ngff import stored_axes

TIFF = (".tif", ".tiff")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
STORES = (".zarr",)
# vendors' files, and the package of bioio that reads them
VENDORS = {
    ".czi": "bioio-czi", ".nd2": "bioio-nd2", ".lif": "bioio-lif", ".dv": "bioio-dv", ".r3d": "bioio-dv",
    ".sldy": "bioio-sldy", ".oir": "bioio-bioformats", ".oib": "bioio-bioformats", ".vsi": "bioio-bioformats",
    ".ims": "bioio-bioformats",
}  # fmt: skip
READABLE = (*TIFF, *PICTURES, *STORES, *VENDORS)
WRITABLE = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".zarr", ".ome.zarr", ".png", ".jpg", ".jpeg")


def check_readable(path: Path) -> str:
    """What kind of image stands at `path`: "tiff", "picture", "store" or "vendor".

    Raises
    ------
    ImageFileError
        The file is missing, empty, a folder that is no zarr store, or of an unknown extension.
    """
    if is_store(path):
        return "store"
    if not path.is_file():
        raise ImageFileError(
            f"{path} is {'a folder' if path.is_dir() else 'not there'}.",
            "The path of an image file or of a zarr store is needed.",
            "Check the path; image.tif is one file, not the folder that holds it.",
        )
    extension = path.suffix.lower()
    if extension not in READABLE or extension in STORES:
        raise ImageFileError(
            f"{path} has the extension {path.suffix!r}{' and is no folder' * (extension in STORES)}.",
            f"Files that can be read end in {', '.join((*TIFF, *PICTURES, *VENDORS))}; zarr stores are folders.",
            "Export the image as TIFF, or open it in napari and restore the layer.",
        )
    if path.stat().st_size == 0:
        raise ImageFileError(f"{path} is empty.", "An image file has at least a header.", "Copy or export it again.")
    return "tiff" if extension in TIFF else "picture" if extension in PICTURES else "vendor"


def extension_of(path: str | Path) -> str:
    """The longest extension in `WRITABLE` that the name ends in.

    Raises
    ------
    ImageFileError
        It ends in none.
    """
    name = Path(path).name.lower()
    fitting = [extension for extension in WRITABLE if name.endswith(extension) and name != extension]
    if not fitting:
        raise ImageFileError(
            f"{path} does not name a file type.",
            f"Files that can be written end in {', '.join(WRITABLE)}.",
            "Give the file one of these extensions, as in restored.tif.",
        )
    return max(fitting, key=len)


def check_format(path: str | Path, axes: str, dtype: DTypeLike) -> None:
    """Raise `ImageFileError` unless the extension is known and its file type can hold such axes and dtype."""
    extension, target = extension_of(path), image_dtype(dtype)
    if extension.endswith(".zarr"):
        stored_axes(path, axes)
    if extension in (".png", ".jpg", ".jpeg"):
        allowed = ("uint8", "uint16") if extension == ".png" else ("uint8",)
        if target.name not in allowed:
            raise ImageFileError(
                f"{path} cannot hold values of dtype {target.name}.",
                f"A {extension} file holds {' or '.join(allowed)}.",
                f"Write a .tif file, or convert the values with --dtype {allowed[-1]}.",
            )
        if axes.replace("S", "") not in ("YX", "XY"):
            raise ImageFileError(
                f"{path} cannot hold an image of axes {axes}.",
                f"A {extension} file holds one plane YX or one colour plane YXS.",
                "Write a .tif file, or a single plane.",
            )


def image_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """The dtype of that name; `SettingsError` for those that no image has."""
    try:
        known: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        known = np.dtype(object)
    if known.kind not in "buif":
        raise SettingsError(
            f"The dtype {str(dtype)!r} cannot be used.",
            "An image has bool, uint8, uint16, int16, uint32, int32, float32 or float64 values.",
            "Choose one of these, or leave it out.",
        )
    return known
