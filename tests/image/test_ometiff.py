"""Several layers in one OME-TIFF come back identical; what it cannot hold is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.files import (
    StoredImage,
    read_image,
    read_layers,
    read_provenance,
    write_layers,
)


def some_pixels(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    values = np.random.default_rng(0).normal(100, 40, shape)
    return values.clip(0, 120).astype(dtype) if np.dtype(dtype).kind != "b" else values > 100


def some_rgb(dtype: str) -> np.ndarray:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (40, 44, 3)).astype(dtype)


def test_layers_come_back_identical_and_tifffile_sees_them_as_series(tmp_path: Path) -> None:
    layers = [
        StoredImage("naïve <cells> \x07", some_pixels((1, 3, 20, 24)), "TZYX", {"Z": 2.0, "Y": 0.5, "X": 0.5}, {}),
        StoredImage(
            "residual", -some_pixels((20, 24), "float32"), "YX", {"Y": -1.0, "X": np.nan}, {"rotate": [[1, 0]]}
        ),
        StoredImage("mask", some_pixels((20, 24), "bool"), "YX", {}, {"units": ["µm"]}),
        StoredImage("labels", some_pixels((20, 24), "int64") - 60, "YX", {}, {}),
        StoredImage("half", some_pixels((24, 20), "float16"), "XY", {}, {}),
        StoredImage("big-endian", some_pixels((20, 24), ">u2"), "YX", {}, {}),
        StoredImage("colour", some_rgb("uint8"), "YXS", {}, {}),
    ]
    path = write_layers(tmp_path / "a.restored.ome.tif", layers, {"made": "here"})
    found = read_layers(path)
    for layer, back in zip(layers, found, strict=True):
        assert (back.name, back.axes, back.pixels.dtype, back.meta) == (
            layer.name,
            layer.axes,
            layer.pixels.dtype,
            layer.meta,
        )
        np.testing.assert_array_equal(back.pixels, layer.pixels)
        np.testing.assert_equal(back.pixel_size_um, layer.pixel_size_um)
    with tifffile.TiffFile(path) as tif:
        assert [series.name for series in tif.series][1:3] == ["residual", "mask"]
        assert [series.axes for series in tif.series] == ["ZYX", "YX", "YX", "YX", "YX", "YX", "YXS"]
        np.testing.assert_array_equal(tif.series[1].asarray(), layers[1].pixels)
    assert read_provenance(path) == {"made": "here"}
    assert read_image(path).axes == "ZYX"


@pytest.mark.parametrize(
    ("layers", "match"),
    [
        ([], "No image"),
        ([("a", np.zeros((20, 24), complex), "YX", {}, {})], "complex128"),
        ([("a", np.full((20, 24), 2**40), "YX", {}, {})], "int64"),
        ([("a", np.zeros((0, 24)), "YX", {}, {})], "shape"),
        ([("a", np.zeros((20, 24)), "YX", {}, {(1, 2): 3})], "JSON"),
        ([("a", np.zeros((1,) * 7 + (20, 24), "u1"), "ABDFGHIYX", {}, {})], "cannot hold"),
    ],
)
def test_layers_that_ome_tiff_cannot_hold_are_refused(tmp_path: Path, layers: list, match: str) -> None:
    with pytest.raises(ImageFileError, match=match):
        write_layers(tmp_path / "a.ome.tif", layers)
    assert list(tmp_path.iterdir()) == []


def test_the_same_images_give_the_same_bytes_and_others_another_mark(tmp_path: Path) -> None:
    layers = [("a", np.eye(20, dtype=np.uint16), "YX", {}, {}), ("b", np.ones((3, 20, 20), np.float32), "ZYX", {}, {})]
    first, again = (write_layers(tmp_path / f"{name}.ome.tif", layers).read_bytes() for name in "ab")
    assert first == again
    other = write_layers(tmp_path / "c.ome.tif", [("a", np.eye(20, dtype=np.uint16) * 2, "YX", {}, {}), layers[1]])
    marks = {re.search(rb"urn:uuid:[0-9a-f-]{36}", content)[0] for content in (first, other.read_bytes())}
    assert len(marks) == 2
