"""Files that claim too much are refused at once, and with little memory; honest ones of any size are read."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile
import zarr

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image import limits
from napari_vae_repair.image.files import read_image, read_layers, read_provenance, write_image
from napari_vae_repair.image.limits import check_ome, check_ratio, check_size, check_xml
from napari_vae_repair.image.opened import open_image

SIDE = 100_000
ROOT = Path(__file__).parents[2]
SMALL = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)


def tiff_bomb(path: Path, **options: object) -> None:
    """A valid small TIFF whose sides were overwritten."""
    tifffile.imwrite(path, SMALL, metadata=None, **options)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tags = tif.pages.first.tags
        names = ["ImageWidth", "ImageLength", *(["TileWidth", "TileLength"] if "tile" in options else ["RowsPerStrip"])]
        for name in names:
            tags[name].overwrite(SIDE // 16 * 16, dtype=4)


def png_bomb(path: Path, bits: int, colour: int) -> None:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour, 0, 0, 0))]
    chunks += [(b"PLTE", bytes(768))] if colour == 3 else []
    chunks += [(b"IDAT", zlib.compress(bytes(100_000))), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def jpeg_bomb(path: Path) -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(SMALL).save(buffer, "JPEG")
    content = bytearray(buffer.getvalue())
    at = content.index(b"\xff\xc0")  # start of frame: length, bits, height, width
    content[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    path.write_bytes(content)


def bmp_bomb(path: Path, compression: int = 0) -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(SMALL).save(buffer, "BMP")
    content = bytearray(buffer.getvalue())
    content[18:26] = struct.pack("<ii", SIDE, SIDE)
    content[30:34] = struct.pack("<I", compression)
    path.write_bytes(content)


BOMBS: dict[str, Callable[[Path], None]] = {
    "classic.tif": tiff_bomb,
    "big.tif": lambda path: tiff_bomb(path, bigtiff=True),
    "deflate.tif": lambda path: tiff_bomb(path, compression="zlib"),
    "lzw.tif": lambda path: tiff_bomb(path, compression="lzw"),
    "packbits.tif": lambda path: tiff_bomb(path, compression="packbits"),
    "zstd.tif": lambda path: tiff_bomb(path, compression="zstd"),
    "jpeg.tif": lambda path: tiff_bomb(path, compression="jpeg"),
    "tiled.tif": lambda path: tiff_bomb(path, compression="zlib", tile=(64, 64)),
    "tiled-plain.tif": lambda path: tiff_bomb(path, tile=(64, 64)),
    "grey8.png": lambda path: png_bomb(path, 8, 0),
    "grey16.png": lambda path: png_bomb(path, 16, 0),
    "palette.png": lambda path: png_bomb(path, 8, 3),
    "colour8.png": lambda path: png_bomb(path, 8, 2),
    "colour16.png": lambda path: png_bomb(path, 16, 2),
    "bomb.jpg": jpeg_bomb,
    "bomb.bmp": bmp_bomb,
    "runs.bmp": lambda path: bmp_bomb(path, 1),
}
MEASURE = """
import json, sys, time
from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.files import read_image
import imagecodecs, tifffile
from stress.peak import forget_peak, peak_bytes
found = {}
for path in sys.argv[1:]:
    before, started = forget_peak(), time.perf_counter()
    try:
        read_image(path)
        reason = "read"
    except ImageFileError as error:
        reason = str(error)
    seconds = time.perf_counter() - started
    found[path] = reason, seconds, (peak_bytes() - before) / 2**20
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_claims_of_100_000_by_100_000_pixels_are_refused_at_once_and_in_little_memory(tmp_path: Path) -> None:
    paths = []
    for name, make in BOMBS.items():
        paths.append(tmp_path / name)
        make(paths[-1])
        assert paths[-1].stat().st_size < 30_000
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True, cwd=ROOT)
    for path, (reason, seconds, mebibytes) in json.loads(done.stdout).items():
        assert "claims" in reason, (path, reason)
        assert seconds < 1, path
        assert mebibytes < 50, path


