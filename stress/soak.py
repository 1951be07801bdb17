"""Restorations one after the other in one process: `python -m stress.soak --restores 60`. Its memory stays flat.

Sizes, methods and files change in turn, so that whatever is kept by size, by model or by file would grow.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WARM_UP = 12  # restores until all caches are full
GROWTH_BYTES = 32 * 2**20  # beyond that, from the first third after the warm-up to the last, something is kept
SIDES = ((96, 80), (64, 120), (128, 128), (3, 48, 64))


def resident_bytes() -> int:
    import psutil

    gc.collect()
    return int(psutil.Process().memory_info().rss)


def restore_once(folder: Path, number: int) -> None:
    """Write an image, restore it from and into a file, read the result, and judge it."""
    from napari_vae_repair.batch.job import Job
    from napari_vae_repair.batch.one import restore_one
    from napari_vae_repair.image.files import read_image, write_image
    from napari_vae_repair.settings import make_settings
    from stress.runs import picture

    shape = SIDES[number % len(SIDES)]
    axes = "ZYX"[-len(shape) :]
    source, target = folder / "in.tif", folder / f"out{number % 3}{('.tif', '.ome.tif')[number % 2]}"
    write_image(source, picture(shape, number), axes)
    changes = {"samples": number % 3}
    if number % 6 == 5:
        small = {"widths": (4, 4), "latents": (2, 2)}
        changes = {"epochs": 1, "network": small, "training": {"patches_per_epoch": 16, "patch_px": 32}}
    job = Job(input=str(source), output=str(target), settings=make_settings(**changes))
    restoration = restore_one(job, lambda progress: None, lambda path: None)
    restoration.trust()
    if not np.isfinite(read_image(target).pixels).all():
        raise RuntimeError(f"restore {number} gave values that are not finite")


def soak(restores: int, seconds: float | None = None) -> tuple[int, list[int]]:
    """Restore so many images, or for so long.

    Returns
    -------
    tuple of int and list of int
        How many, and the resident memory after each, in bytes.
    """
    memory: list[int] = []
    ends = None if seconds is None else time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        for number in itertools.count():
            enough = len(memory) >= 2 * WARM_UP and ends is not None and time.monotonic() > ends
            if number >= restores or enough:
                return number, memory
            restore_once(Path(name), number)
            memory.append(resident_bytes())
    raise AssertionError


def growth_bytes(memory: list[int]) -> int:
    """Median of the last third less that of the first after the warm-up."""
    steady = memory[WARM_UP:]
    third = max(1, len(steady) // 3)
    return int(np.median(steady[-third:]) - np.median(steady[:third]))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restores", type=int, default=60)
    parser.add_argument("--seconds", type=float, help="stop after so long")
    args = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    began = time.perf_counter()
    count, memory = soak(args.restores, args.seconds)
    grown = growth_bytes(memory)
    print(
        f"{count} restores in one process in {time.perf_counter() - began:.0f} s: "
        f"{memory[WARM_UP] / 2**20:.0f} MiB after {WARM_UP}, {memory[-1] / 2**20:.0f} MiB at the end, "
        f"{grown / 2**20:+.1f} MiB between the first and the last third (at most {GROWTH_BYTES / 2**20:.0f})"
    )
    return 1 if grown > GROWTH_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
