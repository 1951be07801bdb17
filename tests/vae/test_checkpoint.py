"""What is saved comes back; what is no model says so."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from napari_vae_repair import load_model
from napari_vae_repair.errors import ModelFileError
from napari_vae_repair.pipeline import restore
from napari_vae_repair.vae import checkpoint
from napari_vae_repair.vae.checkpoint import read_header, save_model
from napari_vae_repair.vae.record import Model


@pytest.fixture
def saved(model: Model, tmp_path: Path) -> Path:
    return save_model(model, tmp_path / "model.safetensors")


def test_a_loaded_model_restores_identically(noisy: np.ndarray, model: Model, saved: Path) -> None:
    a, b = restore(noisy, model=model), restore(noisy, model=str(saved))
    assert np.array_equal(a.restored, b.restored)
    assert np.array_equal(a.std, b.std)


def test_everything_but_the_weights_comes_back_too(model: Model, saved: Path) -> None:
    loaded = load_model(saved)
    for name in ("settings", "value_range", "noise", "training"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.chains == model.chains


def test_the_header_is_read_without_torch(saved: Path) -> None:
    code = (
        "import sys; from napari_vae_repair.vae.checkpoint import read_header; "
        f"print(read_header({str(saved)!r})['format_version'], 'torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["2", "False"]


def rewritten(saved: Path, **changes: object) -> Path:
    """The model with its header changed."""
    header = read_header(saved) | changes
    state = load_model(saved).network.state_dict()
    save_file(dict(state), saved, metadata={"napari_vae_repair": json.dumps(header)})
    return saved


BROKEN = {
    "missing": (lambda path: path.unlink(), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "no model of this package"),
    "text": (lambda path: path.write_text("hello world, this is no model"), "no model of this package"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "damaged"),
    "cut within the header": (lambda path: path.write_bytes(path.read_bytes()[:100]), "no model of this package"),
    "huge header": (lambda path: path.write_bytes(b"\xff" * 8 + b"{}"), "no model of this package"),
    "pickle": (lambda path: path.write_bytes(b"\x80\x04\x95" + b"a" * 50), "no model of this package"),
    "of another program": (
        lambda path: save_file({"a": load_model(path).network.top}, path),
        "no model of this package",
    ),
    "of a later format": (lambda path: rewritten(path, format_version=99), "pip install -U"),
    "of no version": (lambda path: rewritten(path, format_version="x"), "format version x"),
    "unknown setting": (lambda path: rewritten(path, settings={"colour": 1}), "damaged"),
    "other channels": (lambda path: rewritten(path, channels=3), "damaged"),
    "no chains": (lambda path: rewritten(path, chains=None), "damaged"),
    "no training": (lambda path: rewritten(path, training=3), "damaged"),
    "wrong range": (lambda path: rewritten(path, value_range=["a", "b"]), "damaged"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_no_model_says_so(saved: Path, kind: str) -> None:
    spoil, message = BROKEN[kind]
    spoil(saved)
    with pytest.raises(ModelFileError, match=message):
        load_model(saved)


def test_weights_that_are_not_finite_are_refused(saved: Path) -> None:
    state = {name: value.clone() for name, value in load_model(saved).network.state_dict().items()}
    state["top"][:] = float("nan")
    save_file(state, saved, metadata={"napari_vae_repair": json.dumps(read_header(saved))})
    with pytest.raises(ModelFileError, match="not finite"):
        load_model(saved)


def test_a_full_disk_leaves_the_earlier_model(saved: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelFileError, match="No space left"):
        save_model(replace(model, training={}), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_nothing_is_pickled() -> None:
    assert "pickle" not in Path(checkpoint.__file__).read_text().replace("no pickle", "")
