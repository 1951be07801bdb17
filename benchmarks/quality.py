"""Denoising beside the peers, on the same pixels: PSNR, SSIM, seconds and peak memory.

    python -m benchmarks.quality [--data ../shared/data] [--methods "ours, one pass" BM3D] [--groups fmd w2s] [--fresh]

Writes benchmarks/results/quality.md, quality.csv and pictures. Each method runs in a process of its own, whose peak
memory is its own (libraries included), over all images. What was measured is kept under runs/quality, so that a run
that was stopped goes on; `--fresh` measures the methods that it names anew. `bm3d` is licensed for non-commercial use
only; it comes with the extra [bench].
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from skimage.metrics import structural_similarity

from benchmarks import peers, pictures, report
from benchmarks.data import DATA, REPEATS, Array, Case, cases, group_names
from benchmarks.report import ROOT, provenance

KEPT = ROOT / "runs" / "quality"
SAMPLES, ADAPT_SECONDS = 16, 30.0


def _ours(case: Case, **changes: Any) -> tuple[Array, dict[str, Any]]:
    from napari_vae_repair import restore

    result = restore(case.noisy, **changes)
    return result.restored, {"adapted": result.report.notes[0]} if "adapt_seconds" in changes else {}


def _mean_of_samples(case: Case) -> tuple[Array, dict[str, Any]]:
    from napari_vae_repair import restore

    samples = restore(case.noisy, samples=SAMPLES, keep_samples=True).samples
    assert samples is not None
    return samples.mean(axis=0), {}


def _plain(function: Callable[[Case], Array]) -> Callable[[Case], tuple[Array, dict[str, Any]]]:
    return lambda case: (function(case), {})


METHODS: dict[str, Callable[[Case], tuple[Array, dict[str, Any]]]] = {
    "noisy": _plain(lambda case: case.noisy),
    "ours, one pass": _ours,
    f"ours, mean of {SAMPLES} samples": _mean_of_samples,
    f"ours, adapted {ADAPT_SECONDS:.0f} s": functools.partial(_ours, adapt_seconds=ADAPT_SECONDS),
    "BM3D": _plain(peers.bm3d_told),
    "VST+BM3D, noise estimated": _plain(peers.vst_bm3d_estimated),
    "VST+BM3D, noise fitted": _plain(peers.vst_bm3d_fitted),
}
for _name, _family in peers.FAMILIES.items():
    METHODS[f"{_name}, J-invariant"] = _plain(functools.partial(peers.j_invariant, _family))
    METHODS[f"{_name}, oracle"] = _plain(functools.partial(peers.oracle, _family))
PUBLISHED = {  # dB; mean of the set
    "DnCNN (published)": {"Set12, sigma 15": 32.86, "Set12, sigma 25": 30.44, "Set12, sigma 50": 27.18},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD")
    parser.add_argument("--groups", nargs="+", choices=group_names(), default=list(group_names()), metavar="GROUP")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="measure anew")
    parser.add_argument("--one", metavar="METHOD", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: the benchmark data is not at {options.data}; name its folder with --data")
        return
    if options.one:
        _measure_all(options)
        return
    for method in options.methods:
        if options.fresh:
            _file_of(method).unlink(missing_ok=True)
        passed = ["--data", str(options.data), "--threads", str(options.threads), "--groups", *options.groups]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        command = [sys.executable, "-m", "benchmarks.quality", *passed, "--one", method]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    write(_rows(), options.threads)
    print(pictures.psnr_against_seconds(_rows(), ("Set12, sigma 25", "fmd", "w2s")))
    print(pictures.crops(options.data))


def _measure_all(options: argparse.Namespace) -> None:
    """One method over all cases that are not measured yet; a line of JSON for each."""
    file = _file_of(options.one)
    file.parent.mkdir(parents=True, exist_ok=True)
    known = {(row["group"], row["image"]) for row in _lines(file)}
    warm = False
    for case in cases(options.data, tuple(options.groups)):
        if (case.group, case.name) in known:
            continue
        if not warm and options.one.startswith("ours"):  # loading is not part of a restoration
            METHODS["ours, one pass"](case)
            warm = True
        started = time.perf_counter()
        estimate, more = METHODS[options.one](case)
        seconds = time.perf_counter() - started
        aligned, span = case.aligned(estimate)
        similarity = structural_similarity(
            aligned, case.reference.astype(np.float64), data_range=span, channel_axis=case.channel_axis
        )
        row = {
            "group": case.group,
            "image": case.name,
            "method": options.one,
            "psnr_db": round(case.psnr(estimate), 3),
            "ssim": round(float(similarity), 4),
            "seconds": round(seconds, 2),
            "peak_memory_mb": _peak_mb(),
            "commit": report.commit(),
            **more,
        }
        with file.open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        print(row, flush=True)


def write(rows: list[dict[str, Any]], threads: int) -> None:
    """The tables as Markdown and CSV."""
    names = ("group", "image", "method", "psnr_db", "ssim", "seconds", "peak_memory_mb", "commit")
    packages = ("torch", "scikit-image", "bm3d", "numpy")
    lines = [
        "# Denoising beside the peers",
        "",
        provenance("python -m benchmarks.quality", packages, threads),
        "Protocol: benchmarks/data.py; tuning of the peers: benchmarks/peers.py. Ours is told nothing; BM3D is told",
        "sigma on Set12. *Oracle* is tuned against the reference itself. Peak memory includes the libraries.",
        "",
        "## PSNR (dB), mean of each set",
        "",
        *_table(rows, "psnr_db", PUBLISHED),
        "",
        "## SSIM, mean of each set",
        "",
        *_table(rows, "ssim", {}),
        "",
        "## Seconds an image, median of each set (tuning included)",
        "",
        *_table(rows, "seconds", {}),
        "",
        "## Peak memory (MB)",
        "",
        "| method | peak memory |",
        "|---|---|",
        *(
            f"| {method} | {max(row['peak_memory_mb'] for row in rows if row['method'] == method)} |"
            for method in _methods(rows)
        ),
        "",
        "## PSNR (dB) of each real image",
        "",
        *_each_image(rows),
        "",
        f"FMD's images ending in {REPEATS} repeat the scene of those ending in _1.",
    ]
    report.write("quality", lines, rows, names)


def _table(rows: list[dict[str, Any]], value: str, published: dict[str, dict[str, float]]) -> list[str]:
    groups = [group for group in group_names() if any(row["group"] == group for row in rows)]
    counts = {group: len({row["image"] for row in rows if row["group"] == group}) for group in groups}
    lines = [
        "| method | " + " | ".join(f"{group} ({counts[group]})" for group in groups) + " |",
        "|---|" + "---|" * len(groups),
    ]
    form = {"psnr_db": ".2f", "ssim": ".3f", "seconds": ".2f"}[value]
    for method in _methods(rows):
        cells = []
        for group in groups:
            values = [row[value] for row in rows if row["group"] == group and row["method"] == method]
            typical = np.median(values) if value == "seconds" and values else np.mean(values) if values else None
            missing = "" if len(values) == counts[group] else f" ({len(values)})"
            cells.append("–" if typical is None else f"{typical:{form}}{missing}")  # noqa: RUF001
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    for method, known in published.items():
        lines.append(f"| {method} | " + " | ".join(f"{known[g]:{form}}" if g in known else "" for g in groups) + " |")
    return lines


def _each_image(rows: list[dict[str, Any]]) -> list[str]:
    shown = [m for m in _methods(rows) if m.startswith(("noisy", "ours", "VST")) or m.endswith("NLM, J-invariant")]
    found = {(row["group"], row["image"], row["method"]): row["psnr_db"] for row in rows}
    images = sorted({(row["group"], row["image"]) for row in rows if not row["group"].startswith("Set12")})
    lines = ["| image | " + " | ".join(shown) + " |", "|---|" + "---|" * len(shown)]
    for group, image in images:
        cells = [found.get((group, image, method)) for method in shown]
        lines.append(f"| {group} {image} | " + " | ".join("" if c is None else f"{c:.2f}" for c in cells) + " |")
    return lines


def _methods(rows: list[dict[str, Any]]) -> list[str]:
    return [method for method in METHODS if any(row["method"] == method for row in rows)]


def _rows() -> list[dict[str, Any]]:
    return [row for method in METHODS for row in _lines(_file_of(method))]


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def _file_of(method: str) -> Path:
    return KEPT / (method.replace(", ", "_").replace(" ", "-").replace("+", "-") + ".jsonl")


def _peak_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return round(peak / 1e6)


if __name__ == "__main__":
    main()
