"""What fuzzing found, as code that makes the file again; each is replayed by `test_fuzz.py`."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import tifffile
import zarr
from zarr.codecs import GzipCodec

from napari_vae_repair.image.files import StoredImage, write_image, write_layers
from stress.seeds import SEEDS

PIXELS = np.random.default_rng(0).integers(0, 200, (3, 24, 32), np.uint8)


def circle_of_directories(path: Path) -> None:
    """tifffile went round for ever, since the circle does not begin at the first directory."""
    tifffile.imwrite(path, PIXELS, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tif:
        second, last = tif.pages[1].offset, tif.pages[2].offset
    content = bytearray(path.read_bytes())
    end = last + 2 + 12 * struct.unpack("<H", content[last : last + 2])[0]
    content[end : end + 4] = struct.pack("<I", second)
    path.write_bytes(content)


def directory_within_a_directory(path: Path) -> None:
    """The next directory lies within its own tags, and leads back to itself."""
    tifffile.imwrite(path, PIXELS[0], metadata=None)
    content = bytearray(path.read_bytes())
    start = struct.unpack("<I", content[4:8])[0]
    end = start + 2 + 12 * struct.unpack("<H", content[start : start + 2])[0]
    content[end : end + 4] = struct.pack("<I", start + 8)
    content[start + 8 : start + 10] = struct.pack("<H", 1)
    content[start + 22 : start + 26] = struct.pack("<I", start + 8)
    path.write_bytes(content)


def strips_that_are_not_listed(path: Path) -> None:
    """16 GiB of rows in one strip a row, of which three are listed."""
    tifffile.imwrite(path, PIXELS[0], compression="lzma", rowsperstrip=8, metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags["ImageLength"].overwrite(536870936)


def chunk_of_a_png_longer_than_the_file(path: Path) -> None:
    """Python made room for 2.7 GB that a file of 700 bytes claims, before it read them."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(PIXELS[0]).convert("LA").save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[33:37] = struct.pack(">I", 0xA0860276)
    path.write_bytes(content)


def store_of_missing_chunks(path: Path) -> None:
    """25 000 chunks of which 8 are there: half a minute."""
    SEEDS["five.ome.zarr"](path)
    metadata = json.loads((path / "0" / "zarr.json").read_text())
    metadata["shape"][2] = 100_000
    (path / "0" / "zarr.json").write_text(json.dumps(metadata))


def damaged_chunk(version: str) -> Callable[[Path], None]:
    """The RuntimeError of Blosc came through where a window was read."""

    def make(path: Path) -> None:
        SEEDS[f"{version}.ome.zarr"](path)
        for chunk in (path / "0").rglob("*"):
            if chunk.is_file() and not chunk.name.startswith((".", "zarr")):
                chunk.write_bytes(chunk.read_bytes()[:20] + bytes(20))

    return make


def chunk_of_another_size(path: Path) -> None:
    """The ValueError of a chunk that does not fill its shape came through."""
    SEEDS["four.ome.zarr"](path)
    metadata = json.loads((path / "0" / ".zarray").read_text())
    (path / "0" / ".zarray").write_text(json.dumps(metadata | {"chunks": [1, 1, 16]}))


def name_with_control_characters(path: Path) -> None:
    """What was written could not be read again: XML cannot hold them."""
    write_layers(path, [StoredImage("a", PIXELS, "CYX", {}, {})], None, ["\x1b[31mred", "a\x00b", "c"])


def dtype_of_a_note(path: Path) -> None:
    """A note that tells of texts of 99 characters made as many of each pixel."""
    write_image(path, PIXELS[0], "YX")
    path.write_bytes(path.read_bytes().replace(b'"|u1"', b'"S99"').replace(b"&quot;|u1&quot;", b"&quot;S99&quot;"))


def shape_of_lists(path: Path) -> None:
    """The message held all 5 000 characters of a shape."""
    SEEDS["four.ome.zarr"](path)
    metadata = json.loads((path / "0" / ".zarray").read_text())
    (path / "0" / ".zarray").write_text(json.dumps(metadata | {"shape": [[[2] * 40, 24, 32]] * 40}))


def chunk_that_unpacks_to_more(path: Path) -> None:
    """64 MB came out of a chunk of 768 bytes."""
    zarr.create_array(path, data=PIXELS[0], chunks=PIXELS[0].shape, dimension_names=["y", "x"], compressors=GzipCodec())
    (path / "c" / "0" / "0").write_bytes(gzip.compress(bytes(2**26), 1))


def empty_group(path: Path) -> None:
    """A zarr group without an image."""
    zarr.create_group(path)


CASES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "circle of directories": ("a.tif", circle_of_directories),
    "directory within a directory": ("a.tif", directory_within_a_directory),
    "strips that are not listed": ("a.tif", strips_that_are_not_listed),
    "chunk of a PNG longer than the file": ("a.png", chunk_of_a_png_longer_than_the_file),
    "store of missing chunks": ("a.ome.zarr", store_of_missing_chunks),
    "damaged chunk, 0.4": ("a.ome.zarr", damaged_chunk("four")),
    "damaged chunk, 0.5": ("a.ome.zarr", damaged_chunk("five")),
    "chunk of another size": ("a.ome.zarr", chunk_of_another_size),
    "shape of lists": ("a.ome.zarr", shape_of_lists),
    "name with control characters": ("a.ome.tif", name_with_control_characters),
    "dtype of a note": ("a.ome.tif", dtype_of_a_note),
    "chunk that unpacks to more": ("a.ome.zarr", chunk_that_unpacks_to_more),
    "empty group": ("a.ome.zarr", empty_group),
}
