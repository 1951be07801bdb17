"""A 4096 x 4096 uint16 image with a saved model: peak memory and seconds; and tiles against the whole.

    python benchmarks/large.py

Writes benchmarks/results/large.md. The scene is made here (blurred random spots with Poisson noise); the model has the
default network and is trained for two epochs, since memory and agreement do not depend on how well it restores.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
SIDE_PX = 4096
SAMPLES = 2


def scene(side: int) -> np.ndarray:
    """Counts of a dim fluorescence-like scene, uint16."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    spots = gaussian_filter((rng.random((side, side)) > 0.998).astype(np.float32), 4)
    return rng.poisson(20 + 2000 * spots).astype(np.uint16)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def restore_large(model: str) -> None:
    """In a process of its own: print the peak before and after, and the seconds."""
    import torch

    import napari_vae_repair.pipeline

    image = np.load(Path(model).with_suffix(".npy"))
    torch.zeros(1)
    before, started = peak_mb(), time.perf_counter()
    result = napari_vae_repair.pipeline.restore(image, model=model, samples=SAMPLES)
    print(before, peak_mb(), time.perf_counter() - started, float(result.std.mean()))


def agreement(model: str) -> dict[str, float]:
    """Largest difference of tiles of 256 pixels from the whole, as a share of the range."""
    from napari_vae_repair import restore

    image = scene(SIDE_PX)[:700, :900]
    whole, tiled = (
        restore(image, model=model, samples=SAMPLES, keep_samples=True, tile_px=tile_px) for tile_px in (1024, 256)
    )
    span = float(np.ptp(whole.restored))
    return {
        name: float(np.abs(getattr(whole, name) - getattr(tiled, name)).max()) / span
        for name in ("restored", "samples", "std")
    }


def main() -> None:
    if len(sys.argv) > 1:
        restore_large(sys.argv[1])
        return
    from napari_vae_repair import restore
    from napari_vae_repair.vae.checkpoint import save_model

    image = scene(SIDE_PX)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(restore(image[:256, :256], epochs=2, samples=1).model, path)
        np.save(path.with_suffix(".npy"), image)
        printed = subprocess.run([sys.executable, __file__, str(path)], capture_output=True, text=True, check=True)
        before, after, seconds, _ = (float(word) for word in printed.stdout.split())
        differences = agreement(str(path))
    lines = [
        "# A 4096 x 4096 uint16 image with a saved model",
        "",
        f"`python benchmarks/large.py`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, 2 threads, "
        f"torch {version('torch')}, default network and tiles, {SAMPLES} samples.",
        "",
        "| measure | value |",
        "|---|---|",
        f"| peak memory of the interpreter, libraries and image loaded | {before:.0f} MB |",
        f"| peak memory during `restore`, above that | {after - before:.0f} MB |",
        f"| seconds | {seconds:.0f} |",
        *(
            f"| tiles of 256 against the whole (700 x 900), {k}, share of the range | {v:.1e} |"
            for k, v in differences.items()
        ),
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "large.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
