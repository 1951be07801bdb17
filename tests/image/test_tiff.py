"""TIFF of other programs: axes and sizes; damaged and incomplete files are errors, never zeros."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_vae_repair.errors import ImageFileError, InputError
from napari_vae_repair.image.files import (
    read_image,
    read_layers,
    write_image,
)


def some_pixels(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    values = np.random.default_rng(0).normal(100, 40, shape)
    return values.clip(0, 120).astype(dtype) if np.dtype(dtype).kind != "b" else values > 100


def some_rgb(dtype: str) -> np.ndarray:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (40, 44, 3)).astype(dtype)


def tiff_bytes(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


# ---- TIFF of other programs -------------------------------------------------------------------


def test_ome_tiff_of_others_gives_units_and_channels(tmp_path: Path) -> None:
    metadata = {
        "axes": "CYX", "Channel": {"Name": ["a", "b"]}, "PhysicalSizeX": 65.0, "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.065, "PhysicalSizeYUnit": "µm", "PhysicalSizeZ": 1.0, "PhysicalSizeZUnit": "mm",
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", some_pixels((2, 20, 24)), photometric="minisblack", metadata=metadata)
    image = read_image(tmp_path / "a.ome.tif")
    assert image.axes == "CYX"
    assert image.pixel_size_um == pytest.approx({"X": 0.065, "Y": 0.065})
    assert image.channel_names == ("a", "b")


@pytest.mark.parametrize(("unit", "um"), [("micron", 1.0), ("nm", 1e-3), ("\\u00B5m", 1.0), ("pixel", None)])
def test_imagej_stack_gives_units(tmp_path: Path, unit: str, um: float | None) -> None:
    pixels = some_pixels((3, 2, 20, 24))
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "ZCYX", "unit": unit, "spacing": 3.0},
    )
    image = read_image(tmp_path / "a.tif")
    assert image.axes == "ZCYX"
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixel_size_um == pytest.approx({} if um is None else {"X": um / 4, "Y": um / 2, "Z": um * 3})


@pytest.mark.parametrize(
    ("shape", "options", "axes", "read_shape"),
    [
        ((3, 20, 24), {"metadata": None, "photometric": "minisblack"}, "IYX", (3, 20, 24)),
        ((2, 3, 20, 24), {"photometric": "minisblack"}, "ZQYX", (2, 3, 20, 24)),
        ((3, 40, 44), {"photometric": "rgb", "planarconfig": "separate"}, "YXS", (40, 44, 3)),
        ((40, 44, 5), {"photometric": "minisblack", "planarconfig": "contig"}, "YXC", (40, 44, 5)),
        ((1, 1, 20, 24), {"photometric": "minisblack", "metadata": {"axes": "TZYX"}}, "YX", (20, 24)),
        ((20, 24), {"resolution": (72, 72), "resolutionunit": "INCH", "compression": "lzw"}, "YX", (20, 24)),
        ((64, 64), {"tile": (16, 16), "compression": "zlib"}, "YX", (64, 64)),
        ((20, 24), {"bigtiff": True, "byteorder": ">"}, "YX", (20, 24)),
    ],
)
def test_plain_tiff_gets_axes(tmp_path: Path, shape: tuple, options: dict, axes: str, read_shape: tuple) -> None:
    pixels = some_pixels(shape)
    (tmp_path / "a.tif").write_bytes(tiff_bytes(pixels, **options))
    image = read_image(tmp_path / "a.tif")
    assert (image.axes, image.pixels.shape, image.pixel_size_um) == (axes, read_shape, {})
    assert sorted(image.pixels.ravel()) == sorted(pixels.ravel())


def test_given_axes_replace_the_files(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_bytes(some_pixels((1, 3, 20, 24)), photometric="minisblack"))
    assert read_image(path, "ZYX").axes == read_image(path, "TZYX").axes == "ZYX"
    with pytest.raises(InputError, match=r"'YX' .*\(3, 20, 24\)"):
        read_image(path, "YX")


def test_pyramid_is_read_at_full_resolution(tmp_path: Path) -> None:
    pixels = some_pixels((64, 64))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(pixels, subifds=1, tile=(16, 16))
        tif.write(pixels[::2, ::2], subfiletype=1, tile=(16, 16))
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif").pixels, pixels)


# ---- damaged files ----------------------------------------------------------------------------

PIXELS = some_pixels((4, 3, 40, 50))
COMPLETE = {
    "shaped": tiff_bytes(PIXELS, metadata={"axes": "ZCYX"}, photometric="minisblack"),
    "shaped zlib": tiff_bytes(PIXELS, metadata={"axes": "ZCYX"}, photometric="minisblack", compression="zlib"),
    "ome": tiff_bytes(PIXELS, ome=True, metadata={"axes": "ZCYX"}, photometric="minisblack"),
    "imagej": tiff_bytes(PIXELS, imagej=True, metadata={"axes": "ZCYX"}),
    "pages": tiff_bytes(PIXELS.reshape(-1, 40, 50), metadata=None, photometric="minisblack", compression="lzw"),
    "big": tiff_bytes(PIXELS, bigtiff=True, photometric="minisblack"),
}


@pytest.mark.parametrize("kind", COMPLETE)
@pytest.mark.parametrize("share", [0.001, 0.02, 0.1, 0.3, 0.5, 0.8, 0.95])
def test_truncated_tiff_is_an_error_not_zeros(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "cut.tif"
    path.write_bytes(COMPLETE[kind])
    assert read_image(path).pixels.size == PIXELS.size
    path.write_bytes(COMPLETE[kind][: int(share * len(COMPLETE[kind]))])
    with pytest.raises(ImageFileError, match=r"cut\.tif"):
        read_image(path)


def test_our_own_file_cut_short_is_an_error(tmp_path: Path) -> None:
    whole = write_image(tmp_path / "a.ome.tif", PIXELS, "ZCYX").read_bytes()
    for share in (0.05, 0.4, 0.9):
        (tmp_path / "a.ome.tif").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ImageFileError):
            read_layers(tmp_path / "a.ome.tif")


def test_corrupted_bytes_raise_only_errors_of_ours(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "a.tif"
    for kind in ("shaped zlib", "ome", "pages"):
        for _ in range(25):
            damaged = bytearray(COMPLETE[kind])
            for at in rng.integers(0, 800, 3):
                damaged[at] = rng.integers(256)
            path.write_bytes(damaged)
            with contextlib.suppress(ImageFileError, InputError):
                read_image(path)


def test_companion_file_of_a_multi_file_ome_tiff_missing(tmp_path: Path) -> None:
    for n in range(2):
        tifffile.imwrite(tmp_path / f"{n}.ome.tif", some_pixels((20, 24)), ome=True)
    xml = tifffile.tiffcomment(tmp_path / "0.ome.tif")
    uuid = f'<UUID FileName="gone.ome.tif">urn:uuid:{"0" * 36}</UUID>'
    other = f'<TiffData IFD="0" PlaneCount="1" FirstZ="1">{uuid}</TiffData>'
    xml = xml.replace('SizeZ="1"', 'SizeZ="2"').replace("</Pixels>", other + "</Pixels>")
    tifffile.tiffcomment(tmp_path / "0.ome.tif", xml.encode())
    with pytest.raises(ImageFileError, match="other files are missing"):
        read_image(tmp_path / "0.ome.tif")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("missing.tif", None, "not there"),
        ("empty.tif", b"", "is empty"),
        ("text.tif", b"This is a text, not a TIFF.", r"cannot be read: .*\. Complete TIFF"),
        ("text.png", b"This is a text, not a PNG.", "cannot be read"),
        ("cut.png", b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR", "cannot be read"),
        ("cut.bmp", b"BM" + bytes(20), "cannot be read"),
        ("a.xyz", b"ZISRAWFILE", r"extension '\.xyz'"),
    ],
)
def test_files_that_are_no_images(tmp_path: Path, name: str, content: bytes | None, match: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageFileError, match=match):
        read_image(tmp_path / name)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".bmp"])
def test_truncated_picture_is_an_error(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"a{extension}"
    iio.imwrite(path, some_rgb("uint8"))
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(ImageFileError):
        read_image(path)


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match="is a folder"):
        read_image(tmp_path)
