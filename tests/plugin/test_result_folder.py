"""Folders of large results: a name for each, and finished ones gone only after the same run again."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.plugin import result_folder
from napari_vae_repair.plugin.preferences import StorePreferences, cache_folder, read_store_preferences
from napari_vae_repair.plugin.result_folder import HeldArray, ResultFolder, ResultFolders


class Layer:
    """What is restored, and beside it what shows the result."""

    def __init__(self) -> None:
        self.pixels = da.zeros((4, 4))
        self.shown: Any = None


class Restored:
    """Runs one after the other, as the widget does them."""

    def __init__(self, within: Path) -> None:
        self.within, self.folders, self.runs = within, ResultFolders(), 0

    def run(self, layer: Layer, *, whole: bool = True, shows: Layer | None = None) -> Path:
        """Restore `layer`, show the result in the place of what `shows`, or `layer`, has shown, and give its one file.

        Names of folders come again where they are free.
        """
        folder = ResultFolder(self.within, "cells", layer.pixels if whole else None)
        with self.folders.replacing(layer, folder):
            (shows or layer).shown = lazy(folder)
        self.runs += 1
        file = folder.path / f"run {self.runs}"
        file.touch()
        return file


@pytest.fixture
def restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Restored:
    """Runs that write into the cache folder."""
    monkeypatch.setattr(result_folder, "cache_folder", lambda: tmp_path)
    return Restored(tmp_path)


def lazy(folder: ResultFolder) -> da.Array:
    return da.from_array(HeldArray(np.arange(6.0), folder), chunks=2, name=False)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("cells", "cells 1"),
        ("../../etc/passwd", "_.._etc_passwd 1"),
        ("a/b\\c:d", "a_b_c_d 1"),
        (" . ", "image 1"),
        ("x" * 400, "x" * 60 + " 1"),
        ("µ ü [1]", "µ ü [1] 1"),
    ],
)
def test_names_of_layers_become_names_of_folders(layer: str, name: str, tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path / "new" / "results", layer)
    assert folder.path == tmp_path / "new" / "results" / name
    assert folder.path.is_dir()


def test_each_result_has_a_folder_of_its_own(tmp_path: Path) -> None:
    first, second = ResultFolder(tmp_path, "cells"), ResultFolder(tmp_path, "cells")
    assert [first.path.name, second.path.name] == ["cells 1", "cells 2"]


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ImageFileError, match=r"No folder for results.*Preferences"):
        ResultFolder(tmp_path / "file", "cells")


def test_what_is_dropped_is_removed_and_what_is_kept_stays(tmp_path: Path) -> None:
    kept, dropped = ResultFolder(tmp_path, "kept"), ResultFolder(tmp_path, "dropped")
    kept.keep()
    del kept, dropped
    assert [path.name for path in tmp_path.iterdir()] == ["kept 1"]


def test_the_same_layer_restored_whole_again_in_the_cache_folder_takes_the_place_on_disk(restored: Restored) -> None:
    layer = Layer()
    files = [restored.run(layer) for _ in range(3)]
    assert [file.exists() for file in files] == [False, False, True]
    layer.shown = None
    gc.collect()
    assert files[-1].exists()


@pytest.mark.parametrize("case", ["other layer", "other pixels", "part before", "part now", "chosen folder", "removed"])
def test_any_other_run_leaves_the_folder_before(
    restored: Restored, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, other = Layer(), Layer()
    if case == "chosen folder":
        monkeypatch.setattr(result_folder, "cache_folder", cache_folder)
    first = restored.run(layer, whole=case != "part before")
    if case == "other pixels":
        layer.pixels = da.zeros((4, 4))
    if case == "removed":
        layer.shown = None
    restored.run(other if case == "other layer" else layer, whole=case != "part now", shows=layer)
    restored.run(layer)
    gc.collect()
    assert first.exists()


def test_a_run_whose_layer_is_gone_leaves_all_folders(restored: Restored, tmp_path: Path) -> None:
    for _ in range(2):
        folder = ResultFolder(tmp_path, "cells", da.zeros(3))
        with restored.folders.replacing(None, folder):
            pass
    del folder
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_read_when_its_layers_are_replaced_stays_for_good(restored: Restored) -> None:
    layer = Layer()
    first = restored.run(layer)
    derived = layer.shown[1:] * 2
    restored.run(layer)
    assert derived.compute()[0] == 2
    del derived
    restored.run(layer)
    gc.collect()
    assert first.exists()


def test_a_result_that_could_not_be_shown_stays(restored: Restored, tmp_path: Path) -> None:
    layer = Layer()
    first = restored.run(layer)
    folder = ResultFolder(tmp_path, "cells", layer.pixels)
    with pytest.raises(RuntimeError), restored.folders.replacing(layer, folder):
        raise RuntimeError("napari cannot show it")
    layer.shown = None
    second = folder.path
    del folder
    gc.collect()
    assert (first.exists(), second.is_dir()) == (True, True)


@pytest.mark.parametrize("by", ["layer", "array"])
def test_what_was_opened_from_a_file_of_it_keeps_the_folder(restored: Restored, by: str) -> None:
    layer = Layer()
    first = restored.run(layer)
    array = zarr.create_array(first.parent / "restored.ome.zarr", shape=(4, 4), dtype="u1")
    opened: Any = array
    if by == "layer":
        from napari.layers import Image
        from napari.layers._source import layer_source

        with layer_source(path=str(first.parent / "restored.ome.zarr")):
            opened = Image(np.zeros((4, 4)))
    del array
    restored.run(layer)
    assert first.exists()
    assert opened is not None


def test_the_cache_folder_is_that_of_preferences() -> None:
    assert read_store_preferences() == StorePreferences(cache_folder())
