"""Bytes and FLOP per megapixel: arithmetic over the network, and what processes take here.

    python -m benchmarks.cost

Writes benchmarks/results/cost.md and .csv. FLOP are counted over the convolutions, with the tile's halo and with what
is left out of the descent; other work (activations, sums) is some percent. One tile from the middle of an image is run
for each size, in a process of its own; its peak is compared with what the probe of `vae/memory.py` foretells.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import report

MEASURED_PX = (256, 512, 1024)
COUNTED_PX = (64, 128, 256, 512, 768, 1024)
MANY_SAMPLES = 16
MEGAPIXEL, GIGAPIXEL = 10**6, 10**9
NINE_PX = {256: 700, 512: 1100}  # tiles, and sides of images that have nine of them, of several shapes
SIDES_PX = (1024, 4096)  # of whole images whose run is measured without the network
# From the makers' data sheets, dense, in TFLOP/s: name, part of the share that is reached here, peak. GPUs that have
# bfloat16 compute with it
ELSEWHERE = (
    ("8 cores, 4 GHz, AVX2", 1.0, 8 * 4.0 * 32 / 1000),
    ("64 cores, 2.5 GHz, AVX2", 1.0, 64 * 2.5 * 32 / 1000),
    ("NVIDIA RTX 3060 (float32, 12.7 TFLOP/s)", 0.5, 12.7),
    ("NVIDIA A100 (bf16, 312 TFLOP/s)", 0.5, 312.0),
    ("NVIDIA H100 SXM (bf16, 989 TFLOP/s)", 0.5, 989.0),
)


@dataclass(frozen=True, slots=True)
class Work:
    """FLOP of one tile in the middle of an image.

    Attributes
    ----------
    read_px : int
        Side of what is read.
    once, each : int
        Of the encoder, and of each descent.
    """

    read_px: int
    once: int
    each: int

    def per_pixel(self, tile_px: int, descents: int) -> float:
        """Of a pixel that the tile owns."""
        return (self.once + descents * self.each) / tile_px**2


def middle_tile(network: Any, tile_px: int) -> Any:
    """The tile of nine around which all others lie."""
    from napari_vae_repair.image.tiles import plan_tiles
    from napari_vae_repair.vae.predict import BLEND_PX

    side = 3 * -(-tile_px // network.stride) * network.stride
    halo, stride = network.halo_px, network.stride
    while side // 3 < halo + BLEND_PX + stride:  # a small tile's halo must find pixels
        side += 3 * stride
    tiles = plan_tiles(side, side, tile_px=tile_px, halo_px=halo, blend_px=BLEND_PX, stride=stride)
    return max(tiles, key=lambda tile: tile.read[0].stop - tile.read[0].start + tile.read[1].stop - tile.read[1].start)


def count(network: Any, tile_px: int) -> Work:
    """By running the network on shapes alone."""
    import torch
    from torch import nn
    from torch._subclasses.fake_tensor import FakeTensorMode  # "meta" has no autocast

    tile = middle_tile(network, tile_px)
    side = tile.read[0].stop - tile.read[0].start
    shapes, total = copy.deepcopy(network), [0]

    def counted(module: nn.Module, inputs: Any, out: torch.Tensor) -> None:
        total[0] += 2 * out.numel() * module.weight[0].numel()  # type: ignore[operator, index]

    for module in shapes.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(counted)
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        seen = torch.zeros(1, network.channels + 1, side, side)
        told = torch.zeros(1, 3)
        encoded = shapes.encode(seen[:, :-1], seen[:, -1:], told)
        once = total[0]
        windows = shapes.windows(tile.crop, side, side)
        shapes.decode(encoded, lambda level, q: torch.zeros_like(q.mean), divergence=False, windows=windows)
    return Work(side, once, total[0] - once)


# ---- in processes of their own -----------------------------------------------------------------


def peak_bytes() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def forget_peak() -> int:
    """Begin anew, and say what is used now."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(psutil.Process().memory_info().rss)


def run_tile(tile_px: int) -> None:
    """One tile with its halo: bytes at the peak beside image and result, and seconds of one pass and of a sample."""
    from napari_vae_repair.vae.predict import BLEND_PX
    from napari_vae_repair.vae.starter import load_starter

    tile = middle_tile(load_starter().model.network, tile_px)
    side = tile.read[0].stop - tile.read[0].start
    found, seconds = _predicted(side, tile_px + BLEND_PX, tile.crop, samples=1)
    print(json.dumps({"bytes": found, "seconds": seconds}))


