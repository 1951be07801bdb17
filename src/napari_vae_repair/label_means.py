"""Means over the labels of a plane, their 90 % intervals from posterior samples, and the table that they go into."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.9
COLOURS = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class LabelRow:
    """What was measured of one label in one plane and colour.

    Attributes
    ----------
    label : int
    position : tuple of int
        Along each of `LabelTable.axes`.
    area_px : int
    area_um2 : float or None
        None without pixel sizes.
    mean : float
        Of the restored values.
    low, high : float
        Ends of the 90 % interval of `mean`.
    pixel_std : float
        Mean of the pixels' own standard deviations: how uncertain a single pixel is.
    """

    label: int
    position: tuple[int, ...]
    area_px: int
    area_um2: float | None
    mean: float
    low: float
    high: float
    pixel_std: float


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Rows for each label, plane by plane and colour by colour.

    Attributes
    ----------
    axes : str
        Letters of the axes that `LabelRow.position` runs along; ``S`` = red, green, blue.
    rows : tuple of LabelRow
    """

    axes: str
    rows: tuple[LabelRow, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns; ``area_um2`` only where it is known."""
        places = ("colour" if axis == "S" else axis.lower() for axis in self.axes)
        area = ("area_um2",) if any(row.area_um2 is not None for row in self.rows) else ()
        return ("label", *places, "area_px", *area, "mean", "low_90", "high_90", "pixel_std")

    def records(self) -> list[dict[str, Any]]:
        """A dict for each row, by `columns`."""
        out = []
        for row in self.rows:
            places = (COLOURS[at] if axis == "S" else at for axis, at in zip(self.axes, row.position, strict=True))
            area = () if row.area_um2 is None else (row.area_um2,)
            values = (row.label, *places, row.area_px, *area, row.mean, row.low, row.high, row.pixel_std)
            out.append(dict(zip(self.columns, values, strict=True)))
        return out

    def csv(self) -> str:
        """The table as comma-separated values, with a line of names."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records())
        return text.getvalue()


class PlaneMeans:
    """Means over the labels of one plane, of one posterior sample after the other.

    Parameters
    ----------
    labels : ndarray of int
        ``(Y, X)``; 0 = background.
    restored, std : ndarray of float32
        ``(Y, X)``.
    centre : ndarray of float32
        ``(Y, X)``: mean of the samples.
    """

    def __init__(
        self,
        labels: NDArray[Any],
        restored: NDArray[np.float32],
        std: NDArray[np.float32],
        centre: NDArray[np.float32],
    ) -> None:
        self.labels, self.restored, self.std, self.centre = labels, restored, std, centre
        self.found = np.unique(labels)
        self.found = self.found[self.found != 0]
        self.drawn: list[NDArray[np.float64]] = []
        self.squares: list[NDArray[np.float64]] = []

    def add(self, sample: NDArray[np.float32]) -> None:
        """Take in a sample ``(Y, X)``."""
        self.drawn.append(self._mean(sample))
        self.squares.append(self._mean(np.square(sample - self.centre)))

    def rows(self, position: tuple[int, ...], area_um2: float | None, *, means_of_samples: bool) -> list[LabelRow]:
        """A row for each label; `means_of_samples` = whether the restored image is the mean of the samples."""
        means, pixel_std, areas = self._mean(self.restored), self._mean(self.std), self._areas()
        half = self._half(means, means_of_samples)
        return [
            LabelRow(
                label=int(label),
                position=position,
                area_px=int(areas[at]),
                area_um2=None if area_um2 is None else float(areas[at] * area_um2),
                mean=float(means[at]),
                low=float(means[at] - half[at]),
                high=float(means[at] + half[at]),
                pixel_std=float(pixel_std[at]),
            )
            for at, label in enumerate(self.found)
        ]

    def _half(self, means: NDArray[np.float64], means_of_samples: bool) -> NDArray[np.float64]:
        """Half the width of the intervals; see `uncertainty.label_table`."""
        from scipy.special import stdtrit

        count = len(self.drawn)
        raw, calibrated = np.sum(self.squares, axis=0) / (count - 1), self._mean(np.square(self.std))
        widened = np.sqrt(np.maximum(np.divide(calibrated, raw, out=np.ones_like(raw), where=raw > 0), 1))
        spread = np.std(self.drawn, axis=0, ddof=1)
        # the mean of n samples errs itself by one n-th of their variance
        second = spread / math.sqrt(count) if means_of_samples else means - np.mean(self.drawn, axis=0)
        return np.asarray(stdtrit(count - 1, 0.5 + LEVEL / 2) * np.hypot(spread * widened, second))

    def _mean(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        from scipy.ndimage import mean

        return np.asarray(mean(values, self.labels, self.found)) if self.found.size else np.empty(0)

    def _areas(self) -> NDArray[np.float64]:
        from scipy.ndimage import sum_labels

        return np.asarray(sum_labels(np.ones_like(self.restored), self.labels, self.found))