def test_an_image_larger_than_the_memory_is_refused_with_its_size_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "blank.tif"
    tifffile.imwrite(path, np.zeros((2048, 2048), np.uint16), compression="zlib")
    monkeypatch.setattr(limits, "MAX_WHOLE_BYTES", 2**20)
    with pytest.raises(
        ImageFileError, match=r"2048 x 2048 values of uint16, 8\.0 MiB.* up to 1\.0 MiB.*block by block"
    ):
        read_image(path)


def test_sizes_up_to_the_limit_pass() -> None:
    check_size("a.tif", (100, 100), np.uint16, 20_000)
    with pytest.raises(ImageFileError, match="claims 100 x 101"):
        check_size("a.tif", (100, 101), np.uint16, 20_000)
    check_size("a.tif", (1024, 1024), np.uint8)


def test_what_a_codec_can_hold_passes() -> None:
    blank = bytes(10**7)
    check_ratio("a.tif", len(blank), len(zlib.compress(blank, 9)), "deflate")
    with pytest.raises(ImageFileError, match="at most 1032"):
        check_ratio("a.tif", len(blank), len(zlib.compress(blank, 9)) // 2, "deflate")


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("tile", [None, (128, 128)])
def test_blank_images_are_no_bombs(tmp_path: Path, compression: str | None, tile: tuple[int, int] | None) -> None:
    path, blank = tmp_path / "blank.tif", np.zeros((1000, 700), np.uint16)
    tifffile.imwrite(path, blank, compression=compression, tile=tile)
    assert np.array_equal(read_image(path).pixels, blank)


def test_bits_that_become_bytes_are_no_bomb(tmp_path: Path) -> None:
    bits = np.zeros((512, 512), bool)
    tifffile.imwrite(tmp_path / "bits.tif", bits, photometric="minisblack")
    assert not read_image(tmp_path / "bits.tif").pixels.any()
    for mode, name in (("1", "bits.bmp"), ("1", "bits.png"), ("P", "palette.bmp"), ("RGB", "colour.bmp")):
        PIL.Image.fromarray(bits).convert(mode).save(tmp_path / name)
        assert not read_image(tmp_path / name).pixels.any()


@pytest.mark.parametrize("extension", [".png", ".jpg", ".bmp"])
def test_pictures_beyond_the_limit_of_pillow_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str
) -> None:
    path = tmp_path / f"large{extension}"
    PIL.Image.fromarray(SMALL).save(path)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PIL.Image.DecompressionBombError):
        PIL.Image.open(path)
    assert read_image(path).pixels.shape == SMALL.shape


def zstd_of_unknown_size(size: int) -> bytes:
    """A frame of blocks of 128 KiB of zeros, four bytes each, without the size of it all."""
    blocks = [struct.pack("<I", (2**17 << 3 | 1 << 1))[:3] + b"\0"] * (size // 2**17)
    return struct.pack("<IBB", 0xFD2FB528, 0, 0x38) + b"".join(blocks) + struct.pack("<I", 1)[:3]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_a_chunk_that_unpacks_to_200_mb_is_refused_in_little_memory(tmp_path: Path) -> None:
    packer = zlib.compressobj(1, wbits=31)
    gzip = packer.compress(bytes(200 * 2**20)) + packer.flush()
    zstd = zstd_of_unknown_size(200 * 2**20)
    kinds: list[tuple[int, Any, bytes]] = [
        (2, None, SMALL.tobytes()),  # the first one read, so that all libraries are there
        (2, {"id": "gzip"}, gzip),
        (2, {"id": "zstd"}, zstd),
        (2, {"id": "zstd"}, imagecodecs.zstd_encode(bytes(200 * 2**20))),
        (3, zarr.codecs.GzipCodec(), gzip),
        (3, zarr.codecs.ZstdCodec(), zstd),
    ]
    paths = []
    for number, (zarr_format, codec, content) in enumerate(kinds):
        paths.append(tmp_path / f"{number}.zarr")
        options: dict[str, Any] = {"attributes": {"_ARRAY_DIMENSIONS": ["y", "x"]}, "compressors": codec}
        zarr.create_array(paths[-1], data=SMALL, chunks=SMALL.shape, zarr_format=zarr_format, **options)
        (paths[-1] / ("0.0" if zarr_format == 2 else "c/0/0")).write_bytes(content)
        assert len(content) < 1_000_000
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True, cwd=ROOT)
    honest, *bombs = json.loads(done.stdout).items()
    assert honest[1][0] == "read"
    for path, (reason, seconds, mebibytes) in bombs:
        assert "more than" in reason, (path, reason)
        assert seconds < 1, path
        assert mebibytes < 20, path


