"""Image files to `Image` and back: TIFF, OME-TIFF, ImageJ, PNG, JPEG and BMP."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import tifffile
from numpy.typing import DTypeLike, NDArray

from napari_vae_repair.errors import ImageFileError, InputError, SettingsError
from napari_vae_repair.image.atomic import replacing
from napari_vae_repair.image.axes import check_axes
from napari_vae_repair.image.ometiff import (
    StoredImage,
    is_restored_file,
    read_first,
    read_layers,
    read_provenance,
    tiff_options,
    write_layers,
)
from napari_vae_repair.image.pictures import read_picture
from napari_vae_repair.image.record import Image
from napari_vae_repair.image.tiff import OURS, json_metadata, read_tiff

__all__ = [
    "READABLE", "WRITABLE", "StoredImage", "check_format", "is_restored_file", "read_image", "read_layers",
    "read_provenance", "to_dtype", "write_image", "write_layers",
]  # fmt: skip

READABLE = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
WRITABLE = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".png", ".jpg", ".jpeg")


def read_image(path: str | Path, axes: str | None = None) -> Image:
    """The image in a file, values and dtype as stored.

    TIFF: see `read_tiff`; of several images in a file the first, of a pyramid the full resolution. PNG keeps
    16 bits, a palette becomes RGB, grey with alpha becomes grey. JPEG is turned as its EXIF orientation says.

    Parameters
    ----------
    path : str or Path
    axes : str or None
        Names that replace the file's; see `Image`.

    Raises
    ------
    ImageFileError
        The file is missing, a folder, empty, of an unknown extension, damaged or incomplete.
    InputError
        `axes` do not fit, or the image cannot be restored at all.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageFileError(
            f"{path} is {'a folder' if path.is_dir() else 'not there'}.",
            "The path of an image file is needed.",
            "Check the path; image.tif is one file, not the folder that holds it.",
        )
    if path.suffix.lower() not in READABLE:
        raise ImageFileError(
            f"{path} has the extension {path.suffix!r}.",
            f"Files that can be read end in {', '.join(READABLE)}.",
            "Export the image as TIFF, or open it in napari and restore the layer.",
        )
    if path.stat().st_size == 0:
        raise ImageFileError(f"{path} is empty.", "An image file has at least a header.", "Copy or export it again.")
    if path.suffix.lower() not in (".tif", ".tiff"):
        pixels = read_picture(path)
        return Image(pixels, axes or "YXS"[: pixels.ndim], name=path.stem)
    own = read_first(path, axes)
    return read_tiff(path, axes) if own is None else own


