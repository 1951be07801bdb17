"""Image files to `Image` and back: TIFF, OME-TIFF, ImageJ, OME-Zarr, PNG, JPEG, BMP and vendors' files."""

from __future__ import annotations

import io
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import tifffile
from numpy.typing import DTypeLike, NDArray

from napari_vae_repair.errors import ImageFileError, InputError
from napari_vae_repair.image.atomic import is_store, replacing
from napari_vae_repair.image.axes import check_axes
from napari_vae_repair.image.formats import READABLE, WRITABLE, check_format, check_readable, extension_of, image_dtype
from napari_vae_repair.image.ometiff import (
    StoredImage,
    read_first,
    read_layers,
    tiff_options,
    write_layers,
)
from napari_vae_repair.image.pictures import read_picture
from napari_vae_repair.image.record import Colours, Image
from napari_vae_repair.image.tiff import OURS, json_metadata, read_tiff
from napari_vae_repair.image.tiff_notes import is_restored_tiff, read_tiff_provenance

__all__ = [
    "READABLE", "WRITABLE", "StoredImage", "check_format", "is_restored_file", "read_image", "read_layers",
    "read_provenance", "to_dtype", "write_image", "write_layers",
]  # fmt: skip


def read_image(path: str | Path, axes: str | None = None) -> Image:
    """The image in a file, values and dtype as stored.

    TIFF: see `read_tiff`; of several images in a file the first, of a pyramid the full resolution. PNG keeps
    16 bits, a palette becomes RGB, grey with alpha becomes grey. PNG and JPEG are turned as their EXIF orientation
    says. Zarr: see `open_store`. Vendors' files: see `open_vendor_file`. For images larger than memory: `open_image`.

    Parameters
    ----------
    path : str or Path
    axes : str or None
        Names that replace the file's; see `Image`.

    Raises
    ------
    ImageFileError
        The file is missing, a folder that is no store, empty, of an unknown extension, damaged, incomplete, larger
        than memory, or needs a package that is not installed.
    InputError
        `axes` do not fit, the file does not name them and must be given some, or the image cannot be restored at all.
    """
    path = Path(path)
    kind = check_readable(path)
    if kind in ("store", "vendor"):
        from napari_vae_repair.image.opened import open_image

        with open_image(path, axes) as opened:
            return opened.read()
    if kind == "picture":
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
    target = image_dtype(dtype)
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


def write_image(
    path: str | Path,
    pixels: NDArray[Any],
    axes: str,
    *,
    dtype: DTypeLike | None = None,
    pixel_size_um: dict[str, float] | None = None,
    channel_names: Sequence[str] = (),
    channel_colours: Colours = (),
    provenance: dict[str, Any] | None = None,
) -> Path:
    """Write an image, completely or not at all; the extension decides the file type.

    ``.tif`` is a plain TIFF whose axes, physical sizes, channel names and provenance stand as JSON in its
    description, ``.ome.tif`` an OME-TIFF, ``.zarr`` a folder of OME-Zarr 0.5 with a pyramid (see `create_store`);
    all are compressed without loss. ``.png`` (uint8 and uint16) and ``.jpg`` (uint8, with loss) hold nothing but
    the pixels.

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
    channel_names, channel_colours : sequence
        Names, and (red, green, blue) from 0 to 255, along ``C``.
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
    sizes, extension = dict(pixel_size_um or {}), extension_of(path)
    if extension in (".ome.tif", ".ome.tiff"):
        name = Path(path).name.split(".")[0]
        return write_layers(
            path, [StoredImage(name, pixels, axes, sizes, {})], provenance, channel_names, channel_colours
        )
    note: dict[str, Any] = {
        "pixel_size_um": sizes, "channel_names": channel_names, "channel_colours": channel_colours,
        "provenance": provenance,
    }  # fmt: skip
    if extension.endswith(".zarr"):
        return _write_store(path, pixels, axes, note)
    if extension in (".tif", ".tiff"):
        return _write_tiff(path, pixels, axes, json_metadata({OURS: note}, path))
    content = _encoded_picture(path, np.moveaxis(pixels, axes.index("Y"), 0), extension)
    with replacing(path) as stream:
        stream.write(content)
    return Path(path)


def is_restored_file(path: str | Path) -> bool:
    """Whether a TIFF or a zarr store was written by this package; False for anything else, missing files included."""
    if not is_store(path):
        return is_restored_tiff(path)
    from napari_vae_repair.image.omezarr import store_record

    try:
        return store_record(path) is not None
    except ImageFileError:
        return False


def read_provenance(path: str | Path) -> dict[str, Any] | None:
    """How a TIFF or a zarr store written by this package came to be; None for other files.

    Raises
    ------
    ImageFileError
        The file is missing or damaged.
    """
    if not is_store(path):
        return read_tiff_provenance(path)
    from napari_vae_repair.image.omezarr import store_record

    provenance = (store_record(path) or {}).get("provenance")
    return provenance if isinstance(provenance, dict) else None


def _write_store(path: str | Path, pixels: NDArray[Any], axes: str, note: dict[str, Any]) -> Path:
    from napari_vae_repair.image.zarr_store import create_store

    # a plan of its own: another run's part is never taken for this image's
    writer = create_store(path, pixels.shape, pixels.dtype, axes, **note, plan_key=secrets.token_hex(8))
    try:
        writer.write([slice(None)] * pixels.ndim, pixels)
        writer.finish()
    finally:
        writer.discard()
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
