"""`vae-repair restore`: one file into another, or many into a folder that mirrors their tree."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_vae_repair.preflight import FORMATS, UsageError, check_distinct, check_report, settings_from
from napari_vae_repair.terminal import ProgressLine, Terminated, tell

if TYPE_CHECKING:
    from napari_vae_repair.batch.job import Job
    from napari_vae_repair.settings import Settings

DESCRIPTION = """\
Restore an image file, or many.

  vae-repair restore noisy.tif restored.tif
  vae-repair restore 'data/**/*.tif' restored/ --jobs 4

It is a batch if INPUT is several files, a folder or a pattern (between quotes), or if OUTPUT is a folder or ends in a
slash. A batch keeps the tree below the pattern's fixed part and the types of the files (JPEG and BMP become PNG,
vendors' formats OME-TIFF), leaves out hidden files and results of vae-repair, goes on when a file fails, and writes
OUTPUT/results.csv and results.json. In a batch --residual, --std, --report and --save-model are what each name gets
added, as in --residual .residual.tif; --mask and --reference are one file for all, or a folder that mirrors INPUT.

From 16 megapixels on, or where --memory is too little for one piece, an OME-Zarr OUTPUT (.ome.zarr) is written block by
block in little memory; the same command goes on with a run that was stopped."""
EXIT_CODES = "exit code: 0 all is done, 1 a file failed, 2 bad usage, 130 stopped by Ctrl-C, 143 by SIGTERM"
_WORDS_OF_A_BATCH = ("resume", "suffix", "format")


def add_restore(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `vae-repair restore` its arguments."""
    parser.set_defaults(command=restore)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXIT_CODES
    add = parser.add_argument
    add("input", nargs="+", metavar="INPUT", help="image files; in a batch also folders and patterns")
    add("output", metavar="OUTPUT", help="the restored image: .tif, .ome.tif, .png or .jpg; or the folder of a batch")
    add("--residual", metavar="P", help="also write input minus restored, as floats (.tif, .ome.tif)")
    add("--std", metavar="P", help="also write the standard deviation of each pixel, as floats (.tif, .ome.tif)")
    add("--epochs", type=int, metavar="N", help="train on the image for so long instead of using the starter")
    add("--adapt", dest="adapt_seconds", type=float, metavar="SECONDS", help="adapt the starter to the image first")
    add("--samples", type=int, metavar="N", help="posterior samples; 16 with --std if left out")
    add("--preset", metavar="NAME", help="preprocessing: standard or classic")
    add(
        "--chain", metavar="TEXT", help="preprocessing steps, as in 'float32, normalise(low=1), denoise(method=median)'"
    )
    add("--axes", metavar="AXES", help="names of the input's axes, as in ZYX; default: the file's own")
    add("--mask", metavar="P", help="image file of the input's shape; nonzero = damaged")
    add("--model", metavar="P", help="starter (the default), scratch (train on the image), or a saved model")
    add("--save-model", metavar="P", help="write the trained model, as soon as training ends")
    add("--device", metavar="D", help="auto, cpu, cuda, cuda:1 or mps")
    add("--allow-cpu", action="store_true", default=None, help="go on on the CPU where a GPU's memory is exhausted")
    add("--memory", metavar="SIZE", help="most memory to use, as in 2GB; in a batch, of all jobs together")
    add("--seed", type=int, metavar="N", help="the same seed gives the same result")
    add("--dtype", metavar="D", help="dtype of OUTPUT, and of the others where it is a float; default: the input's")
    add("--reference", metavar="P", help="the true image, to measure against")
    add("--report", metavar="P", help="write how far it can be trusted: a page (.html) or numbers (.json)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="any setting, as in training.batch_size=4")
    add("--scheduler", metavar="ADDRESS", help="dask scheduler whose workers restore, as in tcp://host:8786; for .zarr")
    _add_batch(parser.add_argument_group("batches"))


def _add_batch(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--jobs", type=int, default=1, metavar="N", help="files at the same time, each in a process of its own [1]")
    add("--resume", action="store_true", help="leave out what is done already, by content and settings")
    add("--overwrite", action="store_true", help="replace what is in OUTPUT already")
    add("--suffix", default="", metavar="TEXT", help="add to the names, as in _restored")
    add("--format", choices=FORMATS, help="type of the results; default: the inputs' own")


def restore(args: argparse.Namespace) -> None:
    """Restore one file, or many."""
    settings = settings_from(args)
    if _is_batch(args):
        if args.scheduler is not None:
            raise UsageError(
                f"--scheduler {args.scheduler} was given for a batch.",
                "A cluster restores one image into a store, block by block.",
                "Restore the files one by one, or leave it out and use --jobs.",
            )
        _restore_many(args, settings)
    else:
        _restore_one(args, settings)


def _is_batch(args: argparse.Namespace) -> bool:
    from napari_vae_repair.batch.listing import counts_as_file, is_pattern

    def is_folder(path: str) -> bool:
        return Path(path).is_dir() and not counts_as_file(Path(path))

    several = len(args.input) > 1 or is_pattern(args.input[0]) or is_folder(args.input[0])
    ends_in_slash = args.output.endswith(("/", os.sep)) and Path(args.output).suffix.lower() != ".zarr"
    into_folder = is_folder(args.output) or ends_in_slash
    if several and not into_folder and Path(args.output).suffix:
        what = "are several files" if len(args.input) > 1 else "is a pattern"
        what = "is a folder" if len(args.input) == 1 and is_folder(args.input[0]) else what
        raise UsageError(
            f"{' '.join(args.input[:3])} {what}, and OUTPUT {args.output} names one file.",
            "Many files are restored into a folder.",
            f"Write {args.output}/ if the folder is to have this name.",
        )
    return several or into_folder


def _restore_one(args: argparse.Namespace, settings: Settings) -> None:
    to_store = args.output.lower().endswith(".zarr")
    for name in _WORDS_OF_A_BATCH:
        if getattr(args, name) and not (name == "resume" and to_store):  # stores are always gone on with
            raise _of_batches(name)
    if args.jobs != 1:
        raise _of_batches("jobs")
    check_report(args.report)
    from napari_vae_repair.batch.job import Job
    from napari_vae_repair.settings import SCRATCH, STARTER

    names = ("output", "axes", "mask", "reference", "residual", "std", "report", "save_model", "dtype")
    job = Job(input=args.input[0], settings=settings, **{name: getattr(args, name) for name in names})
    model = None if settings.model in (STARTER, SCRATCH) else settings.model
    check_distinct((*job.read, model), job.written)
    if args.scheduler is not None:
        _check_for_cluster(job)
    from napari_vae_repair.batch.one import restore_one

    line = ProgressLine()

    def say(path: str) -> None:
        line.end()
        print(path, flush=True)

    try:
        restoration = restore_one(job, line.show, say, args.scheduler)
    finally:
        line.end()
    print(restoration.report.text(), file=sys.stderr)


def _check_for_cluster(job: Job) -> None:
    unfit = [path for path in job.written if not path.lower().endswith(".zarr")]
    unfit += [job.reference] if job.reference is not None else []
    if unfit:
        raise UsageError(
            f"--scheduler was given together with {unfit[0]}.",
            "A cluster writes stores (.zarr) for OUTPUT, --residual and --std, and nothing else.",
            "Give them names that end in .ome.zarr, and leave out --report, --reference and --save-model.",
        )


def _of_batches(name: str) -> UsageError:
    return UsageError(
        f"--{name} was given for a single file.",
        "It belongs to a batch: several inputs, a folder or a pattern.",
        "Leave it out, or let OUTPUT end in a slash for a folder.",
    )


def _restore_many(args: argparse.Namespace, settings: Settings) -> None:
    from napari_vae_repair.batch import restore_files
    from napari_vae_repair.commands.batch_line import BatchLine, FilesFailed

    line = BatchLine()
    names = ("suffix", "format", "axes", "mask", "reference", "residual", "std", "report", "save_model", "dtype")
    try:
        rows = restore_files(
            args.input,
            args.output,
            settings,
            jobs=args.jobs,
            resume=args.resume,
            overwrite=args.overwrite,
            on_progress=line.show,
            on_listed=line.left_out,
            **{name: getattr(args, name) for name in names},
        )
    except (KeyboardInterrupt, Terminated):
        line.end()
        tell("stopped", f"{line.state()} The same command with --resume goes on.")
        raise
    finally:
        line.end()
    tell("done", f"{line.state()} The table is {Path(args.output) / 'results.csv'}.")
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        raise FilesFailed(failed, len(rows))