def to_dtype(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """The values in another dtype: rounded and clipped for integers, never wrapped around.

    Halves go to the even integer; NaN becomes 0, an infinity the end of the range. For bool, True is above
    0.5. Floats are cast; finite values beyond float16's range become its largest.

    Raises
    ------
    SettingsError
        `dtype` is not the name of a boolean, integer or real floating-point dtype.
    """
    target = _dtype(dtype)
    if target == values.dtype:
        return values
    if target.kind == "b":
        return np.asarray(values > 0.5 if values.dtype.kind == "f" else values != 0)
    if target.kind == "f":
        if target.itemsize > 2 and (values.dtype.kind != "f" or values.dtype.itemsize <= target.itemsize):
            return values.astype(target)
        limit = float(np.finfo(target).max)
        return np.asarray(np.where(np.isinf(values), values, np.clip(values, -limit, limit))).astype(target)
    limits = np.iinfo(target)
    if values.dtype.kind != "f":
        held = np.iinfo("uint8" if values.dtype.kind == "b" else values.dtype)
        whole = values.astype(np.uint8) if values.dtype.kind == "b" else values
        return np.asarray(np.clip(whole, max(limits.min, held.min), min(limits.max, held.max))).astype(target)
    wide = values.astype(np.float64 if target.itemsize > 2 else np.float32, copy=False)
    # float64 rounds 2**63 - 1 up, out of the range
    top = float(limits.max) if int(float(limits.max)) <= limits.max else float(np.nextafter(float(limits.max), 0))
    return np.asarray(np.nan_to_num(np.clip(np.rint(wide), limits.min, top), nan=0.0)).astype(target)


def check_format(path: str | Path, axes: str, dtype: DTypeLike) -> None:
    """Raise `ImageFileError` unless the extension is known and its file type can hold such axes and dtype."""
    extension, target = _extension(path), _dtype(dtype)
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


def write_image(
    path: str | Path,
    pixels: NDArray[Any],
    axes: str,
    *,
    dtype: DTypeLike | None = None,
    pixel_size_um: dict[str, float] | None = None,
    channel_names: Sequence[str] = (),
    provenance: dict[str, Any] | None = None,
) -> Path:
    """Write an image, completely or not at all; the extension decides the file type.

    ``.tif`` is a plain TIFF whose axes, physical sizes, channel names and provenance stand as JSON in its
    description, ``.ome.tif`` an OME-TIFF; both are compressed without loss. ``.png`` (uint8 and uint16) and
    ``.jpg`` (uint8, with loss) hold nothing but the pixels.

    Parameters
    ----------
    path : str or Path
    pixels : ndarray
    axes : str
        One letter for each dimension; see `Image`.
    dtype : dtype or None
        Convert with `to_dtype` first; None keeps the dtype.
    pixel_size_um : dict of str to float, optional
        Micrometres per step along an axis letter.
    channel_names : sequence of str
        Names along ``C``.
    provenance : dict or None
        JSON values on how the image came to be; see `read_provenance`.

    Raises
    ------
    ImageFileError
        The extension is unknown, the file type cannot hold the axes or dtype, or the file cannot be written.
    InputError
        `axes` do not fit.
    SettingsError
        `dtype` is unknown.
    """
    pixels = np.asarray(pixels)
    check_axes(axes, pixels.shape)
    if pixels.dtype.kind not in "buif" or pixels.size == 0:
        raise InputError(
            f"An image of dtype {pixels.dtype} and shape {pixels.shape} was given for {path}.",
            "Boolean, integer and real floating-point images with at least one pixel can be written.",
            "Convert it first.",
        )
    pixels = pixels if dtype is None else to_dtype(pixels, dtype)
    check_format(path, axes, pixels.dtype)
    sizes, extension = dict(pixel_size_um or {}), _extension(path)
    if extension.startswith(".ome"):
        name = Path(path).name.split(".")[0]
        return write_layers(path, [StoredImage(name, pixels, axes, sizes, {})], provenance, channel_names)
    if extension in (".tif", ".tiff"):
        note = {"pixel_size_um": sizes, "channel_names": list(channel_names), "provenance": provenance}
        return _write_tiff(path, pixels, axes, json_metadata({OURS: note}, path))
    content = _encoded_picture(path, np.moveaxis(pixels, axes.index("Y"), 0), extension)
    with replacing(path) as stream:
        stream.write(content)
    return Path(path)


def _write_tiff(path: str | Path, pixels: NDArray[Any], axes: str, metadata: dict[str, Any]) -> Path:
    with replacing(path) as stream:
        tifffile.imwrite(
            stream,
            np.ascontiguousarray(pixels),
            photometric="rgb" if axes.endswith("S") else "minisblack",
            metadata={"axes": axes, **metadata},
            **tiff_options(pixels.dtype),
        )
    return Path(path)


def _extension(path: str | Path) -> str:
    name = Path(path).name.lower()
    fitting = [extension for extension in WRITABLE if name.endswith(extension) and name != extension]
    if not fitting:
        raise ImageFileError(
            f"{path} does not name a file type.",
            f"Files that can be written end in {', '.join(WRITABLE)}.",
            "Give the file one of these extensions, as in restored.tif.",
        )
    return max(fitting, key=len)


def _dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        known = np.dtype(dtype)
    except TypeError:
        known = np.dtype(object)
    if known.kind not in "buif":
        raise SettingsError(
            f"The dtype {str(dtype)!r} cannot be used.",
            "An image has bool, uint8, uint16, int16, uint32, int32, float32 or float64 values.",
            "Choose one of these, or leave it out.",
        )
    return known


def _encoded_picture(path: str | Path, pixels: NDArray[Any], extension: str) -> bytes:
    """The file's bytes, made in memory so that only writing them can fail on the disk."""
    pixels = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.ndim == 3 and pixels.dtype == np.uint16:
        return bytes(imagecodecs.png_encode(pixels))
    if extension != ".png" and pixels.ndim == 3:
        pixels = pixels[..., :3]  # JPEG has no alpha
    buffer = io.BytesIO()
    if extension == ".png":
        PIL.Image.fromarray(pixels).save(buffer, "PNG")
    else:
        PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
