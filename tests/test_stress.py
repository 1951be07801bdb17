"""The stress runs fail when their time was too short for what was asked for."""

from __future__ import annotations

from collections import Counter

import pytest

from stress import fuzz, kills


def test_fewer_files_than_asked_for_are_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--count", "3", "--seconds", "0"]) == 1
    assert "NOT ENOUGH: 0 of 3 files in 0 s" in capsys.readouterr().out


@pytest.mark.parametrize(("done", "code"), [(2, 1), (3, 0)])
def test_fewer_kills_than_asked_for_are_a_failure(
    done: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = kills.Tally(Counter({("batch", "SIGKILL"): done}))
    monkeypatch.setattr(kills, "kill_runs", lambda *_: tally)  # undisturbed runs alone take half a minute
    assert kills.main(["--kills", "3", "--seconds", "9"]) == code
    assert ("NOT ENOUGH: 2 of 3 kills in 9 s" in capsys.readouterr().out) is bool(code)
