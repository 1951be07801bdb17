"""`compare`: ours beside classical denoisers on one image, ranked without a truth by how well each predicts pixels."""

from __future__ import annotations

import csv
import importlib.util
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import restoration as sk

from napari_vae_repair.errors import InputError, SettingsError
from napari_vae_repair.image.classical import FAMILIES, rough_noise, tuned
from napari_vae_repair.image.compare import compare_planes
from napari_vae_repair.image.record import Image
from napari_vae_repair.pipeline import restore
from napari_vae_repair.preparation import as_image, check_reference
from napari_vae_repair.settings import Settings

OURS, BM3D = "VAE Repair", "BM3D"
LICENCES = {BM3D: "its package is licensed for non-commercial use only"}
STRIDE, GRIDS = 4, (0, 5, 10, 15)  # a quarter of the pixels is predicted, one grid of them after the other
MOST_SHARED = 0.15  # correlation of neighbours from which on they tell of a pixel's noise
SMALLEST_PX = 32
_COLUMNS = ("method", "loss", "psnr", "ssim", "seconds", "parameters", "note")

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Compared:
    """What one method made of the image.

    Attributes
    ----------
    method : str
        One of `methods`.
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
    restored: Array
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


def methods() -> tuple[str, ...]:
    """Names for `compare`: ours, those of scikit-image and SciPy, and BM3D where it is installed."""
    installed = (BM3D,) if importlib.util.find_spec("bm3d") else ()
    return (OURS, *FAMILIES, *installed)


def compare(
    image: Any,
    *,
    only: Sequence[str] | None = None,
    reference: NDArray[Any] | None = None,
    axes: str | None = None,
    settings: Settings | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Restore a plane by several methods, each tuned on it, and rank them without a truth.

    Parameters
    ----------
    image : array or napari Image layer
        One plane ``(Y, X)``, or a colour one; see `restore`. Nothing is written to it.
    only : sequence of str, optional
        Some of `methods`; None = all.
    reference : array, optional
        The truth, for PSNR and SSIM; the ranking does not look at it.
    axes : str, optional
        As `restore`.
    settings : Settings, optional
        Of ours.
    on_step : callable, optional
        Called with the method that is under way, how many are done, and how many there are.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        The image is no single plane, too small, damaged, or of another shape than the reference.
    SettingsError
        A method is unknown.

    Notes
    -----
    The loss is that of Batson & Royer 2019 (arXiv:1901.11365): pixels on a grid are replaced by the mean of their
    neighbours, and what a method makes of them is compared with what was measured. It follows the true error where
    the noise of a pixel says nothing of its neighbours'.
    """
    chosen = _plane(as_image(image, axes), reference)
    names = tuple(methods() if only is None else only)
    if unknown := [name for name in names if name not in methods()]:
        raise SettingsError(
            f"There is no method {unknown[0]!r}.", f"Methods are {', '.join(methods())}.", "Correct the name."
        )
    pixels = np.asarray(chosen.pixels[..., :3] if chosen.is_colour else chosen.pixels, np.float32)
    low, span = float(pixels.min()), float(np.ptp(pixels)) or 1.0
    task = _Task((pixels - np.float32(low)) / np.float32(span), -1 if chosen.is_colour else None, settings)
    rows = []
    for done, name in enumerate(names):
        if on_step is not None:
            on_step(name, done, len(names))
        result, again, parameters, seconds = task.run(name)
        restored = (result * np.float32(span) + np.float32(low)).astype(np.float32)
        scores = {} if reference is None else compare_planes(_as_planes(restored), _as_planes(reference))
        rows.append(
            Compared(
                name,
                restored,
                task.loss(again) * span**2,
                scores.get("psnr"),
                scores.get("ssim"),
                seconds,
                parameters,
                LICENCES.get(name, ""),
            )
        )
    return Comparison(tuple(sorted(rows, key=lambda row: row.loss)), task.doubt)


class _Task:
    """One image between 0 and 1, and what ours makes of it, which also tells whether the loss can rank."""

    def __init__(self, image: Array, channel_axis: int | None, settings: Settings | None) -> None:
        self._image, self._axis = image, channel_axis
        started = time.perf_counter()
        self._ours = restore(image, settings)
        self._seconds = time.perf_counter() - started
        shared = max(max(noise.correlation) for noise in self._ours.noise)
        doubt = f"neighbours share {shared:.2f} of their noise, and keeping it lowers a loss on held-out pixels"
        self.doubt = doubt if shared > MOST_SHARED else ""

    def run(self, name: str) -> tuple[Array, Callable[..., Array], dict[str, float], float]:
        """The result, how the same is done to another image, the parameters that were found, and seconds."""
        if name == OURS:
            return self._ours.restored, self._ours_again, {}, self._seconds
        started = time.perf_counter()
        if name == BM3D:
            apply: Callable[..., Array] = _bm3d
            found = {"sigma": rough_noise(self._image, self._axis)}
            result = apply(self._image, **found, channel_axis=self._axis)
        else:
            apply = FAMILIES[name].apply
            found, result = tuned(FAMILIES[name], self._image, self._axis)

        def again(image: Array, channel_axis: int | None) -> Array:
            return apply(image, **found, channel_axis=channel_axis)

        return result, again, found, time.perf_counter() - started

    def _ours_again(self, image: Array, channel_axis: int | None) -> Array:
        settings = self._ours.settings.model_copy(update={"adapt_seconds": 0.0, "adapt_steps": None})
        return restore(image, settings, model=self._ours.model).restored

    def loss(self, again: Callable[..., Array]) -> float:
        """Mean squared error of predicted pixels."""
        grids = [
            tuple(slice(phase, None, STRIDE) for phase in np.unravel_index(grid, (STRIDE, STRIDE))) for grid in GRIDS
        ]
        predicted = sk.denoise_invariant(self._image, again, masks=grids, denoiser_kwargs={"channel_axis": self._axis})
        return float(np.mean([np.mean((predicted[grid] - self._image[grid]) ** 2) for grid in grids]))


def _plane(image: Image, reference: NDArray[Any] | None) -> Image:
    if set(image.axes) - set("YXS") or min(image.pixels.shape[:2]) < SMALLEST_PX:
        raise InputError(
            f"An image of shape {image.pixels.shape} with axes {image.axes} was given.",
            f"One plane of at least {SMALLEST_PX} x {SMALLEST_PX} pixels can be compared.",
            "Choose a plane, as in image[3].",
        )
    if image.damaged.any():
        raise InputError(
            f"{int(image.damaged.sum())} pixels are damaged (NaN, infinite or masked).",
            "Classical denoisers need every pixel.",
            "Fill them first: restore(image, mask=...).restored.",
        )
    if reference is not None:
        check_reference(reference, image)
    return image


def _as_planes(image: NDArray[Any]) -> Array:
    """``(1, C, Y, X)``."""
    values = np.asarray(image, np.float32)
    return values[None, None] if values.ndim == 2 else np.moveaxis(values[..., :3], -1, 0)[None]


def _bm3d(image: Array, *, sigma: float, channel_axis: int | None) -> Array:
    import bm3d

    planes = [image] if channel_axis is None else [image[..., colour] for colour in range(image.shape[-1])]
    found = [np.asarray(bm3d.bm3d(plane, sigma), np.float32) for plane in planes]
    return found[0] if channel_axis is None else np.stack(found, axis=-1)
