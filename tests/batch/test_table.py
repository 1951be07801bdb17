"""The table of a batch: text of others is shown as text, whatever it begins with and whatever bytes it has."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from napari_vae_repair.batch.job import Row
from napari_vae_repair.batch.table import write_table


def written(row: Row, folder: Path) -> tuple[dict[str, str], dict[str, object]]:
    """The row as it stands in both files."""
    write_table([row], folder)
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        cells = next(csv.DictReader(file))
    return cells, json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"][0]


def shown(text: str) -> str:
    return "'" + text.replace("\r", "\\r")


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_no_text_is_a_formula_to_a_spreadsheet(tmp_path: Path, begin: str) -> None:
    texts = {name: f"{begin}cmd|' /C calc'!A0 {name}" for name in ("input", "output", "error", "device")}
    row = Row(**texts, status="failed", notes=(f"{begin}1", "b"), residual_correlation=(-0.1, 0.2))
    cells, saved = written(row, tmp_path)
    assert {name: cells[name] for name in texts} == {name: shown(text) for name, text in texts.items()}
    assert cells["notes"] == shown(f"{begin}1; b")
    assert cells["residual_correlation_x"] == "-0.1"
    assert {name: saved[name] for name in texts} == texts


def test_bytes_that_are_no_utf_8_are_written_out(tmp_path: Path) -> None:
    cells, saved = written(Row("in/\udcff.tif", "out/\xe9.tif", error="\udcff.tif cannot be read."), tmp_path)
    assert (cells["input"], cells["output"]) == ("in/\\udcff.tif", "out/\xe9.tif")
    assert cells["error"] == "\\udcff.tif cannot be read."
    assert saved["input"] == "in/\udcff.tif"
