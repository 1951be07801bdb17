"""What the shell commands show on stderr while they run: progress, warnings, errors."""

from __future__ import annotations

import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from napari_vae_repair.errors import RepairWarning

if TYPE_CHECKING:
    from napari_vae_repair.pipeline import Progress

PROGRAM = "vae-repair"
PHASES = {
    "prepare": "preparing",
    "train": "training",
    "first": "restoring",
    "adapt": "adapting",
    "restore": "restoring",
    "write": "finishing the store",
    "report": "measuring",
}
_LINE_EVERY = 0.1  # share of a phase after which a log gets another line


def tell(kind: str, text: str) -> None:
    """Write one message to stderr, as in ``vae-repair: error: ...``."""
    print(f"{PROGRAM}: {kind}: {text}", file=sys.stderr, flush=True)


class Terminated(BaseException):
    """SIGTERM came; like KeyboardInterrupt no `Exception`, so that nothing but cleaning up happens on its way."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within the block SIGTERM raises `Terminated`, where it would end the process with files half-written."""
    if threading.current_thread() is not threading.main_thread():  # only there signals can be handled
        yield
        return

    def stop(*_: object) -> None:
        raise Terminated

    usual = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


@contextmanager
def told_warnings() -> Iterator[None]:
    """Within the block every `RepairWarning` is one line on stderr instead of a line of source code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RepairWarning)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, RepairWarning):
                tell("warning", str(message))
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


class ProgressLine:
    """The progress of a restoration with the time that its phase still takes.

    On a terminal one line that is rewritten; in a log file a line about every tenth of a phase.

    Parameters
    ----------
    stream : text file or None
        None = stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._rewrites = self._stream.isatty()
        self._phase = ""
        self._started = 0.0
        self._next_share = 0.0
        self._width = 0

    def show(self, progress: Progress) -> None:
        """Show one step."""
        if progress.phase != self._phase:
            self.end()
            self._phase, self._started, self._next_share = progress.phase, time.monotonic(), 0.0
        share = progress.done / progress.total if progress.total else 1.0
        if self._rewrites:
            text = self._text(progress, share)
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        elif share >= self._next_share or share >= 1:
            if self._next_share > 1:  # the end of the phase is written already
                return
            self._stream.write(self._text(progress, share) + "\n")
            self._next_share = 2.0 if share >= 1 else min(1.0, share + _LINE_EVERY)
        self._stream.flush()

    def end(self) -> None:
        """Leave the rewritten line, so that the next message begins on its own."""
        if self._rewrites and self._width:
            self._stream.write("\n")
            self._stream.flush()
        self._width = 0

    def _text(self, progress: Progress, share: float) -> str:
        text = f"{PHASES.get(progress.phase, progress.phase)} {100 * share:3.0f} %"
        if progress.losses is not None:
            text += f"  loss {progress.losses.loss:.3f}"
        elapsed = time.monotonic() - self._started
        if 0 < share < 1 and elapsed > 1:
            text += f"  {clock(elapsed * (1 - share) / share)} left"
        return text


def clock(seconds: float) -> str:
    """Seconds as minutes:seconds, or hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
