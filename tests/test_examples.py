"""The examples run as they are, and write or show what they promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_headless_script_writes_what_other_programs_read(tmp_path: Path) -> None:
    arguments = [sys.executable, str(EXAMPLES / "headless.py"), "--samples", "2"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "photo.tif: Restored in" in done.stdout
    restored, std = (np.asarray(Image.open(tmp_path / f"restored/photo.{kind}.tif")) for kind in ("restored", "std"))
    assert restored.shape == std.shape == (192, 192)
    assert restored.std() > 20
    assert std.min() > 0
    assert "<html" in (tmp_path / "restored/photo.html").read_text()


def test_the_headless_script_restores_a_folder_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).normal(100, 10, (48, 64)).astype(np.float32)
    Image.fromarray(noise).save(tmp_path / "in/mine.tif")
    arguments = [sys.executable, str(EXAMPLES / "headless.py"), "in", "out", "--samples", "2"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    restored = np.asarray(Image.open(tmp_path / "out/mine.restored.tif"))
    assert restored.std() < noise.std() / 3


def test_the_notebook_runs_and_shows_its_pictures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    matplotlib.use("agg", force=True)
    shown: list[int] = []

    def show() -> None:
        shown.extend(plt.get_fignums())
        plt.close("all")

    monkeypatch.setattr(plt, "show", show)
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    scope: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), scope)
    printed = capsys.readouterr().out
    assert len(shown) == 3
    assert "noise estimated" in printed
    assert "good" in printed
    assert scope["comparison"].rows[0].psnr is not None
    errors = [np.square(scope["truth"] - image).mean() for image in (scope["result"].restored, scope["noisy"])]
    assert errors[0] < errors[1] / 4


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    assert len({cell["id"] for cell in cells}) == len(cells)
