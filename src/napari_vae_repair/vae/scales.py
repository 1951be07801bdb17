"""Noise that reaches far, taken away at several scales.

One pass leaves some of the slow noise that neighbours share, and nearly all of what reaches further than any that it
was trained on. Among means of 2 x 2 pixels the same noise is finer and weaker: what these are restored to takes the
place of the low frequencies at full size (Facciolo, Pierazzo & Morel 2017, doi:10.1137/17M1111826).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_vae_repair.image.pyramid import doubled
from napari_vae_repair.image.tiles import Window
from napari_vae_repair.image.zarr_levels import halved

BLUR_PX = 0.7  # of the coarser scale: its highest frequencies are better known at the finer one
MARGIN_PX = 8  # what blurring and interpolating look at on each side; even


def slow_noise(fine: NDArray[np.float32], coarse: NDArray[np.float32], std: float) -> NDArray[np.float32]:
    """What the finer scale left of the slow noise.

    Parameters
    ----------
    fine : ndarray of float32
        ``(C, Y, X)`` restored.
    coarse : ndarray of float32
        ``(C, Y / 2, X / 2)``, rounded up: restored means over 2 x 2 pixels of the same.
    std : float
        Standard deviation of the noise of those means: there is no more of it than that. What differs by more is
        scene, and better known at the finer scale.

    Returns
    -------
    ndarray of float32
        ``(C, Y, X)`` to be taken away from the finer scale.
    """
    left = np.clip(halved(fine, (1, 2)) - coarse, -std, std)
    return doubled(gaussian_filter(left, (0, BLUR_PX, BLUR_PX)), *fine.shape[1:])


def reach_px(halo_px: int, scales: int) -> int:
    """How far a pixel that is restored at so many scales looks, where at one it looks `halo_px` far."""
    return halo_px if scales == 1 else MARGIN_PX + max(halo_px, 2 * reach_px(halo_px, scales - 1))


def with_margin(wanted: Window, height: int, width: int) -> Window:
    """Even corners around a window, or the end of a plane."""
    rows, columns = (
        slice(max(part.start - MARGIN_PX, 0) // 2 * 2, min(-(-(part.stop + MARGIN_PX) // 2) * 2, side))
        for part, side in zip(wanted, (height, width), strict=True)
    )
    return rows, columns


def halved_window(window: Window) -> Window:
    """The same window, with even corners, among means of 2 x 2 pixels."""
    rows, columns = (slice(part.start // 2, -(-part.stop // 2)) for part in window)
    return rows, columns
