"""Files whose pixels are read on demand give the same image as those that are read whole."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_vae_repair.errors import ImageFileError, InputError
from napari_vae_repair.image.files import read_image, write_image
from napari_vae_repair.image.opened import OpenedImage, open_image
from napari_vae_repair.image.tiff_windows import TiffWindows

VALUES = np.random.default_rng(0).integers(0, 60_000, (2, 3, 70, 90)).astype(np.uint16)


def tiff(path: Path, values: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, values, **{"photometric": "minisblack"} | options)
    return path


FILES = {
    "plain": lambda d: tiff(d / "a.tif", VALUES),
    "big-endian": lambda d: tiff(d / "a.tif", VALUES, byteorder=">"),
    "imagej": lambda d: tiff(d / "a.tif", VALUES, imagej=True, metadata={"axes": "ZCYX", "spacing": 2, "unit": "um"}),
    "tiles": lambda d: tiff(d / "a.tif", VALUES, tile=(32, 32), compression="zlib"),
    "ome": lambda d: tiff(d / "a.ome.tif", VALUES, metadata={"axes": "TCYX"}, compression="lzw", predictor=2),
    "planes": lambda d: tiff(d / "a.tif", VALUES[0], planarconfig="separate", photometric="rgb"),
    "ours": lambda d: write_image(d / "a.tif", VALUES, "ZCYX", pixel_size_um={"Z": 3.0}),
    "our-ome": lambda d: write_image(d / "a.ome.tif", VALUES, "CVYX", channel_names=("a", "b")),
    "our-bool": lambda d: write_image(d / "a.ome.tif", VALUES[0] > 9, "QXY"),
    "our-float16": lambda d: write_image(d / "a.ome.tif", VALUES[0].astype("float16"), "ZXY"),
    "our-colour": lambda d: write_image(d / "a.ome.tif", np.moveaxis(VALUES[0], 0, -1), "YXS"),
    "zarr": lambda d: write_image(d / "a.zarr", VALUES, "ZCYX", channel_names=("x", "y", "z"), pixel_size_um={"Z": 2}),
    "png": lambda d: write_image(d / "a.png", VALUES[0, 0], "YX"),
}  # fmt: skip
WHOLE = {"png"}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_read_on_demand_is_what_is_read_whole(tmp_path: Path, kind: str) -> None:
    path = FILES[kind](tmp_path)
    whole = read_image(path)
    with open_image(path) as opened:
        assert isinstance(opened.array, np.ndarray) is (kind in WHOLE)
        facts = ("axes", "name", "pixel_size_um", "channel_names", "channel_colours")
        assert [getattr(opened, fact) for fact in facts] == [getattr(whole, fact) for fact in facts]
        assert (opened.array.shape, opened.array.dtype) == (whole.pixels.shape, whole.pixels.dtype)
        window = tuple(slice(n // 3, n // 3 + 7) for n in whole.pixels.shape)
        np.testing.assert_array_equal(opened.array[window], whole.pixels[window])
        np.testing.assert_array_equal(opened.array[...], whole.pixels)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(opened.array))[window], whole.pixels[window])
        assert len(opened.chunks) == len(opened.axes)


@pytest.mark.parametrize("extension", [".tif", ".ome.tif", ".zarr"])
def test_given_axes_replace_the_files(tmp_path: Path, extension: str) -> None:
    path = write_image(tmp_path / f"a{extension}", VALUES[:, :1], "TZYX")
    for axes in ("CQYX", "CYX"):
        whole, opened = read_image(path, axes), open_image(path, axes)
        assert whole.axes == opened.axes == "CYX"
        np.testing.assert_array_equal(opened.array[...], VALUES[:, 0])
        opened.close()
    for read in (read_image, open_image):
        with pytest.raises(InputError, match="axes"):
            read(path, "YX")


def test_integers_and_an_ellipsis_index_as_in_numpy(tmp_path: Path) -> None:
    array = open_image(write_image(tmp_path / "a.zarr", VALUES, "ZCYX")).array
    for key in (0, (1, 2), (-1, ..., 5), (slice(None), 1, slice(3, 60, 7)), ..., (slice(5, 2),)):
        np.testing.assert_array_equal(array[key], VALUES[key])
    for wrong in (2, (0, 0, 0, 0, 0), (slice(None, None, -1),)):
        with pytest.raises(IndexError):
            array[wrong]


@pytest.mark.parametrize("extension", [".tif", ".zarr"])
def test_a_window_takes_the_memory_of_a_window(tmp_path: Path, extension: str) -> None:
    large = np.broadcast_to(np.arange(2048, dtype=np.uint16), (6, 2048, 2048))
    path = write_image(tmp_path / f"a{extension}", large, "ZYX")
    tracemalloc.start()
    with open_image(path) as opened:
        assert opened.array[3:4, 100:300, 100:300].sum() == 200 * sum(range(100, 300))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < large.nbytes / 4


def test_a_tiff_cut_off_is_refused_and_a_damaged_one_when_it_is_read(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", VALUES[0, 0], compression="zlib")
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    with pytest.raises(ImageFileError, match="incomplete"):
        open_image(path)
    start = content.index(b"\x78\x9c")  # of the first strip
    path.write_bytes(content[: start + 2] + bytes(200) + content[start + 202 :])
    with open_image(path) as opened, pytest.raises(ImageFileError, match="cannot be read"):
        opened.array[...]


def test_closing_releases_the_file(tmp_path: Path) -> None:
    windows = TiffWindows(tiff(tmp_path / "a.tif", VALUES, compression="zlib"))
    windows.close()
    windows.close()
    assert windows[(slice(0, 1),) * 4].shape == (1, 1, 1, 1)  # opened again
    windows.close()


def test_axes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="axes"):
        OpenedImage(VALUES, "YX", (1, 1))
