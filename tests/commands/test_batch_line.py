"""What a batch shows: one line on a terminal, a line for each file in a log, results on stdout."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from napari_vae_repair.batch import BatchProgress, Row
from napari_vae_repair.commands.batch_line import BatchLine, FilesFailed

DONE = Row("in/a.tif", "out/a.tif", "done", 1.25)
FAILED = Row("in/b.tif", "out/b.tif", "failed", error="It is no image.")
RUN = (
    BatchProgress(0, 3, 0, None, "in/a.tif", "prepare", 1.0),
    BatchProgress(0, 3, 0, None, "in/a.tif", "restore", 0.5),
    BatchProgress(1, 3, 0, DONE),
    BatchProgress(2, 3, 1, FAILED),
    BatchProgress(3, 3, 1, Row("in/c.tif", "out/c.tif", "skipped", 2.0)),
)


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown_on(stream: io.StringIO) -> BatchLine:
    line = BatchLine(stream)
    for progress in RUN:
        line.show(progress)
    line.end()
    return line


def test_a_log_gets_a_line_for_each_file(capsys: pytest.CaptureFixture[str]) -> None:
    log = io.StringIO()
    line = shown_on(log)
    assert log.getvalue().splitlines() == [
        "done 1 of 3: in/a.tif: out/a.tif (1.2 s)",
        "failed 2 of 3: in/b.tif: It is no image.",
        "skipped 3 of 3: in/c.tif: out/c.tif (2.0 s)",
    ]
    assert capsys.readouterr().out == "out/a.tif\n"
    assert line.state() == "1 of 3 files restored, 1 were done already, 1 failed."


def test_a_terminal_gets_one_line_and_the_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("time.monotonic", iter(range(0, 1000, 10)).__next__)
    shown_on(terminal)
    text = terminal.getvalue()
    assert "file 1 of 3: a.tif, restoring 50 %, 1:40 left for all" in text
    assert text.count("\n") == 1
    assert "failed 2 of 3: in/b.tif: It is no image.\n" in text
    assert text.endswith("\r")


def test_failures_are_named_up_to_a_number() -> None:
    error = FilesFailed([FAILED] * 25, 30)
    assert str(error).count("in/b.tif: It is no image.") == 20
    assert "and 5 more" in str(error)
    assert "--resume" in str(error)


def test_what_is_left_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    BatchLine().left_out([Path("a.tif")])
    assert "left out as results of vae-repair: a.tif (1)" in capsys.readouterr().err
