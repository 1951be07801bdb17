"""`vae-repair train`: one model from many image files."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from napari_vae_repair.preflight import check_distinct, settings_from
from napari_vae_repair.terminal import PHASES, ProgressLine, Terminated, clock, tell

if TYPE_CHECKING:
    from napari_vae_repair.pipeline import Progress

DESCRIPTION = """\
Train one model on many image files, which need not fit into memory together.

  vae-repair train 'data/**/*.tif' --epochs 100 --save-model mine.safetensors
  vae-repair train data/ --validation data/day9/ --adapt 600 --save-model mine.safetensors

Each file keeps its own preprocessing and noise. Files for validation are never learned from, also where FILES names
them too; without any, blocks of all files are held out.

The state is kept in MODEL.checkpoint until the model is saved: after Ctrl-C, a crash or a lost machine the same command
goes on from it. Files that cannot be used end the command before it trains, unless --skip-bad leaves them out."""
EXIT_CODES = "exit code: 0 the model is saved, 1 failed, 2 bad usage, 130 stopped by Ctrl-C, 143 by SIGTERM"


def add_train(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `vae-repair train` its arguments."""
    parser.set_defaults(command=train)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXIT_CODES
    add = parser.add_argument
    add("files", nargs="+", metavar="FILES", help="image files, folders, and patterns between quotes")
    add("--save-model", required=True, metavar="P", help="the model, as .safetensors")
    add("--validation", nargs="+", default=[], metavar="P", help="files that only decide which weights are kept")
    add("--epochs", type=int, metavar="N", help="train a network from scratch for so long")
    add("--adapt", dest="adapt_seconds", type=float, metavar="SECONDS", help="adapt the starter for so long")
    add("--model", metavar="P", help="starter (the default), scratch, or a model that is adapted further")
    add("--preset", metavar="NAME", help="preprocessing: standard or classic")
    add("--chain", metavar="TEXT", help="preprocessing steps, as in 'float32, normalise(low=1)'")
    add("--axes", metavar="AXES", help="names of the axes of every file, as in ZYX; default: the files' own")
    add("--memory", metavar="SIZE", help="most memory for windows of the images, as in 2GB; default: 1GB or less")
    add("--device", metavar="D", help="auto, cpu, cuda, cuda:1 or mps")
    add("--seed", type=int, metavar="N", help="the same seed gives the same model")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="any setting, as in training.batch_size=4")
    add("--restart", action="store_true", help="begin anew, whatever the checkpoint holds")
    add("--checkpoint-every", type=float, default=60.0, metavar="SECONDS", help="between two checkpoints [60]")
    add("--skip-bad", action="store_true", help="leave out files that cannot be used, and tell them")


def train(args: argparse.Namespace) -> None:
    """Train, and save the model."""
    settings = settings_from(args)
    from napari_vae_repair.batch.listing import find_inputs
    from napari_vae_repair.errors import Cancelled
    from napari_vae_repair.image.atomic import check_writable
    from napari_vae_repair.settings import SCRATCH, STARTER

    place = Path(args.save_model)
    files, validation = (
        [found.path for found in find_inputs(given, place).found] if given else []
        for given in (args.files, args.validation)
    )
    model = [] if settings.model in (STARTER, SCRATCH) else [settings.model]
    check_distinct([*map(str, files), *map(str, validation), *model], [args.save_model])
    check_writable(place)
    from napari_vae_repair.file_training import checkpoint_of, train_files

    checkpoint = checkpoint_of(place)
    if checkpoint.exists() and not args.restart:
        tell("going on", f"from {checkpoint}")
    line = TrainingLine()
    with stopped_softly() as stop:
        steps = train_files(
            files,
            settings,
            validation=validation,
            save_to=place,
            resume=not args.restart,
            checkpoint_every_s=args.checkpoint_every,
            should_stop=lambda: stop.by is not None,
            axes=args.axes,
            skip_bad=args.skip_bad,
        )
        try:
            for progress in steps:
                line.show(progress)
        except Cancelled:
            line.end()
            if checkpoint.exists():
                print(checkpoint, flush=True)
                tell("stopped", "The same command goes on from this checkpoint; --restart begins anew.")
            raise Terminated if stop.by == signal.SIGTERM else KeyboardInterrupt from None
        finally:
            line.end()
    print(place, flush=True)


class Stop:
    """Which signal asked to stop; None = none did."""

    by: int | None = None


@contextmanager
def stopped_softly() -> Iterator[Stop]:
    """Within the block the first Ctrl-C or SIGTERM is only noted, so that a step can end; the second ends at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # only there signals can be handled
        yield stop
        return

    def note(number: int, _: object) -> None:
        if stop.by is not None:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        stop.by = number

    usual = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


class TrainingLine(ProgressLine):
    """The progress of a training: loss, KL, the last validation, and the time left since it was gone on with."""

    _validation: float | None = None
    _first: float | None = None  # share that was done before

    def _text(self, progress: Progress, share: float) -> str:
        text = f"{PHASES.get(progress.phase, progress.phase)} {100 * share:3.0f} %"
        losses = progress.losses
        if losses is None:
            return text
        self._first = share if self._first is None else self._first
        text += f"  loss {losses.loss:.3f}  KL {sum(losses.kl):.3f}"
        if self._validation is not None:
            text += f"  validation {self._validation:.3f}"
        elapsed = time.monotonic() - self._started
        if self._first < share < 1 and elapsed > 1:
            text += f"  {clock(elapsed * (1 - share) / (share - self._first))} left"
        return text

    def show(self, progress: Progress) -> None:
        """Show one step."""
        if progress.losses is not None and progress.losses.validation is not None:
            self._validation = progress.losses.validation
        super().show(progress)
