"""One pass beside BM3D: seconds of the whole call on a grey image of 512 x 512 pixels, taking turns; cost of samples.

    python -m benchmarks.speed [--data ../shared/data] [--turns 7] [--float32]

Writes benchmarks/results/speed.md and .csv; with --float32, as where the processor lacks bfloat16, speed-float32.md and
.csv (with ONEDNN_MAX_CPU_ISA=AVX2 in the environment, as where it lacks AVX-512). Loading the weights is timed apart,
in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

from benchmarks import report
from benchmarks.data import DATA, cases
from benchmarks.peers import bm3d_of
from napari_vae_repair import restore
from napari_vae_repair.vae import device

MORE_SAMPLES = 8
LOADING = """
import time, torch
import napari_vae_repair.vae.starter as starter
started = time.perf_counter()
starter.load_starter()
print(time.perf_counter() - started)
"""


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--float32", action="store_true")
    options = parser.parse_args()
    with patch.object(device, "_cpu_autocast", return_value=None) if options.float32 else nullcontext():
        measure(options)


def measure(options: argparse.Namespace) -> None:
    if not options.data.is_dir():
        print(f"skipped: the benchmark data is not at {options.data}; name its folder with --data")
        return
    case = next(case for case in cases(options.data, ("Set12, sigma 25",)) if case.noisy.shape == (512, 512))
    restore(case.noisy)
    names = ("one pass", "BM3D", "2 samples", f"{2 + MORE_SAMPLES} samples", "loading")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.turns):
        seconds["one pass"].append(timed(lambda: restore(case.noisy)))
        seconds["BM3D"].append(timed(lambda: bm3d_of(case.noisy, 25 / 255)))
        seconds["2 samples"].append(timed(lambda: restore(case.noisy, samples=2)))
        seconds[names[3]].append(timed(lambda: restore(case.noisy, samples=2 + MORE_SAMPLES)))
        loaded = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=True)
        seconds["loading"].append(float(loaded.stdout))
    typical = {name: statistics.median(values) for name, values in seconds.items()}
    each_more = [(b - a) / MORE_SAMPLES / one for one, a, b in
                 zip(seconds["one pass"], seconds["2 samples"], seconds[names[3]], strict=True)]  # fmt: skip
    ratio = statistics.median(b / a for a, b in zip(seconds["one pass"], seconds["BM3D"], strict=True))
    rows = [{"what": name, "seconds": round(value, 3)} for name, value in typical.items()]
    rows += [
        {"what": "BM3D over one pass", "ratio": round(ratio, 1)},
        {"what": "each further sample over one pass", "ratio": round(statistics.median(each_more), 2)},
    ]
    limit = f"ONEDNN_MAX_CPU_ISA={isa} " if (isa := os.environ.get("ONEDNN_MAX_CPU_ISA")) else ""
    columns = ("what", "seconds", "ratio")
    lines = [
        "# Speed",
        "",
        report.provenance(
            f"{limit}python -m benchmarks.speed{' --float32' * options.float32}", ("torch", "bm3d", "numpy"), 2
        ),
        f"Medians of {options.turns} turns; ratios within a turn.",
        "",
        *report.markdown(rows, columns),
    ]
    report.write("speed-float32" if options.float32 else "speed", lines, rows, columns)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
