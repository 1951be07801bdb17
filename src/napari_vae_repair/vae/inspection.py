"""What the inspector says of whole images: how far neighbours share their noise, and where damage is likely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_vae_repair.image.measured import measured_sample
from napari_vae_repair.image.tiles import plan_tiles
from napari_vae_repair.noise.estimate import saturated
from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.inspector import CELL_PX, DAMAGE_CELL_PX, DamageBranch, NoiseBranch, NoiseFindings
from napari_vae_repair.vae.record import ValueRange

WINDOW_PX = 1024  # side of the centre of a plane that is looked at for noise
WINDOWS = 4  # planes, evenly spread, that are looked at for noise
TILE_PX, HALO_PX = 1024, 256  # the halo is more than what a pixel of the damage branch depends on
LEAST_UNSURE = 0.05  # no cell counts as better known than this
MOST_CORRELATED = 0.9
LIKELY = 0.4  # probability from which a pixel is marked as damaged, if it touches surer ones
LOST_SHARE = 0.5  # of a cell's pixels, from which on it is left out


@dataclass(frozen=True, slots=True)
class SeenNoise:
    """What the inspector sees of the noise of an image.

    Attributes
    ----------
    correlation : tuple of float
        Of neighbours along y and x: the median over cells, weighted by how sure each is.
    spread : float
        Between the quartiles of the cells' correlation, the larger of y and x.
    unsure : float
        Median standard deviation of the error of the logarithm of a cell's noise.
    cells : int
        How many cells of 16 x 16 pixels were free of damage and saturation.
    """

    correlation: tuple[float, float]
    spread: float
    unsure: float
    cells: int


def see_noise(
    branch: NoiseBranch, planes: NDArray[np.float32], damaged: NDArray[np.bool_], device: Device
) -> SeenNoise | None:
    """The noise of an image, as far as the inspector sees it.

    Parameters
    ----------
    branch : NoiseBranch
        Of the inspector, on the device.
    planes : ndarray of float32
        ``(N, C, Y, X)``, finite; colours are looked at one by one.
    damaged : ndarray of bool
        ``(N, Y, X)``; cells with more than `LOST_SHARE` of damaged or saturated pixels are left out.
    device : Device
        Where to compute.

    Returns
    -------
    SeenNoise or None
        None where no cell is left.
    """
    found: list[NDArray[np.float64]] = []
    for colour in range(planes.shape[1]):
        value_range = ValueRange.of_sample(measured_sample(planes[:, colour : colour + 1], damaged))
        for index in np.unique(np.linspace(0, len(planes) - 1, min(WINDOWS, len(planes))).astype(int)):
            window = tuple(centred(side) for side in planes.shape[2:])
            values, lost = planes[index, colour][window], damaged[index][window]
            seen = _look(branch, values, value_range, device)
            assert isinstance(seen, NoiseFindings)
            found.append(_cells_of(seen, saturated(values, lost)))
    unsure, y, x = np.concatenate(found, axis=1)
    if not unsure.size:
        return None
    weight = 1 / np.hypot(unsure, LEAST_UNSURE) ** 2
    spread = max(float(np.ptp(np.percentile(along, [25, 75]))) for along in (y, x))
    correlation = tuple(float(np.clip(_weighted_median(along, weight), 0, MOST_CORRELATED)) for along in (y, x))
    return SeenNoise((correlation[0], correlation[1]), spread, float(np.median(unsure)), unsure.size)


def centred(side: int) -> slice:
    """The middle `WINDOW_PX` of a side."""
    start = (side - min(side, WINDOW_PX)) // 2
    return slice(start, start + min(side, WINDOW_PX))


def damage_probability(branch: DamageBranch, plane: NDArray[np.float32], device: Device) -> NDArray[np.float32]:
    """Probability that each pixel of ``(Y, X)`` is damaged, tile by tile; the branch is on the device."""
    value_range, out = ValueRange.of(plane), np.zeros(plane.shape, dtype=np.float32)
    height, width = (-(-side // DAMAGE_CELL_PX) * DAMAGE_CELL_PX for side in plane.shape)
    padded = np.pad(plane, [(0, height - plane.shape[0]), (0, width - plane.shape[1])], mode="symmetric")
    for tile in plan_tiles(height, width, tile_px=TILE_PX, halo_px=HALO_PX, blend_px=0, stride=DAMAGE_CELL_PX):
        logits = _look(branch, padded[tile.read], value_range, device)
        assert isinstance(logits, torch.Tensor)
        probability = torch.sigmoid(logits[0, 0]).cpu().numpy()[tile.crop]
        target = out[tile.write]
        target[...] = probability[: target.shape[0], : target.shape[1]]
    return out


def likely_damaged(probability: NDArray[np.float32], surely: float) -> NDArray[np.bool_]:
    """Where damage is likely, if it touches pixels where it is surer: hysteresis, after Canny 1986.

    Single specks that could be scene are left out by it, and the faint edges of a stain are not.

    Parameters
    ----------
    probability : ndarray of float32
        ``(Y, X)``.
    surely : float
        Probability that a connected part of the pixels from `LIKELY` on must reach.

    Returns
    -------
    ndarray of bool
        ``(Y, X)``.
    """
    from skimage.filters import apply_hysteresis_threshold

    return np.asarray(apply_hysteresis_threshold(probability, min(LIKELY, surely), surely), dtype=np.bool_)


@torch.no_grad()
def _look(
    branch: NoiseBranch | DamageBranch, values: NDArray[np.float32], value_range: ValueRange, device: Device
) -> NoiseFindings | torch.Tensor:
    height, width = (-(-side // CELL_PX) * CELL_PX for side in values.shape)
    x = np.pad(values, [(0, height - values.shape[0]), (0, width - values.shape[1])], mode="symmetric")
    x = x * np.float32(value_range.scale) + np.float32(value_range.offset)
    with device.precision():
        found: NoiseFindings | torch.Tensor = branch(torch.from_numpy(x)[None, None].to(device.torch))
    return found


def _cells_of(found: NoiseFindings, lost: NDArray[np.bool_]) -> NDArray[np.float64]:
    """``(3, n)`` how unsure, and correlation along y and x, of the whole cells that count."""
    rows, columns = (side // CELL_PX for side in lost.shape)
    if not rows or not columns:
        return np.empty((3, 0))
    whole = torch.from_numpy(lost[: rows * CELL_PX, : columns * CELL_PX].astype(np.float32))
    counted = functional.avg_pool2d(whole[None], CELL_PX)[0].numpy() <= LOST_SHARE
    kinds = torch.cat([found.log_unsure.exp(), found.neighbours], dim=1)[0, :, :rows, :columns]
    return kinds.cpu().numpy().astype(np.float64)[:, counted]


def _weighted_median(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    share = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(share, 0.5 * share[-1])])
