"""What a result depends on, as one hash: contents of the files that are read, settings, version, kinds of outputs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from napari_vae_repair import __version__
from napari_vae_repair.batch.job import Job
from napari_vae_repair.errors import ImageFileError


def key_of(job: Job) -> str:
    """Hash of everything that decides the bytes of the job's images on this machine.

    Of the input, mask and reference their content, of the model its file's; the settings; the package's version; and
    how the names of the written files end, which tells their types. How many processes share the machine, and where
    the files lie, does not count.

    Raises
    ------
    ImageFileError
        If a file cannot be read.
    """
    from napari_vae_repair.batch.one import model_sha256

    settings = job.settings.model_dump(mode="json")
    facts = {
        "version": __version__,
        "settings": settings | {"model": model_sha256(job.settings) or settings["model"]},
        "axes": job.axes,
        "dtype": job.dtype,
        "read": [None if path is None else sha256_of(Path(path)) for path in (job.input, job.mask, job.reference)],
        "name": Path(job.input).name,  # it stands in the results' own description
        "written": [
            None if path is None else Path(path).name
            for path in (job.output, job.residual, job.std, job.report, job.save_model)
        ],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file; of a folder (a zarr store) that of its files' names, sizes and contents.

    Raises
    ------
    ImageFileError
        If it cannot be read.
    """
    try:
        if not path.is_dir():
            return _of_file(path)
        digest = hashlib.sha256()
        for file in sorted(each for each in path.rglob("*") if each.is_file()):
            name, size = file.relative_to(path).as_posix(), file.stat().st_size
            digest.update(json.dumps([name, size, _of_file(file)]).encode())
        return digest.hexdigest()
    except OSError as error:
        raise ImageFileError(
            f"{path} cannot be read: {error.strerror or error}.",
            "It must be there and readable for as long as the run takes.",
            "Check the path and its permissions.",
        ) from error


def state_of(path: Path) -> tuple[int, int]:
    """Time of the last change and size of a file or folder; zeros where there is none."""
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_mtime_ns, state.st_size


def _of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