def run_nine(tile_px: int) -> None:
    """Nine tiles: bytes at the peak beside image and result."""
    print(json.dumps({"bytes": _predicted(NINE_PX[tile_px], tile_px, None, samples=0)[0]}))


def _predicted(side: int, tile_px: int, wanted: Any, *, samples: int) -> tuple[int, list[tuple[float, float]]]:
    """Bytes, and for each step seconds by the clock and of the processors."""
    from napari_vae_repair.vae.device import choose_device
    from napari_vae_repair.vae.predict import predict_steps
    from napari_vae_repair.vae.record import ValueRange, View
    from napari_vae_repair.vae.starter import load_starter

    network, planes = load_starter().model.network, np.zeros((1, 1, side, side), np.float32)

    def steps(part: np.ndarray, window: Any) -> Any:
        return predict_steps(
            network, part, part[:, 0] > 0, [View(ValueRange(0.0, 1.0), (0.2, 0.0, 0.0))], one_pass=True,
            samples=samples, keep_samples=False, seed=0, tile_px=tile_px, device=choose_device("cpu"),
            should_stop=lambda: False, wanted=window,
        )  # fmt: skip

    list(steps(planes[..., :64, :64], None))  # what is made once
    before, seconds = forget_peak(), []
    clock, processor = time.perf_counter(), time.process_time()
    for _ in steps(planes, wanted):
        now = time.perf_counter(), time.process_time()
        seconds.append((now[0] - clock, now[1] - processor))
        clock, processor = now
    return peak_bytes() - before - 2 * planes.nbytes, seconds


def run_whole(side: int) -> None:
    """A run on an image of uint16, without the network: bytes at the peak beside the image."""
    from collections.abc import Generator

    import napari_vae_repair.phases
    from napari_vae_repair import restore
    from napari_vae_repair.vae.posterior import Posterior

    def unchanged(network: Any, planes: np.ndarray, *_: Any, **__: Any) -> Generator[tuple[int, int], None, Posterior]:
        yield 1, 1
        return Posterior(planes + np.float32(0), planes * np.float32(0) + 0, None)

    napari_vae_repair.phases.predict_steps = unchanged
    image = np.random.default_rng(0).integers(0, 60000, (side, side), dtype=np.uint16)
    restore(image[:128, :128])
    before = forget_peak()
    restore(image)
    print(json.dumps({"bytes": peak_bytes() - before}))


def run_allowed(memory_mb: int) -> None:
    """The starter on one megapixel: the tile that was chosen, and the peak of the whole process."""
    import napari_vae_repair.phases as phases
    from napari_vae_repair import restore

    chosen, of = [], phases.tile_of

    def noted(*args: Any, **kwargs: Any) -> int:
        chosen.append(of(*args, **kwargs))
        return chosen[-1]

    phases.tile_of = noted
    image = np.random.default_rng(0).integers(0, 60000, (1000, 1000), dtype=np.uint16)
    restore(image, memory_mb=memory_mb)
    print(json.dumps({"tile_px": chosen[0], "bytes": peak_bytes()}))


