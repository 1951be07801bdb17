"""Any TIFF, OME-TIFF or ImageJ stack to `Image`, or a clear error when it is damaged."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_vae_repair.errors import ImageFileError, VaeRepairError
from napari_vae_repair.image.limits import check_ome, check_ratio, check_size, check_xml
from napari_vae_repair.image.orientation import orientation_of, turned
from napari_vae_repair.image.record import Image, Known
from napari_vae_repair.image.tiff_directories import is_complete

OURS = "napari-vae-repair"  # the key of our own metadata, and the value of the tag Software
# What decoders raise on damaged files. The codecs of imagecodecs raise subclasses of RuntimeError, one that was
# left out of a build an ImportError; a lying header ends in a MemoryError.
DECODING_ERRORS = (
    OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    ImportError, MemoryError, SyntaxError, AssertionError, struct.error, zlib.error, tifffile.OmeXmlError,
)  # fmt: skip
_UM_PER_UNIT = {
    "pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "\\u00b5m": 1.0, "micron": 1.0, "microns": 1.0,
    "micrometer": 1.0, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6, "in": 25400.0, "inch": 25400.0,
}  # fmt: skip
_UNNAMED = "ZTIQPRHEABDFGJKLMNOUVW"  # letters for axes that the file names twice or not at all
_CODECS = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate", 32773: "packbits"}  # by the tag Compression


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn what a decoder raises within the block into an `ImageFileError` about `path`."""
    try:
        yield
    except VaeRepairError:
        raise
    except DECODING_ERRORS as error:
        raise ImageFileError(
            f"{path} cannot be read: {str(error)[:300] or type(error).__name__}.",
            "Complete TIFF, OME-TIFF, ImageJ, PNG, JPEG and BMP files and zarr stores can be read.",
            "Copy or export the file again, then open the new one.",
        ) from error


def truncated(path: Path) -> ImageFileError:
    """The error about a TIFF that ends before its last pixel."""
    return ImageFileError(
        f"{path} is incomplete: it ends before its last pixel.",
        "Only complete files are read, since the missing pixels would silently become zeros.",
        "Copy or export the file again.",
    )


def read_tiff(path: Path, axes: str | None = None) -> Image:
    """The first image of a TIFF at full resolution, with its axes, physical sizes and channel names.

    Axes are the file's own letters; those that it names twice or not at all get an unused letter, pages
    without a name are ``I`` or ``Q``, dimensions of length 1 other than ``Y`` and ``X`` are dropped, and
    ``S`` stands last. Values are given as stored: a palette is not applied, since in microscopy it is a
    way of display. The resolution tags of a plain TIFF are not taken for physical sizes: they are mostly
    a printer's 72 dpi. A single plane, neither OME nor ImageJ, is turned as its Orientation tag says.

    Parameters
    ----------
    path : Path
    axes : str or None
        Names that replace the file's, one for each dimension that is left.

    Raises
    ------
    ImageFileError
        The file is no TIFF, is damaged or incomplete, or parts of a multi-file image are missing.
    InputError
        `axes` do not fit, or the image cannot be restored at all (complex, empty, no finite value, ...).
    """
    with decoding(path), opened_tiff(path) as tif:
        series = tif.series[0]
        check_series(path, series)
        check_size(path, series.shape, series.dtype)
        turn = orientation_of(tif)
        if turn > 1:
            pixels, letters = tidy_axes(turned(series.asarray(), turn), series.axes, axes)
        else:
            whole = series.asarray().reshape(series.get_shape(squeeze=False))
            pixels, letters = tidy_axes(whole, series.get_axes(squeeze=False), axes)
        return described(path, pixels, letters, what_is_known(tif))


@contextmanager
def opened_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """A TIFF that is complete, and whose metadata may be looked at: see `check_ome`.

    Raises
    ------
    ImageFileError
        It is not, or its XML could do harm.
    """
    if not is_complete(path):
        raise truncated(path)
    with tifffile.TiffFile(path) as tif:
        first = tif.pages.first
        for tag in (270, 700):  # ImageDescription, XMP
            for position in range(2):  # a second description stands behind the first one
                value = first.tags.get(tag, index=position)
                text = value.value if value is not None else ""
                text = text.decode("latin-1") if isinstance(text, bytes) else str(text)
                (check_ome if first.is_ome and tag == 270 else check_xml)(path, text)
        yield tif


