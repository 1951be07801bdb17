"""The table of formats: each cell is a test, and docs/formats.md has the same cells."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile
import zarr

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.files import check_format, read_image, write_image
from napari_vae_repair.image.omezarr import create_store

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
COLUMNS = ("read", "write", "axes", "sizes", "channels", "round-trip")
VALUES = np.random.default_rng(0).integers(0, 60_000, (2, 40, 52)).astype(np.uint16)
SIZES = {"Y": 0.5, "X": 0.25}
NAMES, COLOURS = ("DAPI", "GFP"), ((0, 0, 255), (0, 255, 0))
SMOOTH = np.add.outer(np.arange(40), np.arange(52)).astype(np.uint8)  # what JPEG hardly changes


class Format(NamedTuple):
    """One row: a file of another library, how ours is written, how the other library reads ours."""

    extension: str
    foreign: Callable[[Path], object]
    values: np.ndarray = VALUES
    axes: str = "CYX"
    ours: Callable[[Path], object] | None = None
    others_values: Callable[[Path], np.ndarray] | None = None
    others_facts: Callable[[Path], dict[str, Any]] | None = None
    tolerance: int = 0


def of_tifffile(**options: Any) -> Callable[[Path], object]:
    return lambda path: tifffile.imwrite(path, VALUES, photometric="minisblack", **options)


OME = {
    "axes": "CYX", "PhysicalSizeY": 500.0, "PhysicalSizeYUnit": "nm", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm",
    "Channel": {"Name": list(NAMES), "Color": [0x0000FFFF, 0x00FF00FF]},
}  # fmt: skip


def of_imagej(path: Path) -> None:
    lut = np.zeros((2, 3, 256), np.uint8)
    lut[0, 2] = lut[1, 1] = np.arange(256)
    metadata = {"axes": "CYX", "unit": "um", "Labels": list(NAMES), "LUTs": list(lut), "mode": "composite"}
    tifffile.imwrite(path, VALUES, imagej=True, metadata=metadata, resolution=(4.0, 2.0))


def of_zarr(version: str) -> Callable[[Path], object]:
    """By zarr itself, with the specification's own example of metadata."""

    def write(path: Path) -> None:
        group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
        names = {} if version == "0.4" else {"dimension_names": ["c", "y", "x"]}
        group.create_array("full", data=VALUES, chunks=(1, 32, 32), **names)
        space = [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"]
        scale = [{"type": "scale", "scale": [1.0, 500.0, 250.0]}]
        image = {"axes": [{"name": "c", "type": "channel"}, *space], "datasets": [
            {"path": "full", "coordinateTransformations": scale}]}  # fmt: skip
        window = {"window": {"min": 0, "max": 65535, "start": 0, "end": 60000}, "active": True}
        shown = zip(NAMES, ("0000FF", "00ff00"), strict=True)
        omero = {"channels": [{"label": name, "color": colour} | window for name, colour in shown]}
        about: dict[str, Any] = {"multiscales": [image], "omero": omero}
        group.attrs.update(about if version == "0.4" else {"ome": about | {"version": "0.5"}})

    return write


def our_store(version: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        about = {"pixel_size_um": SIZES, "channel_names": NAMES, "channel_colours": COLOURS}
        writer = create_store(path, VALUES.shape, VALUES.dtype, "CYX", chunks=(1, 32, 32), version=version, **about)
        writer.write((slice(None),) * 3, VALUES)
        writer.finish()

    return write


def node_of_ome_zarr(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own deprecations, at import
        from ome_zarr.io import parse_url
        from ome_zarr.reader import Reader

        return next(iter(Reader(parse_url(path))()))


def facts_of_ome_zarr(path: Path) -> dict[str, Any]:
    metadata = node_of_ome_zarr(path).metadata
    (scale,) = metadata["coordinateTransformations"][0]
    colours = tuple(tuple(round(part * 255) for part in table[-1]) for table in metadata["colormap"])
    axes = "".join(axis["name"] for axis in metadata["axes"]).upper()
    sizes = dict(zip("YX", scale["scale"][1:], strict=True))
    return {
        "axes": axes,
        "pixel_size_um": sizes,
        "channel_names": tuple(metadata["channel_names"]),
        "channel_colours": colours,
    }


def facts_of_tifffile(path: Path) -> dict[str, Any]:
    with tifffile.TiffFile(path) as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        axes = tif.series[0].axes
    colours = tuple((c["Color"] >> 24 & 255, c["Color"] >> 16 & 255, c["Color"] >> 8 & 255) for c in pixels["Channel"])
    sizes = {axis: pixels[f"PhysicalSize{axis}"] for axis in "YX"}
    names = tuple(channel["Name"] for channel in pixels["Channel"])
    return {"axes": axes, "pixel_size_um": sizes, "channel_names": names, "channel_colours": colours}


def of_pylibczirw(path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    pytest.importorskip("bioio_czi")
    with czi.create_czi(str(path)) as document:
        for c in range(2):
            document.write(data=VALUES[c][..., None], plane={"C": c, "Z": 0, "T": 0})
        document.write_metadata("a", channel_names=dict(enumerate(NAMES)), scale_x=0.25e-6, scale_y=0.5e-6)


def by_pillow(values: np.ndarray, **options: Any) -> Callable[[Path], object]:
    return lambda path: PIL.Image.fromarray(values).save(path, **options)


def as_array(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as picture:
        return np.asarray(picture)


DEEP = np.ascontiguousarray(np.moveaxis(np.concatenate([VALUES, VALUES[:1]]), 0, -1))
FORMATS = {
    "ome-tiff": Format(
        ".ome.tif", of_tifffile(metadata=OME), others_values=tifffile.imread, others_facts=facts_of_tifffile
    ),
    "imagej-tiff": Format(".tif", of_imagej),
    "plain-tiff": Format(".tif", of_tifffile(metadata={"axes": "CYX"}), others_values=tifffile.imread),
    "ome-zarr-0.4": Format(
        ".ome.zarr", of_zarr("0.4"), ours=our_store("0.4"),
        others_values=lambda path: zarr.open_group(path, mode="r")["0"][:], others_facts=facts_of_ome_zarr,
    ),
    "ome-zarr-0.5": Format(
        ".ome.zarr", of_zarr("0.5"), others_values=lambda path: np.asarray(node_of_ome_zarr(path).data[0]),
        others_facts=facts_of_ome_zarr,
    ),
    "png-8": Format(".png", by_pillow(SMOOTH), SMOOTH, "YX", others_values=as_array),
    "png-16": Format(
        ".png", lambda path: path.write_bytes(imagecodecs.png_encode(DEEP)), DEEP, "YXS",
        others_values=lambda path: imagecodecs.png_decode(path.read_bytes()),
    ),
    "jpeg": Format(".jpg", by_pillow(SMOOTH, quality=100), SMOOTH, "YX", others_values=as_array, tolerance=3),
    "bmp": Format(".bmp", by_pillow(SMOOTH), SMOOTH, "YX"),
    "czi": Format(".czi", of_pylibczirw),
}  # fmt: skip
NO = {
    *((row, column) for row in ("imagej-tiff", "bmp", "czi") for column in ("write", "round-trip")),
    *((row, column) for row in ("png-8", "png-16", "jpeg", "bmp") for column in ("axes", "sizes", "channels")),
}
EXPECTED = {"axes": "CYX", "pixel_size_um": SIZES, "channel_names": NAMES, "channel_colours": COLOURS}


def written(row: Format, path: Path) -> Path:
    if row.ours is not None:
        row.ours(path)
        return path
    about = {"pixel_size_um": SIZES, "channel_names": NAMES, "channel_colours": COLOURS} if row.axes == "CYX" else {}
    return write_image(path, row.values, row.axes, **about)


def facts_of(image: Any) -> dict[str, Any]:
    return {fact: getattr(image, fact) for fact in EXPECTED}


def assert_same(row: Format, found: np.ndarray) -> None:
    np.testing.assert_allclose(found.astype(float), row.values.astype(float), atol=row.tolerance)
    assert found.dtype == row.values.dtype


def check_read(row: Format, path: Path, known: bool) -> None:
    row.foreign(path)
    assert_same(row, read_image(path).pixels)


def check_write(row: Format, path: Path, possible: bool) -> None:
    if possible:
        assert_same(row, read_image(written(row, path)).pixels)
    elif row.extension == ".tif":
        with tifffile.TiffFile(written(row, path)) as tif:
            assert not tif.is_imagej
    else:
        with pytest.raises(ImageFileError, match="does not name a file type"):
            check_format(path, row.axes, row.values.dtype)


def check_fact(fact: str) -> Callable[[Format, Path, bool], None]:
    def check(row: Format, path: Path, known: bool) -> None:
        row.foreign(path)
        image = read_image(path)
        if not known:
            assert (image.axes, image.pixel_size_um, image.channel_names) == (row.axes, {}, ())
            if row.extension != ".bmp":
                with pytest.raises(ImageFileError, match="one plane"):
                    check_format(path, "CYX", row.values.dtype)
            return
        expected = EXPECTED[fact]
        if row is FORMATS["plain-tiff"] and fact != "axes":  # other programs have no place for them: ours
            image = read_image(written(row, path))
        assert getattr(image, fact) == (pytest.approx(expected) if fact == "pixel_size_um" else expected)
        if fact == "channel_names" and row is not FORMATS["czi"]:
            assert image.channel_colours == COLOURS

    return check


def check_round_trip(row: Format, path: Path, possible: bool) -> None:
    if row.others_values is None:
        assert not possible
        check_write(row, path, False)
        return
    assert_same(row, row.others_values(written(row, path)))
    if row.others_facts is not None:
        assert row.others_facts(path) == EXPECTED
    if row.axes == "CYX":
        assert facts_of(read_image(path)) == EXPECTED


CHECKS = {
    "read": check_read, "write": check_write, "axes": check_fact("axes"), "sizes": check_fact("pixel_size_um"),
    "channels": check_fact("channel_names"), "round-trip": check_round_trip,
}  # fmt: skip
CELLS = [(row, column) for row in FORMATS for column in COLUMNS]


@pytest.mark.parametrize(("row", "column"), CELLS, ids=[f"{row}-{column}" for row, column in CELLS])
def test_cell(tmp_path: Path, row: str, column: str) -> None:
    CHECKS[column](FORMATS[row], tmp_path / f"a{FORMATS[row].extension}", (row, column) not in NO)


def test_the_page_has_the_cells_of_the_tests() -> None:
    page = PAGE.read_text(encoding="utf-8")
    lines = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines() if line.startswith("|")
    ]
    header, _, *rows = lines[: 2 + len(FORMATS)]
    assert [cell.lower().replace(" ", "-") for cell in header[1:]] == list(COLUMNS)
    told = {
        (row[0].lower().replace(" ", "-"), column): cell
        for row in rows
        for column, cell in zip(COLUMNS, row[1:], strict=True)
    }
    assert set(told) == set(CELLS)
    assert {cell for cell in CELLS if told[cell] != "yes"} == NO
    for cell in NO:
        note = re.fullmatch(r"no(\[\^\d\])", told[cell])
        assert note, f"{cell}: {told[cell]!r} has no footnote"
        assert f"\n{note[1]}: " in page
