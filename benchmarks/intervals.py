"""How often the truth lies within the 90 % intervals, on the real pairs, in thirds of brightness.

    python -m benchmarks.intervals [--data ../shared/data] [--groups fmd w2s]

Intervals are the restored image plus and minus 1.645 times its standard deviation of 16 samples, calibrated on
synthetic scenes alone. The reference is led into the units of the noisy image by a straight line, and has noise of its
own. Writes benchmarks/results/intervals.md and .csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.data import DATA, PAIRS, Case, cases
from napari_vae_repair import restore
from napari_vae_repair.vae.calibration import NORMAL_90

SAMPLES = 16
THIRDS = ("dark", "middle", "bright")


def covered(case: Case) -> list[float]:
    """Share of pixels of each third of brightness whose truth lies within the interval, in percent."""
    result = restore(case.noisy, samples=SAMPLES)
    slope, offset = np.polyfit(case.reference.ravel(), case.noisy.ravel(), 1)
    truth = slope * case.reference + offset
    inside = np.abs(result.restored - truth) <= NORMAL_90 * result.std
    parts = np.array_split(np.argsort(truth, axis=None), len(THIRDS))
    return [100 * float(inside.ravel()[part].mean()) for part in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--groups", nargs="+", choices=PAIRS, default=list(PAIRS))
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: the benchmark data is not at {options.data}; name its folder with --data")
        return
    rows: list[dict[str, Any]] = []
    for case in cases(options.data, tuple(options.groups)):
        shares = covered(case)
        rows.append(
            {"group": case.group, "image": case.name} | {k: round(v, 1) for k, v in zip(THIRDS, shares, strict=True)}
        )
        print(rows[-1], flush=True)
    every = np.array([[row[third] for third in THIRDS] for row in rows])
    lines = [
        "# 90 % intervals",
        "",
        report.provenance("python -m benchmarks.intervals", ("torch", "numpy"), 2),
        "",
        f"Of {every.size} thirds of {len(rows)} images: median {np.median(every):.1f} %, from {every.min():.1f} to "
        f"{every.max():.1f} %; {100 * np.mean((every >= 80) & (every <= 97)):.0f} % of them between 80 and 97 %.",
        "",
        *report.markdown(rows, ("group", "image", *THIRDS)),
    ]
    report.write("intervals", lines, rows, ("group", "image", *THIRDS))


if __name__ == "__main__":
    main()