def described(path: Path, pixels: NDArray[Any], axes: str, known: Known) -> Image:
    """The `Image` of a file, with what is known of the axes that it has."""
    return Image(pixels, axes, name=path.name.split(".")[0], **known.fitting(axes, pixels.shape))


def check_series(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Raise `ImageFileError` unless every pixel of the series is in the file (tifffile would fill in zeros).

    One strip or tile must fit into memory, and no file may claim more than its codec can hold; see `check_ratio`.
    """
    pages = [page for page in series.pages if page is not None]
    if len(pages) < len(series.pages):
        raise ImageFileError(
            f"{path} is one file of an image whose other files are missing.",
            "All files of a multi-file OME-TIFF must lie in one folder.",
            "Put them together, or export the image as a single file.",
        )
    file_bytes = series.keyframe.parent.filehandle.size
    if not series.is_multifile:
        for page in pages:
            ends = (start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=False))
            if max(ends, default=0) > file_bytes:
                raise truncated(path)
            _check_claim(path, page, series.keyframe)
    check_size(path, series.keyframe.chunks, series.dtype)
    # ImageJ lists the first page only; the others follow it without a directory
    if series.dataoffset is not None and series.dataoffset + series.nbytes > file_bytes:
        raise truncated(path)


def _check_claim(path: Path, page: Any, keyframe: tifffile.TiffPage) -> None:
    """Raise where a page claims more than its strips or tiles can hold; those without a byte are left empty."""
    bits = keyframe.bitspersample or 8
    if keyframe.is_contiguous:  # where it begins is all that is looked at
        left = max(keyframe.parent.filehandle.size - page.dataoffsets[0], 0) if page.dataoffsets else 0
        check_ratio(path, keyframe.size * bits / 8, left, "none")
        return
    if len(page.databytecounts) < math.prod(keyframe.chunked):
        raise truncated(path)
    counts = [count for count in page.databytecounts if count]
    claimed = len(counts) * math.prod(keyframe.chunks) * bits / 8
    if not keyframe.is_tiled:
        claimed = min(claimed, keyframe.size * bits / 8)
    check_ratio(path, claimed, sum(counts), _CODECS.get(int(keyframe.compression), "another"))


def tidy_axes(pixels: NDArray[Any], file_axes: str, axes: str | None) -> tuple[NDArray[Any], str]:
    """Pixels without dimensions of length 1, and one letter for each that is left, ``S`` last."""
    dims, letters = tidy_dimensions(pixels.shape, list(file_axes), axes)
    rest = [d for d in range(pixels.ndim) if d not in dims]
    return np.transpose(pixels, [*dims, *rest]).reshape([pixels.shape[d] for d in dims]), letters


def tidy_dimensions(shape: Sequence[int], file_axes: Sequence[str], axes: str | None) -> tuple[list[int], str]:
    """Which dimensions are left without those of length 1, ``S`` last, and their letters; see `tidy_axes`."""
    kept = [i for i, axis in enumerate(file_axes) if shape[i] > 1 or axis in ("Y", "X")]
    if axes is None:
        letters = _distinct([file_axes[i] for i in kept], [shape[i] for i in kept])
    elif len(axes) == len(shape):
        kept = [i for i, axis in enumerate(axes) if shape[i] > 1 or axis in ("Y", "X")]
        letters = [axes[i] for i in kept]
    else:
        letters = list(axes)
    # letters of an unfitting number are left for Image to refuse, with the shape in its message
    if "S" in letters and len(letters) == len(kept):
        at = letters.index("S")
        kept.append(kept.pop(at))
        letters.append(letters.pop(at))
    return kept, "".join(letters)


def _distinct(letters: Sequence[str], shape: Sequence[int]) -> list[str]:
    """Letters of which none stands twice; samples that are no RGB(A) are channels."""
    distinct: list[str] = []
    for i, axis in enumerate(letters):
        if axis == "S" and shape[i] not in (3, 4) and "C" not in letters:
            axis = "C"
        refused = (
            not (len(axis) == 1 and axis.isascii() and axis.isupper()) or axis in letters[i + 1 :] or axis in distinct
        )
        if refused or (axis == "S" and shape[i] not in (3, 4)):
            axis = next(free for free in _UNNAMED if free not in letters and free not in distinct)
        distinct.append(axis)
    return distinct


def what_is_known(tif: tifffile.TiffFile) -> Known:
    """Sizes, channel names and colours of the first image; empty where the file does not tell."""
    ours = (tif.shaped_metadata or ({},))[0].get(OURS)
    if isinstance(ours, dict):
        return known_from(ours)
    if tif.is_ome and tif.ome_metadata is not None:
        return _from_ome(tif.ome_metadata)
    if tif.is_imagej and tif.imagej_metadata is not None:
        return _from_imagej(tif.imagej_metadata, tif.pages.first)
    return Known()


def known_from(record: dict[str, Any]) -> Known:
    """What one of our own notes says."""
    return Known(
        record.get("pixel_size_um") or {}, record.get("channel_names") or (), record.get("channel_colours") or ()
    )


def _from_ome(xml: str) -> Known:
    pixels = ElementTree.fromstring(xml).find("{*}Image/{*}Pixels")
    if pixels is None:
        return Known()
    sizes = {}
    for axis in "XYZ":
        size = float(pixels.get(f"PhysicalSize{axis}", 0)) * _um(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if size > 0:
            sizes[axis] = size
    channels = pixels.findall("{*}Channel")
    names = [channel.get("Name", "") for channel in channels]
    colours = [_rgb(channel.get("Color", "")) for channel in channels]
    return Known(sizes, names if all(names) else (), colours if all(colours) else ())


def _rgb(text: str) -> tuple[int, int, int] | None:
    """Red, green and blue of a colour of OME-XML, which is RGBA in a signed integer of 32 bits."""
    try:
        value = int(text) & 0xFFFFFFFF
    except ValueError:
        return None
    return value >> 24, value >> 16 & 255, value >> 8 & 255


def ome_colour(colour: tuple[int, int, int]) -> int:
    """A colour as OME-XML has it: RGBA in a signed integer of 32 bits."""
    red, green, blue = colour
    value = red << 24 | green << 16 | blue << 8 | 255
    return value - 2**32 if value >= 2**31 else value


def _from_imagej(metadata: dict[str, Any], page: Any) -> Known:
    um = _um(str(metadata.get("unit", "pixel")))
    sizes = {"Z": float(metadata.get("spacing", 0)) * um}
    for axis, tag in (("X", "XResolution"), ("Y", "YResolution")):
        pixels, units = page.tags[tag].value if tag in page.tags else (0, 1)
        sizes[axis] = um * units / pixels if pixels else 0.0
    # one label a page: only without other stacks they are the channels'
    labels = metadata.get("Labels") or []
    names = labels if metadata.get("channels") == len(labels) == metadata.get("images") else []
    tables = metadata.get("LUTs") or []  # the colour of the highest value stands last
    colours = [tuple(int(part) for part in np.asarray(table)[:, -1]) for table in tables]
    return Known({axis: size for axis, size in sizes.items() if size > 0}, names, colours)


def _um(unit: str) -> float:
    """Micrometres per unit; 0 for pixels and unknown units."""
    return _UM_PER_UNIT.get(unit, _UM_PER_UNIT.get(unit.lower(), 0.0))


def json_metadata(metadata: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The same as plain JSON values: arrays as lists, numpy numbers as numbers, other objects as their text.

    Raises
    ------
    ImageFileError
        Keys are not text, or a value contains itself.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(metadata, default=_plain))
    except (TypeError, ValueError) as error:
        raise ImageFileError(
            f"The metadata for {path} cannot be stored as JSON: {error}.",
            "Dictionaries with text keys, lists, texts, numbers and None can be stored.",
            "Give the metadata as such values.",
        ) from error
    return plain


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
