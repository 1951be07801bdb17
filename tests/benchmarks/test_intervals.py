"""The calibration figure's parts: levels mean what they say, and the table and figure are written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from benchmarks import intervals, labels, report
from benchmarks.data import Case


def perfectly_calibrated(noisy: np.ndarray, **_: Any) -> SimpleNamespace:
    """As if the noisy image were restored, with errors of just this standard deviation."""
    normal = {"report": SimpleNamespace(samples=16), "model": SimpleNamespace(calibration=None)}
    return SimpleNamespace(restored=noisy, std=np.full(noisy.shape, 0.1), **normal)


def test_right_intervals_cover_their_level_in_every_third(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 10, (300, 300))
    monkeypatch.setattr(intervals, "restore", perfectly_calibrated)
    rows = intervals.covered(Case("w2s", "x", truth + rng.normal(0, 0.1, truth.shape), truth, None))
    assert [row["third"] for row in rows] == list(intervals.THIRDS)
    for row in rows:
        for level in intervals.LEVELS:
            assert row[f"{level} %"] == pytest.approx(level, abs=1.5)
    assert [line["within 5 points"] for line in intervals.medians(rows)] == ["yes"] * 4
    narrow = [row | {f"{level} %": level - 6.0 for level in intervals.LEVELS} for row in rows]
    assert [line["off by"] for line in intervals.medians(narrow)] == ["-6.0"] * 4
    assert [line["within 5 points"] for line in intervals.medians(narrow)] == ["no"] * 4


def test_one_small_image_goes_all_the_way(photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = photo[:64, :64] / 1000
    noisy = (clean + np.random.default_rng(0).normal(0, 0.05, clean.shape)).astype(np.float32)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    intervals.write(intervals.covered(Case("fmd", "photo", noisy, clean, None)))
    text = (tmp_path / "intervals.md").read_text()
    assert "3 thirds of 1 images" in text
    assert len((tmp_path / "intervals.csv").read_text().splitlines()) == 4
    assert imread(tmp_path / "intervals.png").std() > 0.05


def test_labels_of_a_reference_are_measured(photo: np.ndarray) -> None:
    clean = photo[:64, :64] / 1000
    noisy = (clean + np.random.default_rng(0).normal(0, 0.05, clean.shape)).astype(np.float32)
    row = labels.measured(Case("fmd", "photo", noisy, clean, None))
    assert row["labels"] == sum(np.bincount(labels.basins(clean).ravel())[1:] >= labels.FEWEST_PX) > 2
    assert row["held"] >= 50
