"""Everything about a command line that can be checked before a training of minutes or hours begins."""

from __future__ import annotations

import argparse
import ast
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from napari_vae_repair.errors import ImageFileError, InputError, VaeRepairError
from napari_vae_repair.image.atomic import is_store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_vae_repair.image.record import Image
    from napari_vae_repair.settings import Settings


REPORTS = (".html", ".json")
FORMATS = ("tif", "ome.tif", "png", "jpg", "ome.zarr")  # of a batch's results


class UsageError(VaeRepairError):
    """The command line cannot be carried out, whatever the files hold."""


def settings_from(args: argparse.Namespace) -> Settings:
    """The settings of a command line; options that were not given keep their defaults."""
    from napari_vae_repair.settings import make_settings, parse_memory

    names = ("epochs", "adapt_seconds", "samples", "preset", "chain", "model", "device", "allow_cpu", "seed")
    changes = {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    if getattr(args, "memory", None) is not None:
        changes["memory_mb"] = parse_memory(args.memory)
    for item in getattr(args, "set", []):
        name, equals, text = item.partition("=")
        *parents, last = name.strip().split(".")
        place: Any = changes
        for parent in parents:
            place = place.setdefault(parent, {}) if isinstance(place, dict) else place
        if not equals or not isinstance(place, dict):
            raise UsageError(
                f"--set {item} cannot be read.",
                "NAME=VALUE is needed, with dots in the names of inner settings.",
                "Write it as in --set training.batch_size=4.",
            )
        place[last] = _value(text)
    settings = make_settings(None, **changes)
    return settings if getattr(args, "std", None) is None else with_samples(settings)


def with_samples(settings: Settings) -> Settings:
    """The settings for a run that writes a standard deviation: left to itself, the starter draws no samples.

    Raises
    ------
    UsageError
        If they ask for fewer than two.
    """
    from napari_vae_repair.settings import DEFAULT_SAMPLES, make_settings

    if settings.samples is None:
        return make_settings(settings, samples=DEFAULT_SAMPLES)
    if settings.samples < 2:
        raise UsageError(
            f"--std was asked for with --samples {settings.samples}.",
            "A standard deviation needs 2 samples or more.",
            f"Leave --samples out for {DEFAULT_SAMPLES}, or leave --std out.",
        )
    return settings


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def check_distinct(read: Iterable[str | None], written: Iterable[str | None]) -> list[str]:
    """Those that are to be written, after checking that all that are read are there and none is written over them.

    Raises
    ------
    UsageError
        Something that is read is missing, or two of the paths are one, or one lies inside another.
    """
    inputs, outputs = ([path for path in paths if path is not None] for paths in (read, written))
    for path in inputs:
        check_exists(path)
    read_from = {real_path(path): path for path in inputs}
    written_to: dict[str, str] = {}
    for path in outputs:
        real = real_path(path)
        if real in read_from or real in written_to:
            raise UsageError(
                f"{path} would be written over an input or over another output.",
                "Each file that is written needs a path of its own.",
                "Give it another name.",
            )
        written_to[real] = path
    check_apart(read_from, written_to)
    return outputs


def check_apart(read: Mapping[str, str], written: Mapping[str, str]) -> None:
    """Raise `UsageError` where something lies inside a store that is written, or is written inside one that is read.

    A store is replaced as a whole: what was inside is gone.

    Parameters
    ----------
    read, written : mapping of str to str
        Paths as they were given, by `real_path`.
    """
    held = {str(folder): path for real, path in read.items() for folder in Path(real).parents}
    for real, path in written.items():
        if real in held:
            raise UsageError(
                f"{held[real]}, which is read, lies inside {path}, which would be replaced as a whole.",
                "A result must not hold what is read.",
                "Give the result a place outside of it.",
            )
        for folder in map(str, Path(real).parents):
            # within an input that is a file nothing can be written, as the system will say
            around = written.get(folder) or (read.get(folder) if Path(folder).is_dir() else None)
            if around is not None:
                raise UsageError(
                    f"{path} would be written inside {around}, an input or another output.",
                    "Stores that are read stay as they are, and those that are written hold one result.",
                    "Give it a place outside of it.",
                )


def real_path(path: str) -> str:
    """What tells whether two paths name one file: links followed, and on Windows without the case of letters."""
    return os.path.normcase(os.path.realpath(path))


def check_report(path: str | None) -> None:
    """Raise `UsageError` unless the report's name tells whether it is a page or JSON."""
    if path is not None and Path(path).suffix.lower() not in REPORTS:
        raise UsageError(
            f"--report {path} does not name a kind of report.",
            "A report ends in .html (a page with figures) or .json (numbers).",
            "Give it such an ending, as in --report report.html.",
        )


def check_exists(path: str) -> None:
    """Raise `UsageError` unless the path is that of a file, or of a folder that counts as one: a zarr store."""
    if not Path(path).is_file() and not is_store(path):
        found = "a folder" if Path(path).is_dir() else "not there"
        raise UsageError(f"{path} is {found}.", "The path of an existing file is needed.", "Check the path.")


def _model_settings(settings: Settings) -> Settings:
    """The settings whose chain will run: those of a loaded model of one image, if there is one."""
    from napari_vae_repair.settings import SCRATCH, STARTER, make_settings

    if settings.model in (STARTER, SCRATCH):
        return settings
    from napari_vae_repair.vae.checkpoint import read_header

    header = read_header(settings.model)
    return settings if header.get("value_range") is None else make_settings(None, **header.get("settings", {}))


class Written(Protocol):
    """What is going to be written: the paths of the images, and the dtype that was chosen."""

    @property
    def output(self) -> str: ...  # noqa: D102
    @property
    def residual(self) -> str | None: ...  # noqa: D102
    @property
    def std(self) -> str | None: ...  # noqa: D102
    @property
    def dtype(self) -> str | None: ...  # noqa: D102


def check_formats(written: Written, image: Image, settings: Settings) -> None:
    """Raise `UsageError` for files whose type could not hold the results."""
    from napari_vae_repair.image.files import check_format
    from napari_vae_repair.image.steps import is_invertible

    in_source_units = all(is_invertible(step) for step in _model_settings(settings).steps)
    floats_only = "Write a .tif file: residuals and standard deviations are stored as floats."
    for path, dtype, remedy in (
        (written.output, output_dtype(written.dtype, image, in_source_units), None),
        (written.residual, float_dtype(written.dtype), floats_only),
        (written.std, float_dtype(written.dtype), floats_only),
    ):
        try:
            if path is not None:
                check_format(path, image.axes, dtype)
        except ImageFileError as error:
            raise UsageError(error.received, error.allowed, remedy or error.remedy) from error


def output_dtype(chosen: str | None, image: Image, in_source_units: bool) -> str:
    """Integers and bool get their dtype back; floats, and values in other units, stay float32."""
    if chosen is not None:
        return chosen
    return image.pixels.dtype.str if in_source_units and image.pixels.dtype.kind in "bui" else "float32"


def float_dtype(chosen: str | None) -> str:
    """An integer dtype would cut off the residual below zero: it holds for the restored image alone."""
    return chosen if chosen is not None and chosen.startswith("float") else "float32"


def read_mask(path: str, axes: str | None) -> NDArray[np.bool_]:
    """True where a file is not zero in any colour; alpha does not count."""
    import numpy as np

    from napari_vae_repair.image.files import read_image

    image = read_image(path, None if axes is None else axes.replace("S", ""))
    marked = image.pixels != 0
    return np.asarray(marked[..., :3].any(axis=-1) if image.is_colour else marked)


def read_reference(path: str, axes: str | None, image: Image) -> NDArray[np.generic]:
    """The true image; raises `InputError` when it is of another shape."""
    from napari_vae_repair.image.files import read_image

    reference = read_image(path, axes)
    if reference.pixels.shape != image.pixels.shape:
        raise InputError(
            f"The reference {path} has shape {reference.pixels.shape}.",
            f"It must have the input's shape, {image.pixels.shape}.",
            "Crop one to the other, or leave --reference out.",
        )
    return reference.pixels
