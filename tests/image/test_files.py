"""Image files: what is written is read back, here and by other libraries."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import PIL.Image
import pytest
import tifffile

from napari_vae_repair.errors import ImageFileError, SettingsError
from napari_vae_repair.image.files import (
    check_format,
    is_restored_file,
    read_image,
    read_layers,
    read_provenance,
    to_dtype,
    write_image,
)

SHAPES = {"YX": (20, 24), "ZYX": (3, 20, 24), "TCZYX": (2, 3, 4, 16, 18), "YXS": (40, 44, 3), "ZYXS": (2, 40, 44, 4)}
ODD_SHAPES = {
    "IYX": (3, 20, 24),
    "ITZYX": (2, 3, 2, 20, 24),
    "YXZ": (20, 24, 3),
    "XY": (24, 20),
    "CVYX": (2, 3, 20, 24),
}
DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64", "bool", ">u2", ">f4"]


def some_pixels(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    values = np.random.default_rng(0).normal(100, 40, shape)
    return values.clip(0, 120).astype(dtype) if np.dtype(dtype).kind != "b" else values > 100


def some_rgb(dtype: str) -> np.ndarray:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (40, 44, 3)).astype(dtype)


# ---- round trips ------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", [".tif", ".ome.tif", ".OME.TIFF"])
@pytest.mark.parametrize("axes", SHAPES)
def test_tiff_gives_back_pixels_axes_and_sizes(tmp_path: Path, axes: str, extension: str) -> None:
    pixels, sizes = some_pixels(SHAPES[axes]), {"Y": 0.25, "X": 0.5} | ({"Z": 2.0} if "Z" in axes else {})
    names = ("DAPI", "GFP µ<&>", "Cy5") if "C" in axes else ()
    path = write_image(tmp_path / f"a{extension}", pixels, axes, pixel_size_um=sizes, channel_names=names)
    image = read_image(path)
    assert (image.axes, image.pixels.dtype, image.name) == (axes, pixels.dtype, "a")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixel_size_um == sizes
    assert image.channel_names == names
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].axes == axes
        np.testing.assert_array_equal(tif.asarray(), pixels)


@pytest.mark.parametrize("extension", [".tif", ".ome.tif"])
@pytest.mark.parametrize("dtype", [*DTYPES, "int64", "uint64"])
def test_tiff_keeps_the_dtype(tmp_path: Path, dtype: str, extension: str) -> None:
    pixels = some_pixels((3, 20, 24), dtype)
    image = read_image(write_image(tmp_path / f"a{extension}", pixels, "ZYX"))
    assert image.pixels.dtype.newbyteorder("=") == pixels.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize("extension", [".tif", ".ome.tif"])
@pytest.mark.parametrize("axes", ODD_SHAPES)
def test_tiff_keeps_axes_that_are_not_omes(tmp_path: Path, axes: str, extension: str) -> None:
    pixels = some_pixels(ODD_SHAPES[axes])
    image = read_image(write_image(tmp_path / f"a{extension}", pixels, axes))
    assert image.axes == axes
    np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize("extension", [".tif", ".ome.tif"])
def test_nan_and_infinity_survive(tmp_path: Path, extension: str) -> None:
    pixels = some_pixels((20, 24), "float32")
    pixels[:2, 0] = np.nan, np.inf
    np.testing.assert_array_equal(read_image(write_image(tmp_path / f"a{extension}", pixels, "YX")).pixels, pixels)


def test_the_written_array_is_not_changed_and_may_be_any_view(tmp_path: Path) -> None:
    pixels = some_pixels((40, 48))
    pixels.flags.writeable = False
    path = write_image(tmp_path / "a.ome.tif", pixels[::2, ::-2].T, "XY", dtype="uint8")
    np.testing.assert_array_equal(read_image(path).pixels, pixels[::2, ::-2].T)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_provenance_is_read_back_and_marks_the_file(tmp_path: Path, name: str) -> None:
    said = {"settings": {"epochs": 3}, "text": 'Ångström <&> "{}"', "psnr": np.float32(2.5), "list": (1, None)}
    path = write_image(tmp_path / name, some_pixels((20, 24)), "YX", provenance=said)
    assert read_provenance(path) == said | {"psnr": 2.5, "list": [1, None]}
    assert is_restored_file(path)


def test_files_of_others_are_not_taken_for_ours(tmp_path: Path) -> None:
    foreign = tmp_path / "a.ome.tif"
    tifffile.imwrite(foreign, some_pixels((20, 24)))
    (tmp_path / "text.tif").write_text("no TIFF")
    assert read_provenance(foreign) is None
    assert not any(map(is_restored_file, [foreign, tmp_path / "text.tif", tmp_path, tmp_path / "missing.tif"]))
    with pytest.raises(ImageFileError, match="holds no layers"):
        read_layers(foreign)


# ---- PNG, JPEG, BMP ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("axes", ["YX", "YXS"])
def test_png_keeps_its_bits(tmp_path: Path, axes: str, dtype: str) -> None:
    pixels = some_rgb(dtype) if axes == "YXS" else some_rgb(dtype)[..., 0]
    path = write_image(tmp_path / "a.png", pixels, axes)
    image = read_image(path)
    assert (image.axes, image.pixels.dtype) == (axes, np.dtype(dtype))
    np.testing.assert_array_equal(image.pixels, pixels)
    if (axes, dtype) != ("YXS", "uint16"):  # imageio would cut these to 8 bits
        np.testing.assert_array_equal(iio.imread(path), pixels)


def test_16_bit_png_of_imageio_stays_16_bit(tmp_path: Path) -> None:
    pixels = some_rgb("uint16")[..., 0]
    iio.imwrite(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_modes_become_grey_or_colour(tmp_path: Path, mode: str) -> None:
    picture = PIL.Image.fromarray(some_rgb("uint8")).convert(mode)
    picture.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    plain = picture.getchannel(0) if mode == "LA" else picture.convert("RGB") if mode == "P" else picture
    np.testing.assert_array_equal(image.pixels, np.asarray(plain))
    assert image.axes == ("YXS" if mode in ("P", "RGB", "RGBA") else "YX")


def test_jpeg_is_turned_as_exif_says_and_cmyk_becomes_rgb(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    PIL.Image.fromarray(some_rgb("uint8")).save(tmp_path / "a.jpg", exif=exif)
    PIL.Image.fromarray(some_rgb("uint8")).convert("CMYK").save(tmp_path / "b.jpeg")
    assert read_image(tmp_path / "a.jpg").pixels.shape == (44, 40, 3)
    assert read_image(tmp_path / "b.jpeg").pixels.shape == (40, 44, 3)


def test_jpeg_and_bmp(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40), np.arange(44)).astype(np.uint8)
    assert np.abs(read_image(write_image(tmp_path / "a.jpg", smooth, "YX")).pixels.astype(int) - smooth).max() <= 3
    PIL.Image.fromarray(smooth).save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp").pixels, smooth)


@pytest.mark.parametrize(
    ("name", "axes", "dtype", "match"),
    [
        ("a.png", "YX", "float32", r"float32\. A \.png file holds uint8 or uint16\. .*--dtype uint16"),
        ("a.jpg", "YX", "uint16", r"uint16\. .*--dtype uint8"),
        ("a.png", "ZYX", "uint8", r"axes ZYX\. .*one plane"),
        ("a.gif", "YX", "uint8", r"does not name a file type\. .*\.ome\.tif"),
        ("a", "YX", "uint8", "does not name"),
        (".tif", "YX", "uint8", "does not name"),
    ],
)
def test_formats_that_cannot_hold_the_image_are_refused(name: str, axes: str, dtype: str, match: str) -> None:
    with pytest.raises(ImageFileError, match=match):
        check_format(name, axes, dtype)


# ---- dtypes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([-3.0, 0.4, 0.6, 254.6, 300.0, np.nan, np.inf, -np.inf], "uint8", [0, 0, 1, 255, 255, 0, 255, 0]),
        ([-40000.0, -1.5, 40000.0], "int16", [-32768, -2, 32767]),
        ([5e9, -5e9], "uint32", [2**32 - 1, 0]),
        ([1e30, -1e30], "int64", [int(np.nextafter(2.0**63, 0)), -(2**63)]),
        ([0.2, 0.5, 0.7, np.nan], "bool", [False, False, True, False]),
        ([1e6, -1e6, np.inf, 1.0], "float16", [65504, -65504, np.inf, 1]),
        ([1e300, -np.inf], "float32", [np.finfo("float32").max, -np.inf]),
        ([1.5, np.nan], "float64", [1.5, np.nan]),
        (np.array([-5, 300, 7]), "uint8", [0, 255, 7]),
        (np.array([0, 255], "uint8"), "int8", [0, 127]),
        (np.array([2**63 + 1], "uint64"), "int64", [2**63 - 1]),
        (np.array([True, False]), "uint16", [1, 0]),
        (np.array([0, 2]), "bool", [False, True]),
        (np.array([3.5, 1.0], "float32"), "float64", [3.5, 1.0]),
    ],
)
def test_to_dtype_rounds_and_clips(values: object, dtype: str, expected: list) -> None:
    given = np.array(values)
    before = given.copy()
    result = to_dtype(given, dtype)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.array(expected, dtype))
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("dtype", ["uint7", "complex64", "object", "str"])
def test_to_dtype_refuses_what_no_image_has(dtype: str) -> None:
    with pytest.raises(SettingsError, match=dtype):
        to_dtype(np.zeros(3), dtype)


def test_both_endings_of_zarr_are_stores(tmp_path: Path) -> None:
    for name in ("a.zarr", "a.ome.zarr"):
        path = write_image(tmp_path / name, np.eye(16, dtype=np.uint8), "YX")
        assert path.is_dir()
        assert read_image(path).name == "a"
