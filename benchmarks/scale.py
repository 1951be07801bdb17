"""Images of 1 to 256 megapixels from OME-Zarr to OME-Zarr: peak memory and seconds for each megapixel.

    python -m benchmarks.scale [--megapixels 1,4,16,64,256]

Photos of scikit-image, turned and joined to a scene of any size, with Poisson-Gaussian noise in 16 bits, are written in
chunks; each size is restored by a process of its own. About half an hour on two cores. Writes
benchmarks/results/scale.md, .csv and .png.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report

THREADS = 2
CHUNK_PX = 1024
GAIN, READ_NOISE, OFFSET = 2.0, 4.0, 100.0  # camera units a photon, camera units, camera units
PHOTONS = 100  # in the brightest parts
COLUMNS = ("MP", "blocks", "peak memory, MB", "seconds", "s/MP", "s/MP over that of 4 MP", "memory over that of 16 MP")
CHILD = """
import json, resource, sys
from pathlib import Path
import torch
torch.set_num_threads({threads})
from napari_vae_repair.settings import Settings
from napari_vae_repair.storing import restore_to_store
steps = restore_to_store(Path(sys.argv[1]), {{"restored": Path(sys.argv[2])}}, Settings(){scheduler})
try:
    while True:
        next(steps)
except StopIteration as end:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({{"seconds": end.value.report.seconds, "blocks": end.value.report.blocks, "peak": peak}}))
"""


def write_scene(path: Path, side: int) -> None:
    """A noisy scene of ``side x side`` pixels, made chunk by chunk."""
    from skimage.color import rgb2gray
    from skimage.data import astronaut, camera, coffee, moon

    from napari_vae_repair.image.zarr_store import create_store

    photos = [np.asarray(photo, dtype=np.float64)[:400, :400] for photo in
              (camera() / 255, rgb2gray(astronaut()), rgb2gray(coffee()), moon() / 255)]  # fmt: skip
    writer = create_store(path, (side, side), "uint16", "YX", chunks=(CHUNK_PX, CHUNK_PX))
    for row in range(0, side, CHUNK_PX):
        for column in range(0, side, CHUNK_PX):
            size = min(CHUNK_PX, side - row), min(CHUNK_PX, side - column)
            rng = np.random.default_rng((row, column))
            pieces = [[np.rot90(photos[rng.integers(4)], rng.integers(4)) for _ in range(3)] for _ in range(3)]
            clean = np.block(pieces)[: size[0], : size[1]]
            noisy = GAIN * rng.poisson(PHOTONS * clean) + rng.normal(OFFSET, READ_NOISE, size)
            window = (slice(row, row + size[0]), slice(column, column + size[1]))
            writer.write(window, noisy.clip(0, 65535).round().astype(np.uint16))
    writer.finish()


def restored(source: Path, output: Path, scheduler: str | None = None) -> dict[str, Any]:
    """One size in a process of its own: seconds from the first byte read to the finished store, blocks, peak in kB."""
    code = CHILD.format(threads=THREADS, scheduler="" if scheduler is None else f', scheduler="{scheduler}"')
    arguments = [sys.executable, "-c", code, str(source), str(output)]
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def side_of(megapixels: int) -> int:
    return round(math.sqrt(megapixels) * 1024)


def table(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_size = {found["MP"]: found for found in measured}
    rows = []
    for found in measured:
        row = found | {"s/MP": round(found["seconds"] / found["MP"], 2), "seconds": round(found["seconds"], 1)}
        if 4 in by_size and found["MP"] >= 4:
            ratio = row["s/MP"] / (by_size[4]["seconds"] / 4)
            row["s/MP over that of 4 MP"] = round(ratio, 2)
        if 16 in by_size and found["MP"] >= 16:
            row["memory over that of 16 MP"] = round(found["peak memory, MB"] / by_size[16]["peak memory, MB"], 2)
        rows.append(row)
    return rows


def figure(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(8, 3.2), layout="constrained")
    memory, seconds = drawing.subplots(1, 2)
    sizes = [row["MP"] for row in rows]
    memory.plot(sizes, [row["peak memory, MB"] for row in rows], "o-")
    memory.axhline(2000, color="grey", linestyle="--")
    memory.set(xscale="log", ylim=(0, 2200), xlabel="megapixels", ylabel="peak memory, MB")
    seconds.plot(sizes, [row["s/MP"] for row in rows], "o-")
    seconds.set(xscale="log", xlabel="megapixels", ylabel="seconds a megapixel")
    seconds.set_ylim(bottom=0)
    drawing.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", default="1,4,16,64,256")
    options = parser.parse_args()
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, options.megapixels.split(",")):
            source, output = Path(folder) / "in.ome.zarr", Path(folder) / "out.ome.zarr"
            write_scene(source, side_of(size))
            found = restored(source, output)
            peak = round(found["peak"] * (1 if sys.platform == "darwin" else 1024) / 1e6)
            measured.append(
                {"MP": size, "blocks": found["blocks"], "peak memory, MB": peak, "seconds": found["seconds"]}
            )
            print(measured[-1], flush=True)
            save(measured)


def save(measured: list[dict[str, Any]]) -> None:
    """After each size, so that a run that is cut off leaves what it has."""
    rows = table(measured)
    lines = [
        "# From 1 to 256 megapixels",
        "",
        report.provenance("python -m benchmarks.scale", ("torch", "zarr", "numpy"), THREADS),
        "OME-Zarr to OME-Zarr, uint16, one pass of the starter in blocks of 1024 pixels. Poisson noise of up to "
        f"{PHOTONS} photons with read noise; a process for each size, whose whole memory is counted. Seconds are "
        "those of the restoration, from the first byte read to the finished pyramid, without the start of Python "
        "(1 MP = 1024 x 1024).",
        "",
        *report.markdown(rows, COLUMNS),
        "",
        "![Peak memory and seconds a megapixel](scale.png)",
    ]
    report.write("scale", lines, rows, COLUMNS)
    figure(rows, report.RESULTS / "scale.png")


if __name__ == "__main__":
    main()
