"""Several named images in one OME-TIFF and exactly back: axes, dtype, physical sizes and metadata of each."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_vae_repair import __version__
from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.atomic import replacing
from napari_vae_repair.image.axes import check_axes
from napari_vae_repair.image.limits import check_size
from napari_vae_repair.image.record import Colours, Image
from napari_vae_repair.image.tiff import (
    OURS,
    check_series,
    decoding,
    described,
    json_metadata,
    known_from,
    ome_colour,
    opened_tiff,
    tidy_axes,
)
from napari_vae_repair.image.tiff_notes import ome_records

_STACKS = "TZC"  # the stacks of OME
_FURTHER_STACKS = "QRPHEA"  # what OME-TIFF can have besides, as a "modulo" of the others
_BIG_TIFF_FROM_BYTES = 2**32 - 2**25  # classic TIFF has 32-bit offsets; room is left for the directories
_OME_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
# what OME-TIFF lacks, or what other programs read badly, and what holds the same values
_STORED_AS = {"bool": ["uint8"], "float16": ["float32"], "int64": ["int32", "uint32"], "uint64": ["uint32"]}


class StoredImage(NamedTuple):
    """One image of a file with several.

    Attributes
    ----------
    name : str
    pixels : ndarray
        Boolean, integer or float values.
    axes : str
        One letter for each dimension; see `Image`.
    pixel_size_um : dict of str to float
        Micrometres per step along an axis letter, where known.
    meta : dict
        JSON values that belong to the image, such as a layer's transform.
    """

    name: str
    pixels: NDArray[Any]
    axes: str
    pixel_size_um: dict[str, float]
    meta: dict[str, Any]


def write_layers(
    path: str | Path,
    layers: Sequence[tuple[str, NDArray[Any], str, dict[str, float], dict[str, Any]]],
    provenance: dict[str, Any] | None = None,
    channel_names: Sequence[str] = (),
    channel_colours: Colours = (),
) -> Path:
    """Write images as the series of one OME-TIFF, completely or not at all.

    `read_layers` gives back the same values, dtypes and axes; other programs find ``Y`` and ``X`` (and
    ``S``) last, bool as 0 and 1 in uint8, float16 as float32, and 64-bit integers in 32 bits.

    Parameters
    ----------
    path : str or Path
    layers : sequence of StoredImage or of tuples like it
    provenance : dict or None
        JSON values on how the file came to be; see `files.read_provenance`.
    channel_names, channel_colours : sequence
        Along ``C`` of the first image.

    Raises
    ------
    ImageFileError
        There are no images, one is empty, complex, of 64-bit integers beyond 32 bits or of more axes than
        OME-TIFF can have; the metadata are no JSON values; or the file cannot be written.
    InputError
        Axes do not fit their image.
    """
    if not layers:
        raise ImageFileError(f"No image was given for {path}.", "At least one is needed.", "Select a layer.")
    stored = [_encoded(path, StoredImage(*layer)) for layer in layers]
    stored[0][1].update(json_metadata({"provenance": provenance}, path))
    if channel_names:
        stored[0][1]["channel_names"] = list(channel_names)
        stored[0][2]["Channel"] = {"Name": [_xml_text(name) for name in channel_names]}
    if channel_colours:
        stored[0][1]["channel_colours"] = [list(colour) for colour in channel_colours]
        stored[0][2].setdefault("Channel", {})["Color"] = [ome_colour(colour) for colour in channel_colours]
    with replacing(path) as stream:
        try:
            _write_series(stream, stored)
        except (tifffile.OmeXmlError, ValueError) as error:
            raise ImageFileError(
                f"{path} cannot hold the images: {error}.",
                "OME-TIFF holds planes YX or YXS stacked along up to six further axes.",
                "Write a plain .tif file.",
            ) from error
    return Path(path)


def _write_series(stream: BinaryIO, stored: list[tuple[NDArray[Any], dict[str, Any], dict[str, Any]]]) -> None:
    big = sum(pixels.nbytes for pixels, _, _ in stored) > _BIG_TIFF_FROM_BYTES
    # by itself tifffile names each file anew: the same images give the same bytes
    mark = {"UUID": str(_content_uuid(stored))}
    with tifffile.TiffWriter(stream, ome=True, bigtiff=big) as tif:
        for pixels, record, metadata in stored:
            tif.write(
                pixels,
                photometric="rgb" if metadata["axes"].endswith("S") else "minisblack",
                metadata=metadata | mark | {"Description": json.dumps({OURS: record})},
                **tiff_options(pixels.dtype),
            )


def _content_uuid(stored: list[tuple[NDArray[Any], dict[str, Any], dict[str, Any]]]) -> uuid.UUID:
    digest = hashlib.sha256()
    for pixels, record, metadata in stored:
        digest.update(json.dumps([record, metadata]).encode())
        digest.update(np.ascontiguousarray(pixels).data)
    return uuid.UUID(bytes=digest.digest()[:16], version=5)


def tiff_options(dtype: np.dtype[Any]) -> dict[str, Any]:
    """How all our TIFF files are compressed, so that tifffile alone can read them, and signed."""
    return {
        "compression": "zlib",
        "compressionargs": {"level": 6},
        # the predictor for floats, and reading any other compression, would need imagecodecs
        "predictor": 2 if dtype.kind in "ui" else None,
        "software": f"{OURS} {__version__}",
    }


def read_layers(path: str | Path) -> list[StoredImage]:
    """The images of a file by `write_layers`, with the values, dtypes and axes that were given.

    Raises
    ------
    ImageFileError
        The file is missing, damaged, incomplete or written by another program.
    """
    layers = [layer for layer, _ in _read_series(Path(path))]
    if not layers:
        raise ImageFileError(
            f"{path} holds no layers of {OURS}.",
            "OME-TIFF files that it wrote, and that no other program has changed, can be read as layers.",
            "Open the file with the viewer's own reader.",
        )
    return layers


def read_first(path: Path, axes: str | None = None) -> Image | None:
    """The first image of a file by `write_layers`, without dimensions of length 1; None for other files.

    Arguments and errors are those of `read_tiff`.
    """
    with decoding(path):
        found = _read_series(path, 1)
        if not found:
            return None
        layer, record = found[0]
        pixels, letters = tidy_axes(layer.pixels, layer.axes, axes)
        return described(path, pixels, letters, known_from(record))


def _read_series(path: Path, count: int | None = None) -> list[tuple[StoredImage, dict[str, Any]]]:
    """The first `count` images with their notes; empty for files of other programs."""
    with decoding(path), opened_tiff(path) as tif:
        records = ome_records(tif)
        if len(records) != len(tif.series):
            return []
        for series in tif.series[:count]:
            check_series(path, series)
            check_size(path, series.shape, series.dtype)
        pairs = zip(tif.series[:count], records[:count], strict=True)
        return [(_decoded(series.asarray(), record), record) for series, record in pairs]


def _encoded(path: str | Path, layer: StoredImage) -> tuple[NDArray[Any], dict[str, Any], dict[str, Any]]:
    """Pixels as OME-TIFF can hold them, the note that undoes it, and the metadata for OME-XML."""
    pixels = np.asarray(layer.pixels)
    check_axes(layer.axes, pixels.shape)
    values = _storable(path, pixels)
    order = stored_order(layer.axes)
    values = np.ascontiguousarray(np.transpose(values, [layer.axes.index(axis) for axis in order]))
    record = {
        "name": layer.name, "axes": layer.axes, "shape": pixels.shape, "dtype": pixels.dtype.str,
        "pixel_size_um": layer.pixel_size_um, "meta": layer.meta,
    }  # fmt: skip
    metadata: dict[str, Any] = {"axes": _ome_axes(order), "Name": _xml_text(layer.name)}
    for axis, size in layer.pixel_size_um.items():
        if axis in "XYZ" and math.isfinite(size) and size > 0:
            metadata[f"PhysicalSize{axis}"] = float(size)  # in OME's default unit, micrometres
    return values, json_metadata(record, path), metadata


def stored_order(axes: str) -> list[str]:
    """The letters as they lie in the file: ``Y`` and ``X``, and ``S``, last."""
    tail = "YXS" if axes.endswith("S") else "YX"
    return [axis for axis in axes if axis not in tail] + list(tail)


def _decoded(stored: NDArray[Any], record: dict[str, Any]) -> StoredImage:
    axes, shape, dtype = record["axes"], record["shape"], np.dtype(record["dtype"])
    kinds = {"name": str, "axes": str, "pixel_size_um": dict, "meta": dict}
    # a dtype such as "S100000" would fill the memory
    if dtype.kind not in "buif" or not all(isinstance(record[key], kind) for key, kind in kinds.items()):
        raise ValueError("its note on its layers is not ours")
    order = stored_order(axes)
    pixels = stored.reshape([shape[axes.index(axis)] for axis in order])
    pixels = np.transpose(pixels, [order.index(axis) for axis in axes]).astype(dtype)
    return StoredImage(record["name"], pixels, axes, record["pixel_size_um"], record["meta"])


def _storable(path: str | Path, pixels: NDArray[Any]) -> NDArray[Any]:
    """The same values in a dtype that OME-TIFF has."""
    if pixels.size == 0:
        raise ImageFileError(
            f"An image of shape {pixels.shape} was given for {path}.", "It must have pixels.", "Check what made it."
        )
    name = pixels.dtype.name
    for candidate in _STORED_AS.get(name, [name]):
        limits = np.iinfo(candidate) if name in ("int64", "uint64") else None
        fits = limits is None or (pixels.min() >= limits.min and pixels.max() <= limits.max)
        if fits and candidate in _OME_DTYPES:
            return pixels.astype(candidate, copy=False)
    raise ImageFileError(
        f"The image for {path} has dtype {name}, with values that OME-TIFF cannot hold.",
        "It holds integers of up to 32 bits and floats of up to 64 bits.",
        "Convert the image first, as in image.astype('float64'), or write a plain .tif file.",
    )


def _ome_axes(order: list[str]) -> str:
    """Letters for OME: unknown stacks take those that OME has for further ones."""
    free = [axis for axis in _FURTHER_STACKS if axis not in order]
    letters = []
    for axis in order:
        if axis not in _STACKS + _FURTHER_STACKS + "YXS":
            axis = free.pop(0) if free else axis
        letters.append(axis)
    return "".join(letters)


def _xml_text(text: str) -> str:
    """The text without the control characters that XML cannot hold."""
    return "".join(character if character.isprintable() else " " for character in text)
