"""The arrays and the attributes of an OME-Zarr store, as they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_vae_repair import __version__
from napari_vae_repair.image.record import Colours
from napari_vae_repair.image.tiff import OURS, json_metadata

RGB_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))
RGB_NAMES = ("red", "green", "blue", "alpha")
_KINDS = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


def new_array(
    group: Any, name: str, shape: Sequence[int], chunks: Sequence[int], dtype: np.dtype[Any], letters: str
) -> Any:
    """An empty array of a group, in the way that its version of OME-Zarr asks for; all in stored order.

    Chunks are of zstd with a checksum, so that a damaged one cannot pass for an image. Blosc, which packs floats to
    three quarters of that, has none, and what is cut off reads as if it were whole (see `zarr_checked`).

    Parameters
    ----------
    group : zarr.Group
    name : str
        An array of this name is removed.
    shape, chunks : sequence of int
    dtype : dtype
    letters : str
        As `ngff.stored_axes` orders them.
    """
    options: dict[str, Any]
    if group.metadata.zarr_format == 3:
        from zarr.codecs import ZstdCodec

        # 0.5 asks for the axes' names in the array, too
        options = {"dimension_names": list(letters.lower()), "compressors": ZstdCodec(level=1, checksum=True)}
    else:
        # 0.4 asks for folders within folders, not for 0.0.0
        options = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        options["compressors"] = {"id": "zstd", "level": 1, "checksum": True}
    return group.create_array(
        name, shape=tuple(shape), dtype=dtype, chunks=tuple(chunks), fill_value=0, overwrite=True, **options
    )


def store_attributes(
    plan: Mapping[str, Any], about: Mapping[str, Any], name: str, letters: str, levels: Sequence[Any]
) -> dict[str, Any]:
    """The attributes of a whole store; channels are described where something is known of them.

    Parameters
    ----------
    plan, about : mapping
        What a `StoreWriter` was made for, and what it was told of the image.
    name : str
    letters : str
        As `ngff.stored_axes` orders them.
    levels : sequence of zarr.Array
        Finest first; the coarsest gives the channels' ranges.
    """
    names, given = about["channel_names"], about["channel_colours"]
    colours: Colours = tuple((int(red), int(green), int(blue)) for red, green, blue in given)
    count = levels[0].shape[letters.index("C")] if "C" in letters else 0
    if "S" in plan["axes"]:
        names, colours = RGB_NAMES[:count], RGB_COLOURS[:count]
    names, colours = names if len(names) == count else (), colours if len(colours) == count else ()
    channels = []
    if names or colours:
        limits = _limits(levels[-1], letters.index("C"))
        channels = channel_records(names, colours, limits, levels[0].dtype)
    record = {"axes": plan["axes"], **about}
    return group_attributes(plan["version"], name, letters, len(levels), about["pixel_size_um"], channels, record)


def group_attributes(
    version: str,
    name: str,
    letters: str,
    levels: int,
    pixel_size_um: Mapping[str, float],
    channels: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """The attributes of an image group whose levels 0, 1, ... are each half as large as the one before.

    Parameters
    ----------
    version : str
        "0.4" or "0.5".
    name : str
    letters : str
        As `stored_axes` orders them.
    levels : int
    pixel_size_um : mapping of str to float
        Of the finest level.
    channels : sequence of mapping
        Of `channel_records`; empty where there are no channels, or nothing is known of them.
    record : mapping
        Our own note.
    """
    axes: list[dict[str, str]] = []
    for letter in letters:
        axis = {"name": letter.lower()}
        if letter in _KINDS:
            axis["type"] = _KINDS[letter]
        if letter in "ZYX" and _usable(pixel_size_um.get(letter)):
            axis["unit"] = "micrometer"
        axes.append(axis)
    step = [float(pixel_size_um[a]) if a in "ZYX" and _usable(pixel_size_um.get(a)) else 1.0 for a in letters]
    datasets = []
    for level in range(levels):
        factors = [2.0**level if a in "YX" else 1.0 for a in letters]
        transforms: list[dict[str, Any]] = [
            {"type": "scale", "scale": [s * f for s, f in zip(step, factors, strict=True)]}
        ]
        if level:  # the centre of a coarse pixel is the centre of the fine ones under it
            shift = [s * (f - 1) / 2 for s, f in zip(step, factors, strict=True)]
            transforms.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    image: dict[str, Any] = {"name": name, "axes": axes, "datasets": datasets, "type": "local mean"}
    ours = {OURS: json_metadata(dict(record), name) | {"version": __version__}}
    omero = {"omero": {"channels": [dict(c) for c in channels], "rdefs": {"model": "color"}}} if channels else {}
    if version == "0.4":
        return {"multiscales": [{"version": "0.4"} | image], **omero, **ours}
    return {"ome": {"version": "0.5", "multiscales": [image], **omero}, **ours}


def channel_records(
    names: Sequence[str], colours: Colours, limits: Sequence[tuple[float, float]], dtype: np.dtype[Any]
) -> list[dict[str, Any]]:
    """What OME-Zarr says of each channel: label, colour, and the window to show, which is all the values' range."""
    records = []
    for number, (low, high) in enumerate(limits):
        ends = (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) if dtype.kind in "ui" else (low, high)
        red, green, blue = colours[number] if colours else (255, 255, 255)
        records.append(
            {
                "label": names[number] if names else str(number),
                "color": f"{red:02X}{green:02X}{blue:02X}",
                "active": True,
                "window": {"min": ends[0], "max": ends[1], "start": low, "end": high},
            }
        )
    return records


def _limits(level: Any, channel: int) -> list[tuple[float, float]]:
    """Lowest and highest finite value of each channel of the coarsest level."""
    limits = []
    for number in range(level.shape[channel]):
        index = tuple(number if d == channel else slice(None) for d in range(level.ndim))
        values = np.asarray(level[index])
        values = values[np.isfinite(values)].astype(float)
        limits.append((float(values.min()), float(values.max())) if values.size else (0.0, 1.0))
    return limits


def _usable(size: Any) -> bool:
    return size is not None and bool(np.isfinite(size)) and float(size) > 0
