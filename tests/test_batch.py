"""Many files: what is written, what a failure costs, and that a stopped run goes on to the same bytes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import psutil
import pytest
import tifffile
from skimage.data import camera

from napari_vae_repair.batch import BatchProgress, restore_files
from napari_vae_repair.batch.hashes import key_of
from napari_vae_repair.batch.job import Job
from napari_vae_repair.batch.one import STARTER_FILE, model_sha256, restore_one
from napari_vae_repair.batch.supervisor import WORKER, supervise
from napari_vae_repair.batch.worker import work
from napari_vae_repair.cli import main
from napari_vae_repair.image.files import read_image
from napari_vae_repair.image.lock import only_writer
from napari_vae_repair.phases import Progress
from napari_vae_repair.preflight import UsageError
from napari_vae_repair.settings import Settings, make_settings
from napari_vae_repair.vae.starter import SHA256

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
NAMES = ("a.tif", "b.png", "sub/a.tif", "sub/c.ome.tif")
COMMAND = [sys.executable, "-u", "-m", "napari_vae_repair.cli", "restore", "in/**/*.*", "out", "--residual", ".r.tif"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with noisy images in ``in/``, one of them no image at all, and the true ones in ``truth/``."""
    place = tmp_path_factory.mktemp("batch")
    for index, name in enumerate(NAMES):
        clean = camera()[100 + 32 * index : 164 + 32 * index, 200:264]
        noisy = (clean + np.random.default_rng(index).normal(0, 15, clean.shape)).clip(0, 255).astype(np.uint8)
        for folder, pixels in (("in", noisy), ("truth", clean)):
            path = place / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            iio.imwrite(path, pixels) if path.suffix == ".png" else tifffile.imwrite(path, pixels)
    return place


