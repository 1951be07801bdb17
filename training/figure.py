"""The validation figures of a run over time."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

Panels = dict[str, tuple[str, tuple[str, ...]]]
"""For each title: the unit, and the names in the log."""


def draw_history(log: Path, file: Path, panels: Panels) -> None:
    """What was measured on the held-out sources against hours, as a PNG."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    hours = [line["hours"] for line in lines]
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, (title, (unit, names)) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            for name in names:
                values = [line.get(name, float("nan")) for line in lines]  # what is measured may change underway
                axes.plot(hours, values, marker=".", label=f"{name} ({values[-1]:.3g})")
            axes.set(title=title, xlabel="hours of training", ylabel=unit)
            axes.legend()
            axes.grid(alpha=0.3)
        figure.savefig(file, dpi=120)
