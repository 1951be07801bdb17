"""The same seed gives the same bytes on one machine; threads and tiles change next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_vae_repair.cli import main
from napari_vae_repair.image.files import read_image, write_image

CALL = "import sys; from napari_vae_repair.cli import main; sys.exit(main(sys.argv[1:]))"


def photo(side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    clean = 500 + 300 * np.sin(x / 9) * np.cos(y / 13) + 100 * ((x // 20 + y // 30) % 2)
    return (clean + np.random.default_rng(0).normal(0, 60, clean.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What this process and two others wrote, the last one of two threads."""
    folder = tmp_path_factory.mktemp("runs")
    write_image(folder / "in.tif", photo(96), "YX")
    for name, threads in (("here", 1), ("other", 1), ("two", 2)):
        out = folder / name
        out.mkdir()
        command = ["restore", f"{folder / 'in.tif'}", f"{out / 'out.tif'}", "--std", f"{out / 'std.tif'}"]
        command += ["--samples", "2", "--seed", "7"]
        if name == "here":
            assert main(command) == 0
            continue
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        subprocess.run([sys.executable, "-c", CALL, *command], env=environment, check=True)
    return {name: folder / name for name in ("here", "other", "two")}


def test_two_processes_with_one_seed_give_the_same_pixels_to_the_last_bit(written: dict[str, Path]) -> None:
    for name in ("out.tif", "std.tif"):
        one, other = (read_image(written[run] / name).pixels for run in ("here", "other"))
        assert one.tobytes() == other.tobytes()


def test_another_number_of_threads_stays_within_a_thousandth_of_the_range(written: dict[str, Path]) -> None:
    for name in ("out.tif", "std.tif"):
        one, two = (read_image(written[run] / name).pixels for run in ("other", "two"))
        assert np.abs(one - two).max() <= 1e-3 * np.ptp(photo(96))


@pytest.mark.usefixtures("float32")
def test_another_tile_size_stays_within_a_thousandth_of_the_range(tmp_path: Path) -> None:
    strip = photo(600)[:, :280]
    write_image(tmp_path / "in.tif", strip, "YX")
    results = []
    for tile_px in (256, 512):
        path = tmp_path / f"{tile_px}.tif"
        assert main(["restore", str(tmp_path / "in.tif"), str(path), "--set", f"tile_px={tile_px}"]) == 0
        results.append(read_image(path).pixels)
    assert np.abs(results[0] - results[1]).max() <= 1e-3 * np.ptp(strip)