def in_a_process(what: str, size: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cost", "--child", what, str(size)],
        capture_output=True, text=True, check=True, cwd=report.ROOT, env=os.environ | {"OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# ---- the page ----------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def tiles_table(network: Any, device: Any) -> list[dict[str, Any]]:
    from napari_vae_repair.vae.memory import footprint_of

    rows = []
    for tile_px in COUNTED_PX:
        work, foretold = count(network, tile_px), footprint_of(network, device).peak_bytes(network, tile_px)
        rows.append(
            {
                "tile, px": tile_px,
                "read, px": work.read_px,
                "times its area": round((work.read_px / tile_px) ** 2, 2),
                "GFLOP/MP, one pass": round(work.per_pixel(tile_px, 1) * MEGAPIXEL / 1e9),
                "GFLOP/MP, each sample": round(work.each / tile_px**2 * MEGAPIXEL / 1e9),
                "foretold, MB": round(foretold / 1e6),
            }
        )
        if tile_px in MEASURED_PX:
            found = in_a_process("tile", tile_px)
            (wall, cpu), (_, more) = found["seconds"]
            rows[-1] |= {
                "measured, MB": round(found["bytes"] / 1e6),
                "nine tiles, MB": round(in_a_process("nine", tile_px)["bytes"] / 1e6) if tile_px in NINE_PX else "",
                "s/MP by the clock": round(wall * MEGAPIXEL / tile_px**2, 1),
                "processor s/MP, one pass": round(cpu * MEGAPIXEL / tile_px**2, 1),
                "GFLOP/s of a core": round((work.once + 2 * work.each) / (cpu + more) / 1e9),
            }
    return rows


def hardware_table(work: Work, tile_px: int, core_gflops: float) -> list[dict[str, Any]]:
    megahertz = [float(line.split(":")[1]) for line in Path("/proc/cpuinfo").read_text().splitlines() if "MHz" in line]
    share = core_gflops / (max(megahertz) / 1000 * 32)
    machines = [("here (processor seconds)", share, len(megahertz) * core_gflops / 1000 / share)]
    machines += [(name, part * share, peak) for name, part, peak in ELSEWHERE]
    rows = []
    for name, reached, peak in machines:
        row = {"machine": name, "share of the peak": f"{reached:.0%}"}
        for text, pixels in (("1 MP", MEGAPIXEL), ("1 GP", GIGAPIXEL)):
            for passes, descents in (("one pass", 1), (f"{MANY_SAMPLES} samples", 1 + MANY_SAMPLES)):
                flop = work.per_pixel(tile_px, descents) * pixels
                row[f"{text}, {passes}"] = duration(flop / (reached * peak * 1e12))
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        {"tile": run_tile, "nine": run_nine, "whole": run_whole, "allowed": run_allowed}[options.child[0]](
            int(options.child[1])
        )
        return
    from napari_vae_repair.image.free_memory import whole_image_bytes
    from napari_vae_repair.vae.device import choose_device
    from napari_vae_repair.vae.memory import MOST_TILE_PX, footprint_of
    from napari_vae_repair.vae.starter import load_starter

    network, device = load_starter().model.network, choose_device("cpu")
    found = footprint_of(network, device)
    tiles = tiles_table(network, device)
    hardware = hardware_table(count(network, MOST_TILE_PX), MOST_TILE_PX, tiles[-1]["GFLOP/s of a core"])
    whole = [
        {"image, MP": round(side**2 / 1e6, 1), "measured, MB": round(in_a_process("whole", side)["bytes"] / 1e6),
         "bound, MB": round(whole_image_bytes(side**2) / 1e6)} for side in SIDES_PX
    ]  # fmt: skip
    allowed = []
    for memory_mb in (800, 2000):
        seen = in_a_process("allowed", memory_mb)
        allowed.append({"allowed, MB": memory_mb, "tile, px": seen["tile_px"], "peak, MB": round(seen["bytes"] / 1e6)})
    lines = [
        "# Memory and work",
        "",
        report.provenance("python -m benchmarks.cost", ("torch", "numpy"), 2),
        f"The starter, {sum(w.numel() for w in network.parameters()) / 1e6:.1f} million weights. Bytes of a pixel: "
        f"{found.encoding:.0f} while it is encoded, of which {found.encoded:.0f} stay, and {found.decoding:.0f} more "
        "while it is decoded.",
        f"Load of the machine: {os.getloadavg()[0]:.1f}; seconds by the clock suffer from others' work.",
        "",
        "## Tiles",
        "",
        *report.markdown(tiles, list(tiles[-1])),
        "",
        "## One megapixel, one gigapixel",
        "",
        f"With tiles of {MOST_TILE_PX} px. The first line is FLOP over what was measured here; the others are "
        "arithmetic: FLOP over the data sheet's peak times the share that is reached here, on GPUs half of that.",
        "",
        *report.markdown(hardware, list(hardware[0])),
        "",
        "## Whole images in memory, beside image and tiles",
        "",
        *report.markdown(whole, list(whole[0])),
        "",
        "## A run on one megapixel under `memory_mb`: peak of the process",
        "",
        *report.markdown(allowed, list(allowed[0])),
    ]
    report.write("cost", lines, tiles, list(tiles[-1]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
