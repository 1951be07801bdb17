"""Zarr stores of other programs: what they say is taken, what they do not say is asked for, what is absurd refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from napari_vae_repair.errors import ImageFileError, InputError
from napari_vae_repair.image.files import is_restored_file, read_image, read_provenance, write_image
from napari_vae_repair.image.omezarr import MAX_CHUNK_BYTES, MAX_CHUNKS
from napari_vae_repair.image.opened import open_image

VALUES = np.random.default_rng(0).integers(0, 60_000, (2, 3, 20, 24)).astype(np.uint16)
AXES = [{"name": n, "type": t} for n, t in (("c", "channel"), ("z", "space"), ("y", "space"), ("x", "space"))]


def multiscale(axes: list[dict[str, Any]] = AXES, path: str = "0", **changes: Any) -> dict[str, Any]:
    scale = {"type": "scale", "scale": [1.0] * len(axes)}
    return {"axes": axes, "datasets": [{"path": path, "coordinateTransformations": [scale]}]} | changes


def store(path: Path, attributes: Any, values: np.ndarray = VALUES, zarr_format: int = 3, name: str = "0") -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    group.create_array(name, data=values, chunks=values.shape)
    group.attrs.update({"ome": {"version": "0.5"} | attributes} if zarr_format == 3 else attributes)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ome_zarr", "ignore:Call to deprecated class Scaler")
@pytest.mark.parametrize(("version", "zarr_format"), [("0.4", 2), ("0.5", 3)])
def test_a_store_of_ome_zarrs_own_writer_is_read(tmp_path: Path, version: str, zarr_format: int) -> None:
    from ome_zarr.format import format_from_version
    from ome_zarr.writer import add_metadata, write_image

    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    sizes = {"scale": {"c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25}, "axes_units": dict.fromkeys("zyx", "micrometer")}
    write_image(VALUES, group, axes="czyx", fmt=format_from_version(version), scale_factors=[], **sizes)
    channels = [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP", "color": "00FF00"}]
    window = {"window": {"min": 0, "max": 1, "start": 0, "end": 1}, "active": True}
    add_metadata(group, {"omero": {"channels": [c | window for c in channels]}}, fmt=format_from_version(version))
    image = read_image(tmp_path / "a.zarr")
    assert (image.axes, image.pixel_size_um) == ("CZYX", {"Z": 2.0, "Y": 0.5, "X": 0.25})
    assert (image.channel_names, image.channel_colours) == (("DAPI", "GFP"), ((0, 0, 255), (0, 255, 0)))
    np.testing.assert_array_equal(image.pixels, VALUES)
    assert not is_restored_file(tmp_path / "a.zarr")
    assert read_provenance(tmp_path / "a.zarr") is None


@pytest.mark.parametrize(
    ("unit", "size"),
    [("nanometer", 0.5e-3), ("angstrom", 0.5e-4), ("millimeter", 500.0), ("inch", 12700.0), ("second", None),
     (None, None), ("furlong", None), (3, None)],
)  # fmt: skip
def test_sizes_are_converted_from_every_length_and_from_nothing_else(
    tmp_path: Path, unit: Any, size: float | None
) -> None:
    axes = [{"name": n, "type": "space"} | ({} if unit is None else {"unit": unit}) for n in "yx"]
    halved = [{"type": "scale", "scale": [0.5, 0.5]}]
    path = store(
        tmp_path / "a.zarr", {"multiscales": [multiscale(axes, coordinateTransformations=halved)]}, VALUES[0, 0]
    )
    image = read_image(path)
    assert image.pixel_size_um == ({} if size is None else pytest.approx({"Y": size, "X": size}))


def test_the_first_series_of_a_bioformats2raw_container_is_taken(tmp_path: Path) -> None:
    for zarr_format, path in ((2, tmp_path / "a.zarr"), (3, tmp_path / "b.zarr")):
        root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
        layout = {"bioformats2raw.layout": 3}
        root.attrs.update({"ome": {"version": "0.5"} | layout} if zarr_format == 3 else layout)
        for number in range(2):
            images = {"multiscales": [multiscale()]}
            store(path / str(number), images, VALUES + number, zarr_format)
        np.testing.assert_array_equal(read_image(path).pixels, VALUES)
        np.testing.assert_array_equal(read_image(path / "1").pixels, VALUES + 1)


def test_dimensions_of_one_entry_are_dropped_and_unknown_axes_get_a_letter(tmp_path: Path) -> None:
    axes = [{"name": "t", "type": "time"}, AXES[0], {"name": "angle"}, *AXES[2:]]
    path = store(tmp_path / "a.zarr", {"multiscales": [multiscale(axes)]}, VALUES[None])
    assert read_image(path).axes == "CZYX"
    assert read_image(path, "CQYX").axes == read_image(path, "TCQYX").axes == "CQYX"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_axes_of_a_plain_array_are_asked_for_and_never_guessed(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "plain.zarr"
    zarr.create_array(path, data=VALUES, zarr_format=zarr_format)
    for read in (read_image, open_image):
        with pytest.raises(InputError, match="does not name its axes.*--axes"):
            read(path)
    assert read_image(path, "CZYX").axes == "CZYX"
    np.testing.assert_array_equal(open_image(path, "ZCYX").array[1:, :, 4:6], VALUES[1:, :, 4:6])


def test_the_axes_that_a_plain_array_names_are_taken(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=VALUES, dimension_names=["c", "z", "y", "x"])
    assert read_image(tmp_path / "a.zarr").axes == "CZYX"
    zarr.create_array(tmp_path / "b.zarr", data=VALUES, dimension_names=["c", "depth", "lat", "lon"])
    with pytest.raises(InputError, match="does not name"):
        read_image(tmp_path / "b.zarr")


@pytest.mark.parametrize(
    "omero",
    [3, {}, {"channels": 3}, {"channels": [{"color": "blue"}, {}]}, {"channels": [{"label": 3, "color": "00"}] * 2},
     {"channels": [{"label": "one", "color": "00FF00"}]}],
)  # fmt: skip
def test_what_is_wrong_with_the_colours_does_not_refuse_the_image(tmp_path: Path, omero: Any) -> None:
    image = read_image(store(tmp_path / "a.zarr", {"multiscales": [multiscale()], "omero": omero}))
    assert (image.channel_names, image.channel_colours) == ((), ())


ABSURD: list[tuple[Any, str]] = [
    ({"multiscales": []}, "multiscales"),
    ({"multiscales": 3}, "multiscales"),
    ({"multiscales": [multiscale(path="../outside")]}, "out of the store"),
    ({"multiscales": [multiscale(path="/etc")]}, "out of the store"),
    ({"multiscales": [multiscale(path="..\\outside")]}, "out of the store"),
    ({"multiscales": [multiscale(path="C:/outside")]}, "out of the store"),
    ({"multiscales": [multiscale(path="9")]}, "'9' is missing"),
    ({"multiscales": [multiscale(AXES[1:])]}, "3 axes"),
    ({"multiscales": [multiscale([{"name": "y"}] * 4)]}, "axes"),
    ({"multiscales": [multiscale(datasets=[])]}, "datasets"),
    ({"multiscales": [multiscale(datasets=[{"path": "0", "coordinateTransformations": [{"type": "turn"}]}])]}, "type"),
    ({"plate": {}}, "plate.*A/1/0"),
    ({"well": {}}, "well"),
    ({}, "a group of 0.*--axes"),
    ({"bioformats2raw.layout": 3}, "a group of 0"),
]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("attributes", "match"), ABSURD)
def test_metadata_that_make_no_image_are_refused(
    tmp_path: Path, attributes: dict[str, Any], match: str, zarr_format: int
) -> None:
    path = store(tmp_path / "a.zarr", attributes, zarr_format=zarr_format)
    with pytest.raises(ImageFileError, match=match):
        open_image(path)


def test_versions_before_0_4_are_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr", {"multiscales": [multiscale(version="0.3")]}, zarr_format=2)
    with pytest.raises(ImageFileError, match=r"'0\.3'.*0\.4 and 0\.5.*--axes"):
        read_image(path)
    assert read_image(path / "0", "CZYX").axes == "CZYX"


@pytest.mark.parametrize(
    ("shape", "chunks", "match"),
    [
        ([10**7, 10**7], [64, 64], f"At most {MAX_CHUNKS}"),
        ([10**6, 10**6], [10**6, 10**6], f"At most .*{MAX_CHUNK_BYTES}"),
        ([10**30, 10**30], [1, 1], "cannot be read|chunks"),
        ([-5, 20], [5, 20], "cannot be read|in shape"),
        ([0, 20], [5, 20], "in shape"),
        (["a", 20], [5, 20], "cannot be read"),
    ],
)
def test_absurd_shapes_and_chunks_are_refused_before_anything_is_allocated(
    tmp_path: Path, shape: list[Any], chunks: list[int], match: str
) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(20, 20), chunks=(5, 20), dtype="uint16", zarr_format=2)
    record = json.loads((path / ".zarray").read_bytes())
    (path / ".zarray").write_text(json.dumps(record | {"shape": shape, "chunks": chunks}))
    with pytest.raises(ImageFileError, match=match):
        open_image(path, "YX")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"zarr_format": 9}', b'{"node_type": "group"}', b"\xff"])
def test_damaged_metadata_are_told(tmp_path: Path, content: bytes) -> None:
    for name in ("zarr.json", ".zarray", ".zgroup"):
        path = tmp_path / f"{name.strip('.')}.zarr"
        path.mkdir()
        (path / name).write_bytes(content)
        with pytest.raises(ImageFileError):
            read_image(path)
        assert not is_restored_file(path)


@pytest.mark.parametrize("codec", ["ours", "blosc-2", "blosc-3"])
@pytest.mark.parametrize("left", [3, 20, -1])
def test_a_chunk_that_is_cut_off_is_told_when_it_is_read(tmp_path: Path, codec: str, left: int) -> None:
    path = tmp_path / "a.zarr"
    if codec == "ours":
        write_image(path, VALUES, "CZYX")
    else:
        blosc: Any = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}
        blosc = blosc if codec == "blosc-2" else zarr.codecs.BloscCodec()
        zarr.create_array(path, data=VALUES, compressors=blosc, zarr_format=int(codec[-1]))
    with open_image(path, "CZYX") as whole:
        np.testing.assert_array_equal(whole.array[...], VALUES)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(whole.array))[...], VALUES)
    chunk = next(
        f for f in path.rglob("*") if f.is_file() and f.suffix != ".json" and f.name not in (".zarray", ".zattrs")
    )
    chunk.write_bytes(chunk.read_bytes()[:left])
    with open_image(path, "CZYX") as opened, pytest.raises(ImageFileError, match=r"a\.zarr.* cannot be read"):
        opened.array[...]


V2: dict[str, dict[str, Any]] = {
    **{name: {"compressors": {"id": name}} for name in ("gzip", "zlib", "bz2", "lzma", "lz4", "zstd", "blosc")},
    "delta": {"filters": [numcodecs.Delta("<u2")], "compressors": {"id": "gzip"}},
    "packed filter": {"filters": [numcodecs.Shuffle(2), numcodecs.Zlib()], "compressors": None},
}
V3: dict[str, dict[str, Any]] = {
    "gzip": {"compressors": zarr.codecs.GzipCodec()},
    "zstd": {"compressors": zarr.codecs.ZstdCodec(checksum=True)},
    "blosc": {"compressors": zarr.codecs.BloscCodec()},
    "two": {"compressors": [zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec()]},
    "shard": {"compressors": zarr.codecs.GzipCodec(), "shards": True},
    "zstd shard": {"compressors": zarr.codecs.ZstdCodec(), "shards": True},
    "zlib": {"compressors": {"name": "numcodecs.zlib", "configuration": {}}},
    "lz4": {"compressors": {"name": "numcodecs.lz4", "configuration": {}}},
}
PACKED = [(2, name) for name in V2] + [(3, name) for name in V3]
PLAIN = {"uncompressed": {"compressors": None}, "uncompressed shard": {"compressors": None, "shards": True}}


def packed(path: Path, values: np.ndarray, zarr_format: int, name: str) -> Path:
    options = dict((V2 if zarr_format == 2 else V3 | PLAIN)[name])
    if options.pop("shards", False):
        options["shards"] = values.shape
    zarr.create_array(path, data=values, chunks=values.shape, zarr_format=zarr_format, fill_value=7, **options)
    return path


def shrunk(path: Path, side: int) -> Path:
    """The same chunks, which claim to be smaller."""
    name = path / ".zarray" if (path / ".zarray").exists() else path / "zarr.json"
    record = json.loads(name.read_bytes())
    record["shape"] = [side, side]
    if name.name == ".zarray":
        record["chunks"] = [side, side]
    else:
        record["chunk_grid"]["configuration"]["chunk_shape"] = [side, side]
        for codec in record["codecs"]:
            if codec["name"] == "sharding_indexed":
                codec["configuration"]["chunk_shape"] = [side, side]
    name.write_text(json.dumps(record))
    return path


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
@pytest.mark.parametrize(("zarr_format", "name"), [*PACKED, *((3, name) for name in PLAIN)])
def test_chunks_of_every_known_codec_are_read_in_this_process_and_in_others(
    tmp_path: Path, zarr_format: int, name: str
) -> None:
    path = packed(tmp_path / "a.zarr", VALUES[0, 0], zarr_format, name)
    array = open_image(path, "YX").array
    np.testing.assert_array_equal(array[3:9, ::2], VALUES[0, 0, 3:9, ::2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[...], VALUES[0, 0])


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
@pytest.mark.parametrize(("zarr_format", "name"), PACKED)
def test_chunks_that_unpack_to_more_than_they_should_are_refused(tmp_path: Path, zarr_format: int, name: str) -> None:
    path = shrunk(packed(tmp_path / "a.zarr", np.zeros((1024, 1024), "uint16"), zarr_format, name), 64)
    array = open_image(path, "YX").array
    for one in (array, pickle.loads(pickle.dumps(array))):
        with pytest.raises(ImageFileError, match=r"a\.zarr.* cannot be read.* more than \d+"):
            one[...]


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_codec_that_runs_programs_is_refused_before_it_is_asked(tmp_path: Path, place: str) -> None:
    path = packed(tmp_path / "a.zarr", VALUES[0, 0], 2, "gzip")
    record = json.loads((path / ".zarray").read_bytes())
    pickled = {"id": "pickle", "protocol": 5}
    (path / ".zarray").write_text(
        json.dumps(record | {"filters": None, "compressor": None, place: [pickled] if place == "filters" else pickled})
    )
    harm = f"cposix\nmkdir\n(V{tmp_path / 'harm'}\ntR.".encode()
    (path / "0.0").write_bytes(harm)
    with pytest.raises(ImageFileError, match="'pickle'"):
        open_image(path, "YX").array[...]
    assert not (tmp_path / "harm").exists()


def test_a_codec_that_is_not_known_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zarr", VALUES[0, 0], 2, "gzip")
    record = json.loads((path / ".zarray").read_bytes())
    (path / ".zarray").write_text(json.dumps(record | {"filters": [{"id": "base64"}]}))
    with pytest.raises(ImageFileError, match=r"a\.zarr cannot be read: its chunks are packed with 'base64'"):
        open_image(path, "YX")


def test_a_filter_that_makes_texts_of_numbers_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zarr", VALUES[0, 0], 2, "gzip")
    record = json.loads((path / ".zarray").read_bytes())
    texts = {"id": "astype", "encode_dtype": "<u2", "decode_dtype": "<U100000"}
    (path / ".zarray").write_text(json.dumps(record | {"filters": [texts]}))
    with pytest.raises(ImageFileError, match="makes values of <U100000"):
        open_image(path, "YX")


def test_an_empty_store_that_claims_more_than_the_memory_is_refused_whole_and_opened_in_parts(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(10**6, 10**6), chunks=(4096, 4096), dtype="uint16")
    with pytest.raises(ImageFileError, match="claims"):
        read_image(tmp_path / "a.zarr", "YX")
    assert open_image(tmp_path / "a.zarr", "YX").array[:9, :9].sum() == 0


def test_folders_that_are_no_store_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(ImageFileError, match="is a folder"):
        read_image(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").write_bytes(b"zarr")
    with pytest.raises(ImageFileError, match="no folder"):
        read_image(tmp_path / "b.zarr")


@pytest.mark.parametrize("record", [3, {"axes": 3}, {"axes": "XYCS"}, {"axes": "XY", "pixel_size_um": 3}])
def test_a_note_of_ours_that_was_tampered_with_is_not_followed(tmp_path: Path, record: Any) -> None:
    path = store(tmp_path / "a.zarr", {"multiscales": [multiscale()]})
    zarr.open_group(path).attrs["napari-vae-repair"] = record
    assert read_image(path).axes == "CZYX"
    assert read_provenance(path) is None
