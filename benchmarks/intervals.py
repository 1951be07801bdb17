"""How often the truth lies within 50, 80, 90 and 95 % intervals, on the real pairs, in thirds of brightness.

    python -m benchmarks.intervals [--data ../shared/data] [--groups fmd w2s]

Intervals are those of `credible_interval` from 16 samples, calibrated on synthetic scenes alone. The reference is led
into the units of the noisy image by a straight line, and has noise of its own. Writes benchmarks/results/intervals.md,
.csv and .png.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import report
from benchmarks.data import DATA, PAIRS, Case, cases
from napari_vae_repair import restore
from napari_vae_repair.uncertainty import credible_interval

SAMPLES = 16
LEVELS = (50, 80, 90, 95)
THIRDS = ("dark", "middle", "bright")
MEANT = 5.0  # points that the median may lie off
COLUMNS = ("group", "image", "third", *(f"{level} %" for level in LEVELS))


def covered(case: Case) -> list[dict[str, Any]]:
    """A row for each third of brightness: the share of its pixels whose truth lies within each interval, in percent."""
    result = restore(case.noisy, samples=SAMPLES)
    slope, offset = np.polyfit(case.reference.ravel(), case.noisy.ravel(), 1)
    truth = slope * case.reference + offset
    ends = {level: credible_interval(result, level / 100) for level in LEVELS}
    held = {level: ((low <= truth) & (truth <= high)).ravel() for level, (low, high) in ends.items()}
    rows = []
    for third, part in zip(THIRDS, np.array_split(np.argsort(truth, axis=None), len(THIRDS)), strict=True):
        shares = {f"{level} %": round(100 * float(held[level][part].mean()), 1) for level in LEVELS}
        rows.append({"group": case.group, "image": case.name, "third": third} | shares)
    return rows


def medians(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each level: median, quartiles and extremes over all thirds of all images, in percent."""
    out = []
    for level in LEVELS:
        shares = np.array([row[f"{level} %"] for row in rows])
        low, middle, high = np.percentile(shares, [25, 50, 75])
        out.append(
            {
                "nominal": level,
                "median": round(float(middle), 1),
                "off by": f"{middle - level:+.1f}",
                "within 5 points": "yes" if abs(middle - level) <= MEANT else "no",
                "quartiles": f"{low:.1f} to {high:.1f}",
                "from": f"{shares.min():.1f} to {shares.max():.1f}",
                **{f"median {third}": _median(rows, level, third) for third in THIRDS},
            }
        )
    return out


def _median(rows: Sequence[dict[str, Any]], level: int, third: str) -> float:
    return round(float(np.median([row[f"{level} %"] for row in rows if row["third"] == third])), 1)


def figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Nominal against covered, a panel for each third: images faint, their median bold, right on the diagonal."""
    drawn = Figure(figsize=(10, 3.8), layout="constrained", dpi=120)
    panels = drawn.subplots(1, len(THIRDS), sharex=True, sharey=True)
    groups = list(dict.fromkeys(row["group"] for row in rows))
    for panel, third in zip(panels, THIRDS, strict=True):
        here = [row for row in rows if row["third"] == third]
        panel.plot([40, 100], [40, 100], ":", color="black", label="as it should be")
        panel.fill_between([40, 100], [35, 95], [45, 105], color="black", alpha=0.07, label="within 5 points")
        for number, group in enumerate(groups):
            for index, row in enumerate(row for row in here if row["group"] == group):
                style = ("-", "--", "-.", (0, (1, 1)))[number % 4]
                label = group if index == 0 else None
                panel.plot(LEVELS, _shares(row), linestyle=style, color=f"C{number}", alpha=0.35, lw=1, label=label)
        middle = np.median([_shares(row) for row in here], axis=0)
        panel.plot(LEVELS, middle, "o-", color="black", lw=2.5, label="median of the images")
        panel.set(title=third, xlabel="nominal, %", xticks=LEVELS, xlim=(45, 100), ylim=(0, 101))
    panels[0].set_ylabel("truth within the interval, % of pixels")
    panels[-1].legend(fontsize=8, loc="lower right")
    return drawn


def _shares(row: dict[str, Any]) -> list[float]:
    return [row[f"{level} %"] for level in LEVELS]


def write(rows: Sequence[dict[str, Any]]) -> None:
    """Table, text and figure."""
    every = np.array([row["90 %"] for row in rows])
    found = medians(rows)
    lines = [
        "# Intervals",
        "",
        report.provenance("python -m benchmarks.intervals", ("torch", "numpy"), 2),
        "",
        f"{len(rows)} thirds of {len(rows) // len(THIRDS)} images; shares of pixels in percent.",
        "",
        *report.markdown(found, tuple(found[0])),
        "",
        f"At 90 %, {100 * np.mean((every >= 80) & (every <= 97)):.0f} % of the thirds lie between 80 and 97 %.",
        "",
        "![nominal against covered](intervals.png)",
        "",
        *report.markdown(rows, COLUMNS),
    ]
    report.write("intervals", lines, rows, COLUMNS)
    figure(rows).savefig(report.RESULTS / "intervals.png")


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
        rows += covered(case)
        print(*rows[-len(THIRDS) :], sep="\n", flush=True)
    write(rows)


if __name__ == "__main__":
    main()