@pytest.fixture(scope="module")
def finished(place: Path) -> Iterator[Path]:
    """The results of an undisturbed run by two workers, with one file that is no image."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        (place / "in/broken.tif").write_text("This is no TIFF.")
        try:
            code = main(
                ["restore", "in/**/*.*", "finished/", "--residual", ".r.tif", "--jobs", "2", "--device", "cpu",
                 "--resume"]
            )  # fmt: skip
        finally:
            (place / "in/broken.tif").unlink()
        assert code == 1
        yield place / "finished"


def results_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*.*")
        if path.is_file() and ".vae-repair" not in path.parts and not path.name.startswith("results.")
    }


def hidden_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*") if path.name != ".vae-repair"]


def kill_workers() -> None:
    for child in psutil.Process().children():
        if WORKER in child.cmdline():
            child.kill()
            while child.is_running():  # until it is waited for
                time.sleep(0.01)


def statuses(folder: Path) -> dict[str, str]:
    with (folder / "results.csv").open(newline="") as file:
        return {Path(row["input"]).relative_to("in").as_posix(): row["status"] for row in csv.DictReader(file)}


def test_a_tree_is_mirrored_and_a_bad_file_costs_only_itself(finished: Path) -> None:
    expected = {"a.tif", "a.r.tif", "b.png", "b.r.tif", "sub/a.tif", "sub/a.r.tif", "sub/c.ome.tif", "sub/c.r.tif"}
    assert set(results_in(finished)) == expected
    assert statuses(finished) == dict.fromkeys(NAMES, "done") | {"broken.tif": "failed"}
    assert hidden_in(finished) == []
    restored = read_image(finished / "sub/c.ome.tif").pixels
    truth, noisy = (read_image(finished.parent / folder / "sub/c.ome.tif").pixels for folder in ("truth", "in"))
    error, before = (np.abs(values - truth.astype(float)).mean() for values in (restored, noisy))
    assert restored.dtype == np.uint8
    assert error < 0.8 * before


def test_the_table_tells_noise_measures_and_errors(finished: Path) -> None:
    with (finished / "results.csv").open(newline="") as file:
        rows = {row["input"]: row for row in csv.DictReader(file)}
    good, bad = rows["in/a.tif"], rows["in/broken.tif"]
    assert 10 < float(good["read_noise"]) < 20
    assert 0.5 < float(good["residual_over_noise"]) < 1.5
    assert float(good["seconds"]) > 0
    assert "cannot be read" in bad["error"]
    assert bad["read_noise"] == bad["residual_std"] == ""
    everything = json.loads((finished / "results.json").read_text())
    assert everything["counts"] == {"done": 4, "failed": 1}
    assert set(everything["rows"][0]) >= {"noise", "residual_correlation", "notes", "key", "files"}


def test_resuming_does_only_what_is_missing_or_changed(
    finished: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = results_in(finished)
    states = {path: (finished / path).stat().st_mtime_ns for path in before}
    (finished / "b.png").write_bytes(before["b.png"][:-9])  # half a file, by whatever hand
    (finished / "sub/.a.tif.0123456789ab.part").write_bytes(b"half")
    rows = restore_files(
        "in/**/*.*", "finished", make_settings(device="cpu"), resume=True, residual=".r.tif", reference=None
    )
    assert {row.input: row.status for row in rows} == {f"in/{name}": "skipped" for name in NAMES} | {"in/b.png": "done"}
    assert results_in(finished) == before
    assert {path for path in before if (finished / path).stat().st_mtime_ns != states[path]} == {"b.png", "b.r.tif"}
    assert hidden_in(finished) == []
    assert main(["restore", "in", "finished", "--residual", ".r.tif"]) == 2
    assert "--resume to go on" in capsys.readouterr().err


@POSIX
def test_killed_at_any_moment_the_next_run_gives_the_same_bytes(finished: Path, place: Path) -> None:
    command = [*COMMAND, "--device", "cpu"]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "out/a.tif\n"
        process.kill()
    done = subprocess.run([*command, "--resume"], cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "skipped 1 of 4: in/a.tif" in done.stderr
    assert results_in(place / "out") == results_in(finished)
    assert hidden_in(place / "out") == []


@POSIX
def test_a_worker_that_is_killed_costs_one_file(finished: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    tifffile.imwrite(place / "a_large.tif", np.tile(camera(), (3, 3)))  # under way when its first message is read

    def kill_at_work(progress: BatchProgress) -> None:
        if progress.name == "a_large.tif":
            kill_workers()

    rows = restore_files(
        ["a_large.tif", "in/sub/c.ome.tif"], "killed", make_settings(device="cpu"), on_progress=kill_at_work
    )
    assert [row.status for row in rows] == ["failed", "done"]
    assert "ended by SIGKILL" in rows[0].error
    pixels = read_image(place / "killed/c.ome.tif").pixels
    np.testing.assert_array_equal(pixels, read_image(finished / "sub/c.ome.tif").pixels)


@POSIX
def test_a_worker_that_died_between_two_files_costs_one_file(place: Path, tmp_path: Path) -> None:
    def kill_before_the_first(number: int) -> str:
        if number == 0:
            kill_workers()
            time.sleep(0.2)  # for the thread that listens to it
        return ""

    settings = make_settings(device="cpu")
    truth = str(place / "truth/a.tif")
    jobs = [Job(str(place / "in" / name), str(tmp_path / name), settings, reference=truth) for name in NAMES[:2]]
    tasks = [(number, {"job": job.to_dict(), "earlier": None}) for number, job in enumerate(jobs)]
    said = dict(supervise(tasks, 1, tmp_path, kill_before_the_first))
    assert "ended by SIGKILL" in said[0]["error"]
    assert said[1]["row"]["status"] == "done"
    assert said[1]["row"]["against_reference"] is not None


@POSIX
def test_sigterm_stops_the_workers_and_says_how_to_go_on(place: Path) -> None:
    forever = ["--epochs", "100000", "--set", "training.patch_px=32"]
    command = [*COMMAND[:6], "stopped", *forever]
    with subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True) as process:
        while not (place / "stopped/.vae-repair/journal.jsonl").exists():
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 143
    assert "with --resume goes on" in said
    assert "Stopped by SIGTERM" in said
    assert "Traceback" not in said
    assert workers
    assert not psutil.wait_procs(workers, timeout=5)[1]
    assert set(statuses(place / "stopped").values()) == {"waiting"}
    assert results_in(place / "stopped") == {}


def test_two_runs_into_one_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    (place / "busy/.vae-repair").mkdir(parents=True)
    with only_writer(place / "busy", place / "busy/.vae-repair/lock"):
        assert main(["restore", "in", "busy"]) == 1
    assert f"being written by another run (process {os.getpid()} on" in capsys.readouterr().err
    with only_writer("one.tif"):
        assert main(["restore", "in/a.tif", "one.tif"]) == 1
    assert "being written by another run" in capsys.readouterr().err
    assert not (place / "one.tif").exists()


def test_a_name_that_is_no_utf_8_is_restored_with_the_deviation_of_samples(place: Path, tmp_path: Path) -> None:
    name = "\udcff.tif" if sys.platform == "linux" else "\xff.tif"  # other systems refuse such names
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes((place / "in/a.tif").read_bytes())
    again = []
    for resume in (False, True):
        again += restore_files(
            tmp_path / "in", tmp_path / "out", Settings(device="cpu", seed=0), resume=resume, std=".std.tif"
        )
    assert [row.status for row in again] == ["done", "skipped"], again[0].error
    assert read_image(tmp_path / "out" / name.replace(".tif", ".std.tif")).pixels.min() > 0
    with (tmp_path / "out/results.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert table[0]["input"].endswith(name.encode(errors="backslashreplace").decode())
    assert json.loads((tmp_path / "out/results.json").read_text())["rows"][0]["input"] == str(tmp_path / "in" / name)


@pytest.mark.parametrize("samples", [0, 1])
def test_a_standard_deviation_of_too_few_samples_is_refused(place: Path, tmp_path: Path, samples: int) -> None:
    with pytest.raises(UsageError, match="needs 2 samples or more"):
        restore_files(place / "in", tmp_path / "out", Settings(samples=samples), std=".std.tif")
    assert not (tmp_path / "out").exists()


# ---- one job at a time, in this process --------------------------------------------------------


def done(job: Job, earlier: dict[str, object] | None = None) -> dict[str, object]:
    return work({"job": job.to_dict(), "earlier": earlier}, 1, lambda _: None)


def test_a_file_that_vanished_or_a_place_without_room_is_a_failed_row(place: Path, tmp_path: Path) -> None:
    settings = make_settings(device="cpu")
    gone = done(Job(str(place / "in/gone.tif"), str(tmp_path / "g.tif"), settings))
    assert gone["status"] == "failed"
    assert "gone.tif cannot be read: No such file" in str(gone["error"])
    (tmp_path / "file").touch()
    for output in ("file/sub/a.tif", "file/a.tif"):
        blocked = done(Job(str(place / "in/a.tif"), str(tmp_path / output), settings))
        assert "could not be written: " in str(blocked["error"])


@POSIX
def test_a_full_disk_is_a_failed_row_and_nothing_half_written(place: Path, tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))  # the kernel refuses what goes beyond
    try:
        row = done(Job(str(place / "in/a.tif"), str(tmp_path / "sub/a.tif"), make_settings(device="cpu")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert row["status"] == "failed"
    assert "a.tif could not be written: File too large" in str(row["error"])
    assert list((tmp_path / "sub").iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_failed_row(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes((place / "in/a.tif").read_bytes())
    path.chmod(0)
    assert "Permission denied" in str(done(Job(str(path), str(tmp_path / "b.tif"), make_settings()))["error"])


@pytest.mark.parametrize(("spare_mb", "in_one_piece"), [(300, False), (10**6, True)])
def test_what_does_not_fit_into_the_memory_given_goes_into_stores_block_by_block(
    tmp_path: Path, spare_mb: int, in_one_piece: bool
) -> None:
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((3000, 3000), np.uint8), compression="zlib")
    memory_mb = psutil.Process().memory_info().rss // 10**6 + spare_mb
    settings = make_settings(device="cpu", memory_mb=memory_mb)
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_one(Job(str(tmp_path / "in.tif"), str(tmp_path / "out.ome.zarr"), settings), stop, print)
    assert seen[0].phase == "prepare"
    assert (seen[0].model is not None) is in_one_piece  # blocks have theirs once all windows are looked at


def test_the_key_tells_content_settings_and_types_but_not_places(place: Path, tmp_path: Path) -> None:
    path = str(place / "in/a.tif")
    job = Job(path, str(tmp_path / "a.tif"), make_settings())
    copy = tmp_path / "a.tif"
    copy.write_bytes((place / "in/a.tif").read_bytes())
    assert key_of(job) == key_of(Job(str(copy), "elsewhere/a.tif", make_settings()))
    others = [
        Job(str(place / "in/sub/a.tif"), job.output, job.settings),
        Job(path, job.output, make_settings(seed=1)),
        Job(path, job.output, job.settings, dtype="float32"),
        Job(path, job.output, job.settings, mask=path),
        Job(path, str(tmp_path / "a.ome.tif"), job.settings),
        Job(path, job.output, job.settings, std=".std.tif"),
        Job(path, job.output, make_settings(model=path)),
    ]
    assert len({key_of(each) for each in (job, *others)}) == 1 + len(others)
    assert model_sha256(job.settings) == SHA256, STARTER_FILE
