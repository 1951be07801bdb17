"""500 random crops, of any size and dtype: no collapse, nothing that is not finite, no seams.

    python -m benchmarks.crops [--data ../shared/data] [--count 500]

A crop is restored whole and, where it is large enough, in small tiles too, whose largest difference is the seam.
Collapsed is a result whose details are gone although the image has some: below 2 % of the variance that a Gaussian
blur of 4 pixels leaves. Writes benchmarks/results/crops.md and .csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from imageio.v3 import imread
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks import report
from benchmarks.data import DATA
from napari_vae_repair import restore

DTYPES = ("uint8", "uint16", "int16", "int32", "float16", "float32", "float64", "bool")
TILE_PX = 64
COLUMNS = ("image", "shape", "dtype", "finite", "detail", "seam")


def as_dtype(image: NDArray[np.float32], dtype: str, rng: np.random.Generator) -> NDArray[Any]:
    """The image, 0 to 1, over a part of what the dtype holds."""
    if dtype == "bool":
        return image > np.median(image)
    if dtype.startswith("float"):
        scale = 10.0 ** rng.uniform(-2, 3) if dtype == "float16" else 10.0 ** rng.uniform(-6, 6)
        return ((image + rng.uniform(-1, 1)) * scale).astype(dtype)
    limits = np.iinfo(dtype)
    low, high = sorted(rng.uniform(max(limits.min, -(2**24)), min(limits.max, 2**24), 2))
    return np.round(low + (high - low) * image).astype(dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--count", type=int, default=500)
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: the benchmark data is not at {options.data}; name its folder with --data")
        return
    files = sorted((options.data / "clean" / "set12").glob("*.png"))
    files += sorted((options.data / "pairs").glob("*/*_noisy.*"))
    rng, rows = np.random.default_rng(0), []
    for index in range(options.count):
        file = files[rng.integers(len(files))]
        image = imread(file).astype(np.float32)
        height, width = (int(np.exp(rng.uniform(np.log(8), np.log(side)))) for side in image.shape[:2])
        y, x = (
            int(rng.integers(0, side - part + 1)) for side, part in zip(image.shape[:2], (height, width), strict=True)
        )
        dtype = DTYPES[index % len(DTYPES)]
        crop = image[y : y + height, x : x + width] / image.max()
        crop = as_dtype(crop, dtype, rng)
        rows.append({"image": file.stem, "shape": "x".join(map(str, crop.shape)), "dtype": dtype} | judged(crop))
        if index % 50 == 49:
            print(index + 1, flush=True)
    write(rows)


def judged(crop: NDArray[Any]) -> dict[str, Any]:
    """Whether all is finite; variance over that of a blurred crop; difference between tiles and whole."""
    restored = restore(crop, axes="YXS"[: crop.ndim], tile_px=4096).restored.astype(np.float64)
    values = crop.astype(np.float64)
    sigma = (4, 4, 0)[: crop.ndim]
    expected = gaussian_filter(values, sigma).var()
    span = max(float(np.ptp(values)), 1e-12)
    detail = 1.0 if expected < (1e-3 * span) ** 2 else float(restored.var() / expected)
    seam = 0.0
    if min(crop.shape[:2]) > TILE_PX:
        tiled = restore(crop, axes="YXS"[: crop.ndim], tile_px=TILE_PX).restored
        seam = float(np.abs(tiled - restored).max()) / span
    return {"finite": bool(np.isfinite(restored).all()), "detail": round(detail, 3), "seam": float(f"{seam:.2g}")}


def write(rows: list[dict[str, Any]]) -> None:
    tiled = [row["seam"] for row in rows if row["seam"] > 0]
    lines = [
        "# Random crops",
        "",
        report.provenance("python -m benchmarks.crops", ("torch", "numpy"), 2),
        "",
        f"{len(rows)} crops of 8 x 8 to 512 x 512 pixels, grey and colour, {', '.join(DTYPES)}:",
        "",
        f"- not finite: {sum(not row['finite'] for row in rows)}",
        f"- collapsed (detail below 0.02): {sum(row['detail'] < 0.02 for row in rows)}; "
        f"smallest detail {min(row['detail'] for row in rows)}",
        f"- largest difference between tiles of {TILE_PX} and the whole, over the range: {max(tiled, default=0):.2g} "
        f"({len(tiled)} crops)",
    ]
    report.write("crops", lines, rows, COLUMNS)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
