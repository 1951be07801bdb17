"""OME-Zarr stores: what is written is read back, stays whole, and appears only when complete."""

from __future__ import annotations

import itertools
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_vae_repair.errors import Cancelled, ImageFileError, InputError
from napari_vae_repair.image.files import read_provenance
from napari_vae_repair.image.omezarr import StoreWriter, create_store
from napari_vae_repair.image.opened import open_image
from napari_vae_repair.image.zarr_levels import halved

VERSIONS = ("0.4", "0.5")
SHAPES = {
    "YX": (20, 24), "XY": (20, 24), "ZYX": (3, 20, 24), "TCZYX": (2, 3, 4, 16, 18), "YXS": (40, 44, 3),
    "ZYXS": (2, 40, 44, 4), "IYX": (3, 20, 24), "CZIYX": (2, 3, 2, 20, 24), "ZTYX": (2, 3, 20, 24),
}  # fmt: skip
SIZES = {"Z": 2.0, "Y": 0.25, "X": 0.1}


def some_values(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    values = np.random.default_rng(0).normal(100, 40, shape).clip(0, 250)
    return values > 100 if dtype == "bool" else values.astype(dtype)


def windows(writer: StoreWriter) -> Iterator[tuple[slice, ...]]:
    starts = (range(0, n, c) for n, c in zip(writer.shape, writer.chunks, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(a, min(a + c, n)) for a, c, n in zip(corner, writer.chunks, writer.shape, strict=True))


def written(path: Path, values: np.ndarray, axes: str, **options: Any) -> Path:
    writer = create_store(path, values.shape, values.dtype, axes, **options)
    for window in windows(writer):
        writer.write(window, values[window])
    return writer.finish()


# ---- what is written is read back -------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("axes", SHAPES)
def test_values_axes_sizes_and_channels_come_back(tmp_path: Path, axes: str, version: str) -> None:
    values = some_values(SHAPES[axes])
    count = values.shape[axes.index("C")] if "C" in axes else 0
    about = {
        "pixel_size_um": {axis: size for axis, size in SIZES.items() if axis in axes},
        "channel_names": ("DAPI", "GFP µ<&>", "Cy5")[:count],
        "channel_colours": ((0, 0, 255), (0, 255, 16), (255, 0, 1))[:count],
    }
    path = written(tmp_path / "a.ome.zarr", values, axes, version=version, **about)
    with open_image(path) as opened:
        assert (opened.axes, opened.array.dtype, opened.name) == (axes, values.dtype, "a")
        np.testing.assert_array_equal(opened.array[...], values)
        assert {name: getattr(opened, name) for name in about} == about
    assert zarr.open_group(path, mode="r").metadata.zarr_format == (2 if version == "0.4" else 3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ome.zarr"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint32", "int64", "float16", "float32", "float64", ">u2"])
def test_every_dtype_comes_back(tmp_path: Path, dtype: str, version: str) -> None:
    values = some_values((30, 40), dtype)
    path = written(tmp_path / "a.zarr", values, "YX", version=version, chunks=(16, 16))
    array = open_image(path).array
    assert array.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(array[...], values)


@pytest.mark.parametrize("version", VERSIONS)
def test_another_library_finds_valid_metadata_and_a_pyramid_of_means(tmp_path: Path, version: str) -> None:
    from ome_zarr_models import v04, v05

    values = some_values((2, 530, 1025))
    path = written(tmp_path / "a.zarr", values, "CYX", version=version, channel_names=("a", "b"), pixel_size_um=SIZES)
    attributes = zarr.open_group(path, mode="r").attrs.asdict()
    model = v05.image.ImageAttrs if version == "0.5" else v04.image.ImageAttrs
    datasets = model.model_validate(attributes["ome"] if version == "0.5" else attributes).multiscales[0].datasets
    assert [zarr.open_array(path / d.path, mode="r").shape for d in datasets] == [
        (2, 530, 1025),
        (2, 265, 513),
        (2, 133, 257),
    ]
    scale, shift = datasets[2].coordinateTransformations
    assert scale.scale == [1.0, 1.0, 0.4]
    np.testing.assert_allclose(shift.translation, [0, 0.375, 0.15])
    level = zarr.open_array(path / "1", mode="r")[:]
    np.testing.assert_array_equal(
        level[:, :, :512], np.rint(values[:, :, :1024].reshape(2, 265, 2, 512, 2).mean((2, 4)))
    )
    np.testing.assert_array_equal(level[:, :, 512], np.rint(values[:, :, 1024].reshape(2, 265, 2).mean(2)))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64", "uint64"])
def test_the_mean_of_integers_is_rounded_exactly(dtype: str) -> None:
    limits = np.iinfo(dtype)
    values = np.random.default_rng(0).integers(limits.min, limits.max, (12, 14), dtype=dtype, endpoint=True)
    values[:2, :2] = limits.max
    quads = values.reshape(6, 2, 7, 2).transpose(0, 2, 1, 3).reshape(6, 7, 4)
    exact = [[round(sum(int(v) for v in quad) / 4) if limits.bits < 32 else None for quad in row] for row in quads]
    if limits.bits == 64:  # beyond what a float holds
        from fractions import Fraction

        exact = [[round(Fraction(sum(int(v) for v in quad), 4)) for quad in row] for row in quads]
    np.testing.assert_array_equal(halved(values, (0, 1)), np.array(exact, dtype))


def test_the_mean_of_floats_leaves_out_nan_and_does_not_overflow() -> None:
    values = np.full((4, 4), np.finfo("float32").max, "float32")
    values[:2, :2] = [[np.nan, 1], [2, np.nan]]
    values[:2, 2:] = np.nan
    expected = [[1.5, np.nan], [np.finfo("float32").max] * 2]
    np.testing.assert_array_equal(halved(values, (0, 1)), np.array(expected, "float32"))
    np.testing.assert_array_equal(halved(np.array([[True, True], [True, False]]), (0, 1)), [[True]])


# ---- a store appears only when complete -------------------------------------------------------


def begun(path: Path, key: str = "k", values: np.ndarray | None = None, **options: Any) -> StoreWriter:
    values = some_values((40, 48)) if values is None else values
    return create_store(path, values.shape, values.dtype, "YX", chunks=(16, 16), plan_key=key, **options)


def test_nothing_stands_at_the_place_until_the_end_and_the_old_store_until_then(tmp_path: Path) -> None:
    path, values = tmp_path / "a.zarr", some_values((40, 48))
    written(path, values // 2, "YX")
    writer = begun(path)
    writer.write((slice(0, 40), slice(0, 48)), values)
    np.testing.assert_array_equal(open_image(path).array[...], values // 2)
    writer.finish()
    np.testing.assert_array_equal(open_image(path).array[...], values)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


def test_a_run_of_the_same_plan_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    values = some_values((40, 48))
    whole, halting = begun(tmp_path / "a.zarr"), begun(tmp_path / "b.zarr")
    plan = list(enumerate(windows(whole)))
    for number, window in plan:
        whole.write(window, values[window])
        if number % 2:
            halting.write(window, values[window])
            halting.mark_done(number)
    again = begun(tmp_path / "b.zarr")
    assert again.done == {number for number, _ in plan if number % 2}
    for number, window in plan:
        if number not in again.done:
            again.write(window, values[window])
    contents = []
    for path in (whole.finish({"made": 1}), again.finish({"made": 1})):
        files = sorted(file for file in path.rglob("*") if file.is_file() and file != path / "zarr.json")
        contents.append([(file.relative_to(path), file.read_bytes()) for file in files])
    assert contents[0] == contents[1]


@pytest.mark.parametrize("change", ["plan_key", "dtype", "chunks", "version", "axes"])
def test_another_plan_begins_anew(tmp_path: Path, change: str) -> None:
    begun(tmp_path / "a.zarr").mark_done(3)
    options: dict[str, Any] = {"dtype": "uint16", "chunks": (16, 16), "plan_key": "k", "version": "0.5", "axes": "YX"}
    assert create_store(tmp_path / "a.zarr", (40, 48), **options).done == {3}
    other = {"plan_key": "other", "dtype": "uint8", "chunks": (8, 16), "version": "0.4", "axes": "XY"}[change]
    assert create_store(tmp_path / "a.zarr", (40, 48), **options | {change: other}).done == set()


@pytest.mark.parametrize("tail", [b"\n1", b"\n12", b"\n", b"\n\0\0\0"])
def test_a_torn_line_of_the_journal_is_no_block_and_spoils_none(tmp_path: Path, tail: bytes) -> None:
    writer = begun(tmp_path / "a.zarr")
    writer.mark_done(4)
    with (writer.part / "journal").open("ab") as journal:
        journal.write(tail)
    assert begun(tmp_path / "a.zarr").done == {4}
    writer.mark_done(7)
    assert begun(tmp_path / "a.zarr").done == {4, 7}


@pytest.mark.parametrize("torn", [b"", b'{"plan_key": "k"', None])
def test_a_part_without_a_whole_plan_begins_anew(tmp_path: Path, torn: bytes | None) -> None:
    writer = begun(tmp_path / "a.zarr")
    writer.mark_done(4)
    (writer.part / "plan.json").unlink()
    if torn is not None:
        (writer.part / "plan.json").write_bytes(torn)
    assert begun(tmp_path / "a.zarr").done == set()


def test_a_process_killed_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    path, values = tmp_path / "a.zarr", some_values((40, 48))
    written(path, values, "YX")
    path.rename(tmp_path / ".a.zarr.old")
    begun(path)
    np.testing.assert_array_equal(open_image(path).array[...], values)
    shutil.copytree(path, tmp_path / ".a.zarr.old")  # killed later: both are there
    begun(path).discard()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


def test_a_pickled_writer_writes_into_the_same_store(tmp_path: Path) -> None:
    writer, values = begun(tmp_path / "a.zarr"), some_values((40, 48))
    writer.write((slice(0, 16), slice(0, 48)), values[:16])
    other = pickle.loads(pickle.dumps(writer))
    other.write((slice(16, 40), slice(0, 48)), values[16:])
    other.mark_done(2)
    assert writer.done == {2}
    opened = open_image(writer.finish())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(opened.array))[...], values)


def test_a_cancelled_end_can_be_gone_on_with(tmp_path: Path) -> None:
    values = some_values((600, 600))
    writer = create_store(tmp_path / "a.zarr", values.shape, values.dtype, "YX")
    writer.write((slice(0, 600), slice(0, 600)), values)
    with pytest.raises(Cancelled):
        writer.finish(should_stop=lambda: True)
    assert not (tmp_path / "a.zarr").exists()
    assert len(open_image(create_store(tmp_path / "a.zarr", (600, 600), "uint16", "YX").finish()).levels) == 3


def test_stores_of_one_run_are_built_first_and_a_stop_between_costs_no_block(tmp_path: Path) -> None:
    values = some_values((600, 600))
    paths = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    written(paths[0], values[:40, :40], "YX")
    for path in paths:
        writer = create_store(path, values.shape, values.dtype, "YX")
        writer.write((slice(0, 600), slice(0, 600)), values)
        writer.mark_done(0)
    create_store(paths[0], values.shape, values.dtype, "YX").build({"made": 1})
    with pytest.raises(Cancelled):
        writer.build({"made": 1}, lambda: True)
    assert open_image(paths[0]).array.shape == (40, 40)
    assert not paths[1].exists()
    again = [create_store(path, values.shape, values.dtype, "YX") for path in paths]
    assert [writer.done for writer in again] == [{0}, {0}]
    for writer in again:
        writer.build({"made": 2})
    for path in [writer.appear() for writer in again]:
        assert len(open_image(path).levels) == 3
        assert read_provenance(path) == {"made": 2}
        np.testing.assert_array_equal(open_image(path).array[...], values)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_the_old_store_stays_where_the_new_one_cannot_be_put_in_its_place(tmp_path: Path) -> None:
    path, values = tmp_path / "a.zarr", some_values((40, 48))
    written(path, values, "YX")
    writer = begun(path)
    writer.build()
    shutil.rmtree(writer.part / "store")
    with pytest.raises(ImageFileError, match="could not be written"):
        writer.appear()
    np.testing.assert_array_equal(open_image(path).array[...], values)


# ---- a part belongs to one plan ---------------------------------------------------------------


def test_a_late_worker_of_another_plan_reaches_neither_the_next_part_nor_makes_its_own_again(tmp_path: Path) -> None:
    values = some_values((40, 48))
    late = pickle.loads(pickle.dumps(begun(tmp_path / "a.zarr", "first")))
    late.write((slice(0, 16), slice(0, 48)), values[:16])
    late.mark_done(0)
    writer = begun(tmp_path / "a.zarr", "second")
    for act in (
        lambda: late.write((slice(16, 32), slice(0, 48)), values[16:32]),
        lambda: late.mark_done(1),
        lambda: late.note("tile", b"512"),
        late.build,
        late.appear,
    ):
        with pytest.raises(ImageFileError, match="was removed by a later run or the user"):
            act()
    assert writer.done == set()
    assert [entry.name for entry in tmp_path.iterdir()] == [writer.part.name]
    assert not open_image(writer.finish()).array[...].any()


def test_the_next_plan_begins_while_workers_still_write_into_the_last_ones_part(tmp_path: Path) -> None:
    old = begun(tmp_path / "a.zarr", "first").part
    ended = threading.Event()

    def keep_writing() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            try:
                (old / "store" / "0").mkdir(parents=True, exist_ok=True)
                (old / "store" / "0" / str(number % 50)).write_bytes(b"late")
            except OSError:  # the folder has gone in between
                continue

    worker = threading.Thread(target=keep_writing)
    worker.start()
    try:
        begun(tmp_path / "a.zarr", "second").finish()
    finally:
        ended.set()
        worker.join()
    assert not (old / "plan.json").exists()
    begun(tmp_path / "a.zarr", "third").discard()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


def test_only_parts_of_the_same_store_are_cleared_away(tmp_path: Path) -> None:
    others = [begun(tmp_path / name).part.name for name in ("b.zarr", "a.zarr.old", "[a].zarr")]
    (tmp_path / ".a.zarr.0123abcd.part").mkdir()
    (tmp_path / ".a.zarr.0123abce.part").write_text("mine")
    (tmp_path / ".a.zarr.mine.part" / "store").mkdir(parents=True)
    begun(tmp_path / "a.zarr", "first")
    kept = {*others, ".a.zarr.0123abcd.part", ".a.zarr.0123abce.part", ".a.zarr.mine.part"}
    part = begun(tmp_path / "a.zarr", "second").part
    assert {entry.name for entry in tmp_path.iterdir()} == kept | {part.name}


def test_a_part_whose_store_was_put_in_its_place_is_not_gone_on_with(tmp_path: Path) -> None:
    writer = begun(tmp_path / "a.zarr")
    writer.mark_done(3)
    shutil.rmtree(writer.part / "store")
    (writer.part / "store" / "0" / "c" / "0").mkdir(parents=True)  # by a chunk that came late
    assert begun(tmp_path / "a.zarr").done == set()


def test_notes_are_found_by_the_next_run_of_the_same_plan_alone(tmp_path: Path) -> None:
    writer = begun(tmp_path / "a.zarr")
    assert writer.noted("tile_px") is None
    for content in (b"256", b"512"):
        writer.note("tile_px", content)
    writer.note("model.safetensors", bytes(1000))
    again = begun(tmp_path / "a.zarr")
    assert (again.noted("tile_px"), again.noted("model.safetensors")) == (b"512", bytes(1000))
    with pytest.raises(AssertionError):
        again.note("../tile", b"")
    assert begun(tmp_path / "a.zarr", "other").noted("tile_px") is None


@pytest.mark.parametrize(
    ("window", "values"),
    [
        ((slice(0, 8), slice(0, 48)), some_values((8, 48))),
        ((slice(8, 24), slice(0, 16)), some_values((16, 16))),
        ((slice(0, 16), slice(0, 16)), some_values((16, 15))),
        ((slice(0, 16), slice(0, 16)), some_values((16, 16), "float32")),
        ((slice(0, 32, 2), slice(0, 16)), some_values((16, 16))),
    ],
)
def test_windows_that_cut_chunks_and_values_that_do_not_fit_are_refused(
    tmp_path: Path, window: tuple[slice, ...], values: np.ndarray
) -> None:
    with pytest.raises(InputError, match="Cut the image along its chunks"):
        begun(tmp_path / "a.zarr").write(window, values)


def test_things_that_are_no_store_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "file.zarr").write_text("mine")
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "thesis.doc").write_text("mine")
    for name, match in (("file.zarr", "is a file"), ("folder.zarr", "other things"), ("no/where.zarr", "No such")):
        with pytest.raises(ImageFileError, match=match):
            begun(tmp_path / name)
    writer = begun(tmp_path / "late.zarr")
    (tmp_path / "late.zarr").write_text("came meanwhile")
    with pytest.raises(ImageFileError, match="is a file"):
        writer.finish()
    assert (tmp_path / "late.zarr").read_text() == "came meanwhile"


@pytest.mark.parametrize("axes", ["CYXS", "TIQYX", "TCIZYX"])
def test_axes_that_ome_zarr_cannot_hold_are_refused(tmp_path: Path, axes: str) -> None:
    with pytest.raises(ImageFileError, match=r"\.ome\.tif"):
        create_store(tmp_path / "a.zarr", [3] * len(axes), "uint8", axes)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong", [{"chunks": (0, 4)}, {"chunks": (4,)}, {"dtype": "complex64"}, {"shape": (0, 9)}, {"version": "0.3"}]
)
def test_a_store_that_makes_no_sense_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        create_store(tmp_path / "a.zarr", **{"shape": (20, 24), "dtype": "uint8", "axes": "YX"} | wrong)
