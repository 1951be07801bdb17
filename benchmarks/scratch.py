"""Training from scratch beside classical denoisers, on the same pixels in one run.

    python -m benchmarks.scratch [--data ../shared/data] [--threads N] [--methods NLM TV] [--images ...]

Writes benchmarks/results/scratch.md and scratch.csv; `--methods` and `--images` measure some anew and keep the others.
Set12/01 with Gaussian noise of sigma 25, and the first image of each of three sets of real pairs (benchmarks/data.py).
Classical methods run with the parameter that is best against the reference (benchmarks/peers.py), BM3D told the noise
on Set12. Each method has a process of its own, so that its peak memory is its own. Note that `bm3d` is licensed for
non-commercial use only; it comes with the extra [bench].
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import peers, report
from benchmarks.data import DATA, Array, Case, cases
from napari_vae_repair.image.classical import FAMILIES

IMAGES = {
    "Set12/01, sigma 25": ("Set12, sigma 25", "01"),
    "FMD Confocal_FISH_1": ("fmd", "Confocal_FISH_1"),
    "W2S field057_2": ("w2s", "field057_2"),
    "RENOIR batch01": ("renoir", "batch01"),
}
BM3D_STRENGTHS = (0.5, 1.0, 1.5, 2.2, 3.3, 5.0)  # times the noise's standard deviation
EPOCHS = {"ours, 20 epochs": 20, "ours, 50 epochs (default)": 50}
METHODS = ["noisy", "NLM", "TV", "wavelet", "BM3D", *EPOCHS]
COLUMNS = ("image", "method", "psnr_db", "seconds", "peak_memory_mb", "note")


def measure(data: Path, name: str, method: str, threads: int) -> dict[str, Any]:
    """PSNR, seconds (of all parameters that were tried) and peak memory of one method on one image."""
    group, image = IMAGES[name]
    case = next(case for case in cases(data, (group,)) if case.name == image)
    started = time.perf_counter()
    estimate, note = _trained(case, EPOCHS[method], threads) if method in EPOCHS else _classical(case, method)
    return {
        "image": name,
        "method": method,
        "psnr_db": round(case.psnr(estimate), 2),
        "seconds": round(time.perf_counter() - started, 1),
        "peak_memory_mb": report.peak_memory_mb(),
        "note": note,
    }


def _trained(case: Case, epochs: int, threads: int) -> tuple[Array, str]:
    import torch

    from napari_vae_repair import restore

    torch.set_num_threads(threads)
    result = restore(case.noisy, epochs=epochs)
    return result.restored, f"{result.model.training['steps']} steps"


def _classical(case: Case, method: str) -> tuple[Array, str]:
    if method == "noisy":
        return case.noisy, ""
    if method != "BM3D":
        return peers.oracle(FAMILIES[method], case), "best of its parameters"
    if case.sigma is not None:
        return peers.bm3d_told(case), "told sigma"
    std = float((case.noisy - case.reference).std())
    return max((peers.bm3d_of(case.noisy, s * std) for s in BM3D_STRENGTHS), key=case.psnr), "best of its strengths"


def write(rows: list[dict[str, Any]], threads: int) -> None:
    """The table as Markdown and CSV."""
    lines = [
        "# Training from scratch beside classical denoisers",
        "",
        report.provenance("python -m benchmarks.scratch", ("torch", "scikit-image", "bm3d", "numpy"), threads),
        "Peak memory is that of the whole process, libraries included; seconds hold all parameters that were tried.",
        "See benchmarks/scratch.py for the protocol.",
        "",
        *report.markdown(rows, COLUMNS),
    ]
    report.write("scratch", lines, rows, COLUMNS)


def rows_of_table() -> list[tuple[str, str]]:
    """Image and method of each row; the shorter training is for the question what 90 seconds give on Set12/01."""
    pairs = [(name, method) for name in IMAGES for method in METHODS]
    return [pair for pair in pairs if pair[0].startswith("Set12") or pair[1] != "ours, 20 epochs"]


def earlier_rows(anew: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Rows of the last table that are not measured anew."""
    path = report.RESULTS / "scratch.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = set(rows_of_table()) - set(anew)
    return [row for row in rows if (row["image"], row["method"]) in kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("IMAGE", "METHOD"), help=argparse.SUPPRESS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--images", nargs="+", choices=list(IMAGES), default=list(IMAGES))
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: the benchmark data is not at {options.data}; name its folder with --data")
        return
    if options.one:
        print(json.dumps(measure(options.data, *options.one, options.threads)))
        return
    anew = [(name, method) for name, method in rows_of_table() if name in options.images and method in options.methods]
    rows = earlier_rows(anew)
    for name, method in anew:
        command = [sys.executable, "-m", "benchmarks.scratch", "--data", str(options.data)]
        command += ["--threads", str(options.threads), "--one", name, method]
        done = subprocess.run(command, cwd=report.ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}, {method}: failed\n{done.stderr}", file=sys.stderr)
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    write(sorted(rows, key=lambda row: rows_of_table().index((row["image"], row["method"]))), options.threads)


if __name__ == "__main__":
    main()
