"""`vae-repair`: what it writes, what it says, and the exit code it ends with."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from skimage.data import camera

from napari_vae_repair.cli import main
from napari_vae_repair.image.files import read_image, read_provenance, write_image
from napari_vae_repair.pipeline import Progress
from napari_vae_repair.terminal import ProgressLine
from napari_vae_repair.vae.checkpoint import load_model

TINY = [
    "--epochs",
    "1",
    "--samples",
    "2",
    "--device",
    "cpu",
    "--set",
    "training.patches_per_epoch=8",
    "--set",
    "training.patch_px=32",
    "--set",
    "network.widths=(8,8)",
    "--set",
    "network.latents=(2,2)",
]


def run_cli(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_vae_repair.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """A 64 x 64 crop of a photo as uint8, in a folder of its own for what is written."""
    clean = camera()[100:164, 200:264].astype(float)
    values = clean + np.random.default_rng(0).normal(0, 15, clean.shape)
    (tmp_path / "in").mkdir()
    sizes = {"Y": 0.5, "X": 0.5}
    return write_image(tmp_path / "in/noisy.tif", values, "YX", dtype="uint8", pixel_size_um=sizes)


def test_restore_writes_everything_asked_for(noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"output": "out.ome.tif", "--residual": "res.tif", "--std": "std.tif", "--save-model": "m.safetensors"}
    paths = {option: tmp_path / name for option, name in (names | {"--report": "r.json"}).items()}
    options = [str(part) for option, path in paths.items() if option != "output" for part in (option, path)]
    code = main(["restore", str(noisy), str(paths["output"]), *options, "--reference", str(noisy), *TINY])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert sorted(said.out.split()) == sorted(str(path) for path in paths.values())
    assert said.out.split()[0].endswith("m.safetensors")
    assert "training 100 %" in said.err

    restored, residual = read_image(paths["output"]), read_image(paths["--residual"])
    assert (restored.pixels.dtype, restored.axes, restored.pixel_size_um) == (np.uint8, "YX", {"Y": 0.5, "X": 0.5})
    assert residual.pixels.dtype == read_image(paths["--std"]).pixels.dtype == np.float32
    difference = read_image(noisy).pixels.astype(float) - residual.pixels - restored.pixels
    assert np.abs(difference)[(restored.pixels > 0) & (restored.pixels < 255)].max() <= 0.51
    report = json.loads(paths["--report"].read_text())
    assert report["in_source_units"] is True
    assert {each["grade"] for each in report["trust"]["findings"]} <= {"good", "doubtful", "bad", "not valid here"}
    provenance = read_provenance(paths["output"])
    assert provenance is not None
    assert provenance["settings"]["epochs"] == 1
    assert set(tmp_path.iterdir()) == {noisy.parent, *paths.values()}

    assert main(["info", str(paths["--save-model"])]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["network"]["widths"] == [8, 8]
    again = tmp_path / "again.png"
    model = str(paths["--save-model"])
    assert main(["restore", str(noisy), str(again), "--model", model, "--samples", "2", "--device", "cpu"]) == 0
    np.testing.assert_array_equal(read_image(again).pixels, restored.pixels)


def test_the_starter_is_the_default_and_an_adapted_model_is_saved_as_it_was_used(
    noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, adapted, again = (tmp_path / f"{name}.tif" for name in ("plain", "adapted", "again"))
    model = tmp_path / "adapted.safetensors"
    arguments = ["restore", str(noisy), "--device", "cpu", "--dtype", "float32"]
    assert main([*arguments, str(plain)]) == 0
    assert main([*arguments, str(adapted), "--set", "adapt_steps=4", "--save-model", str(model)]) == 0, capsys
    said = capsys.readouterr()
    assert "adapted in 4 steps" in said.err
    saved = load_model(model)
    assert saved.training["adapted"]["steps"] == 4
    assert main([*arguments, str(again), "--model", str(model)]) == 0
    np.testing.assert_array_equal(read_image(again).pixels, read_image(adapted).pixels)
    kept = saved.training["adapted"]["accepted"]
    assert np.array_equal(read_image(plain).pixels, read_image(adapted).pixels) is not kept


def test_dtype_holds_for_the_output_and_only_as_a_float_for_the_residual(noisy: Path, tmp_path: Path) -> None:
    out, residual = tmp_path / "out.tif", tmp_path / "residual.tif"
    arguments = ["restore", str(noisy), str(out), "--residual", str(residual), *TINY]
    assert main([*arguments, "--dtype", "int16"]) == 0
    assert (read_image(out).pixels.dtype, read_image(residual).pixels.dtype) == (np.int16, np.float32)
    assert main([*arguments, "--dtype", "float64"]) == 0
    assert (read_image(out).pixels.dtype, read_image(residual).pixels.dtype) == (np.float64, np.float64)


def test_values_in_other_units_than_the_images_are_written_as_floats(noisy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    assert main(["restore", str(noisy), str(out), "--chain", "float32, normalise, contrast(sigma=1)", *TINY]) == 0
    assert read_image(out).pixels.dtype == np.float32


def test_mask_of_any_nonzero_colour_is_damage(noisy: Path, tmp_path: Path) -> None:
    marks = np.zeros((64, 64, 4), np.uint8)
    marks[..., 3] = 255
    marks[10:20, 10:30, 1] = 7
    mask = write_image(tmp_path / "mask.png", marks, "YXS")
    report = tmp_path / "report.json"
    code = main(["restore", str(noisy), str(tmp_path / "o.tif"), "--mask", str(mask), "--report", str(report), *TINY])
    assert code == 0
    assert json.loads(report.read_text())["damaged_share"] == pytest.approx(200 / 64**2)


def test_a_report_can_be_a_page(noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.HTML"
    assert main(["restore", str(noisy), str(tmp_path / "o.tif"), "--report", str(page), *TINY]) == 0
    assert str(page) in capsys.readouterr().out.split()
    text = page.read_text(encoding="utf-8")
    assert "Trust report of noisy" in text
    assert "Residual autocorrelation" in text


# ---- bad usage and failed runs ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("", 2, "required"),
        ("restore", 2, "required"),
        ("restore {in} {out} --no-such", 2, "unrecognized arguments: --no-such"),
        ("restore {in} {out} --epochs many", 2, "invalid int value: 'many'"),
        ("restore {in} {out} --epochs 0", 2, "epochs = 0 was refused"),
        ("restore {in} {out} --preset clasic", 2, "preset = 'clasic' was refused"),
        ("restore {in} {out} --chain float32,blur", 2, "cannot be read at 'blur'"),
        ("restore {in} {out} --device tpu", 2, "device = 'tpu' was refused"),
        ("restore {in} {out} --set epoch=3", 2, "Near names: epochs"),
        ("restore {in} {out} --set training.batch=3", 2, "training.batch"),
        ("restore {in} {out} --set epochs", 2, "NAME=VALUE is needed"),
        ("restore {in} {out} --epochs 1 --set epochs.x=1", 2, "--set epochs.x=1 cannot be read"),
        ("restore {dir}/missing.tif {out}", 2, "missing.tif is not there"),
        ("restore {dir} {out}", 2, "is a folder"),
        ("restore {in} {out} --mask {dir}/none.png", 2, "none.png is not there"),
        ("restore {in} {out} --model {dir}/none.safetensors", 2, "none.safetensors is not there"),
        ("restore {in} {out} --jobs 2", 2, "--jobs was given for a single file"),
        ("restore {in} {out} --resume", 2, "belongs to a batch"),
        ("restore {in} {out} --memory 3", 2, "memory '3' was refused"),
        ("restore {in} {small} {out}", 2, "are several files, and OUTPUT"),
        ("restore {dir}/*.tif {out}", 2, "is a pattern, and OUTPUT"),
        ("restore {in} {dir}/o/ --jobs 0", 2, "0 jobs were asked for"),
        ("restore {in} {dir}/o/ --report r/x.html", 2, "--report r/x.html names a place"),
        ("restore {in} {dir}/in/ --overwrite", 2, "would be written over a file that is read"),
        ("restore {in} {in}", 2, "would be written over an input"),
        ("restore {in} {out} --std {out}", 2, "would be written over"),
        ("restore {store}/A/0 {store}", 2, "plate.zarr/A/0, which is read, lies inside"),
        ("restore {in} {store} --mask {store}/A/0", 2, "which would be replaced as a whole"),
        ("restore {store}/A/0 {store}/A/0/out.ome.zarr", 2, "would be written inside"),
        ("restore {in} {dir}/o.zarr --residual {dir}/o.zarr/r.zarr", 2, "an input or another output"),
        ("restore {in} {dir}/out.gif", 2, "does not name a file type"),
        ("restore {in} {out} --std {dir}/s.tif --samples 1", 2, "needs 2 samples"),
        ("restore {in} {out} --std {dir}/s.tif --set samples=1", 2, "needs 2 samples"),
        ("restore {in} {out} --report {dir}/r.pdf", 2, "r.pdf does not name a kind of report"),
        ("restore {in} {out} --report {dir}/report", 2, "ends in .html"),
        ("restore {in} {out} --dtype uint7", 2, "dtype 'uint7' cannot be used"),
        ("restore {in} {dir}/o.png --preset classic", 2, "--dtype uint16"),
        ("restore {in} {out} --residual {dir}/r.png", 2, "residuals and standard deviations are stored as floats"),
        ("restore {in} {dir}/none/out.tif", 1, "could not be written: No such file"),
        ("restore {in} {in}/out.tif", 1, "could not be written: Not a directory"),
        ("restore {in} {out} --save-model {dir}/none/m.safetensors", 1, "could not be written"),
        ("restore {in} {out} --axes ZYX", 1, "axes 'ZYX' were given"),
        ("restore {text} {out}", 1, "cannot be read"),
        ("restore {in} {out} --mask {small}", 1, "mask has shape"),
        ("restore {in} {out} --reference {small}", 1, "It must have the input's shape, (64, 64)"),
        ("restore {in} {out} --model {text}", 1, "text.tif"),
        ("info {dir}/none", 2, "is not there"),
        ("info {text}", 1, "text.tif"),
        ("demo {dir}/none.tif", 2, "is not there"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, code: int, said: str
) -> None:
    (tmp_path / "text.tif").write_text("This is no TIFF.")
    write_image(tmp_path / "small.tif", np.eye(32, dtype=np.uint8), "YX")
    for group in ("plate.zarr", "plate.zarr/A", "plate.zarr/A/0"):
        (tmp_path / group).mkdir()
        (tmp_path / group / "zarr.json").touch()
    before = sorted(tmp_path.rglob("*"))
    places = {"in": noisy, "dir": tmp_path, "out": tmp_path / "out.tif", "text": tmp_path / "text.tif"}
    places["store"] = tmp_path / "plate.zarr"
    argv = [part.format(**places, small=tmp_path / "small.tif") for part in arguments.split()]
    assert main(argv) == code
    heard = capsys.readouterr()
    assert said in heard.err
    assert heard.err.count("vae-repair: error: ") <= 1
    assert "Traceback" not in heard.err
    assert heard.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_to_the_input_is_the_input(noisy: Path, tmp_path: Path) -> None:
    (tmp_path / "link.tif").symlink_to(noisy)
    assert main(["restore", str(noisy), str(tmp_path / "link.tif")]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_path_that_is_no_utf_8_is_printed_all_the_same(
    noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out, page = noisy.with_name("\udcff.tif"), tmp_path / "\udcfe.tif", tmp_path / "\udcfe.html"
    noisy.rename(source)
    assert main(["restore", str(source), str(out), "--report", str(page), "--device", "cpu"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/\\udcfe.tif\n{tmp_path}/\\udcfe.html\n"
    assert read_image(out).pixels.shape == (64, 64)
    assert "\\udcff" in page.read_text(encoding="utf-8")


# ---- the process ------------------------------------------------------------------------------


def test_compare_writes_a_table_and_a_figure(noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, figure = tmp_path / "table.csv", tmp_path / "sheet.png"
    options = ["--methods", "VAE Repair,TV", "--reference", str(noisy), "--csv", str(table), "--figure", str(figure)]
    assert main(["compare", str(noisy), *options]) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [str(table), str(figure)]
    assert "TV (2 of 2)" in printed.err
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == {"VAE Repair", "TV"}
    assert [float(row["loss"]) for row in rows] == sorted(float(row["loss"]) for row in rows)
    assert all(float(row["psnr"]) > 15 and 0 < float(row["ssim"]) <= 1 for row in rows)
    assert any(row["parameters"].startswith("weight=") for row in rows)
    sheet = iio.imread(figure)
    assert sheet.shape == (256 + 34, 3 * 256, 3)
    assert all(sheet[34:, x : x + 256].std() > 20 for x in (0, 256, 512))
    assert main(["compare", str(noisy), "--methods", "TV"]) == 0
    assert "TV" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options", [["--methods", "TV,nml"], ["--csv", "in/noisy.tif"], ["--reference", "gone.tif"]], ids=str
)
def test_mistakes_in_comparing_are_told(
    noisy: Path, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = noisy.read_bytes()
    assert main(["compare", str(noisy), *options]) == 2
    assert noisy.read_bytes() == before


def test_help_and_version_are_quick_and_import_nothing_heavy() -> None:
    code = "import sys; from napari_vae_repair.cli import main; main(['--help']); print({} & set(sys.modules))"
    heavy = {"torch", "numpy", "napari", "skimage", "tifffile", "pydantic"}
    done = subprocess.run([sys.executable, "-c", code.format(heavy)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    code = "import sys, napari_vae_repair.batch.worker, napari_vae_repair.batch; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    assert run_cli("--version").stdout.startswith("vae-repair 0.")


def test_exit_codes_of_the_process(noisy: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.tif").write_bytes(noisy.read_bytes()[:600])
    for arguments, code in (
        (("restore", noisy, tmp_path / "o.tif", "--epochs", "-1"), 2),
        (("restore", tmp_path / "cut.tif", tmp_path / "o.tif"), 1),
    ):
        done = run_cli(*arguments)
        assert done.returncode == code
        assert done.stderr.startswith("vae-repair: error: ")
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_ends_with_one_line_and_no_file(noisy: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.tif"
    command = [sys.executable, "-u", "-m", "napari_vae_repair.cli", "restore", noisy, out, *TINY, "--epochs", "100000"]
    with subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("training"):
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Stopped by Ctrl-C" in rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == [noisy.parent]


def test_demo_without_a_screen_says_how_to_get_one(tmp_path: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = run_cli("demo", "--output-dir", tmp_path / "d", env=bare)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "xvfb-run" in done.stderr or "pip install" in done.stderr
    assert not (tmp_path / "d").exists()


# ---- progress ---------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_about_every_tenth() -> None:
    log = io.StringIO()
    line = ProgressLine(log)
    for done in range(1001):
        line.show(Progress("train", done, 1000))
    for done in range(4):
        line.show(Progress("restore", done, 3))
    line.end()
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("training   0 %")
    assert 10 <= sum(text.startswith("training") for text in lines) <= 12
    assert [text.split()[1] for text in lines if text.startswith("restoring")] == ["0", "33", "67", "100"]
    assert "\r" not in log.getvalue()


def test_a_terminal_gets_one_line_a_phase() -> None:
    terminal = Terminal()
    line = ProgressLine(terminal)
    for phase in ("train", "restore"):
        for done in range(101):
            line.show(Progress(phase, done, 100))
    line.end()
    assert terminal.getvalue().count("\n") == 2
    assert terminal.getvalue().split("\n")[0].rsplit("\r", 1)[-1].strip() == "training 100 %"
