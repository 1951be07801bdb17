"""From file to OME-Zarr block by block: the pixels of one piece, resumable, here and on a cluster."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.data import camera

from napari_vae_repair import restore
from napari_vae_repair.cli import main
from napari_vae_repair.errors import Cancelled, ClusterError, ImageFileError, InputError, SettingsError
from napari_vae_repair.image.files import read_image, read_provenance, write_image
from napari_vae_repair.image.lock import only_writer
from napari_vae_repair.image.opened import OpenedImage, in_memory
from napari_vae_repair.phases import Progress
from napari_vae_repair.settings import make_settings
from napari_vae_repair.store_setup import weights_sha256
from napari_vae_repair.stored import Stored
from napari_vae_repair.storing import restore_to_store
from napari_vae_repair.vae.starter import load_starter

SETTINGS = make_settings(device="cpu")
BLOCK_PX = 512
NOBODY = 65534


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of two blocks, in 16 bits."""
    clean = np.tile(camera()[200:280, 60:340], (1, 2)) / 4.0
    rng = np.random.default_rng(0)
    pixels = (4 * rng.poisson(clean) + rng.normal(100, 3, clean.shape)).clip(0, 65535).astype(np.uint16)
    return write_image(tmp_path / "in.ome.tif", pixels, "YX", pixel_size_um={"Y": 0.1, "X": 0.2})


def run(
    source: Path | OpenedImage, output: Path, stop_after: int = 10**9, **options: Any
) -> tuple[Stored, list[Progress]]:
    """A whole run, or one that is asked to stop once so many blocks are done."""
    seen: list[Progress] = []
    outputs = {"restored": output} | options.pop("beside", {})
    steps = restore_to_store(
        source, outputs, options.pop("settings", SETTINGS), block_px=BLOCK_PX,
        should_stop=lambda: sum(step.phase == "restore" and step.done > 0 for step in seen) >= stop_after, **options,
    )  # fmt: skip
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return end.value, seen


def contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("float32")
def test_a_store_holds_the_pixels_of_one_piece_and_how_they_came_to_be(image: Path, tmp_path: Path) -> None:
    source = read_image(image)
    whole = restore(source, SETTINGS)
    beside = {"residual": tmp_path / "residual.ome.zarr"}
    stored, seen = run(image, tmp_path / "out.ome.zarr", beside=beside)
    assert (stored.report.blocks, stored.report.resumed) == (2, 0)
    assert [step.phase for step in seen] == ["prepare"] * 2 + ["restore"] * 3 + ["write"] * 3
    restored, residual = read_image(tmp_path / "out.ome.zarr"), read_image(beside["residual"])
    assert (restored.pixels.dtype, residual.pixels.dtype) == (np.uint16, np.float32)
    assert restored.pixel_size_um == pytest.approx({"Y": 0.1, "X": 0.2})
    span = float(np.ptp(source.pixels))
    assert np.abs(residual.pixels - whole.residual).max() < 1e-3 * span
    assert np.abs(restored.pixels - whole.restored).max() < 1e-3 * span + 0.5
    provenance = read_provenance(tmp_path / "out.ome.zarr")
    assert provenance is not None
    assert provenance["report"]["noise"][0]["gain"] == pytest.approx(whole.noise[0].gain)
    assert len(provenance["weights_sha256"]) == 64
    assert provenance["settings"]["seed"] == 0


def test_the_hash_covers_all_weights_that_restore() -> None:
    starter = load_starter()
    kept = {"adapted": {"accepted": True}}  # restored by its own network alone, whatever the noise
    hashes = [
        weights_sha256(model)
        for model in (
            starter.model,
            replace(starter.model, training=kept),
            replace(starter.model, network=starter.white, training=kept),
        )
    ]
    assert len(set(hashes)) == 3
    assert weights_sha256(starter.model) == hashes[0]


def test_what_was_stopped_is_gone_on_with_to_the_same_bytes(image: Path, tmp_path: Path) -> None:
    run(image, tmp_path / "undisturbed.ome.zarr")
    output = tmp_path / "out.ome.zarr"
    with pytest.raises(Cancelled):
        run(image, output, stop_after=1)
    assert not output.exists()
    stored, _ = run(image, output)
    assert stored.report.resumed == 1
    ours, theirs = contents(output), contents(tmp_path / "undisturbed.ome.zarr")
    name = b'"name": "out"'
    assert {key: value.replace(name, b'"name": "undisturbed"') for key, value in ours.items()} == theirs
    assert list(tmp_path.glob(".out*")) == []


