"""A model file comes from anyone: what it claims is checked before anything of that size is made."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from napari_vae_repair.errors import ModelFileError
from napari_vae_repair.model_store import ModelStore
from napari_vae_repair.vae.checkpoint import load_model, read_header
from stress.peak import forget_peak, peak_bytes

MODEL = Path(__file__).parents[1] / "data" / "model-v2.safetensors"
DEEP = "[" * 100_000 + "]" * 100_000


def rewritten(path: Path, header: dict[str, Any] | str, tensors: dict[str, np.ndarray] | None = None) -> None:
    """The model with another header of ours, or other weights."""
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(load_file(MODEL) if tensors is None else tensors, path, metadata={"napari_vae_repair": text})


def change(**changes: Any) -> Callable[[Path], None]:
    return lambda path: rewritten(path, read_header(MODEL) | changes)


def change_training(**changes: Any) -> Callable[[Path], None]:
    return lambda path: rewritten(path, read_header(MODEL) | {"training": read_header(MODEL)["training"] | changes})


def change_noise(**changes: Any) -> Callable[[Path], None]:
    return lambda path: rewritten(path, read_header(MODEL) | {"noise": [read_header(MODEL)["noise"][0] | changes]})


def change_network(**changes: Any) -> Callable[[Path], None]:
    settings = read_header(MODEL)["settings"]
    return change(settings=settings | {"network": settings["network"] | changes})


def with_outer(path: Path, outer: str) -> None:
    """A safetensors file of that header and no tensors."""
    content = outer.encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content)


def with_tensor(shape: tuple[int, ...], dtype: str = "F32") -> Callable[[Path], None]:
    """A header whose first tensor claims a shape."""

    def spoil(path: Path) -> None:
        content = MODEL.read_bytes()
        size = struct.unpack("<Q", content[:8])[0]
        outer = json.loads(content[8 : 8 + size])
        name = next(name for name in outer if name != "__metadata__")
        outer[name] |= {"shape": list(shape), "dtype": dtype}
        changed = json.dumps(outer).encode()
        path.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + size :])

    return spoil


def replaced(old: str, new: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        text = json.dumps(read_header(MODEL))
        assert old in text
        rewritten(path, text.replace(old, new, 1))

    return spoil


def without_a_tensor(path: Path) -> None:
    tensors = load_file(MODEL)
    tensors.pop("top")
    rewritten(path, read_header(MODEL), tensors)


def nested(depth: int) -> dict[str, Any]:
    record: dict[str, Any] = {"accepted": True, "steps": 1, "gained_db": 0.1}
    for _ in range(depth):
        record = {"accepted": True, "steps": 1, "gained_db": 0.1, "before": record}
    return record


HOSTILE: dict[str, Callable[[Path], None]] = {
    "deep outer header": lambda path: with_outer(path, DEEP),
    "deep inner header": lambda path: rewritten(path, DEEP),
    "a list for a header": lambda path: with_outer(path, "[1, 2]"),
    "a number for a header": lambda path: rewritten(path, "7"),
    "digits without end": replaced('"channels": 1', f'"channels": {"9" * 100_000}'),
    "a key twice": replaced('"channels": 1', '"channels": 1, "channels": 3'),
    "a key twice, inside": replaced('"epochs": 6', '"epochs": 6, "epochs": 7'),
    "header longer than the file": lambda path: path.write_bytes(struct.pack("<Q", 2**23) + b"{}"),
    "header of 2**63 bytes": lambda path: path.write_bytes(struct.pack("<Q", 2**63) + b"{}"),
    "version true": change(format_version=True),
    "version 0": change(format_version=0),
    "version nan": change(format_version=float("nan")),
    "a billion channels": change(channels=10**9),
    "channels true": change(channels=True),
    "channels as text": change(channels="3"),
    "channels as a list": change(channels=[1]),
    "network of 100 GB": change_network(widths=(1024,) * 6, latents=(1024,) * 6, blocks=8, deeper=1024),
    "network of no level": change_network(widths=(), latents=()),
    "network of text": change_network(widths="wide"),
    "settings as a list": change(settings=[1]),
    "settings with odd names": change(settings={"__class__": 1}),
    "range nan": change(value_range=[float("nan"), 1.0]),
    "range endless": change(value_range=[0.0, float("inf")]),
    "range empty": change(value_range=[1.0, 1.0]),
    "range of three": change(value_range=[0.0, 1.0, 2.0]),
    "range true": change(value_range=[False, True]),
    "noise as text": change_noise(gain="much"),
    "noise nan": change_noise(read_noise=float("nan")),
    "noise too large for a float": replaced('"gain": 0.0', f'"gain": {"9" * 400}'),
    "noise with another attribute": change_noise(__class__="x"),
    "noise of three directions": change_noise(correlation=[0, 0, 0]),
    "noise graded oddly": change_noise(grades=[{"quantity": "strength", "grade": "great", "reason": ""}]),
    "noise as a number": change(noise=7),
    "calibration nan": change(calibration={"spread": [float("nan")], "error": [1.0]}),
    "calibration falling": change(calibration={"spread": [2.0, 1.0], "error": [1.0, 2.0]}),
    "calibration as a list": change(calibration=[1]),
    "chains of numbers": change(chains=[1]),
    "divergences of text": change_training(kl=["a"]),
    "divergences as a number": change_training(kl=3),
    "images as text": change_training(trained_on="me"),
    "an image without a name": change_training(trained_on=[{}]),
    "an image of a long name": change_training(trained_on=[{"name": "x" * 10**6}]),
    "adapting as a list": change_training(adapted=[1]),
    "adapting that may be": change_training(adapted={"accepted": "maybe", "steps": 1, "gained_db": 0}),
    "adapting of endless steps": change_training(adapted={"accepted": True, "steps": float("inf"), "gained_db": 0}),
    "adapted again and again": change_training(adapted=nested(500)),
    "a tensor of absurd shape": with_tensor((2**31, 2**31)),
    "a tensor whose size wraps around": with_tensor((2**32, 2**32, 4)),
    "a tensor of a negative side": with_tensor((-1, 2)),
    "a tensor of another type": with_tensor((2, 4), "F64"),
    "a tensor of no type": with_tensor((2, 4), "EXEC"),
    "a tensor too few": without_a_tensor,
    "a tensor too many": lambda path: rewritten(path, read_header(MODEL), load_file(MODEL) | {"more": np.ones(3)}),
    "wide weights": lambda path: rewritten(
        path, read_header(MODEL), {name: value.astype(np.float64) for name, value in load_file(MODEL).items()}
    ),
}


def test_the_model_that_the_others_are_made_of_is_read(tmp_path: Path) -> None:
    rewritten(tmp_path / "model.safetensors", read_header(MODEL))
    assert load_model(tmp_path / "model.safetensors").network.channels == 1


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_model_is_refused_at_once_and_in_little_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    HOSTILE[kind](path)
    before, started = forget_peak(), time.process_time()
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert len(str(caught.value)) < 2000
    assert time.process_time() - started < 2
    assert peak_bytes() - before < 100 * 2**20 or sys.platform != "linux"


def test_the_store_lists_hostile_models_with_their_problems(tmp_path: Path) -> None:
    for number, spoil in enumerate(HOSTILE.values()):
        spoil(tmp_path / f"{number}.safetensors")
    entries = ModelStore(tmp_path).entries()
    assert len(entries) == len(HOSTILE)
    assert all(len(entry.problem) < 2000 for entry in entries)


@pytest.mark.parametrize(
    "name", ["../../x", "..", ".hidden", "a/b", "a\\b", "/etc/x", "C:x", "a\x00b", "a\nb", "", " "]
)
def test_the_store_keeps_to_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "models"
    store = ModelStore(folder)
    with pytest.raises(ModelFileError, match="cannot be called"):
        store.add_file(MODEL, name)
    path = store.add_file(MODEL, "mine")
    for change_one in (lambda: store.rename("mine", name), lambda: store.delete(name)):
        with pytest.raises(ModelFileError, match="cannot be called"):
            change_one()
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
