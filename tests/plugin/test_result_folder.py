"""Folders of large results: a name for each, and gone only when nothing reads from them."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pytest

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.plugin.result_folder import HeldArray, ResultFolder, ResultFolders


def viewer(*opened: Path) -> Any:
    return SimpleNamespace(layers=[SimpleNamespace(source=SimpleNamespace(path=path)) for path in (*opened, None)])


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


def test_the_folder_before_goes_when_nothing_reads_from_it(tmp_path: Path) -> None:
    folders, first = ResultFolders(), ResultFolder(tmp_path, "cells")
    first.keep()
    folders.put("cells", first, viewer())
    path, derived = first.path, lazy(first)[1:] * 2
    del first
    second = ResultFolder(tmp_path, "cells")
    second.keep()
    folders.put("cells", second, viewer())
    folders.put("other", None, viewer())
    gc.collect()
    assert path.is_dir()
    assert derived.compute()[0] == 2
    del derived
    gc.collect()
    assert [left.name for left in tmp_path.iterdir()] == ["cells 2"]


@pytest.mark.parametrize("opened", [False, True])
def test_a_folder_whose_layers_were_removed_goes_unless_the_user_opened_a_file_of_it(
    opened: bool, tmp_path: Path
) -> None:
    folders, first = ResultFolders(), ResultFolder(tmp_path, "cells")
    first.keep()
    folders.put("cells", first, viewer())
    path = first.path
    del first
    folders.put("cells", None, viewer(*[path / "restored.ome.zarr"] * opened))
    assert path.is_dir() == opened
