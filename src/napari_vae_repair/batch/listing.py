"""Which files a batch restores: patterns and folders become image files, each with its place in the tree."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_vae_repair.errors import VaeRepairError
from napari_vae_repair.image.atomic import is_store
from napari_vae_repair.preflight import UsageError


@dataclass(frozen=True, slots=True)
class Found:
    """One input.

    Attributes
    ----------
    path : Path
        As it was found.
    relative : Path
        Its place in the tree that is mirrored.
    """

    path: Path
    relative: Path


@dataclass(frozen=True, slots=True)
class Listing:
    """What inputs stand for.

    Attributes
    ----------
    found : tuple of Found
        Sorted by their place.
    ours : tuple of Path
        Left out, since this package wrote them as results.
    unknown : int
        How many files that were matched are of no type that can be read.
    """

    found: tuple[Found, ...]
    ours: tuple[Path, ...]
    unknown: int


def find_inputs(inputs: Sequence[str], output: Path, results: Collection[str] = ()) -> Listing:
    """The image files that paths, folders and patterns stand for.

    A folder stands for all image files in it and below; the tree is mirrored from there, and for a pattern from its
    last folder without a wildcard. In folders and patterns, hidden files, results of this package and what lies in
    `output` (unless the inputs lie there too) are left out; a file that is named by itself never is. A zarr store
    counts as a file.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders and patterns (``*``, ``?``, ``[...]``, and ``**`` for any depth).
    output : Path
        The folder of the results.
    results : collection of str
        Real paths of files that are known to be results.

    Raises
    ------
    UsageError
        If an input is not there, or nothing is found.
    """
    found: dict[Path, Found] = {}
    ours, unknown = [], 0
    for given in inputs:
        root = _root(given)
        for path in _matches(given, root):
            named = path == Path(given)
            if not named and _is_within(path, output) and not _is_within(root, output):
                continue
            if not named and not is_readable(path):
                unknown += 1
            elif not named and (os.path.realpath(path) in results or is_result(path)):
                ours.append(path)
            else:
                found.setdefault(Path(os.path.realpath(path)), Found(path, path.relative_to(root)))
    if not found:
        raise _nothing(inputs, ours, unknown)
    return Listing(tuple(sorted(found.values(), key=lambda each: each.relative.as_posix())), tuple(ours), unknown)


def is_pattern(given: str) -> bool:
    """Whether an input is a pattern: it has wildcards, and no file has just this name."""
    return glob.has_magic(given) and not Path(given).exists()


def counts_as_file(path: Path) -> bool:
    """Whether a path is a file, or a zarr store: a folder that counts as one."""
    return path.is_file() or (path.is_dir() and (path.suffix.lower() == ".zarr" or is_store(path)))


def is_readable(path: Path) -> bool:
    """Whether the ending is one of those that can be read."""
    from napari_vae_repair.image.files import READABLE

    return path.suffix.lower() in READABLE or path.is_dir()


def is_result(path: Path) -> bool:
    """Whether this package wrote a file as the result of a restoration; PNG and JPEG do not tell."""
    from napari_vae_repair.image.files import read_provenance

    if path.suffix.lower() not in (".tif", ".tiff", ".zarr"):
        return False
    try:
        return "report" in (read_provenance(path) or {})
    except VaeRepairError:
        return False  # whatever is wrong with it is told when it is its turn


def _root(given: str) -> Path:
    """The folder from which the tree is mirrored."""
    path = Path(given)
    if is_pattern(given):
        parts = path.parts
        fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
        return Path(*parts[:fixed]) if fixed else Path()
    return path if path.is_dir() and not counts_as_file(path) else path.parent


def _matches(given: str, root: Path) -> Iterator[Path]:
    """Files and stores, without hidden ones and without what is within a store."""
    path = Path(given)
    if counts_as_file(path):
        yield path
        return
    if path.is_dir():
        pattern = str(Path(glob.escape(given)) / "**")
    elif is_pattern(given):
        pattern = given
    else:
        raise UsageError(f"{given} is not there.", "The path of an existing file is needed.", "Check the path.")
    stores = dict.fromkeys((root, *root.parents), False)
    for match in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 - Path.glob finds hidden files too
        each = Path(match)
        if any(part.startswith(".") for part in each.relative_to(root).parts):
            continue
        for folder in reversed(each.parents):
            if folder not in stores:
                stores[folder] = any(stores[above] for above in folder.parents) or counts_as_file(folder)
        if not stores[each.parent] and counts_as_file(each):
            yield each


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a found file lies in a folder, links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _nothing(inputs: Sequence[str], ours: Sequence[Path], unknown: int) -> UsageError:
    from napari_vae_repair.image.files import READABLE

    names = ", ".join(inputs)
    if ours:
        why = f"{names}: only results of earlier runs were found there ({len(ours)})."
        return UsageError(why, "They are left out of folders and patterns.", "Name a file by itself to restore it.")
    why = f"{names}: no image file was found there" + (f", but {unknown} of other types." if unknown else ".")
    return UsageError(why, f"Files that can be read end in {', '.join(READABLE)}.", "Check the path or the pattern.")
