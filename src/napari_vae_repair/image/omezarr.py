"""OME-Zarr 0.4 and 0.5, and plain zarr arrays whose axes are named, opened without reading their pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_vae_repair.errors import ImageFileError, InputError
from napari_vae_repair.image.arranged import ArrangedArray
from napari_vae_repair.image.atomic import is_store
from napari_vae_repair.image.ngff import StoreMetadata, read_attributes
from napari_vae_repair.image.record import Colours, Known
from napari_vae_repair.image.tiff import OURS, decoding, tidy_dimensions
from napari_vae_repair.image.zarr_store import StoreWriter, create_store

__all__ = [
    "MAX_CHUNKS", "MAX_CHUNK_BYTES", "OpenedStore", "StoreWriter", "create_store", "is_store", "open_store",
    "store_record",
]  # fmt: skip

MAX_CHUNKS = 2**26  # 64 million files: 16 terapixels in chunks of 512 x 512
MAX_CHUNK_BYTES = 2**31  # what Blosc can hold at most; a chunk is always decoded as a whole


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """An image in a store, its pixels still there.

    Attributes
    ----------
    levels : tuple of ArrangedArray
        Finest first, all with the axes `axes`; only the first where the lower ones do not fit.
    axes : str
    chunks : tuple of int
        Of the finest level, along `axes`.
    pixel_size_um : dict of str to float
    channel_names : tuple of str
    channel_colours : tuple of (int, int, int)
    """

    levels: tuple[ArrangedArray, ...]
    axes: str
    chunks: tuple[int, ...]
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    channel_colours: Colours = ()


def open_store(path: str | Path, axes: str | None = None) -> OpenedStore:
    """The first image of a store: of several multiscale images the first, of a bioformats2raw container series 0.

    Dimensions of length 1 other than ``Y`` and ``X`` are dropped. Stores of this package give back the axes that
    were written, colour samples included. The axes of a plain array are those that it names by single letters.

    Parameters
    ----------
    path : str or Path
    axes : str, optional
        Names that replace the store's, one for each dimension, or for each that is left.

    Raises
    ------
    ImageFileError
        No zarr, a plate, a group without an image, metadata that break the specification, more than 2**26
        chunks, or a chunk of more than 2 GiB.
    InputError
        A plain array without named axes, and no `axes` were given.
    """
    path = Path(path)
    node = _open_node(path)
    if hasattr(node, "shape"):
        return _plain_array(path, node, axes)
    metadata, group = _image_group(path, node)
    arrays = [_level(path, group, one) for one in metadata.level_paths]
    if any(array.ndim != len(metadata.axis_names) for array in arrays):
        raise _no_image(path, f"it names {len(metadata.axis_names)} axes for arrays of shape {arrays[0].shape}")
    dims, letters = _arrangement(metadata, arrays[0].shape, axes)
    levels = [ArrangedArray(arrays[0], dims)]
    for array in arrays[1:]:
        if all(array.shape[d] == 1 for d in range(array.ndim) if d not in dims) and array.dtype == arrays[0].dtype:
            levels.append(ArrangedArray(array, dims))
    chunks = tuple(int(arrays[0].chunks[d]) for d in dims)
    return OpenedStore(tuple(levels), letters, chunks, **_known(metadata).fitting(letters, levels[0].shape))


def store_record(path: str | Path) -> dict[str, Any] | None:
    """What this package noted in a store that it wrote; None for other stores.

    Raises
    ------
    ImageFileError
        It is no zarr store.
    """
    record = _open_node(Path(path)).attrs.asdict().get(OURS)
    return record if isinstance(record, dict) else None


def _open_node(path: Path) -> Any:
    import zarr

    if not is_store(path):
        raise ImageFileError(
            f"{path} holds no zarr.json, .zgroup or .zarray.",
            "A zarr store is a folder with one of these files.",
            "Check the path; for a store within a folder, give the store's own path.",
        )
    with decoding(path):
        if (path / "zarr.json").is_file() or (path / ".zarray").is_file():
            return zarr.open(path, mode="r")
        return zarr.open_group(path, mode="r", use_consolidated=False)


def _image_group(path: Path, group: Any) -> tuple[StoreMetadata, Any]:
    """The image's metadata, and the group that its level paths start from."""
    zarr_format = int(group.metadata.zarr_format)
    for _ in range(2):
        attributes = group.attrs.asdict()
        ome = attributes.get("ome", {}) if zarr_format == 3 else attributes
        ome = ome if isinstance(ome, dict) else {}
        if "multiscales" in ome:
            return read_attributes(path, attributes, zarr_format), group
        if "plate" in ome or "well" in ome:
            raise _no_image(path, "it is a plate or a well of several images", "plate.zarr/A/1/0, one image of it")
        with decoding(path):
            inner = group.get("0") if "bioformats2raw.layout" in ome else None
        if inner is None or hasattr(inner, "shape"):
            break
        group = inner
    members = sorted(one.name for one in path.iterdir() if is_store(one))[:5]
    raise _no_image(
        path, f"it is a group of {', '.join(members) or 'nothing'}", "store.zarr/0, an array, with --axes TCZYX"
    )


