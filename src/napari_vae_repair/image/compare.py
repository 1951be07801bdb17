"""How good a restoration is: PSNR and SSIM with a reference, tests of the residual without one.

Of planes larger than `CENTRE_PX` on a side, the centre of that size is measured: SSIM takes ten times the memory of
its images.
"""

from __future__ import annotations

from types import EllipsisType

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

CENTRE_PX = 2048


def psnr(mse: float, value_range: float) -> float:
    """Peak signal-to-noise ratio in dB; infinite for an error of 0."""
    return float("inf") if mse == 0 else float(10 * np.log10(value_range**2 / mse))


def compare_planes(
    image: NDArray[np.floating], reference: NDArray[np.floating], damaged: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Error of an image against a reference in the same units.

    Parameters
    ----------
    image, reference : ndarray of float32
        ``(N, C, Y, X)``.
    damaged : ndarray of bool or None
        ``(N, Y, X)``; left out of MSE and PSNR.

    Returns
    -------
    dict
        ``mse`` in squared units, ``psnr`` in dB and ``ssim`` (Wang et al. 2004, doi:10.1109/TIP.2003.819861; mean over
        planes), with the reference's range as peak.
    """
    centre = _centre(image.shape)
    image, reference, damaged = image[centre], reference[centre], None if damaged is None else damaged[centre]
    counted = np.ones(image.shape, dtype=bool) if damaged is None else np.broadcast_to(~damaged[:, None], image.shape)
    value_range = float(reference.max()) - float(reference.min()) or 1.0
    # in units of the range, since the squares of very large or small values leave float32
    image, reference = (planes.astype(np.float64) / value_range for planes in (image, reference))
    mse = float(np.mean((image[counted] - reference[counted]) ** 2))
    side = min(7, min(image.shape[2:]) // 2 * 2 - 1)
    ssim = np.mean(
        [
            structural_similarity(a, b, data_range=1.0, channel_axis=0, win_size=side)
            for a, b in zip(image, reference, strict=True)
        ]
    )
    return {"mse": mse * value_range**2, "psnr": psnr(mse, 1.0), "ssim": float(ssim)}


def residual_correlation(residual: NDArray[np.float32], damaged: NDArray[np.bool_]) -> tuple[float, float]:
    """Correlation of the residual with itself one pixel along x and along y.

    White noise gives 0 within a few hundredths; positive values mean that structure was removed or
    that the noise is spatially correlated, negative ones that noise was left in.

    Parameters
    ----------
    residual : ndarray of float32
        ``(N, C, Y, X)``.
    damaged : ndarray of bool
        ``(N, Y, X)``; pairs with such a pixel are left out.
    """
    centre, step = _centre(residual.shape), max(1, len(residual) // 16)
    residual, damaged = residual[centre][::step], damaged[centre][::step]
    return _lag_one(residual, damaged, 3), _lag_one(residual, damaged, 2)


def _centre(shape: tuple[int, ...]) -> tuple[EllipsisType | slice, ...]:
    """Index of the last two axes' middle, at most `CENTRE_PX` on a side."""
    starts = [max(0, (side - CENTRE_PX) // 2) for side in shape[-2:]]
    return (..., *(slice(start, start + CENTRE_PX) for start in starts))


def _lag_one(residual: NDArray[np.float32], damaged: NDArray[np.bool_], axis: int) -> float:
    good = ~np.broadcast_to(damaged[:, None], residual.shape)
    first = tuple(slice(None, -1) if i == axis else slice(None) for i in range(4))
    second = tuple(slice(1, None) if i == axis else slice(None) for i in range(4))
    pair = good[first] & good[second]
    a, b = residual[first][pair].astype(np.float64), residual[second][pair].astype(np.float64)
    if a.size < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
