"""Importing the package costs next to nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest

import napari_vae_repair


def seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def test_import_costs_under_50_ms_beyond_an_empty_interpreter() -> None:
    pairs = [(seconds("import napari_vae_repair"), seconds("pass")) for _ in range(7)]
    assert statistics.median(a - b for a, b in pairs) < 0.05


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import napari_vae_repair; dir(napari_vae_repair);"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "skimage", "pydantic", "napari", "qtpy"} & set(loaded)


@pytest.mark.parametrize("name", napari_vae_repair.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(napari_vae_repair, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="restor"):
        napari_vae_repair.restor  # noqa: B018
