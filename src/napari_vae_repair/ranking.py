"""`Comparison`: what each method made of an image, ranked, as a table."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLUMNS = ("method", "loss", "psnr", "ssim", "seconds", "parameters", "note")


@dataclass(frozen=True, slots=True)
class Compared:
    """What one method made of the image.

    Attributes
    ----------
    method : str
        One of `contenders.methods`.
    restored : ndarray of float32
        In the image's shape and units.
    loss : float
        Mean squared error of the prediction of pixels from the others, in squared units of the image; it holds the
        variance of the noise, which is the same for all.
    psnr, ssim : float or None
        Against the reference, with its range as peak; None without one.
    seconds : float
        Of the result, tuning included, without the loss.
    parameters : dict
        That were found best by the loss.
    note : str
        What a user must know, such as a licence.
    """

    method: str
    restored: NDArray[np.float32]
    loss: float
    psnr: float | None
    ssim: float | None
    seconds: float
    parameters: dict[str, float]
    note: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All methods.

    Attributes
    ----------
    rows : tuple of Compared
        The one with the smallest loss first.
    doubt : str
        Why the loss ranks nothing here; "" where it does.
    """

    rows: tuple[Compared, ...]
    doubt: str

    def table(self) -> list[dict[str, Any]]:
        """A dict for each method, without pixels; numbers as they are."""
        return [{name: getattr(row, name) for name in _COLUMNS} for row in self.rows]

    def csv(self) -> str:
        """The table as comma-separated values, parameters as ``name=value``."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        for line in self.table():
            parameters = " ".join(f"{name}={value:.6g}" for name, value in line["parameters"].items())
            writer.writerow(line | {"parameters": parameters})
        return stream.getvalue()

    def text(self) -> str:
        """A line for each method, and the doubt."""
        lines = [f"{'method':<12}{'loss':>12}{'PSNR (dB)':>11}{'SSIM':>8}{'seconds':>9}"]
        for row in self.rows:
            measured = " " * 19 if row.psnr is None else f"{row.psnr:>11.2f}{row.ssim:>8.3f}"
            note = f"  ({row.note})" if row.note else ""
            lines.append(f"{row.method:<12}{row.loss:>12.5g}{measured}{row.seconds:>9.2f}{note}")
        return "\n".join([*lines, *([f"The loss ranks nothing here: {self.doubt}."] if self.doubt else [])])
