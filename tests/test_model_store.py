"""The folder of saved models: what it lists, and that nothing outside it is ever touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from napari_vae_repair.errors import ModelFileError
from napari_vae_repair.image.record import Image
from napari_vae_repair.model_store import VARIABLE, ModelStore
from napari_vae_repair.pipeline import restore
from napari_vae_repair.vae.checkpoint import load_model, save_model
from napari_vae_repair.vae.record import Model, trained_on
from napari_vae_repair.vae.starter import load_starter


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "my models")


def adapted(*accepted: bool) -> Model:
    """The starter with the records of adapting it time after time, 10 steps first, then 20, ..."""
    record: dict[str, object] | None = None
    for count, verdict in enumerate(accepted, start=1):
        before = {} if record is None else {"before": record}
        record = {"steps": 10 * count, "stopped_at": None, "accepted": verdict, "gained_db": 0.5} | before
    starter = load_starter().model
    return replace(starter, training=starter.training | {"adapted": record})


def images() -> tuple[Image, Image]:
    pixels = np.random.default_rng(0).normal(100, 10, (3, 16, 20))
    return Image(pixels.astype("uint16"), "ZYX", name="cells"), Image(pixels[0], "YX", name="nuclei ü")


# ---- what a model was trained on ---------------------------------------------------------------


def test_a_model_tells_the_images_it_was_trained_on(model: Model, tmp_path: Path) -> None:
    told = load_model(save_model(trained_on(model, images()), tmp_path / "m.safetensors")).training["trained_on"]
    assert [(entry["name"], entry["shape"], entry["axes"], entry["dtype"]) for entry in told] == [
        ("image", [97, 75], "YX", "float32"),  # on which `restore` trained it
        ("cells", [3, 16, 20], "ZYX", "uint16"),
        ("nuclei ü", [16, 20], "YX", "float64"),
    ]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(told[1]["date"])) < timedelta(minutes=1)
    assert [entry["name"] for entry in model.training["trained_on"]] == ["image"]


def test_the_images_of_a_warm_start_are_added_and_those_that_taught_nothing_are_not() -> None:
    first, second = images()
    once = trained_on(adapted(True), [first])
    again = trained_on(replace(once, training=once.training | adapted(True, True).training), [second])
    assert [entry["name"] for entry in again.training["trained_on"]] == ["cells", "nuclei ü"]
    assert trained_on(adapted(False), [first]) == adapted(False)


# ---- listing -----------------------------------------------------------------------------------


def test_an_absent_folder_lists_nothing_and_is_not_made(store: ModelStore) -> None:
    assert store.entries() == ()
    assert not store.folder.exists()


def test_entries_tell_what_the_headers_tell(store: ModelStore, model: Model) -> None:
    store.add(trained_on(model, images()), "my own")
    store.add(trained_on(adapted(True, False, True), images()[:1]), "Adapted")
    store.add(adapted(False), "the starter")
    (store.folder / "notes.txt").write_text("no model")
    (store.folder / ".hidden.safetensors").write_text("half a copy")
    first, own, starter = store.entries()
    assert (first.name, first.kind, first.trained_on) == ("Adapted", "adapted", ("cells",))
    assert (first.epochs, first.steps, first.colours) == (None, 40, None)
    assert (own.name, own.kind, own.trained_on, own.epochs) == (
        "my own",
        "scratch",
        ("image", "cells", "nuclei ü"),
        3,
    )
    assert (own.steps, own.colours) == (model.training["steps"], 1)
    assert (starter.kind, starter.trained_on, starter.steps) == ("starter", (), None)
    for entry in (first, own, starter):
        assert entry.problem == ""
        assert entry.size_bytes == entry.path.stat().st_size
        assert abs(datetime.now(UTC) - entry.date) < timedelta(minutes=1)


def broken_files(folder: Path, good: Path) -> dict[str, str]:
    """Each name with what its problem must tell."""
    content = good.read_bytes()
    header = json.dumps({"__metadata__": {"napari_vae_repair": '{"format": "napari-vae-repair model"}'}}).encode()
    versionless = len(header).to_bytes(8, "little") + header
    header = header.replace(b'model\\"}', b'model\\", \\"format_version\\": 2}')
    folder.joinpath("empty.safetensors").write_bytes(b"")
    folder.joinpath("truncated.safetensors").write_bytes(content[:-100])
    folder.joinpath("text.safetensors").write_text("I am no model, but I am longer than eight bytes.")
    folder.joinpath("versionless.safetensors").write_bytes(versionless)
    folder.joinpath("bare.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    folder.joinpath("gone.safetensors").symlink_to(folder / "nowhere")
    folder.joinpath("folder.safetensors").mkdir()
    return {
        "empty": "damaged",
        "truncated": "is damaged",
        "text": "no model of this package",
        "versionless": "format version None",
        "bare": "header does not tell",
        "gone": "cannot be read",
        "folder": "cannot be read",
    }


def test_broken_files_are_listed_with_the_reason_and_can_be_deleted(store: ModelStore, model: Model) -> None:
    good = store.add(model, "good")
    expected = broken_files(store.folder, good)
    found = {entry.name: entry for entry in store.entries()}
    assert set(found) == {"good", *expected}
    assert found["good"].problem == ""
    for name, reason in expected.items():
        assert reason in found[name].problem
    for name in expected.keys() - {"folder"}:
        store.delete(name)
    assert {entry.name for entry in store.entries()} == {"good", "folder"}
    with pytest.raises(ModelFileError, match="no model 'folder'"):
        store.delete("folder")


def test_listing_needs_no_torch(store: ModelStore, model: Model) -> None:
    store.add(model, "mine")
    code = (
        "import sys; from napari_vae_repair.model_store import ModelStore; "
        f"print(ModelStore({str(store.folder)!r}).entries()[0].kind, 'torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["scratch", "False"]


# ---- adding, renaming, deleting ----------------------------------------------------------------


def test_a_stored_model_restores_as_it_did(store: ModelStore, model: Model, noisy: np.ndarray) -> None:
    path = store.add(model, " my model ")
    assert path == store.path_of("my model") == store.folder / "my model.safetensors"
    assert np.array_equal(restore(noisy, model=path).restored, restore(noisy, model=model).restored)


def test_a_file_is_copied_once_its_header_is_read(store: ModelStore, model: Model, tmp_path: Path) -> None:
    file = save_model(model, tmp_path / "from a colleague.safetensors")
    store.add_file(file)
    copy = store.add_file(file, "renamed")
    assert copy.read_bytes() == file.read_bytes()
    assert [entry.name for entry in store.entries()] == ["from a colleague", "renamed"]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="damaged"):
        store.add_file(file, "third")
    with pytest.raises(ModelFileError, match="cannot be read"):
        store.add_file(tmp_path / "nowhere.safetensors")
    assert len(store.entries()) == 2


def test_nothing_is_overwritten(store: ModelStore, model: Model, tmp_path: Path) -> None:
    file = save_model(model, tmp_path / "a.safetensors")
    content = store.add(model, "a").read_bytes()
    store.add(model, "b")
    for take in (
        lambda: store.add(load_starter().model, "a"),
        lambda: store.add_file(file),
        lambda: store.rename("b", "a"),
    ):
        with pytest.raises(ModelFileError, match="There is a model 'a' already"):
            take()
    assert store.path_of("a").read_bytes() == content


def test_renaming_moves_the_file(store: ModelStore, model: Model) -> None:
    content = store.add(model, "a").read_bytes()
    path = store.rename("a", " b ")
    assert path == store.rename("b", "b") == store.path_of("b")
    assert path.read_bytes() == content
    with pytest.raises(ModelFileError, match="no model 'a'.*there are: b"):
        store.path_of("a")


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "../out", "/etc/out", "..\\out", "a/b", "C:\\a", "c:a", "a\0b", ".hidden", "x" * 81]
)
def test_names_that_lead_elsewhere_are_refused(store: ModelStore, model: Model, name: str, tmp_path: Path) -> None:
    outside = save_model(model, tmp_path / "out.safetensors")
    store.add(model, "in")
    for do in (
        lambda: store.add(model, name),
        lambda: store.add_file(outside, name),
        lambda: store.rename("in", name),
        lambda: store.rename(name, "new"),
        lambda: store.delete(name),
        lambda: store.path_of(name),
    ):
        with pytest.raises(ModelFileError, match="A model cannot be called"):
            do()
    assert outside.exists()
    assert [path.name for path in store.folder.iterdir()] == ["in.safetensors"]


def test_deleting_a_link_leaves_what_it_leads_to(store: ModelStore, model: Model, tmp_path: Path) -> None:
    outside = save_model(model, tmp_path / "out.safetensors")
    store.folder.mkdir()
    (store.folder / "link.safetensors").symlink_to(outside)
    assert store.entries()[0].problem == ""
    store.delete("link")
    assert store.entries() == ()
    assert outside.exists()


def test_a_folder_that_cannot_be_made_is_told(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = ModelStore(tmp_path / "file" / "models")
    with pytest.raises(ModelFileError, match=f"cannot be made.*{VARIABLE}"):
        store.add(model, "mine")
    with pytest.raises(ModelFileError, match="cannot be read"):
        ModelStore(tmp_path / "file").entries()


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert ModelStore().folder == tmp_path
    assert ModelStore(tmp_path / "given").folder == tmp_path / "given"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if os.name == "posix" and sys.platform != "darwin":
        assert ModelStore().folder == tmp_path / "data" / "napari-vae-repair" / "models"
    assert ModelStore().folder.parts[-1] == "models"
