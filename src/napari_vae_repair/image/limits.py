"""What an untrusted file may claim: pixels that fit into memory, bytes that its codec can hold, XML without entities.

All is decided from what the file says of itself, before anything of that size is allocated.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
from numpy.typing import DTypeLike

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.free_memory import free_memory_bytes

MAX_WHOLE_BYTES = 64 * 2**30  # of an image that is read whole, on a machine of any size
MAX_XML_BYTES = 64 * 2**20
MAX_PLANES = 2**22  # of one OME image
EMPTY_CHUNKS = 4096
# bytes that one byte of a file can become: deflate by its format (RFC 1951, 258 bytes in 2 bits), LZW with a full
# table of 12-bit codes, PackBits with runs of 128
RATIOS = {"none": 1.0, "deflate": 1032.0, "lzw": 2600.0, "packbits": 64.0}
ANY_RATIO, ANY_RATIO_FROM_BYTES = 10_000.0, 256 * 2**20  # for other codecs: no picture that was measured comes near


def check_size(
    path: str | os.PathLike[str], shape: Sequence[int], dtype: DTypeLike, limit_bytes: int | None = None
) -> None:
    """Raise unless an image of that shape may be read whole into memory.

    Parameters
    ----------
    path : path
        The file that claims it.
    shape : sequence of int
        What it claims, with all axes.
    dtype : dtype
    limit_bytes : int or None
        None = the memory that is free, and never more than `MAX_WHOLE_BYTES`.

    Raises
    ------
    ImageFileError
        It claims more.
    """
    claimed = math.prod(int(length) for length in shape) * np.dtype(dtype).itemsize
    if claimed < 2**20 and limit_bytes is None:  # asking for the free memory costs more than such an image
        return
    limit = min(free_memory_bytes(), MAX_WHOLE_BYTES) if limit_bytes is None else limit_bytes
    if claimed > limit:
        size = " x ".join(str(length) for length in shape)
        raise ImageFileError(
            f"{path} claims {size} values of {np.dtype(dtype).name}, {_told_bytes(claimed)}.",
            f"An image is read whole into memory up to {_told_bytes(limit)}: what is free here, "
            f"and never more than {_told_bytes(MAX_WHOLE_BYTES)}.",
            "Restore it block by block, as in `vae-repair restore IN.ome.zarr OUT.ome.zarr` after a conversion to "
            "OME-Zarr; or crop it, or close other programs.",
        )


def check_ratio(path: str | os.PathLike[str], claimed_bytes: float, stored_bytes: int, codec: str) -> None:
    """Raise if no `codec` can have packed that many bytes into so few: a bomb, or a file whose rest is missing.

    Parameters
    ----------
    path : path
    claimed_bytes : float
        What the pixels take when unpacked, before any conversion.
    stored_bytes : int
        What the file holds of them.
    codec : str
        One of `RATIOS`; for others `ANY_RATIO` holds from `ANY_RATIO_FROM_BYTES` of claimed bytes on.

    Raises
    ------
    ImageFileError
        The file claims more than its bytes can hold.
    """
    ratio = RATIOS.get(codec, ANY_RATIO)
    if claimed_bytes > ratio * stored_bytes + 1024 and (codec in RATIOS or claimed_bytes > ANY_RATIO_FROM_BYTES):
        raise ImageFileError(
            f"{path} claims {_told_bytes(claimed_bytes)} of pixels and holds {_told_bytes(stored_bytes)} for them.",
            f"A byte of such a file can become at most {ratio:.0f}: it is incomplete, or made to fill the memory.",
            "Copy or export the file again.",
        )


def check_filled(folder: Path, chunks: int) -> None:
    """Raise before a store is read whole of which hardly a chunk is there.

    Missing chunks are allowed and hold one value, but each takes its time: a few bytes of metadata can claim millions.

    Parameters
    ----------
    folder : Path
        Of the array; what is no folder passes.
    chunks : int
        How many it claims, or shards.

    Raises
    ------
    ImageFileError
        More than `EMPTY_CHUNKS`, and of a thousand not one is there.
    """
    if chunks <= EMPTY_CHUNKS or not folder.is_dir():
        return
    files = (name for _, _, names in os.walk(folder) for name in names)
    there = sum(1 for _ in itertools.islice(files, 1 + chunks // 1000))
    if 1000 * there < chunks:
        raise ImageFileError(
            f"{folder} claims {chunks} chunks and holds {there} files.",
            f"Beyond {EMPTY_CHUNKS} chunks, one of a thousand must be there for a store to be read whole.",
            "Check that it was copied completely, restore it block by block into OME-Zarr, or crop it.",
        )


def check_xml(path: str | os.PathLike[str], text: str) -> None:
    """Raise for XML of a file that is larger than `MAX_XML_BYTES`, or that declares a document type or entities.

    No metadata of the field need either; entities can be made to grow without end, or to name other files.
    """
    if len(text) > MAX_XML_BYTES:
        raise ImageFileError(
            f"{path} holds {_told_bytes(len(text))} of XML.",
            f"Metadata of up to {_told_bytes(MAX_XML_BYTES)} are read.",
            "Export the image without its metadata.",
        )
    # the DTD stands before the first element; comments and processing instructions may stand before it
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ImageFileError(
            f"{path} holds XML that declares a document type or entities.",
            "Metadata without them are read: they can be made to fill the memory.",
            "Export the image again from the program that made it.",
        )


def check_ome(path: str | os.PathLike[str], text: str) -> None:
    """Raise for OME-XML that could keep a reader busy, fill the memory or lead it to other folders.

    XML that cannot be parsed passes: readers say so themselves.

    Raises
    ------
    ImageFileError
        As `check_xml`; more than `MAX_PLANES` planes; files that lie outside the image's own folder.
    """
    check_xml(path, text)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return
    for element in root.iter():
        name = element.tag.rpartition("}")[2]
        if name.endswith("Pixels"):
            _check_planes(path, element)
        elif name.endswith("UUID"):
            _check_inside(path, element.get("FileName", ""))
        elif name[:-1].endswith("Along") and "Start" in element.attrib:
            start, end, step = (_number(element.get(key), 1.0) for key in ("Start", "End", "Step"))
            _check_count(path, abs(end - start) / abs(step) if step else math.inf)


def _check_planes(path: str | os.PathLike[str], pixels: ElementTree.Element) -> None:
    planes = math.prod(_number(pixels.get(f"Size{axis}"), 1.0) for axis in "ZCT")
    listed = 0.0
    for data in pixels:
        if data.tag.endswith("TiffData"):
            told = data.get("PlaneCount", data.get("NumPlanes", "1" if "IFD" in data.attrib else "0"))
            listed += _number(told, 0.0) or planes
    _check_count(path, planes)
    _check_count(path, listed)
    for axis in "XY":
        _check_count(path, _number(pixels.get(f"Size{axis}"), 1.0) / 2**10)


def _check_count(path: str | os.PathLike[str], count: float) -> None:
    if not 0 <= count <= MAX_PLANES:
        raise ImageFileError(
            f"{path} claims {count:.4g} planes or positions in its OME-XML.",
            f"Up to {MAX_PLANES} are read.",
            "Export the image again, in several files if it is so large.",
        )


def _check_inside(path: str | os.PathLike[str], name: str) -> None:
    plain = PurePosixPath(name.replace("\\", "/"))
    if plain.is_absolute() or ".." in plain.parts or ":" in name:
        raise ImageFileError(
            f"{path} says that parts of its image lie in {name!r}.",
            "All files of an OME-TIFF must lie in its own folder.",
            "Put them together, or export the image as a single file.",
        )


def _number(text: str | None, default: float) -> float:
    """The number in an attribute; what is none counts as endless, so that it is refused."""
    try:
        return default if text is None else float(text)
    except ValueError:
        return math.inf


def _told_bytes(count: float) -> str:
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("kiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