def test_a_picture_of_another_kind_does_not_start_another_decoder(tmp_path: Path) -> None:
    # Pillow hands this to Ghostscript
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n")
    with pytest.raises(ImageFileError, match="begins like no PNG"):
        read_image(tmp_path / "a.png")


def test_directories_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    # each claims the rest of the file, and the next one begins a byte later: reading them all takes hours
    size, tags = 200_000, 4000
    content = bytearray(struct.pack("<HHI", 0x4949, 42, 8) + bytes(size))
    for start in range(8, 8 + 1000 * 2, 2):
        content[start : start + 2] = struct.pack("<H", tags)
        content[start + 2 + tags * 12 : start + 6 + tags * 12] = struct.pack("<I", start + 2)
    (tmp_path / "over.tif").write_bytes(content)
    with pytest.raises(ImageFileError, match="incomplete"):
        read_image(tmp_path / "over.tif")


# ---- OME-XML ------------------------------------------------------------------------------------

OME = (
    '<?xml version="1.0" encoding="UTF-8"?>{dtd}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" {root}>'
    '<Image ID="Image:0" Name="{name}"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="64" SizeY="64" '
    'SizeC="1" SizeZ="{z}" SizeT="1"><Channel ID="C:0" SamplesPerPixel="1"/>{data}</Pixels></Image>{tail}</OME>'
)
FIELDS = {"dtd": "", "root": "", "name": "a", "z": "1", "data": '<TiffData IFD="0" PlaneCount="1"/>', "tail": ""}
LAUGHS = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9))
MODULO = (
    '<StructuredAnnotations><XMLAnnotation ID="A:0" Namespace="openmicroscopy.org/omero/dimension/modulo"><Value>'
    '<Modulo><ModuloAlongZ Type="lifetime" Start="0" End="1e15" Step="1"/></Modulo></Value></XMLAnnotation>'
    "</StructuredAnnotations>"
)
UUID = '<TiffData IFD="0" PlaneCount="1"><UUID FileName="{}">urn:uuid:1</UUID></TiffData>'
HOSTILE = {
    "billion laughs": (
        {"dtd": f'<!DOCTYPE OME [<!ENTITY a0 "ha">{LAUGHS}]>', "name": "&a9;"},
        "document type or entities",
    ),
    "external entity": ({"dtd": '<!DOCTYPE OME [<!ENTITY e SYSTEM "file:///etc/passwd">]>', "name": "&e;"}, "entities"),
    "external DTD": ({"dtd": '<!DOCTYPE OME SYSTEM "http://127.0.0.1/ome.dtd">'}, "entities"),
    "endless stack": ({"z": "1000000000000"}, "claims 1e+12 planes"),
    "planes below none": ({"z": "-5"}, "planes"),
    "no number": ({"z": "many"}, "planes"),
    "endless list": ({"data": '<TiffData IFD="0" PlaneCount="1000000000000"/>'}, "planes"),
    "endless modulo": ({"tail": MODULO}, "planes or positions"),
    "other folder": ({"data": UUID.format("../../secret.tif")}, "its own folder"),
    "absolute path": ({"data": UUID.format("/etc/secret.tif")}, "its own folder"),
    "other drive": ({"data": UUID.format("C:\\secret.tif")}, "its own folder"),
}


def with_xml(path: Path, **changes: str) -> Path:
    xml = OME.format(**FIELDS | changes)
    tifffile.imwrite(path, SMALL, description=xml.encode(), metadata=None)
    return path


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_ome_xml_is_refused(tmp_path: Path, kind: str) -> None:
    changes, message = HOSTILE[kind]
    path = with_xml(tmp_path / "a.tif", **changes)
    for read in (read_image, read_layers, read_provenance):
        with pytest.raises(ImageFileError, match=message.replace("+", r"\+")):
            read(path)


