"""What a batch shows on stderr: a line that is rewritten on a terminal, a line for each file in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from napari_vae_repair.errors import VaeRepairError
from napari_vae_repair.terminal import PHASES, PROGRAM, clock, tell

if TYPE_CHECKING:
    from napari_vae_repair.batch import BatchProgress, Row

_SHOWN = 20  # failures that are named


class FilesFailed(VaeRepairError):
    """Some files of a batch could not be restored."""

    def __init__(self, failed: Sequence[Row], total: int) -> None:
        named = "".join(f"\n  {row.input}: {row.error}" for row in failed[:_SHOWN])
        more = f"\n  and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        super().__init__(
            f"{len(failed)} of {total} files failed:{named}{more}\n",
            "The others are done, and the table names all.",
            "Once the cause is gone, the same command with --resume restores what is missing.",
        )


class BatchLine:
    """Progress over files and within a file, with the time that all of them still take.

    Finished files are named on stdout by the path of their result, so that other programs can read them.

    Parameters
    ----------
    stream : text file or None
        None = stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._rewrites = self._stream.isatty()
        self._started = time.monotonic()
        self._width = 0
        self._shares: dict[str, float] = {}
        self._counts = {"done": 0, "skipped": 0, "failed": 0}
        self._total = 0

    def left_out(self, ours: Sequence[Path]) -> None:
        """Tell which files were taken for results of earlier runs."""
        if ours:
            named = ", ".join(str(path) for path in ours[:3]) + (", ..." if len(ours) > 3 else "")
            tell("note", f"left out as results of {PROGRAM}: {named} ({len(ours)}); name a file to restore it again")

    def show(self, progress: BatchProgress) -> None:
        """Show one step, or one file that is finished."""
        self._total = progress.total
        if progress.row is not None:
            self._finished(progress, progress.row)
        else:
            self._shares[progress.name] = progress.share if progress.phase == "restore" else 0.0
            if self._rewrites:
                phase = PHASES.get(progress.phase, progress.phase)
                self._rewrite(
                    f"file {progress.done + 1} of {progress.total}: {Path(progress.name).name}, "
                    f"{phase} {100 * progress.share:.0f} %{self._left()}"
                )

    def _finished(self, progress: BatchProgress, row: Row) -> None:
        self._counts[row.status] += 1
        self._shares.pop(row.input, None)
        self.end()
        what = row.error if row.status == "failed" else f"{row.output} ({row.seconds:.1f} s)"
        if row.status == "failed" or not self._rewrites:
            self._stream.write(f"{row.status} {progress.done} of {progress.total}: {row.input}: {what}\n")
            self._stream.flush()
        if row.status == "done":
            print(row.output, flush=True)
        if self._rewrites and progress.done < progress.total:
            self._rewrite(f"{progress.done} of {progress.total} files{self._left()}")

    def state(self) -> str:
        """How many files are done, as a sentence."""
        done, skipped, failed = self._counts.values()
        parts = [f"{done} of {self._total} files restored"]
        parts += [f"{skipped} were done already"] * bool(skipped) + [f"{failed} failed"] * bool(failed)
        return ", ".join(parts) + "."

    def end(self) -> None:
        """Leave the rewritten line, so that the next message begins on its own."""
        if self._rewrites and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
        self._width = 0

    def _rewrite(self, text: str) -> None:
        self._stream.write("\r" + text.ljust(self._width))
        self._width = len(text)
        self._stream.flush()

    def _left(self) -> str:
        worked = self._counts["done"] + self._counts["failed"] + sum(self._shares.values())
        rest = self._total - self._counts["skipped"] - worked
        elapsed = time.monotonic() - self._started
        return f", {clock(elapsed * rest / worked)} left for all" if worked > 0 and elapsed > 1 else ""
