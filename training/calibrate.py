"""Measure how far samples spread where one pass errs, and how wrong what is filled is.

    python -m training.calibrate --clean POOL [--hidden]

Runs the package itself, with the starter it holds, on held-out scenes under the corruptions of training, and writes
``runs/calibration.json``, which `training.export` packs. Stripes and impulses are left out: they are damage, no noise.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from itertools import pairwise
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
from napari_vae_repair.vae.hidden import error_share, surroundings
from napari_vae_repair.vae.record import Model
from napari_vae_repair.vae.starter import load_starter
from training.corruptions import corrupt, draw_corruption
from training.damage import damage_mask
from training.scenes import Scenes, load_scenes
from training.train import HELD_OUT

SAMPLES, BINS = 16, 20
FEWEST_PIXELS = 50  # of a scene within a bin
LEVELS = (0.5, 0.8, 0.9, 0.95)
DISTANCES_PX = (1.0, 1.5, 2.5, 4.5, 8.5, 16.0, 32.0)  # edges of the bins of what is hidden
WIDE_SHARE = 0.4  # of scenes with a hole of 20 to 80 pixels


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m training.calibrate", description=__doc__)
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=120)
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT, help="sources that were not trained on")
    parser.add_argument("--out", type=Path, default=Path("runs/calibration.json"))
    parser.add_argument("--hidden", action="store_true", help="only what is filled; the rest stays as it ships")
    options = parser.parse_args(arguments)
    pool = load_scenes(options.clean).only(tuple(options.held_out))
    told: dict[str, float] = {}
    if options.hidden:
        found = load_starter().model.calibration
        assert found is not None
    else:
        scenes = measure(pool, options.scenes)
        found, told["before"] = fit(scenes), coverage(scenes)
        told["after"] = coverage([Scene(found.calibrated(scene.spread, 1.0), scene.error) for scene in scenes])
    hidden = measure_hidden(pool, options.scenes)
    found = replace(found, hidden=fit_hidden(hidden))
    told["hidden"] = coverage([Scene(error_share(scene.far, found.hidden), scene.error) for scene in hidden])
    options.out.write_text(json.dumps(found.to_dict() | {"coverage": told}))
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in told.items())
    print(f"within 90 % intervals (median scene): {shares}; {options.out}")


@dataclass(frozen=True, slots=True)
class Scene:
    """Pixels of a scene, in standard deviations of its noise.

    Attributes
    ----------
    spread, error : ndarray of float32
        ``(N,)``: standard deviation of the samples, absolute error of one pass.
    """

    spread: NDArray[np.float32]
    error: NDArray[np.float32]


def measure(pool: Scenes, count: int) -> list[Scene]:
    """Some of the scenes, which were not trained on, corrupted and restored."""
    model = replace(load_starter().model, calibration=None)
    rng, out = np.random.default_rng(2024), []
    for index in rng.choice(len(pool), min(count, len(pool)), replace=False):
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
        spread, error = result.std / noise_std, np.abs(result.restored - scene) / noise_std
        out.append(Scene(spread[every].ravel().astype(np.float32), error[every].ravel().astype(np.float32)))
    return out


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


@dataclass(frozen=True, slots=True)
class Hidden:
    """Filled pixels of a scene.

    Attributes
    ----------
    far : ndarray of float32
        ``(N,)`` pixels to the nearest measured one.
    error : ndarray of float32
        ``(N,)`` in standard deviations of what lies around.
    """

    far: NDArray[np.float32]
    error: NDArray[np.float32]


def measure_hidden(pool: Scenes, count: int) -> list[Hidden]:
    """Some of the scenes, damaged and filled; without photon noise, so that nothing need be stabilised."""
    model, device = load_starter().model, choose_device("cpu")
    rng, out = np.random.default_rng(2025), []
    for index in rng.choice(len(pool), min(count, len(pool)), replace=False):
        scene = pool.patches[index].astype(np.float32) / 255
        noise = float(np.exp(rng.uniform(np.log(1e-3), np.log(0.2))) * max(np.ptp(scene), 0.1))
        noisy = (scene + noise * rng.standard_normal(scene.shape)).astype(np.float32)
        damaged = damage_mask(rng, len(scene))
        if rng.random() < WIDE_SHARE:
            (y, x), side = rng.integers(0, len(scene) // 2, 2), rng.integers(20, len(scene) // 2)
            damaged[y : y + side, x : x + side] = True
        if not damaged.any():
            continue
        try:
            result = restore(noisy, mask=damaged)
            chains, prepared = prepare(noisy[None, None], damaged[None], 1, result.settings.steps)
            shown = show(prepared, damaged[None], chains, model, result.settings, device)
        except VaeRepairError:
            continue  # a scene without any contrast
        affine = shown.domains[0].affine
        if shown.stabilised[0] or affine is None:
            continue
        (view,) = shown.views
        far, (around,) = surroundings(shown.prepared[0], damaged, view)
        error = np.abs(result.restored - scene) * affine[0] * view.value_range.scale / around
        out.append(Hidden(far[damaged].astype(np.float32), error[damaged].astype(np.float32)))
    return out


def fit_hidden(scenes: list[Hidden]) -> tuple[tuple[float, float], ...]:
    """As `Calibration.hidden`, so that it suits the median scene."""
    middles = [float(np.sqrt(low * high)) for low, high in pairwise(DISTANCES_PX)]
    reached = []
    for low, high in pairwise(DISTANCES_PX):
        chosen = [scene.error[(scene.far >= low) & (scene.far < high)] for scene in scenes]
        reached.append(np.median([np.quantile(errors, 0.9) for errors in chosen if len(errors) >= FEWEST_PIXELS]))
    found = tuple(zip(middles, map(float, isotonic_regression(np.array(reached) / NORMAL_90).x), strict=True))
    # where quantiles had to be made monotone, and scenes have pixels in several bins, that is not 90 % of a scene
    held = np.median([np.quantile(scene.error / error_share(scene.far, found), 0.9) for scene in scenes]) / NORMAL_90
    return tuple((far, share * float(held)) for far, share in found)


def fit(scenes: list[Scene]) -> Calibration:
    """A monotone map that suits the median scene, and how wide its intervals are at each of `LEVELS`.

    Quantiles of all pixels together would follow the few scenes whose noise was misjudged, and make the intervals of
    all others too wide.
    """
    spread = np.concatenate([scene.spread for scene in scenes])
    knots = np.unique(np.quantile(spread[spread > 0], (np.arange(BINS) + 0.5) / BINS).astype(np.float64))
    edges = np.concatenate([[0], np.sqrt(knots[1:] * knots[:-1]), [np.inf]])
    reached = np.array([_median_quantile(scenes, low, high) for low, high in pairwise(edges)]) / NORMAL_90
    known = np.isfinite(reached)
    monotone = isotonic_regression(np.maximum(reached[known], 1e-4)).x
    found = Calibration(tuple(map(float, knots[known])), tuple(map(float, monotone)))
    # where the quantiles had to be made monotone, their mean does not hold 90 % of the median scene
    held = _median_width(scenes, found, 0.9)
    found = Calibration(found.spread, tuple(value * held / NORMAL_90 for value in found.error))
    return replace(found, widths=tuple((level, _median_width(scenes, found, level)) for level in LEVELS))


def _median_width(scenes: list[Scene], found: Calibration, level: float) -> float:
    """Calibrated standard deviations to each side that hold so much of the median scene."""
    widths = [np.quantile(s.error / np.maximum(found.calibrated(s.spread, 1.0), 1e-6), level) for s in scenes]
    return float(np.median(widths))


def _median_quantile(scenes: list[Scene], low: float, high: float) -> float:
    """Of the errors of pixels within these spreads, 90 % are below it in the median scene; nan where none has them."""
    chosen = [scene.error[(scene.spread >= low) & (scene.spread < high)] for scene in scenes]
    quantiles = [np.quantile(errors, 0.9) for errors in chosen if len(errors) >= FEWEST_PIXELS]
    return float(np.median(quantiles)) if quantiles else float("nan")


def coverage(scenes: list[Scene]) -> float:
    """Share of pixels of the median scene whose error lies within their 90 % interval."""
    return float(np.median([(scene.error <= NORMAL_90 * scene.spread).mean() for scene in scenes]))


if __name__ == "__main__":
    main()
