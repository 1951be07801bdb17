"""A file is written completely or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.atomic import check_writable, replacing
from napari_vae_repair.image.files import (
    read_image,
    write_image,
    write_layers,
)


def some_pixels(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    values = np.random.default_rng(0).normal(100, 40, shape)
    return values.clip(0, 120).astype(dtype) if np.dtype(dtype).kind != "b" else values > 100


def some_rgb(dtype: str) -> np.ndarray:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (40, 44, 3)).astype(dtype)


PIXELS = some_pixels((4, 3, 40, 50))
WRITERS = {
    ".tif": lambda path: write_image(path, PIXELS, "ZCYX"),
    ".ome.tif": lambda path: write_image(path, PIXELS, "ZCYX"),
    ".layers.ome.tif": lambda path: write_layers(path, [("a", PIXELS, "ZCYX", {}, {})]),
    ".png": lambda path: write_image(path, some_rgb("uint16"), "YXS"),
}


@pytest.mark.parametrize("extension", WRITERS)
def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(
    tmp_path: Path, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / f"a{extension}"
    path.write_bytes(b"the earlier file")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ImageFileError, match=r"No space left on device\. .*unchanged"):
        WRITERS[extension](path)
    assert path.read_bytes() == b"the earlier file"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
@pytest.mark.parametrize("extension", WRITERS)
def test_a_write_that_fails_midway_leaves_the_earlier_file_and_nothing_else(tmp_path: Path, extension: str) -> None:
    import resource

    path = tmp_path / f"a{extension}"
    path.write_bytes(b"the earlier file")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the kernel refuses what goes beyond
    try:
        with pytest.raises(ImageFileError, match="could not be written"):
            WRITERS[extension](path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"the earlier file"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with replacing(tmp_path / "a.tif") as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file/a.tif", "missing/a.tif", "folder.tif"])
def test_places_where_nothing_can_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    (tmp_path / "folder.tif").mkdir()
    for write in (lambda: check_writable(tmp_path / place), lambda: WRITERS[".tif"](tmp_path / place)):
        with pytest.raises(ImageFileError, match="could not be written"):
            write()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write into read-only folders")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ImageFileError, match="could not be written"):
        check_writable(tmp_path / "a.tif")


def test_a_link_is_followed_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.tif").write_bytes(b"")
    (tmp_path / "link.tif").symlink_to(tmp_path / "real.tif")
    write_image(tmp_path / "link.tif", some_pixels((20, 24)), "YX")
    assert (tmp_path / "link.tif").is_symlink()
    assert read_image(tmp_path / "real.tif").axes == "YX"
