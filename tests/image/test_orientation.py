"""Pictures come upright, as every viewer shows them, whatever their format and depth."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tifffile

from napari_vae_repair.image.files import read_image, write_image
from napari_vae_repair.image.opened import open_image
from napari_vae_repair.image.orientation import turned

VALUES = np.random.default_rng(0).integers(0, 60_000, (40, 52, 3)).astype(np.uint16)
GREY = np.ascontiguousarray(VALUES[..., 0])


def exif(orientation: int) -> PIL.Image.Exif:
    tags = PIL.Image.Exif()
    tags[274] = orientation
    return tags


def as_pillow_turns(pixels: np.ndarray, orientation: int) -> np.ndarray:
    picture = PIL.Image.fromarray(pixels)
    picture.getexif()[274] = orientation
    return np.asarray(PIL.ImageOps.exif_transpose(picture))


def png_with_exif(content: bytes, orientation: int) -> bytes:
    """The PNG with an eXIf chunk behind its header."""
    body = b"eXIf" + exif(orientation).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return content[:33] + chunk + content[33:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_does(tmp_path: Path, orientation: int) -> None:
    bytes_ = (VALUES >> 8).astype(np.uint8)
    expected = as_pillow_turns(bytes_, orientation)
    np.testing.assert_array_equal(turned(bytes_, orientation), expected)
    PIL.Image.fromarray(bytes_).save(tmp_path / "a.png", exif=exif(orientation))
    (tmp_path / "deep.png").write_bytes(png_with_exif(imagecodecs.png_encode(VALUES), orientation))
    (tmp_path / "grey.png").write_bytes(png_with_exif(imagecodecs.png_encode(GREY), orientation))
    for name, compression in (("a.tif", None), ("packed.tif", "zlib")):
        extra = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(tmp_path / name, bytes_, photometric="rgb", extratags=extra, compression=compression)
    for name in ("a.png", "a.tif", "packed.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, expected)
        np.testing.assert_array_equal(open_image(tmp_path / name).array[...], expected)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png").pixels, turned(VALUES, orientation))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png").pixels, turned(GREY, orientation))


def test_microscopys_own_tiff_is_never_turned(tmp_path: Path) -> None:
    grey, extra = GREY, [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "ij.tif", grey, imagej=True, extratags=extra)
    tifffile.imwrite(tmp_path / "a.ome.tif", grey, extratags=extra)
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([grey] * 2), photometric="minisblack", extratags=extra)
    for name in ("ij.tif", "a.ome.tif", "stack.tif"):
        assert read_image(tmp_path / name).pixels.shape[-2:] == grey.shape


@pytest.mark.parametrize("axes", ["YX", "YXS"])
def test_16_bits_of_a_png_survive_reading_and_writing(tmp_path: Path, axes: str) -> None:
    pixels = VALUES if axes == "YXS" else GREY
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    path = write_image(tmp_path / "b.png", read_image(tmp_path / "a.png").pixels, axes)
    np.testing.assert_array_equal(imagecodecs.png_decode(path.read_bytes()), pixels)
