"""Vendors' files through bioio: read as they were written by the vendor's own library."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.files import read_image
from napari_vae_repair.image.opened import open_image

pylibczirw = pytest.importorskip("pylibCZIrw.czi")
pytest.importorskip("bioio_czi")

VALUES = np.random.default_rng(0).integers(0, 60_000, (2, 3, 40, 52)).astype(np.uint16)


def czi(path: Path, values: np.ndarray) -> Path:
    """A CZI file of axes CZYX, or YXS in colour."""
    with pylibczirw.create_czi(str(path)) as document:
        if values.shape[-1] == 3:
            document.write(data=np.ascontiguousarray(values[..., ::-1]), plane={"C": 0, "Z": 0, "T": 0})
            return path
        for c, z in np.ndindex(values.shape[:2]):
            document.write(data=values[c, z][..., None], plane={"C": c, "Z": z, "T": 0})
        names = {0: "DAPI", 1: "GFP"}
        document.write_metadata("a", channel_names=names, scale_x=1e-7, scale_y=2e-7, scale_z=1e-6)
    return path


def test_a_czi_of_the_vendors_library_is_read_with_axes_sizes_and_channels(tmp_path: Path) -> None:
    path = czi(tmp_path / "cells.czi", VALUES)
    image = read_image(path)
    assert (image.axes, image.name, image.channel_names) == ("CZYX", "cells", ("DAPI", "GFP"))
    assert image.pixel_size_um == pytest.approx({"Z": 1.0, "Y": 0.2, "X": 0.1})
    np.testing.assert_array_equal(image.pixels, VALUES)
    with open_image(path) as opened:
        np.testing.assert_array_equal(opened.array[1:, 1:2, 3:9, 5:8], VALUES[1:, 1:2, 3:9, 5:8])


def test_colours_of_a_czi_come_as_red_green_and_blue(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (40, 52, 3)).astype(np.uint8)
    image = read_image(czi(tmp_path / "a.czi", colours))
    assert image.axes == "YXS"
    np.testing.assert_array_equal(image.pixels, colours)


def test_given_axes_replace_those_of_a_czi(tmp_path: Path) -> None:
    assert read_image(czi(tmp_path / "a.czi", VALUES), "ZTYX").axes == "ZTYX"


@pytest.mark.parametrize("content", [b"ZISRAWFILE", bytes(4096)])
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.czi").write_bytes(content)
    with pytest.raises(ImageFileError, match="cannot be read by bioio-czi"):
        read_image(tmp_path / "a.czi")


@pytest.mark.parametrize(("name", "package"), [("a.czi", "bioio-czi"), ("a.nd2", "bioio-nd2"), ("a.lif", "bioio-lif")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"something")
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(ImageFileError, match=f"python -m pip install bioio {package}"):
        read_image(tmp_path / name)