def _level(path: Path, group: Any, name: str) -> Any:
    with decoding(path):
        array = group.get(name)
    if array is None or not hasattr(array, "shape"):
        raise _no_image(path, f"its level {name!r} is missing")
    return _usable(path, array)


def _usable(path: Path, array: Any) -> Any:
    """The array, unless reading it would fill the memory: metadata that claim so cost a few bytes to write."""
    chunks = math.prod(-(-int(n) // max(int(c), 1)) for n, c in zip(array.shape, array.chunks, strict=True))
    chunk_bytes = math.prod(int(c) for c in array.chunks) * array.dtype.itemsize
    if array.dtype.kind not in "buif" or min(array.shape, default=0) < 1 or min(array.chunks, default=0) < 1:
        raise _no_image(path, f"it holds values of dtype {array.dtype} in shape {array.shape}")
    if chunks > MAX_CHUNKS or chunk_bytes > MAX_CHUNK_BYTES:
        raise ImageFileError(
            f"{path} claims {chunks} chunks of {chunk_bytes} bytes.",
            f"At most {MAX_CHUNKS} chunks of at most {MAX_CHUNK_BYTES} bytes are opened.",
            "Check where it comes from, or write it again in chunks of 512 x 512 pixels.",
        )
    from napari_vae_repair.image.zarr_checked import checked

    with decoding(path):
        return checked(array)


def _arrangement(metadata: StoreMetadata, shape: Sequence[int], axes: str | None) -> tuple[list[int], str]:
    """Which stored dimension each axis is, in the order in which our own stores were given."""
    names = list(metadata.axis_names)
    own = metadata.record.get("axes")
    if axes is None and isinstance(own, str) and sorted(own.replace("S", "C")) == sorted(names):
        dims = [names.index(letter) for letter in own.replace("S", "C")]
        kept, letters = tidy_dimensions([shape[d] for d in dims], list(own), None)
        return [dims[d] for d in kept], letters
    return tidy_dimensions(shape, names, axes)


def _known(metadata: StoreMetadata) -> Known:
    """Sizes, names and colours; of our own stores not those that a store must have although they were not given."""
    record, names, colours = metadata.record, metadata.channel_names, metadata.channel_colours
    noted = record.get("pixel_size_um")
    further = {axis: size for axis, size in noted.items() if axis not in "ZYX"} if isinstance(noted, dict) else {}
    if "axes" in record:
        names, colours = names if record.get("channel_names") else (), colours if record.get("channel_colours") else ()
    return Known(further | metadata.pixel_size_um, names, colours)


def _plain_array(path: Path, array: Any, axes: str | None) -> OpenedStore:
    """An array that is no part of an OME-Zarr image, or one level of it."""
    array = _usable(path, array)
    named = getattr(array.metadata, "dimension_names", None) or array.attrs.asdict().get("_ARRAY_DIMENSIONS") or ()
    names = [str(name).upper() for name in named] if len(named) == array.ndim else []
    if axes is None and not (names and all(len(name) == 1 for name in names) and {"Y", "X"} <= set(names)):
        raise InputError(
            f"{path} is a zarr array of shape {array.shape} that does not name its axes.",
            "Each dimension needs one letter: T, C, Z, Y, X, or S for the samples of a colour.",
            "Give them as --axes TCZYX, or axes='TCZYX'.",
        )
    dims, letters = tidy_dimensions(array.shape, names or ["?"] * array.ndim, axes)
    return OpenedStore((ArrangedArray(array, dims),), letters, tuple(int(array.chunks[d]) for d in dims))


def _no_image(path: Path, what: str, example: str = "store.zarr/0, an array, with --axes TCZYX") -> ImageFileError:
    return ImageFileError(
        f"{path} is no OME-Zarr image: {what}.",
        "An image group of version 0.4 or 0.5 can be read, or an array with named axes.",
        f"Give the path of what should be restored, as in {example}.",
    )
