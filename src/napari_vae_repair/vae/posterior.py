"""What the passes of one restoration say together: mean, standard deviation and samples, gathered tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.image.opponent import from_opponent, std_from_opponent
from napari_vae_repair.image.tiles import Tile
from napari_vae_repair.vae.calibration import Calibration
from napari_vae_repair.vae.hidden import hidden_std
from napari_vae_repair.vae.record import View


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the passes of one restoration say, in prepared units.

    Attributes
    ----------
    mean : ndarray of float32
        ``(N, C, Y, X)``: the one pass with the latents at their means, or the mean of the samples.
    std : ndarray of float32
        ``(N, C, Y, X)`` over the samples, or what `calibrated` makes of it; 0 with less than two.
    samples : ndarray of float32 or None
        ``(samples, N, C, Y, X)`` where they were asked for.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    samples: NDArray[np.float32] | None

    def shaped(self, shape: tuple[int, ...], *, opponent: bool) -> Posterior:
        """The same with planes of colours back in their channels: red, green and blue from `opponent` colours."""
        mean, std = self.mean.reshape(shape), self.std.reshape(shape)
        samples = None if self.samples is None else self.samples.reshape(-1, *shape)
        if not opponent:
            return Posterior(mean, std, samples)
        turned = None if samples is None else np.stack([from_opponent(sample) for sample in samples])
        return Posterior(from_opponent(mean), std_from_opponent(std), turned)

    def calibrated(
        self,
        calibration: Calibration,
        planes: NDArray[np.float32],
        damaged: NDArray[np.bool_],
        views: Sequence[View],
    ) -> Posterior:
        """With an honest `std`, where there is any and the noise's strength is known, or what is hidden was filled.

        Parameters
        ----------
        calibration : Calibration
        planes : ndarray of float32
            ``(N, C, Y, X)`` what was restored, damage spanned.
        damaged : ndarray of bool
            ``(N, Y, X)``.
        views : sequence of View
            One for each plane.
        """
        if not self.std.any():
            return self
        std = self.std.copy()
        for plane, seen, lost, view in zip(std, planes, damaged, views, strict=True):
            if view.noise_std is not None:
                plane[...] = calibration.calibrated(plane, view.noise_std)
            if calibration.hidden and lost.any():
                np.copyto(plane, hidden_std(seen, lost, view, calibration.hidden), where=lost)
        return replace(self, std=std)


class Tally:
    """Running mean and variance over samples (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: NDArray[np.float32] | None = None
        self._squares: NDArray[np.float32] | None = None

    def add(self, value: NDArray[np.float32]) -> None:
        """Take in a sample."""
        self.count += 1
        if self.mean is None or self._squares is None:
            self.mean, self._squares = value.copy(), np.zeros_like(value)
            return
        delta = value - self.mean
        self.mean += delta / self.count
        self._squares += delta * (value - self.mean)

    @property
    def variance(self) -> NDArray[np.float32]:
        """Of the samples so far; 0 of one."""
        assert self._squares is not None
        return np.asarray(self._squares / np.float32(max(self.count - 1, 1)), dtype=np.float32)


class Accumulator:
    """Weighted sums of tiles over the whole stack."""

    def __init__(self, shape: tuple[int, ...], kept: int) -> None:
        self._mean = np.zeros(shape, dtype=np.float32)
        self._variance = np.zeros(shape, dtype=np.float32)
        self._samples = np.zeros((kept, *shape), dtype=np.float32) if kept else None

    def add_sample(self, sample: int, index: int, tile: Tile, drawn: NDArray[np.float32]) -> None:
        """A tile of a sample, where samples are kept."""
        if self._samples is not None:
            add_tile(self._samples[sample, index], tile, drawn)

    def add_mean(self, index: int, tile: Tile, mean: NDArray[np.float32]) -> None:
        """A tile of the mean."""
        add_tile(self._mean[index], tile, mean)

    def add(self, index: int, tile: Tile, tally: Tally, *, mean_too: bool) -> None:
        """A tile of what samples say together."""
        if tally.mean is None:
            return
        if mean_too:
            self.add_mean(index, tile, tally.mean)
        add_tile(self._variance[index], tile, tally.variance)

    def result(self) -> Posterior:
        """What was added; once, at the end."""
        np.sqrt(self._variance, out=self._variance)
        return Posterior(self._mean, self._variance, self._samples)


def add_tile(target: NDArray[np.float32], tile: Tile, values: NDArray[np.float32]) -> None:
    """Weighted, into the part of the target that exists: the plan covers the padding as well."""
    height, width = target.shape[1:]
    rows, columns = (
        slice(part.start, min(part.stop, side)) for part, side in zip(tile.write, (height, width), strict=True)
    )
    size = (rows.stop - rows.start, columns.stop - columns.start)
    if min(size) > 0:
        target[:, rows, columns] += values[:, : size[0], : size[1]] * tile.weight[: size[0], : size[1]]