def test_odd_ome_xml_is_read_or_refused_without_harm(tmp_path: Path) -> None:
    assert read_image(with_xml(tmp_path / "a.tif")).axes == "YX"
    odd = {
        "no namespace": OME.format(**FIELDS).replace("xmlns=", "data-x="),
        "another namespace": OME.format(**FIELDS).replace("openmicroscopy", "example"),
        "deep": OME.format(**FIELDS | {"tail": "<a>" * 20_000 + "</a>" * 20_000}),
        "long text": OME.format(**FIELDS | {"tail": f"<a>{'x' * 2_000_000}</a>"}),
        "many attributes": OME.format(**FIELDS | {"root": " ".join(f'a{i}="1"' for i in range(20_000))}),
        "unclosed": OME.format(**FIELDS).replace("</Image>", ""),
    }
    for kind, xml in odd.items():
        tifffile.imwrite(tmp_path / "a.tif", SMALL, description=xml.encode(), metadata=None)
        try:
            assert np.array_equal(read_image(tmp_path / "a.tif").pixels, SMALL), kind
        except ImageFileError as error:
            assert error.remedy  # noqa: PT017
    content = OME.format(**FIELDS | {"name": "@@@@"}).encode().replace(b"@@@@", b"\xff\xfe\xc0\x80")
    tifffile.imwrite(tmp_path / "a.tif", SMALL, description=content, metadata=None)
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, SMALL)


def test_xml_has_a_limit() -> None:
    check_xml("a.tif", "x" * 1000)
    with pytest.raises(ImageFileError, match="up to 64.0 MiB"):
        check_ome("a.tif", "x" * (64 * 2**20 + 1))


def test_notes_that_are_not_ours_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    write_image(path, SMALL, "YX", channel_names=(), pixel_size_um={"Y": 2.0, "X": 2.0})
    honest = path.read_bytes()
    for old, new in ((b'"|u1"', b'"S99"'), (b'"|u1"', b'"|O1"'), (b'"dtype"', b'"dtypo"'), (b"[64, 64]", b"[8, 512]")):
        assert old.replace(b'"', b"&quot;") in honest or old in honest, old
        changed = honest.replace(old, new).replace(old.replace(b'"', b"&quot;"), new.replace(b'"', b"&quot;"))
        path.write_bytes(changed)
        try:
            assert read_image(path).pixels.size == SMALL.size
        except ImageFileError as error:
            assert error.remedy  # noqa: PT017


def test_a_store_that_claims_millions_of_missing_chunks_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(64, 2**24), chunks=(8, 8), dtype="u1", fill_value=3, dimension_names=["Y", "X"])
    started = time.perf_counter()
    with pytest.raises(ImageFileError, match="claims 16777216 chunks and holds 1 files"):
        read_image(path)
    assert time.perf_counter() - started < 2
    with open_image(path) as opened:
        assert (opened.array[8:16, :32] == 3).all()
    sparse = tmp_path / "sparse.zarr"
    zarr.create_array(sparse, shape=(64, 64), chunks=(32, 32), dtype="u1", fill_value=3, dimension_names=["Y", "X"])
    assert (read_image(sparse).pixels == 3).all()


def test_directories_that_lead_in_circles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "circle.tif"
    tifffile.imwrite(path, np.stack([SMALL] * 3), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tif:
        first, last = tif.pages[0].offset, tif.pages[2].offset
    content = bytearray(path.read_bytes())
    end = last + 2 + 12 * struct.unpack("<H", content[last : last + 2])[0]
    content[end : end + 4] = struct.pack("<I", first)
    path.write_bytes(content)
    with pytest.raises(ImageFileError, match="incomplete"):
        read_image(path)


def test_strips_that_are_not_listed_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "strips.tif"
    tifffile.imwrite(path, SMALL, compression="zlib", rowsperstrip=8, metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags["ImageLength"].overwrite(128)
    with pytest.raises(ImageFileError, match="incomplete"):
        read_image(path)


def test_no_more_is_asked_of_a_file_than_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PIL.Image.fromarray(SMALL).save(path)
    content = bytearray(path.read_bytes())
    content[33:37] = struct.pack(">I", 2**31 - 1)  # the length of its first chunk of pixels
    path.write_bytes(content)
    tracemalloc.start()
    try:
        read_image(path)
    except ImageFileError as error:
        assert error.remedy  # noqa: PT017
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24
