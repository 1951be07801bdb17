"""Filling and finding damage: brush strokes and real film-damage overlays on the 12 clean images of Set12.

    python -m benchmarks.repair [--data ../shared/data] [--overlays N]

Filling is measured inside the mask alone, beside `inpaint_biharmonic` of scikit-image and Telea and Navier-Stokes of
OpenCV. Overlays lie over one image each, in turn, over at most 400 x 400 pixels of it; what they change counts as lost.
`find_damage` is told nothing, and asked for its rules alone and for its network at two thresholds; its truth is an
opacity of at least 0.1. Writes benchmarks/results/repair.md and .csv.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from imageio.v3 import imread
from numpy.typing import NDArray
from skimage.draw import disk

from benchmarks import peers, report
from benchmarks.data import DATA, Array, clean_images
from napari_vae_repair import find_damage, restore

Mask = NDArray[np.bool_]
CHANGED, VISIBLE = 0.02, 0.1  # opacity
THRESHOLDS = {"rules": None, "0.99": 0.99, "0.9": 0.9}  # of find_damage
WIDEST_PX = 12
COLUMNS = ("damage", "image", "method", "psnr_db", "seconds", "share")


def _ours(image: Array, mask: Mask) -> Array:
    return np.where(mask, restore(image, mask=mask).restored, image)


FILLERS: dict[str, Callable[[Array, Mask], Array]] = {
    "ours": _ours,
    "biharmonic": peers.biharmonic,
    "Telea": peers.telea,
    "Navier-Stokes": peers.navier_stokes,
}


def brush(shape: tuple[int, ...], seed: int) -> Mask:
    """Strokes of a round brush, 4 to 12 pixels wide, until 6 % of the image are lost."""
    rng, out = np.random.default_rng(seed), np.zeros(shape, dtype=bool)
    while out.mean() < 0.06:
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        angle, width = rng.uniform(0, 2 * np.pi), rng.uniform(4, WIDEST_PX)
        for _ in range(int(rng.integers(10, 40))):
            angle += rng.normal(0, 0.2)
            y, x = y + 2 * np.sin(angle), x + 2 * np.cos(angle)
            out[disk((y, x), width / 2, shape=shape)] = True
    return out


def overlaid(data: Path, count: int | None) -> Iterator[tuple[str, str, Array, Array, Array]]:
    """Kind, image, clean, damaged and opacity."""
    images = list(clean_images(data))
    for index, path in enumerate(sorted((data / "damage" / "overlays").glob("*.png"))[:count]):
        name, clean = images[index % len(images)]
        rgba = imread(path).astype(np.float32) / 255
        side = min(clean.shape[0], rgba.shape[0])
        clean, rgba = clean[:side, :side], rgba[:side, :side]
        opacity, grey = rgba[..., 3], rgba[..., :3].mean(axis=-1)
        yield path.stem.split("_")[0], name, clean, (1 - opacity) * clean + opacity * grey, opacity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--overlays", type=int, help="only the first so many")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: the benchmark data is not at {options.data}; name its folder with --data")
        return
    restore(next(clean_images(options.data))[1])  # loading is not part of a restoration
    rows: list[dict[str, Any]] = []
    for seed, (name, clean) in enumerate(clean_images(options.data)):
        rows += fill("brush", name, clean, clean, brush(clean.shape, seed))
    found: list[tuple[str, str, float, float, float]] = []
    for kind, name, clean, damaged, opacity in overlaid(options.data, options.overlays):
        lost = opacity >= CHANGED
        if lost.any():
            rows += fill(kind, name, clean, damaged, lost)
        truth = opacity >= VISIBLE
        for asked, threshold in THRESHOLDS.items():
            proposed = find_damage(damaged, threshold=threshold)
            found.append((asked, kind, *(float(each.sum()) for each in (proposed & truth, proposed, truth))))
    false_marks = {
        name: {asked: float(find_damage(clean, threshold=threshold).mean()) for asked, threshold in THRESHOLDS.items()}
        for name, clean in clean_images(options.data)
    }
    write(rows, found, false_marks)


def fill(damage: str, name: str, clean: Array, damaged: Array, mask: Mask) -> list[dict[str, Any]]:
    """Each filler once; PSNR inside the mask, range 1."""
    out = []
    for method, function in FILLERS.items():
        started = time.perf_counter()
        filled = function(np.where(mask, 0, damaged).astype(np.float32), mask)
        seconds = time.perf_counter() - started
        mse = float(np.mean((np.clip(filled, 0, 1) - clean)[mask] ** 2))
        row = {"damage": damage, "image": name, "method": method, "psnr_db": round(-10 * np.log10(mse), 2)}
        out.append(row | {"seconds": round(seconds, 2), "share": round(float(mask.mean()), 3)})
        print(out[-1], flush=True)
    return out


def write(
    rows: list[dict[str, Any]],
    found: list[tuple[str, str, float, float, float]],
    false_marks: dict[str, dict[str, float]],
) -> None:
    kinds = list(dict.fromkeys(row["damage"] for row in rows))
    filling = []
    for method in FILLERS:
        line: dict[str, Any] = {"method": method}
        for kind in kinds:
            part = [row for row in rows if (row["damage"], row["method"]) == (kind, method)]
            psnr, seconds = (np.mean([row[value] for row in part]) for value in ("psnr_db", "seconds"))
            line[f"{kind} ({len(part)})"] = f"{psnr:.2f} dB, {seconds:.2f} s"
        filling.append(line)
    finding = []
    for asked in THRESHOLDS:
        for kind in [*dict.fromkeys(entry[1] for entry in found), "all"]:
            part = np.array([entry[2:] for entry in found if entry[0] == asked and kind in (entry[1], "all")])
            hits, marks, truths = part.sum(axis=0)
            each = 2 * part[:, 0] / np.maximum(part[:, 1] + part[:, 2], 1)
            scores = {"precision": hits / max(marks, 1), "recall": hits / truths, "F1": 2 * hits / (marks + truths)}
            scores["mean F1 of an image"] = float(each.mean())
            finding.append(
                {"threshold": asked, "damage": f"{kind} ({len(part)})"}
                | {key: f"{value:.3f}" for key, value in scores.items()}
            )
    mean = {asked: float(np.mean([shares[asked] for shares in false_marks.values()])) for asked in THRESHOLDS}
    wrong = [
        {"image": name} | {asked: f"{100 * share:.3f} %" for asked, share in shares.items()}
        for name, shares in ({"mean": mean} | false_marks).items()
    ]
    lines = [
        "# Repair",
        "",
        report.provenance("python -m benchmarks.repair", ("torch", "scikit-image", "opencv-python-headless"), 2),
        "",
        "## Filling: PSNR inside the mask and seconds, means",
        "",
        *report.markdown(filling, list(filling[0])),
        "",
        "## `find_damage`: overlays on clean images",
        "",
        *report.markdown(finding, list(finding[0])),
        "",
        "Pooled over pixels; the truth is an opacity of at least 0.1, however little it changes the pixel.",
        "",
        "## `find_damage`: undamaged images, share of pixels marked",
        "",
        *report.markdown(wrong, list(wrong[0])),
    ]
    report.write("repair", lines, rows, COLUMNS)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
