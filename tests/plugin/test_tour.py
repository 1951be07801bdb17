"""The tour of the documentation: the real widget through all that it does, in a process of its own."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.gui

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = [
    *(f"{moment}-dark" for moment in ("before", "during", "after")),
    *("queue", "split", "trust", "trust-plots", "uncertainty", "compare", "preview", "damage", "repaired", "models"),
]
FEWEST_COLOURS = 60
SIZE = (1000, 800)


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a quick tour has filled."""
    folder = tmp_path_factory.mktemp("tour")
    home = {"HOME": str(folder / "home"), "XDG_CONFIG_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(DOCS / "tour.py"), "--quick", "--theme", "dark", "--size", "x".join(map(str, SIZE))]
    command += ["--to", str(folder), "--files", str(folder / "files")]
    done = subprocess.run(command, env=os.environ | home, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_shows_something(toured: Path, name: str) -> None:
    with Image.open(toured / f"{name}.png") as picture:
        assert picture.width >= SIZE[0]
        assert len(picture.getcolors()) > FEWEST_COLOURS


def test_the_trust_report_is_a_page_with_figures(toured: Path) -> None:
    tags: list[str] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    reader.feed((toured / "files/trust.html").read_text())
    assert tags[0] == "html"
    assert {"img", "svg"} & set(tags)


def test_the_table_of_labels_is_read_by_another_library(toured: Path) -> None:
    with (toured / "files/cells.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["label"] for row in rows] == ["1", "2", "3"]
    assert all(float(row["low_90"]) < float(row["mean"]) < float(row["high_90"]) for row in rows)


def test_the_restored_file_is_read_by_another_library(toured: Path) -> None:
    with Image.open(toured / "files/micrograph.restored.ome.tif") as file:
        assert file.n_frames == 2  # restored and residual
        restored = np.asarray(file).astype(float)
        file.seek(1)
        residual = np.asarray(file).astype(float)
    assert restored.shape == residual.shape
    assert restored.min() > 50  # the offset of the camera
    assert abs(residual.mean()) < residual.std() / 10


def test_no_settings_of_the_user_are_written(toured: Path) -> None:
    assert not list((toured / "home").rglob("*.yaml"))


def test_all_pictures_of_the_pages_are_there() -> None:
    shown = {
        line.rpartition("(")[2].rstrip(")")
        for page in DOCS.glob("*.md")
        for line in page.read_text().splitlines()
        if line.startswith("![")
    }
    assert len(shown) > 8
    assert all((DOCS / path).is_file() for path in shown)
