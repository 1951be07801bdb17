"""`find_damage`: which pixels of an image are damaged or likely so, as a mask to correct and to restore with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter, rank_filter

from napari_vae_repair.errors import Cancelled, InputError
from napari_vae_repair.image.axes import Layout
from napari_vae_repair.image.measured import fill_damage
from napari_vae_repair.noise.estimate import estimate_noise
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.noise.stripes import NORMAL_MAD
from napari_vae_repair.preparation import as_image, colour_planes, mask_planes
from napari_vae_repair.vae.device import Device, choose_device, on_device, stopping_between_layers
from napari_vae_repair.vae.inspection import damage_probability, likely_damaged
from napari_vae_repair.vae.starter import load_starter

OUTSTANDING = 6.0  # standard deviations of the noise by which a hot or dead pixel leaves its neighbours behind
LEAST_STEP = 0.08  # of the plane's range: a hot or dead pixel differs by at least so much
SATURATED = (1e-3, 0.2)  # share of pixels at the largest value: fewer are chance, more are background
LEVELS = 16  # distinct values that an image has at least before one of them counts as saturation
STRIPE = 8.0  # robust standard deviations of rows' offsets by which a damaged row stands out
ONE_SIDED = 0.9  # share of a damaged row's pixels on the same side of its neighbours
_RING, _WIDE_RING = (np.pad([[False]], reach, constant_values=True) for reach in (1, 2))


def find_damage(
    image: Any,
    *,
    axes: str | None = None,
    threshold: float | None = None,
    device: str = "auto",
    should_stop: Callable[[], bool] | None = None,
) -> NDArray[np.bool_]:
    """Propose hot, dead and saturated pixels, damaged rows and columns, and on demand scratches and stains as a mask.

    A proposal to look at and correct, not a verdict: ``restore(image, mask=find_damage(image))`` fills what it marks.

    Parameters
    ----------
    image : array, dask array or napari Image layer
        As `restore`; never written to.
    axes : str, optional
        As `restore`.
    threshold : float, optional
        None = single pixels, rows, columns and saturation alone, by rules. Else a network looks for scratches, lint,
        dust and stains, too: connected pixels that may be damaged are marked if one of them reaches this probability,
        0 to 1. With 0.99 it finds 27 % of them and marks 1.2 % of undamaged photos by mistake, bright bars, legs of a
        tripod and the like; less finds more of both.
    device : str
        As `Settings.device`.
    should_stop : callable, optional
        Polled all the time; True ends it with `Cancelled`.

    Returns
    -------
    ndarray of bool
        The image's shape without the colour samples; True = damaged. NaN and infinite pixels always are.

    Raises
    ------
    InputError
        The image or threshold cannot be used.
    DeviceError, DeviceMemoryError
        The device is absent, or its memory exhausted.
    Cancelled
        `should_stop` said so.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise InputError(
            f"threshold={threshold} was given.",
            "A probability above 0, and 1 at most, is needed.",
            "Leave it out for single pixels, rows and saturation alone, or give 0.99, or 0.9 to find more.",
        )
    chosen, on = as_image(image, axes), choose_device(device)
    layout = Layout(chosen.axes, chosen.pixels.shape)
    lost = mask_planes(chosen)
    # dead rows of an integer image are found by value, so the dtype's own values are looked at
    planes = colour_planes(layout.to_planes(chosen.pixels)).astype(np.float32)
    fill_damage(planes, lost)
    network = None if threshold is None else partial(_by_network, threshold, on)
    for index, colours in enumerate(planes):
        lost[index] |= _of_plane(colours, lost[index], network, should_stop or _never)
    masked = Layout(chosen.axes.replace("S", ""), chosen.damaged.shape)
    return masked.from_planes(lost[:, None])


def _of_plane(
    colours: NDArray[np.float32],
    lost: NDArray[np.bool_],
    network: Callable[[NDArray[np.float32], Callable[[], bool]], NDArray[np.bool_]] | None,
    should_stop: Callable[[], bool],
) -> NDArray[np.bool_]:
    """Damage of ``(C, Y, X)``, whose lost pixels were filled."""
    found = np.zeros(lost.shape, dtype=bool) if network is None else network(colours.mean(axis=0), should_stop)
    nothing = np.zeros((1, *found.shape), dtype=bool)
    for plane in colours:
        noise = estimate_noise(plane[None, None], nothing)
        for rule in (
            partial(outstanding_pixels, plane, noise),
            partial(saturated_pixels, plane, lost),
            partial(damaged_rows, plane, noise),
            partial(damaged_columns, plane, noise),
        ):
            if should_stop():
                raise Cancelled("find damage")
            found |= rule()
    return found


def _by_network(
    threshold: float, device: Device, plane: NDArray[np.float32], should_stop: Callable[[], bool]
) -> NDArray[np.bool_]:
    branch = on_device(load_starter().inspector.damage, device)
    with stopping_between_layers(should_stop):
        return likely_damaged(damage_probability(branch, plane, device), threshold)


def _never() -> bool:
    return False


def outstanding_pixels(plane: NDArray[np.float32], noise: NoiseModel) -> NDArray[np.bool_]:
    """Hot and dead pixels of ``(Y, X)``: beyond all neighbours but one, by more than noise and texture explain."""
    # one of the eight neighbours may be hot, or dead, too
    second_low, second_high = (rank_filter(plane, rank, footprint=_RING, mode="mirror") for rank in (1, -2))
    low, high = (rank_filter(plane, rank, footprint=_WIDE_RING, mode="mirror") for rank in (2, -3))
    texture = high - low
    span = float(np.ptp(np.percentile(plane, [0.5, 99.5])))
    # the noise at the brighter of both: a single photon over nothing is no hot pixel
    std = np.sqrt(noise.variance(np.maximum(plane, second_high).astype(np.float64)))
    needed = np.maximum(np.maximum(OUTSTANDING * std, texture), LEAST_STEP * span)
    return np.asarray((plane - second_high > needed) | (second_low - plane > needed))


def saturated_pixels(plane: NDArray[np.float32], lost: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Measured pixels of ``(Y, X)`` at their largest value, if too many for chance and too few for a background."""
    largest = ~lost & (plane == plane.max(where=~lost, initial=-np.inf))
    share = largest.mean()
    if SATURATED[0] <= share <= SATURATED[1] and len(np.unique(plane)) >= LEVELS:
        return np.asarray(largest)
    return np.zeros(plane.shape, dtype=bool)


def damaged_rows(plane: NDArray[np.float32], noise: NoiseModel) -> NDArray[np.bool_]:
    """Whole rows of ``(Y, X)`` that differ from their neighbours along nearly all of their length."""
    deviation = plane - median_filter(plane, size=(5, 1), mode="mirror")
    offset = np.median(deviation, axis=1)
    usual = NORMAL_MAD * float(np.median(np.abs(offset)))
    std = float(np.sqrt(noise.variance(np.array(float(np.median(plane))))))
    side = np.maximum((deviation > 0).mean(axis=1), (deviation < 0).mean(axis=1))
    bad = (np.abs(offset) > max(STRIPE * usual, std)) & (side > ONE_SIDED)
    return np.broadcast_to(bad[:, None], plane.shape)


def damaged_columns(plane: NDArray[np.float32], noise: NoiseModel) -> NDArray[np.bool_]:
    """The same for columns."""
    return damaged_rows(plane.T, noise).T
