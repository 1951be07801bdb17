"""The figures of `benchmarks.quality`: PSNR against seconds, and crops side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import peers
from benchmarks.data import Array, Case, cases
from benchmarks.report import RESULTS
from napari_vae_repair import restore

SHOWN = (
    ("Set12, sigma 25", "09"),
    ("fmd", "Confocal_MICE_1"),
    ("fmd", "WideField_BPAE_B_1"),
    ("w2s", "field021_1"),
    ("renoir", "batch05"),
)
SIDE_PX = 128
DPI = 130


def psnr_against_seconds(rows: Sequence[dict[str, Any]], groups: Sequence[str]) -> Path:
    """A panel for each group; a point for each method, mean PSNR and median seconds."""
    figure = Figure(figsize=(4.2 * len(groups), 4.2), layout="constrained")
    for axes, group in zip(np.atleast_1d(figure.subplots(1, len(groups))), groups, strict=True):
        part = [row for row in rows if row["group"] == group and row["method"] != "noisy"]
        for method in dict.fromkeys(row["method"] for row in part):
            own = [row for row in part if row["method"] == method]
            x, y = np.median([row["seconds"] for row in own]), np.mean([row["psnr_db"] for row in own])
            ours = method.startswith("ours")
            axes.plot(x, y, "o" if ours else ".", color="C3" if ours else "0.4")
            axes.annotate(method, (x, y), xytext=(3, 3), textcoords="offset points", fontsize=6)
        axes.set(title=group, xscale="log", xlabel="seconds an image (median)", ylabel="PSNR (dB), mean")
        axes.grid(alpha=0.3)
    path = RESULTS / "quality-seconds.png"
    figure.savefig(path, dpi=DPI)
    return path


def crops(data: Path) -> Path:
    """Noisy, BM3D (stabilised on real images), ours and the reference of some images, all on one grey scale."""
    chosen = [case for case in cases(data) if (case.group, case.name) in SHOWN]
    columns = ("noisy", "BM3D", "ours, one pass", "reference")
    figure = Figure(figsize=(2.3 * len(columns), 2.5 * len(chosen)), layout="constrained")
    for row, case in zip(figure.subplots(len(chosen), len(columns), squeeze=False), chosen, strict=True):
        plain = peers.bm3d_told if case.sigma is not None else peers.vst_bm3d_estimated
        estimates = (case.noisy, plain(case), restore(case.noisy).restored, case.reference)
        for axes, name, estimate in zip(row, columns, estimates, strict=True):
            aligned, _ = case.aligned(estimate)
            axes.imshow(_crop(aligned, case), cmap="gray", vmin=0, vmax=1)
            value = "" if name == "reference" else f", {case.psnr(estimate):.2f} dB"
            axes.set_title(f"{name}{value}", fontsize=7)
            axes.axis("off")
        row[0].set_title(f"{case.group} {case.name}\nnoisy, {case.psnr(case.noisy):.2f} dB", fontsize=7)
    path = RESULTS / "quality-crops.png"
    figure.savefig(path, dpi=DPI)
    return path


def _crop(image: np.ndarray, case: Case) -> Array:
    """The middle of the image, the reference's 0.1 to 99.9 percentiles as 0 to 1."""
    top, left = ((side - SIDE_PX) // 2 for side in image.shape[:2])
    window = np.s_[top : top + SIDE_PX, left : left + SIDE_PX]
    low, high = np.percentile(case.reference[window], [0.1, 99.9])
    return np.clip((image[window] - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
