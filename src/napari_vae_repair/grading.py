"""How far each number of an estimated noise model can be trusted, and why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.image.measured import measured_sample
from napari_vae_repair.noise.record import Grade, NoiseModel
from napari_vae_repair.vae.inspection import SeenNoise

FEWEST_CELLS = 8
WEAK, VERY_WEAK = 0.3, 0.7  # error of the logarithm of the noise of a cell, from which on texture hides the noise
CONTRAST = 3.0  # range of brightness over noise, below which a dependence on the signal cannot show
SPREAD = 0.3  # between the quartiles of the correlation of cells, from which on they disagree


def graded(
    noise: NoiseModel, planes: NDArray[np.float32], damaged: NDArray[np.bool_], seen: SeenNoise | None
) -> NoiseModel:
    """The noise model with a grade and a reason for each of its numbers.

    Parameters
    ----------
    noise : NoiseModel
        In the units of the planes.
    planes : ndarray of float32
        ``(N, C, Y, X)``.
    damaged : ndarray of bool
        ``(N, Y, X)``.
    seen : SeenNoise or None
        What the inspector saw; None = nothing.
    """
    low, middle, high = np.percentile(measured_sample(planes, damaged), [3, 50, 97])
    dark, usual, bright = (float(np.sqrt(noise.variance(np.array(value)))) for value in (low, middle, high))
    contrast = float(high - low) / usual
    grades = (_strength(seen), _dependence(noise, contrast, bright / dark), _correlation(seen), _stripes(noise, usual))
    return replace(noise, grades=grades)


def _strength(seen: SeenNoise | None) -> Grade:
    if seen is None or seen.cells < FEWEST_CELLS:
        count = 0 if seen is None else seen.cells
        return Grade("strength", "bad", f"only {count} cells of 16 x 16 pixels are free of damage and saturation")
    known = f"{seen.cells} cells, each known to about {100 * seen.unsure:.0f} %"
    if seen.unsure > VERY_WEAK:
        return Grade("strength", "bad", f"{known}: there is hardly any noise, or texture hides it")
    if seen.unsure > WEAK:
        return Grade("strength", "doubtful", f"{known}: the noise is weak beside the texture")
    return Grade("strength", "good", known)


def _dependence(noise: NoiseModel, contrast: float, ratio: float) -> Grade:
    if contrast < CONTRAST:
        return Grade("signal dependence", "doubtful", "brightness varies too little to show any")
    found = f"the noise grows {ratio:.1f}-fold from dark to bright" if noise.gain > 0 else "none found"
    return Grade("signal dependence", "good", f"{found}; brightness varies {contrast:.0f} times the noise")


def _correlation(seen: SeenNoise | None) -> Grade:
    if seen is None or seen.cells < FEWEST_CELLS:
        return Grade("correlation", "bad", "too few cells to see any; none is assumed")
    agreement = f"half of the cells agree within {seen.spread:.2f}"
    return Grade("correlation", "good" if seen.spread < SPREAD else "doubtful", agreement)


def _stripes(noise: NoiseModel, usual: float) -> Grade:
    if max(noise.stripes) == 0:
        return Grade("stripes", "good", "rows and columns differ no more than noise lets them")
    rows, columns = (value / usual for value in noise.stripes)
    found = f"offsets of rows {rows:.2f}, of columns {columns:.2f} times the noise"
    return Grade("stripes", "doubtful", f"{found}; look whether the scene itself is striped")
