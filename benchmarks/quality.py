"""Denoising beside the peers, on the same pixels: PSNR, SSIM, seconds and peak memory.

    python -m benchmarks.quality [--data ../shared/data] [--methods "ours, one pass" BM3D] [--groups fmd w2s] [--fresh]

Writes benchmarks/results/quality.md, quality.csv and pictures. Each method runs in a process of its own, whose peak
memory is its own (libraries included), over all images. quality.csv holds what was measured, a line for each image, so
that a run that was stopped goes on; `--fresh` measures the named methods and groups anew. `bm3d` is licensed for
non-commercial use only; it comes with the extra [bench]. Noise2Void needs an environment of its own, whose Python the
variable NOISE2VOID_PYTHON names (benchmarks/noise2void.py); without it, it is left out.
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from skimage.metrics import structural_similarity

from benchmarks import peers, pictures, report
from benchmarks.data import DATA, REPEATS, Array, Case, cases, group_names
from benchmarks.report import RESULTS, ROOT, provenance
from napari_vae_repair.image.classical import FAMILIES

FILE = RESULTS / "quality.csv"
COLUMNS = ("group", "image", "method", "psnr_db", "ssim", "seconds", "peak_memory_mb", "commit", "processor", "adapted")
NUMBERS = {"psnr_db": float, "ssim": float, "seconds": float, "peak_memory_mb": int}
SAMPLES, ADAPT_SECONDS = 16, 30.0
NOISE2VOID, NOISE2VOID_PYTHON = "Noise2Void", "NOISE2VOID_PYTHON"


def _ours(case: Case, **changes: Any) -> tuple[Array, dict[str, Any]]:
    from napari_vae_repair import restore

    result = restore(case.noisy, **changes)
    verdicts = [note for note in result.report.notes if "adapted" in note]
    return result.restored, {"adapted": verdicts[0]} if "adapt_seconds" in changes else {}


def _mean_of_samples(case: Case) -> tuple[Array, dict[str, Any]]:
    from napari_vae_repair import restore

    samples = restore(case.noisy, samples=SAMPLES, keep_samples=True).samples
    assert samples is not None
    return samples.mean(axis=0), {}


def _noise2void(case: Case) -> tuple[Array, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "given.npy"), Path(folder, "found.npy")
        np.save(given, case.noisy)
        script = Path(__file__).with_name("noise2void.py")
        subprocess.run([os.environ[NOISE2VOID_PYTHON], script, given, found], check=True, capture_output=True)
        return np.load(found), {}


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
METHODS[NOISE2VOID] = _noise2void
for _name, _family in FAMILIES.items():
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
    if options.fresh:
        kept = [row for row in measured() if row["method"] not in options.methods or row["group"] not in options.groups]
        _store(kept)
    for method in options.methods:
        if method == NOISE2VOID and NOISE2VOID_PYTHON not in os.environ:
            print(f"{NOISE2VOID} is left out: {NOISE2VOID_PYTHON} names no Python (see benchmarks/noise2void.py)")
            continue
        passed = ["--data", str(options.data), "--threads", str(options.threads), "--groups", *options.groups]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        command = [sys.executable, "-m", "benchmarks.quality", *passed, "--one", method]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    write(measured(), options.threads)
    print(pictures.psnr_against_seconds(measured(), ("Set12, sigma 25", "fmd", "w2s")))
    print(pictures.crops(options.data))


def _measure_all(options: argparse.Namespace) -> None:
    """One method over all cases that are not measured yet; each is stored at once."""
    known = {(row["group"], row["image"]) for row in measured() if row["method"] == options.one}
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
            "peak_memory_mb": report.peak_memory_mb(
                resource.RUSAGE_CHILDREN if options.one == NOISE2VOID else resource.RUSAGE_SELF
            ),
            "commit": report.commit(),
            "processor": report.processor(),
            **more,
        }
        _store([*measured(), row])
        print(row, flush=True)


def write(rows: list[dict[str, Any]], threads: int) -> None:
    """The tables as Markdown and CSV."""
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
        "## The worst image",
        "",
        "The least that the image of a set gains over another method (dB); of adapting, over one pass.",
        "",
        *_worst(rows),
        "",
        "## PSNR (dB) of each real image",
        "",
        *_each_image(rows),
        "",
        f"FMD's images ending in {REPEATS} repeat the scene of those ending in _1.",
        "",
        "## Measured at",
        "",
        "Commits (with a plus: files differed from it) and processors of the rows.",
        "",
        *(f"- {method}: {'; '.join(_origins(rows, method))}" for method in _methods(rows)),
    ]
    report.write("quality", lines, rows, COLUMNS)


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


def _worst(rows: list[dict[str, Any]]) -> list[str]:
    """For each pair of methods and each set: the least difference, and its image."""
    found = {(row["method"], row["group"], row["image"]): row["psnr_db"] for row in rows}
    one_pass, adapted = "ours, one pass", f"ours, adapted {ADAPT_SECONDS:.0f} s"
    pairs = [(one_pass, "noisy"), (one_pass, "NLM, J-invariant"), (adapted, one_pass)]
    groups = [group for group in group_names() if any(row["group"] == group for row in rows)]
    lines = ["| gain | " + " | ".join(groups) + " |", "|---|" + "---|" * len(groups)]
    for first, second in pairs:
        cells = []
        for group in groups:
            images = [image for method, of, image in found if method == first and of == group]
            gains = [
                (found[first, group, image] - found[second, group, image], image)
                for image in images
                if (second, group, image) in found
            ]
            cells.append("{:+.2f} ({}, of {})".format(*min(gains), len(gains)) if gains else "not measured")
        lines.append(f"| {first} over {second} | " + " | ".join(cells) + " |")
    return lines


def _origins(rows: list[dict[str, Any]], method: str) -> list[str]:
    own = [f"{row['commit']} {row['processor']}".strip() for row in rows if row["method"] == method]
    return [f"{origin} ({own.count(origin)})" for origin in dict.fromkeys(own)]


def _methods(rows: list[dict[str, Any]]) -> list[str]:
    return [method for method in METHODS if any(row["method"] == method for row in rows)]


def measured() -> list[dict[str, Any]]:
    """Everything measured so far, in the order of the methods."""
    if not FILE.is_file():
        return []
    with FILE.open(newline="") as file:
        found = [
            dict.fromkeys(COLUMNS, "") | {key: NUMBERS.get(key, str)(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
    return sorted(found, key=lambda row: list(METHODS).index(row["method"]))


def _store(rows: list[dict[str, Any]]) -> None:
    written = FILE.with_suffix(".part")
    with written.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    written.replace(FILE)


if __name__ == "__main__":
    main()
