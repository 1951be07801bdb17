"""Changed files through every reader: they are read or refused, and nothing else happens.

Bounded and always the same here; `python -m stress.fuzz` reads thousands, in processes with limits.
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stress.fuzz import judge, run
from stress.mutations import mutate
from stress.reading import read_every_way
from stress.seeds import SEEDS
from tests.fuzz.cases import CASES

pytestmark = pytest.mark.filterwarnings("ignore")  # decoders warn of what they then refuse
KINDS = {
    "tiff": [name for name in SEEDS if name.endswith(".tif")],
    "picture": [name for name in SEEDS if name.endswith((".png", ".jpg", ".bmp"))],
    "model": [name for name in SEEDS if name.endswith(".safetensors")],
    "store": [name for name in SEEDS if name.endswith(".zarr")],
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    for name, make in SEEDS.items():
        make(folder / name)
    return folder


def fuzzed(kind: str, examples: int, seeds: Path, folder: Path) -> None:
    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=10_000,
        suppress_health_check=list(HealthCheck),
    )
    @given(name=st.sampled_from(KINDS[kind]), rng=st.randoms(use_true_random=False))
    def only_our_errors_come_out(name: str, rng: random.Random) -> None:
        target = folder / f"case.{name}"
        if target.is_dir():
            shutil.rmtree(target)
        mutate(seeds / name, target, rng)
        read_every_way(target)

    only_our_errors_come_out()


@pytest.mark.parametrize(("kind", "examples"), [("tiff", 150), ("picture", 80), ("model", 80), ("store", 40)])
def test_changed_files_are_read_or_refused(kind: str, examples: int, seeds: Path, tmp_path: Path) -> None:
    fuzzed(kind, examples, seeds, tmp_path)


@pytest.mark.parametrize("name", SEEDS)
def test_what_the_changed_files_are_made_of_is_read(name: str, seeds: Path) -> None:
    outcomes = read_every_way(seeds / name)
    assert outcomes["load_model" if name.endswith(".safetensors") else "read_image"] is None


@pytest.mark.parametrize("name", CASES)
def test_what_was_found_stays_mended(name: str, tmp_path: Path) -> None:
    file_name, make = CASES[name]
    make(tmp_path / file_name)
    started = time.process_time()
    outcome, details = judge(tmp_path / file_name)
    assert outcome in ("read", "refused"), details
    assert time.process_time() - started < 5


FAULTY = """
import os, time
import numpy as np
from pathlib import Path
marks = Path(__file__).with_name("marks")
def read_every_way(path):
    if path.parent.name == "seeds":
        return {"read_image": None, "load_model": None}
    number = len(marks.read_text()) if marks.exists() else 0
    marks.write_text("x" * (number + 1))
    if number == 1:
        raise KeyError("a")
    if number == 2:
        os.abort()
    if number == 3:
        time.sleep(60)
    if number == 4:
        np.ones(70 * 2**20).sum()
    return {"read_image": None, "load_model": None}
"""


def test_the_runner_sees_exceptions_crashes_hangs_and_full_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("stress.fuzz.TIMEOUT_S", 8.0)
    monkeypatch.setattr("stress.fuzz.KEPT", tmp_path / "kept")
    counts, faults = run(6, reader="faulty")
    assert [fault["outcome"] for fault in faults] == ["uncaught", "crash", "hang", "memory"]
    assert "KeyError" in faults[0]["details"]
    assert sum(counts.values()) == 6
    assert len(list((tmp_path / "kept").iterdir())) == 4
