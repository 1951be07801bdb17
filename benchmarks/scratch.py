"""Training from scratch beside classical denoisers, on the same pixels in one run.

    python benchmarks/scratch.py [--data ../shared/data] [--threads N] [--methods NLM TV] [--images ...]

Writes benchmarks/results/scratch.md and scratch.csv; `--methods` and `--images` measure some anew and keep the others.
The data is no part of the project: Set12/01 with Gaussian noise of sigma 25 (numpy's default_rng(0)), and the first
image of each of three sets of real pairs: FMD (Zhang et al. 2019), W2S (Zhou et al. 2020), RENOIR (Anaya and
Barbu 2018).
Classical methods run with the parameter that is best against the reference, BM3D told the noise on Set12. Each method
has a process of its own, so that its peak memory is its own. Note that `bm3d` is licensed for non-commercial use only;
it comes with the extra [bench].
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
RESULTS = Path(__file__).parent / "results"
IMAGES = {
    "Set12/01, sigma 25": ("clean/set12/01.png", None),
    "FMD Confocal_FISH_1": ("pairs/fmd/Confocal_FISH_1_noisy.png", "pairs/fmd/Confocal_FISH_1_reference.png"),
    "W2S field057_2": ("pairs/w2s/field057_2_noisy.png", "pairs/w2s/field057_2_reference.png"),
    "RENOIR batch01": ("pairs/renoir/batch01_noisy.png", "pairs/renoir/batch01_reference.png"),
}
STRENGTHS = np.geomspace(0.3, 10, 28)  # times the noise's standard deviation
BM3D_STRENGTHS = (0.5, 1.0, 1.5, 2.2, 3.3, 5.0)  # fewer: it takes ten seconds a run and more
EPOCHS = {"ours, 20 epochs": 20, "ours, 50 epochs (default)": 50}
METHODS = ["noisy", "NLM", "TV", "wavelet", "BM3D", *EPOCHS]


def load(data: Path, name: str) -> tuple[Array, Array]:
    """Noisy image and reference, in units of 0 to 1."""
    from imageio.v3 import imread

    first, second = IMAGES[name]
    image = imread(data / first).astype(np.float32) / 255
    if second is None:
        noise = np.random.default_rng(0).normal(0, 25 / 255, image.shape)
        return (image + noise).astype(np.float32), image
    return image, imread(data / second).astype(np.float32) / 255


def score(estimate: Array, reference: Array, name: str) -> float:
    """PSNR in dB by the protocol of each set (see the data's README)."""
    x, y = np.asarray(estimate, np.float64), np.asarray(reference, np.float64)
    if name.startswith("Set12"):
        x, span = np.clip(x, 0, 1), 1.0
    elif name.startswith("FMD"):
        span = 1.0
    else:
        slope, offset = np.polyfit(x.ravel(), y.ravel(), 1)
        x, span = slope * x + offset, float(np.ptp(y))
    return float(10 * np.log10(span**2 / np.mean((x - y) ** 2)))


def classical(method: str, noisy: Array, noise_std: float) -> Callable[[float], Array]:
    """A denoiser of one strength, relative to the noise."""
    from skimage import restoration as sk

    axis = -1 if noisy.ndim == 3 else None
    if method == "NLM":
        return lambda s: sk.denoise_nl_means(
            noisy, patch_size=5, patch_distance=6, h=0.8 * s * noise_std, sigma=s * noise_std, channel_axis=axis
        )
    if method == "TV":
        return lambda s: sk.denoise_tv_chambolle(noisy, weight=s * noise_std, channel_axis=axis)
    if method == "wavelet":
        return lambda s: sk.denoise_wavelet(noisy, sigma=s * noise_std, channel_axis=axis, rescale_sigma=True)
    import bm3d

    planes = [noisy[..., c] for c in range(noisy.shape[-1])] if axis else [noisy]
    return lambda s: np.stack([bm3d.bm3d(plane, s * noise_std) for plane in planes], axis=-1).reshape(noisy.shape)


def measure(data: Path, name: str, method: str, threads: int) -> dict[str, Any]:
    """PSNR, seconds and peak memory of one method on one image."""
    noisy, reference = load(data, name)
    note = ""
    if method in EPOCHS:
        import torch

        from napari_vae_repair import restore

        torch.set_num_threads(threads)
        started = time.perf_counter()
        result = restore(noisy, epochs=EPOCHS[method])
        seconds, estimate = time.perf_counter() - started, result.restored
        note = f"{result.model.training['steps']} steps"
    elif method == "noisy":
        seconds, estimate = 0.0, noisy
    else:
        noise_std = 25 / 255 if name.startswith("Set12") else float((noisy - reference).std())
        told = method == "BM3D" and name.startswith("Set12")
        denoise, best = classical(method, noisy, noise_std), (-np.inf, 1.0, 0.0)
        estimate = noisy
        for strength in (1.0,) if told else BM3D_STRENGTHS if method == "BM3D" else STRENGTHS:
            started = time.perf_counter()
            candidate = denoise(float(strength))
            took = time.perf_counter() - started
            if (found := score(candidate, reference, name)) > best[0]:
                best, estimate = (found, float(strength), took), candidate
        seconds, note = best[2], "told sigma" if told else f"best of its strengths: {best[1]:.2f} sigma"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "image": name,
        "method": method,
        "psnr_db": round(score(estimate, reference, name), 2),
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(peak / 1e6),
        "note": note,
    }


def write(rows: list[dict[str, Any]], threads: int) -> None:
    """The table as Markdown and CSV."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "scratch.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "scikit-image", "bm3d", "numpy"))
    lines = [
        "# Training from scratch beside classical denoisers",
        "",
        f"`make bench`, {time.strftime('%Y-%m-%d')}, commit {commit.stdout.strip()}, {platform.machine()}, "
        f"{threads} threads, Python {platform.python_version()}, {versions}.",
        "Peak memory is that of the whole process, libraries included. See benchmarks/scratch.py for the protocol.",
        "",
        "| image | method | PSNR (dB) | seconds | peak memory (MB) | note |",
        "|---|---|---|---|---|---|",
        *("| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows),
    ]
    (RESULTS / "scratch.md").write_text("\n".join(lines) + "\n")


def rows_of_table() -> list[tuple[str, str]]:
    """Image and method of each row; the shorter training is for the question what 90 seconds give on Set12/01."""
    pairs = [(name, method) for name in IMAGES for method in METHODS]
    return [pair for pair in pairs if pair[0].startswith("Set12") or pair[1] != "ours, 20 epochs"]


def earlier_rows(anew: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Rows of the last table that are not measured anew."""
    path = RESULTS / "scratch.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = set(rows_of_table()) - set(anew)
    return [row for row in rows if (row["image"], row["method"]) in kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
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
        command = [sys.executable, __file__, "--data", str(options.data), "--threads", str(options.threads)]
        done = subprocess.run([*command, "--one", name, method], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}, {method}: failed\n{done.stderr}", file=sys.stderr)
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    write(sorted(rows, key=lambda row: rows_of_table().index((row["image"], row["method"]))), options.threads)


if __name__ == "__main__":
    main()