def test_another_seed_or_image_begins_anew(image: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.ome.zarr"
    for settings in (SETTINGS, make_settings(device="cpu", seed=1)):
        with pytest.raises(Cancelled):
            run(image, output, stop_after=1, settings=settings)
    assert run(image, output, settings=SETTINGS)[0].report.resumed == 0
    with pytest.raises(Cancelled):
        run(image, output, stop_after=1)
    pixels = read_image(image).pixels.copy()
    pixels[3, 3] += 1
    write_image(image, pixels, "YX")
    assert run(image, output)[0].report.resumed == 0


def test_an_array_of_this_process_gives_the_pixels_of_its_file(image: Path, tmp_path: Path) -> None:
    import dask.array as da

    run(image, tmp_path / "file.ome.zarr")
    there = read_image(image)
    lazy = da.from_array(there.pixels, chunks=100)
    mask = np.zeros(there.pixels.shape, dtype=bool)
    opened = OpenedImage(lazy, there.axes, lazy.chunksize, "in", there.pixel_size_um)
    stored, _ = run(opened, tmp_path / "array.ome.zarr", mask=mask)
    assert stored.report.headline().startswith("Restored 2 blocks in")
    assert stored.report.to_dict()["samples"] == 0
    assert stored.model.general
    np.testing.assert_array_equal(
        read_image(tmp_path / "array.ome.zarr").pixels, read_image(tmp_path / "file.ome.zarr").pixels
    )


def test_arrays_are_never_gone_on_with_and_never_sent_to_workers(image: Path, tmp_path: Path) -> None:
    opened, output = in_memory(read_image(image)), tmp_path / "out.ome.zarr"
    with pytest.raises(Cancelled):
        run(opened, output, stop_after=1)
    assert run(opened, output)[0].report.resumed == 0
    with pytest.raises(InputError, match="the image is an array"):
        run(opened, output, scheduler="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="the mask is an array"):
        run(image, output, scheduler="tcp://127.0.0.1:9", mask=np.zeros((80, 560), dtype=bool))


def test_what_was_trained_is_not_trained_again(image: Path, tmp_path: Path) -> None:
    settings = make_settings(
        epochs=2, device="cpu", samples=2, network={"widths": (4, 4), "latents": (1, 1)}, seed=5,
        training={"patches_per_epoch": 8, "patch_px": 16},
    )  # fmt: skip
    whole, _ = run(image, tmp_path / "undisturbed" / "x.ome.zarr", settings=settings)
    output = tmp_path / "x.ome.zarr"
    with pytest.raises(Cancelled):
        run(image, output, stop_after=1, settings=settings)
    stored, seen = run(image, output, settings=settings)
    assert stored.report.resumed == 1
    assert "train" not in {step.phase for step in seen}
    assert contents(output) == contents(whole.paths[0])


def test_stopped_while_stores_are_finished_no_block_is_done_again(image: Path, tmp_path: Path) -> None:
    outputs = {"restored": tmp_path / "out.ome.zarr", "residual": tmp_path / "residual.ome.zarr"}
    steps = restore_to_store(image, outputs, SETTINGS, block_px=BLOCK_PX)
    while (step := next(steps)).phase != "write" or step.done == 0:
        pass
    steps.close()  # what Ctrl-C does, between the two stores
    assert not any(path.exists() for path in outputs.values())
    stored, _ = run(image, outputs["restored"], beside={"residual": outputs["residual"]})
    assert stored.report.resumed == stored.report.blocks == 2


def test_a_changed_chunk_of_a_store_is_another_image(image: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    write_image(source, read_image(image).pixels, "YX")
    with pytest.raises(Cancelled):
        run(source, output, stop_after=1)
    chunk = max((path for path in (source / "0").rglob("*") if path.is_file()), key=lambda path: len(path.parts))
    os.utime(chunk, (0, 0))
    assert run(source, output)[0].report.resumed == 0


def test_what_cannot_be_written_is_told_before_anything_is_computed(image: Path, tmp_path: Path) -> None:
    container = tmp_path / "data.zarr"
    container.mkdir()
    write_image(container / "0.ome.zarr", read_image(image).pixels, "YX")
    before = contents(container)
    for error, match, options in (
        (SettingsError, "0 sample", {"beside": {"std": tmp_path / "std.ome.zarr"}}),
        (SettingsError, "flaot32", {"dtype": "flaot32"}),
        (ImageFileError, "written over", {"source": container / "0.ome.zarr", "output": container}),
    ):
        given = {"source": image, "output": tmp_path / "out.ome.zarr"} | options
        with pytest.raises(error, match=match):
            run(**given)  # type: ignore[arg-type]
    assert contents(container) == before


# ---- in the middle of it -------------------------------------------------------------------------


def after_one_block(source: Path, output: Path) -> Generator[Progress, None, Stored]:
    """A run that has restored its first block."""
    steps = restore_to_store(source, {"restored": output}, SETTINGS, block_px=BLOCK_PX)
    while (step := next(steps)).phase != "restore" or step.done == 0:
        pass
    return steps


def check_gone_on_with(image: Path, output: Path, resumed: int) -> None:
    """The next run ends as one that nothing disturbed."""
    assert not output.exists()
    assert run(image, output)[0].report.resumed == resumed
    undisturbed = output.parent / "undisturbed" / output.name
    run(image, undisturbed)
    assert contents(output) == contents(undisturbed)
    assert list(output.parent.glob(".out*")) == []


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
@pytest.mark.parametrize("phase", ["restore", "write"])
def test_a_disk_that_fills_up_costs_no_block(image: Path, tmp_path: Path, phase: str) -> None:
    import resource

    steps, output = after_one_block(image, tmp_path / "out.ome.zarr"), tmp_path / "out.ome.zarr"
    while phase == "write" and next(steps).phase != "write":
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))  # the kernel refuses what goes beyond
    try:
        with pytest.raises(ImageFileError, match=r"out\.ome\.zarr could not be written: File too large"):
            list(steps)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    check_gone_on_with(image, output, resumed=1 if phase == "restore" else 2)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
@pytest.mark.parametrize("phase", ["restore", "write"])
def test_a_permission_that_is_lost_costs_no_block(unprivileged: Path, phase: str) -> None:
    source, output = unprivileged, unprivileged.parent / "out.ome.zarr"
    steps = after_one_block(source, output)
    while phase == "write" and next(steps).phase != "write":
        pass
    (part,) = output.parent.glob(".out*.part")
    folders = [part, *(path for path in part.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    with pytest.raises(ImageFileError, match=r"out\.ome\.zarr could not be written: Permission denied"):
        list(steps)
    for folder in folders:
        folder.chmod(0o700)
    check_gone_on_with(source, output, resumed=1 if phase == "restore" else 2)


@pytest.mark.parametrize("gone", ["all", "a chunk"])
def test_a_source_that_vanishes_gives_no_zeros(image: Path, tmp_path: Path, gone: str) -> None:
    source, output = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    write_image(source, read_image(image).pixels, "YX")
    steps = after_one_block(source, output)
    kept = tmp_path / "kept.ome.zarr"
    shutil.copytree(source, kept, copy_function=shutil.copy2)
    if gone == "all":
        shutil.rmtree(source)
    else:
        (source / "0/c/0/1").unlink()
    with pytest.raises(ImageFileError, match=r"in\.ome\.zarr (was (removed|changed)|cannot be read)"):
        list(steps)
    shutil.rmtree(source, ignore_errors=True)
    kept.rename(source)
    check_gone_on_with(source, output, resumed=0)  # the second block was one of zeros


@pytest.fixture
def unprivileged(image: Path) -> Iterator[Path]:
    """The image in a folder of a user to whom permissions apply, which they do not to root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        copy = Path(shutil.copy(image, folder))
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        try:
            yield copy
        finally:
            if root:
                os.seteuid(0)


def test_two_runs_cannot_write_to_one_store(image: Path, tmp_path: Path) -> None:
    with only_writer(tmp_path / "out.ome.zarr"), pytest.raises(ImageFileError, match="another run"):
        run(image, tmp_path / "out.ome.zarr")


def test_the_command_writes_large_images_block_by_block(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("napari_vae_repair.batch.one.IN_ONE_PIECE_PX", 1000)
    arguments = ["restore", str(image), str(tmp_path / "out.ome.zarr"), "--resume", "--device", "cpu"]
    assert main([*arguments, "--residual", str(tmp_path / "residual.ome.zarr")]) == 0
    told = capsys.readouterr()
    assert told.out.split() == [str(tmp_path / "out.ome.zarr"), str(tmp_path / "residual.ome.zarr")]
    assert "1 block, in" in told.err
    assert read_image(tmp_path / "residual.ome.zarr").pixels.dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["in.ome.tif", "out.tif"], r"together with out\.tif"),
        (["in.ome.tif", "out.ome.zarr", "--report", "r.json"], r"together with r\.json"),
        (["in.ome.tif", "out/"], "given for a batch"),
    ],
)
def test_a_cluster_writes_stores_alone(
    image: Path, arguments: list[str], match: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(image.parent)
    assert main(["restore", *arguments, "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert re.search(match, capsys.readouterr().err)


# ---- on a cluster ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two processes of one thread each."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as local:
        yield local


def test_workers_give_the_same_store_even_when_one_is_killed(cluster: Any, image: Path, tmp_path: Path) -> None:
    from distributed import Client

    here, there = tmp_path / "out" / "x.ome.zarr", tmp_path / "there" / "x.ome.zarr"
    for path in (here, there):
        path.parent.mkdir()
    run(image, here)
    steps = restore_to_store(
        image, {"restored": there}, SETTINGS, scheduler=cluster.scheduler_address, block_px=BLOCK_PX
    )
    while next(steps).phase != "restore":
        pass
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        while True:
            try:
                next(steps)
            except StopIteration:
                break
        assert victim not in client.run(os.getpid).values()
    theirs, ours = read_image(there).pixels, read_image(here).pixels
    assert np.abs(theirs.astype(float) - ours).max() <= 1


def test_a_wrong_address_and_a_cluster_without_workers_are_told(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr("napari_vae_repair.cluster.CONNECT_S", 1)
    monkeypatch.setattr("napari_vae_repair.cluster.WORKERS_S", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(ClusterError, match=r"No scheduler answers at .*dask scheduler"):
            run(image, tmp_path / "out.ome.zarr", scheduler=address)
    with LocalCluster(n_workers=0, dashboard_address=":0") as empty, pytest.raises(ClusterError, match="no workers"):
        run(image, tmp_path / "out.ome.zarr", scheduler=empty.scheduler_address)
