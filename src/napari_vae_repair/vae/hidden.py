"""How unsure what is filled is: the more, the further from what was measured and the livelier its surroundings.

Samples do not tell: nothing of a hidden pixel enters their likelihood, so that they all but agree there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from napari_vae_repair.vae.record import View

WINDOW_PX = 8.0  # standard deviation of the surroundings
LEAST_CONTRAST = 0.02  # network units, 1 % of the range: a flat image may hide something too
UNSEEN = 0.5  # network units, a quarter of the range: where nothing at all was measured


def hidden_std(
    plane: NDArray[np.float32], damaged: NDArray[np.bool_], view: View, known: tuple[tuple[float, float], ...]
) -> NDArray[np.float32]:
    """Standard deviation of the error of what is filled, at each pixel of ``(C, Y, X)``; it means nothing elsewhere.

    Parameters
    ----------
    plane : ndarray of float32
        ``(C, Y, X)`` prepared values.
    damaged : ndarray of bool
        ``(Y, X)``, some of it True.
    view : View
        How the network is shown the plane.
    known : tuple of (float, float)
        As `Calibration.hidden`.
    """
    if damaged.all():
        return np.full_like(plane, UNSEEN / view.value_range.scale)
    far, around = surroundings(plane, damaged, view)
    return np.asarray(error_share(far, known) * around / np.float32(view.value_range.scale), dtype=np.float32)


def error_share(far: NDArray[np.floating], known: tuple[tuple[float, float], ...]) -> NDArray[np.float32]:
    """Error of what is filled so far away, over the contrast around; `known` as `Calibration.hidden`."""
    return np.asarray(np.interp(far, *np.array(known).T), dtype=np.float32)


def surroundings(
    plane: NDArray[np.float32], damaged: NDArray[np.bool_], view: View
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Way from each pixel to the nearest measured one, ``(Y, X)`` in pixels, and the contrast there, ``(C, Y, X)``.

    The contrast is the standard deviation of what was measured around, less that of the noise, in network units. The
    other arguments are those of `hidden_std`; something must have been measured.
    """
    values = plane * np.float32(view.value_range.scale) + np.float32(view.value_range.offset)
    good = (~damaged).astype(np.float32)
    weight = np.maximum(_blurred(good), 1e-6)
    mean, square = _blurred(values * good) / weight, _blurred(values**2 * good) / weight
    noise = 0.0 if view.told is None else view.told[0]
    contrast = np.sqrt(np.maximum(square - mean**2 - noise**2, 0) + LEAST_CONTRAST**2)
    far, (rows, columns) = distance_transform_edt(damaged, return_indices=True)
    return far, np.asarray(contrast[..., rows, columns], dtype=np.float32)


def _blurred(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(gaussian_filter(values, WINDOW_PX, axes=(-2, -1)), dtype=np.float32)
