"""What OME-Zarr 0.4 and 0.5 can hold, and what the metadata of a store say: axes, physical sizes, channels, levels.

The specifications: https://ngff.openmicroscopy.org/0.4/ and https://ngff.openmicroscopy.org/0.5/.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.record import Colours
from napari_vae_repair.image.tiff import OURS

VERSIONS = ("0.4", "0.5")
# the lengths of UDUNITS that the specification lists, in micrometres
_UM_PER_UNIT = {
    "yoctometer": 1e-18, "zeptometer": 1e-15, "attometer": 1e-12, "femtometer": 1e-9, "picometer": 1e-6,
    "angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "micron": 1.0, "millimeter": 1e3, "centimeter": 1e4,
    "decimeter": 1e5, "meter": 1e6, "hectometer": 1e8, "kilometer": 1e9, "megameter": 1e12, "gigameter": 1e15,
    "terameter": 1e18, "petameter": 1e21, "exameter": 1e24, "zettameter": 1e27, "yottameter": 1e30,
    "inch": 25400.0, "foot": 304800.0, "yard": 914400.0, "mile": 1609344000.0, "parsec": 3.0856775814913673e22,
    "pm": 1e-6, "nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoreMetadata:
    """What the attributes of an image group say.

    Attributes
    ----------
    version : str
        "0.4" or "0.5".
    axis_names : tuple of str
        The stored array's axes in its own order, capital letters where they are letters.
    level_paths : tuple of str
        Arrays of the first multiscale image, finest first.
    pixel_size_um : dict of str to float
        Micrometres per step along the axes of a known length.
    channel_names : tuple of str
    channel_colours : tuple of (int, int, int)
        Red, green and blue, 0 to 255.
    record : dict
        What this package noted when it wrote the store; empty for stores of other programs.
    """

    version: str
    axis_names: tuple[str, ...]
    level_paths: tuple[str, ...]
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    channel_colours: Colours = ()
    record: dict[str, Any] = field(default_factory=dict)


def stored_axes(path: str | Path, axes: str) -> str:
    """The letters in the order of OME-Zarr: T, C, a further one, Z, Y, X; colour samples ``S`` become channels ``C``.

    Raises
    ------
    ImageFileError
        There are both ``C`` and ``S``, several axes beside TCZYXS, or more than five in all.
    """
    further = [a for a in axes if a not in "TCZYXS"]
    if {"C", "S"} <= set(axes) or len(further) > 1 or len(axes) > 5:
        raise ImageFileError(
            f"{path} cannot hold an image of axes {axes}.",
            "OME-Zarr holds up to five axes: T, C (or colour samples S), one further, Z, Y and X.",
            "Write a .tif or .ome.tif file, or single stacks.",
        )
    letters = axes.replace("S", "C")
    return "".join(sorted(letters, key=("T", "C", *further, "Z", "Y", "X").index))


def read_attributes(path: Path, attributes: Mapping[str, Any], zarr_format: int) -> StoreMetadata:
    """What the attributes of an image group say, checked by ome-zarr-models.

    Raises
    ------
    ImageFileError
        They break the specification, or are of another version than 0.4 and 0.5.
    """
    ome = attributes.get("ome") if zarr_format == 3 else attributes
    ome = ome if isinstance(ome, Mapping) else {}
    model = _checked(path, ome, zarr_format)
    image = model.multiscales[0]
    names = tuple(_letter(axis.name) for axis in image.axes)
    paths = tuple(dataset.path for dataset in image.datasets)
    for one in paths:
        if one.startswith(("/", "\\")) or ":" in one or ".." in re.split(r"[/\\]", one) or not one:
            raise _refused(path, f"the path {one!r} of a level leads out of the store")
    steps = _steps(path, image)
    sizes = {}
    for name, axis, step in zip(names, image.axes, steps, strict=True):
        size = step * _UM_PER_UNIT.get(str(axis.unit), 0.0)
        if np.isfinite(size) and size > 0:
            sizes[name] = size
    labels, colours = _channels(ome.get("omero"))
    record = attributes.get(OURS)
    version = "0.5" if zarr_format == 3 else "0.4"
    return StoreMetadata(version, names, paths, sizes, labels, colours, record if isinstance(record, dict) else {})


def _checked(path: Path, ome: Mapping[str, Any], zarr_format: int) -> Any:
    """The model of the image's metadata; what is wrong with the way of display is no reason to refuse an image."""
    import pydantic

    if zarr_format == 3:
        from ome_zarr_models.v05.image import ImageAttrs as Model
    else:
        from ome_zarr_models.v04.image import ImageAttrs as Model  # type: ignore[assignment]

        _check_version(path, ome)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # recommendations of the specification that are not kept
            return Model.model_validate({key: value for key, value in ome.items() if key != "omero"})
    except (pydantic.ValidationError, ValueError, TypeError, AttributeError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, pydantic.ValidationError) else None
        where = "" if first is None else ".".join(str(part) for part in first["loc"]) + ": "
        raise _refused(path, where + (str(error) if first is None else first["msg"])) from error


def _check_version(path: Path, ome: Mapping[str, Any]) -> None:
    """Refuse the versions before 0.4, which do not say the axes' kinds and sizes."""
    images = ome.get("multiscales")
    first = images[0] if isinstance(images, list) and images and isinstance(images[0], dict) else {}
    version = first.get("version", "0.4")
    if version != "0.4":
        raise ImageFileError(
            f"{path} is OME-Zarr of version {str(version)[:20]!r}.",
            f"Versions {' and '.join(VERSIONS)} can be read.",
            "Read the array inside by its own path with named axes, as in store.zarr/0 with --axes TCZYX.",
        )


def _refused(path: Path, what: str) -> ImageFileError:
    return ImageFileError(
        f"{path} is no valid OME-Zarr image: {what[:300]}.",
        f"Images after the specifications {' and '.join(VERSIONS)} can be read.",
        "Write it again, or read the array inside by its own path with named axes, as in store.zarr/0.",
    )


def _letter(name: Any) -> str:
    """An axis's name as a capital letter where it is one letter, else as it is."""
    text = str(name)
    return text.upper() if len(text) == 1 and text.isascii() else text


def _steps(path: Path, image: Any) -> list[float]:
    """Lengths of a step of the finest level, in the axes' units: its own scale times that of all levels."""
    steps = np.ones(len(image.axes))
    for transform in (*image.datasets[0].coordinateTransformations, *(image.coordinateTransformations or ())):
        if transform.type == "scale":
            scale = getattr(transform, "scale", None)
            if scale is None:
                raise _refused(path, "a scale is kept in a file of its own, which no program writes")
            with np.errstate(all="ignore"):
                steps = steps * np.asarray(scale, dtype=float)
    return [float(step) for step in steps]


def _channels(omero: Any) -> tuple[tuple[str, ...], Colours]:
    """Names and colours where every channel has one."""
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, list) or not all(isinstance(channel, Mapping) for channel in channels):
        return (), ()
    names = tuple(label for channel in channels if isinstance(label := channel.get("label"), str) and label)
    found = [re.fullmatch(r"#?([0-9a-fA-F]{6})", str(channel.get("color", ""))) for channel in channels]
    colours = tuple((int(f[1][:2], 16), int(f[1][2:4], 16), int(f[1][4:], 16)) for f in found if f)
    return names if len(names) == len(channels) else (), colours if len(colours) == len(channels) else ()
