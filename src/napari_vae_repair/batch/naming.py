"""What a batch writes for each input: names, types and places, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_vae_repair.batch.job import Job
from napari_vae_repair.batch.listing import Found, counts_as_file
from napari_vae_repair.preflight import FORMATS, UsageError, check_apart, check_report, real_path
from napari_vae_repair.settings import SCRATCH, STARTER, Settings

_DOUBLE = (".ome.tif", ".ome.tiff", ".ome.zarr")
_KEPT = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".png")
_TYPE_OF = {".jpg": ".png", ".jpeg": ".png", ".bmp": ".png"}
_SHOWN = 3  # names in a message


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How a batch reads and writes its files.

    Attributes
    ----------
    suffix : str
        Added to each name before its ending, as in "_restored".
    format : str or None
        One of `FORMATS`; None keeps the input's type where it can be written: TIFF, OME-TIFF and PNG stay, JPEG and
        BMP become PNG (without further loss), zarr becomes OME-Zarr, and anything else OME-TIFF.
    axes : str or None
        Names of the axes of each input; None = the files' own.
    mask, reference : str or None
        One file for all inputs, or a folder that mirrors their tree with any readable type.
    residual, std, report, save_model : str or None
        What the name of a further file adds to its image's, ending included: ".residual.tif", ".std.tif", ".html".
    dtype : str or None
        As `Job.dtype`.
    """

    suffix: str = ""
    format: str | None = None
    axes: str | None = None
    mask: str | None = None
    reference: str | None = None
    residual: str | None = None
    std: str | None = None
    report: str | None = None
    save_model: str | None = None
    dtype: str | None = None


def make_jobs(found: Sequence[Found], output: Path, settings: Settings, options: FileOptions) -> list[Job]:
    """The job of each input, after checking that no two files get one name and none is written over.

    Raises
    ------
    UsageError
        Two results would have one name, a result would replace a file that is read or a store around it, or lie in
        such a store, an option names no file type, or a mask or reference is missing.
    """
    _check_options(options)
    jobs = [_job(each, output, settings, options) for each in found]
    _check_companions(jobs, options)
    _check_distinct(jobs, settings)
    return jobs


def ending_of(path: Path) -> str:
    """The ending that tells a file's type, as it is written: ``.ome.tif`` is one."""
    name = path.name.lower()
    length = next((len(ending) for ending in _DOUBLE if name.endswith(ending) and name != ending), len(path.suffix))
    return path.name[-length:] if length else ""


def _job(found: Found, output: Path, settings: Settings, options: FileOptions) -> Job:
    ending = ending_of(found.path)
    name = found.relative.name[: len(found.relative.name) - len(ending)] + options.suffix
    other = ".ome.zarr" if found.path.is_dir() else ".ome.tif"
    kept = ending if ending.lower() in _KEPT else _TYPE_OF.get(ending.lower(), other)
    folder = output / found.relative.parent

    def beside(added: str | None) -> str | None:
        return None if added is None else str(folder / f"{name}{added}")

    return Job(
        input=str(found.path),
        output=str(folder / f"{name}{kept if options.format is None else '.' + options.format}"),
        settings=settings,
        axes=options.axes,
        mask=_companion(options.mask, found),
        reference=_companion(options.reference, found),
        residual=beside(options.residual),
        std=beside(options.std),
        report=beside(options.report),
        save_model=beside(options.save_model),
        dtype=options.dtype,
    )


def _companion(given: str | None, found: Found) -> str | None:
    """The file itself, or the one at the same place in a folder, of the same or another readable type; "" = missing."""
    if given is None or not Path(given).is_dir() or counts_as_file(Path(given)):
        return given
    from napari_vae_repair.image.files import READABLE

    same = Path(given) / found.relative
    stem = same.name[: len(same.name) - len(ending_of(same))]
    others = (same.with_name(stem + ending) for ending in (*_DOUBLE, *READABLE))
    return next((str(path) for path in (same, *others) if path.exists()), "")


def _check_options(options: FileOptions) -> None:
    if options.format is not None and options.format not in FORMATS:
        raise UsageError(
            f"--format {options.format} is no file type that can be written.",
            f"Types are {', '.join(FORMATS)}.",
            "Choose one of them, or leave it out to keep the inputs' types.",
        )
    for name in ("suffix", "residual", "std", "report", "save_model"):
        added = getattr(options, name)
        if added is not None and (Path(added).name != added if added else name != "suffix"):
            raise UsageError(
                f"--{name.replace('_', '-')} {added} names a place, but there are several files.",
                "In a batch it is what each file's name gets added.",
                "Write it as in --residual .residual.tif, which writes a.residual.tif beside a.tif.",
            )
    # of a name without a stem, as .html, pathlib sees no ending
    check_report(None if options.report is None else f"x{options.report}")


def _check_companions(jobs: Sequence[Job], options: FileOptions) -> None:
    for name in ("mask", "reference"):
        given = getattr(options, name)
        if given is not None and not Path(given).exists():
            raise UsageError(f"{given} is not there.", "A file or a folder is needed.", f"Check the path of --{name}.")
        missing = [job.input for job in jobs if getattr(job, name) == ""]
        if missing:
            raise UsageError(
                f"{given} has no file for {_some(missing)} ({len(missing)} of {len(jobs)} inputs).",
                f"A folder for --{name} has a file of the same name at the same place for each input.",
                "Add what is missing, or name the inputs that have one.",
            )


def _check_distinct(jobs: Sequence[Job], settings: Settings) -> None:
    model = () if settings.model in (STARTER, SCRATCH) else (settings.model,)
    read = {real_path(path): path for path in (*model, *(path for job in jobs for path in job.read))}
    taken: dict[str, str] = {}
    written: dict[str, str] = {}
    for job in jobs:
        for path in job.written:
            real = real_path(path)
            if real in read:
                raise UsageError(
                    f"{path} would be written over a file that is read.",
                    "Each file that is written needs a path of its own.",
                    "Choose another folder, or add to the names as in --suffix _restored.",
                )
            if real in taken:
                whose = f"of {taken[real]} and of {job.input}" if taken[real] != job.input else f"of {job.input}, twice"
                raise UsageError(
                    f"{path} would be the result {whose}.",
                    "Each file that is written needs a path of its own.",
                    "Restore them into separate folders, leave --format out, or put a pattern between quotes "
                    "('data/**/*.tif'), so that its folders are kept.",
                )
            taken[real], written[real] = job.input, path
    check_apart(read, written)


def _some(paths: Iterable[str]) -> str:
    names = list(paths)
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
