"""Measure how far samples spread where one pass errs: ``python -m training.calibrate --clean POOL``.

Runs the package itself, with the starter it holds, on held-out scenes under the corruptions of training, and writes
``runs/calibration.json``, which `training.export` packs. Stripes and impulses are left out: they are damage, no noise.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from napari_vae_repair.errors import VaeRepairError
from napari_vae_repair.phases import show
from napari_vae_repair.pipeline import restore
from napari_vae_repair.preparation import prepare
from napari_vae_repair.restoration import Restoration
from napari_vae_repair.vae.calibration import NORMAL_90, Calibration
from napari_vae_repair.vae.device import choose_device
from napari_vae_repair.vae.record import Model
from napari_vae_repair.vae.starter import load_starter
from training.corruptions import corrupt, draw_corruption
from training.scenes import load_scenes
from training.train import HELD_OUT

SAMPLES, BINS = 16, 20


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m training.calibrate", description=__doc__)
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path("runs/calibration.json"))
    options = parser.parse_args(arguments)
    spread, error = measure(options.clean, options.scenes)
    found = fit(spread, error)
    before, after = (coverage(std, error) for std in (spread, found.calibrated(spread, 1.0)))
    options.out.write_text(json.dumps(found.to_dict() | {"scenes": options.scenes, "before": before, "after": after}))
    print(f"within 90 % intervals: {100 * before:.1f} % before, {100 * after:.1f} % after; {options.out}")


def measure(clean: Path, scenes: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Spread of samples and absolute error of one pass, both over the noise, of pixels of held-out scenes."""
    pool = load_scenes(clean).only(HELD_OUT)
    model = replace(load_starter().model, calibration=None)
    rng, spread, error = np.random.default_rng(2024), [], []
    for index in rng.choice(len(pool.patches), scenes, replace=False):
        scene = pool.patches[index].astype(np.float32) / 255
        corruption = replace(draw_corruption(rng, scene), rows=0.0, columns=0.0, impulses=0.0)
        scene = np.minimum(scene, np.float32(corruption.white))
        try:
            noisy = corrupt(scene, corruption, rng).noisy
            result = restore(noisy, model=model, samples=SAMPLES)
        except VaeRepairError:
            continue  # a scene without any contrast
        noise_std = _noise_std(noisy, result, model)
        if noise_std is None:
            continue
        every = np.s_[::3, ::3]
        spread.append((result.std / noise_std)[every].ravel())
        error.append((np.abs(result.restored - scene) / noise_std)[every].ravel())
    return np.concatenate(spread).astype(np.float32), np.concatenate(error).astype(np.float32)


def _noise_std(noisy: NDArray[np.float32], result: Restoration, model: Model) -> NDArray[np.float64] | None:
    """What the package divides the spread by, in the scene's units; None where the noise is not told."""
    device, nothing = choose_device("cpu"), np.zeros((1, *noisy.shape), dtype=bool)
    chains, prepared = prepare(noisy[None, None], nothing, 1, result.settings.steps)
    shown = show(prepared, nothing, chains, model, result.settings, device)
    told = shown.views[0].noise_std
    if told is None:
        return None
    if shown.chains[0] is not shown.domains[0]:  # stabilised: told as a multiple of the noise that was estimated
        return np.asarray(told * np.sqrt(result.noise[0].variance(result.restored.astype(np.float64))))
    affine = shown.domains[0].affine
    assert affine is not None
    return np.full(noisy.shape, told * affine[0])


def fit(spread: NDArray[np.float32], error: NDArray[np.float32]) -> Calibration:
    """A monotone map of quantiles."""
    parts = np.array_split(np.argsort(spread), BINS)
    knots = np.array([np.median(spread[part]) for part in parts], dtype=np.float64)
    reached = np.array([np.quantile(error[part], 0.9) for part in parts], dtype=np.float64) / NORMAL_90
    monotone = isotonic_regression(np.maximum(reached, 1e-4)).x
    keep = np.concatenate([[True], np.diff(knots) > 0]) & (knots > 0)
    found = Calibration(tuple(map(float, knots[keep])), tuple(map(float, monotone[keep])))
    # where the quantiles had to be made monotone, their mean holds more than 90 %
    held = np.quantile(error / np.maximum(found.calibrated(spread, 1.0), 1e-6), 0.9) / NORMAL_90
    return Calibration(found.spread, tuple(value * float(held) for value in found.error))


def coverage(std: NDArray[np.float32], error: NDArray[np.float32]) -> float:
    """Share of pixels whose error lies within their 90 % interval."""
    return float((error <= NORMAL_90 * std).mean())


if __name__ == "__main__":
    main()
