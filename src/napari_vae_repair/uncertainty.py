"""What a restoration's uncertainty answers: the probability of lying above a threshold, and means of labels."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import InputError
from napari_vae_repair.label_means import LabelRow, LabelTable, PlaneMeans
from napari_vae_repair.running import finished

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration

FEWEST_SAMPLES = 8  # with fewer a standard deviation over samples is itself no better known than by a third
Index = tuple[int | slice, ...]


def probability_above(restoration: Restoration, threshold: float, *, part: Index = ()) -> NDArray[np.float32]:
    """The probability of each pixel that its true value lies above a threshold.

    With the starter, or where no samples were kept, it comes from `Restoration.std` around `Restoration.restored`, as
    `credible_interval` does: single samples of the starter are not calibrated, their standard deviation is.
    With a model of one image whose samples were kept, it is the share of the samples above the threshold, ``(k + 1/2)
    / (n + 1)``, which is the posterior mean under Jeffreys' prior and keeps n samples from claiming certainty.

    Parameters
    ----------
    restoration : Restoration
        With two samples at least.
    threshold : float
        In the units of `Restoration.restored`.
    part : tuple of int or slice, optional
        What of `Restoration.restored` is asked for, as its index; () = everything.

    Returns
    -------
    ndarray of float32
        0 to 1, in the axes of the restoration. A pixel whose std is 0 is certain: 0 or 1, and 0.5 at the threshold.

    Raises
    ------
    InputError
        There is no uncertainty, or the threshold is no number.

    Notes
    -----
    Each pixel stands alone: probabilities say nothing of how many pixels lie above together. The starter's were
    calibrated up to the 95 % interval, so that tails beyond it (below 0.025, above 0.975) lean on the normal shape.
    Smoothing after Brown, Cai and DasGupta (2001), section 3, DOI 10.1214/ss/1009213286.
    """
    from scipy.special import ndtr

    if not math.isfinite(threshold):
        raise InputError(f"The threshold is {threshold}.", "It must be a finite number.", "Give another one.")
    if restoration.report.samples < 2:
        raise _no_uncertainty(restoration.report.samples, 2, "A probability")
    if restoration.samples is not None and not restoration.model.general:
        drawn = restoration.samples[(slice(None), *part)]
        share = (np.count_nonzero(drawn > threshold, axis=0) + 0.5) / (len(drawn) + 1)
        return np.asarray(share, dtype=np.float32)
    above, std = restoration.restored[part] - np.float32(threshold), restoration.std[part]
    score = np.divide(above, std, out=np.zeros_like(above), where=std > 0)
    if (calibration := restoration.model.calibration) is not None:
        score = calibration.as_normal(score)
    return np.asarray(np.where(std > 0, ndtr(score), np.heaviside(above, 0.5)), dtype=np.float32)


def credible_interval(
    restoration: Restoration, level: float = 0.9, *, part: Index = ()
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ends of the interval of each pixel that is meant to hold its true value with a probability of `level`.

    `Restoration.restored` minus and plus a multiple of `Restoration.std`: with the starter the one that held so much of
    the truth on synthetic scenes, with a model of one image the normal distribution's.

    Parameters
    ----------
    restoration : Restoration
        With two samples at least; the starter's were calibrated with 16.
    level : float
        Above 0 and below 1.
    part : tuple of int or slice, optional
        As for `probability_above`.

    Returns
    -------
    low, high : ndarray of float32
        In the units and axes of `Restoration.restored`.

    Raises
    ------
    InputError
        There is no uncertainty, or the level is no probability.

    Notes
    -----
    benchmarks/results/intervals.md: how much of the truth 50, 80, 90 and 95 % intervals hold on real images.
    """
    from scipy.special import ndtri

    if not 0 < level < 1:
        raise InputError(f"level={level} was given.", "It lies between 0 and 1.", "Give 0.9 for 90 %.")
    if restoration.report.samples < 2:
        raise _no_uncertainty(restoration.report.samples, 2, "An interval")
    calibration = restoration.model.calibration
    width = float(ndtri(0.5 + level / 2)) if calibration is None else calibration.width(level)
    restored, off = restoration.restored[part], np.float32(width) * restoration.std[part]
    return restored - off, restored + off


def label_table(
    restoration: Restoration, labels: NDArray[Any], *, pixel_size_um: Mapping[str, float] | None = None
) -> LabelTable:
    """Area, mean and the mean's 90 % interval for each label.

    The error of a mean depends on how the pixels' errors go together, which their standard deviations do not say but
    the posterior samples do: the interval is the quantile of Student's t for so few samples times the standard
    deviation over the samples of the label's mean. Where calibration widened the pixels' spread in the label, it is
    widened alike; never narrowed, for that pixels err less does not say that means do. Where the restored image is
    one pass, how far its mean lies from that of the samples counts as an error of its own (both are estimates of one
    truth).

    Parameters
    ----------
    restoration : Restoration
        Made with ``keep_samples=True`` and 8 samples at least.
    labels : ndarray of int or bool
        0 = background. In the shape of `Restoration.restored` without ``S``, or of its last dimensions: then the same
        labels count in every plane.
    pixel_size_um : mapping of str to float, optional
        Micrometres of a pixel along ``Y`` and ``X``.

    Returns
    -------
    LabelTable

    Raises
    ------
    InputError
        Too few samples were kept, or the labels are of another shape or kind.

    Notes
    -----
    What all pixels of a label share beyond the samples' spread, such as an offset of the camera, is not in the
    interval. It is too narrow where noise is strong and shared by neighbours: on 40 held-out synthetic scenes of any
    noise, 99 % of labels held the truth in the median scene, 89 % in the worst quarter, 58 % in the worst tenth.
    benchmarks/results/labels.md: on nine real images 95 % in the median, 78 % at worst.
    """
    return finished(label_table_steps(restoration, labels, pixel_size_um=pixel_size_um))


def label_table_steps(
    restoration: Restoration, labels: NDArray[Any], *, pixel_size_um: Mapping[str, float] | None = None
) -> Generator[tuple[int, int], None, LabelTable]:
    """The steps of `label_table`, for callers that want to stop in between.

    Parameters
    ----------
    restoration, labels, pixel_size_um
        As `label_table`.

    Yields
    ------
    tuple of int
        Samples of planes that are measured, and in all.

    Raises
    ------
    InputError
        As `label_table`.
    """
    samples, marked = _samples(restoration), _fitting(restoration, labels)
    sizes = dict(pixel_size_um or {})
    area_um2 = sizes["Y"] * sizes["X"] if {"Y", "X"} <= set(sizes) else None
    along = [d for d, axis in enumerate(restoration.axes) if axis not in "YX"]
    lengths = [restoration.restored.shape[d] for d in along]
    rows: list[LabelRow] = []
    for number, position in enumerate(np.ndindex(*lengths)):
        index: list[Any] = [slice(None)] * len(restoration.axes)
        for d, at in zip(along, position, strict=True):
            index[d] = at
        part = tuple(index)
        drawn = samples[(slice(None), *part)]
        plane = PlaneMeans(
            marked[part[: marked.ndim]], restoration.restored[part], restoration.std[part], drawn.mean(axis=0)
        )
        for at, sample in enumerate(drawn):
            yield number * len(drawn) + at, math.prod(lengths) * len(drawn)
            plane.add(sample)
        rows += plane.rows(position, area_um2, means_of_samples=not restoration.model.general)
    return LabelTable("".join(restoration.axes[d] for d in along), tuple(rows))


def _samples(restoration: Restoration) -> NDArray[np.float32]:
    kept = restoration.samples
    if kept is None or len(kept) < FEWEST_SAMPLES:
        raise _no_uncertainty(0 if kept is None else len(kept), FEWEST_SAMPLES, "The interval of a mean", kept=True)
    return kept


def _fitting(restoration: Restoration, labels: NDArray[Any]) -> NDArray[Any]:
    """The labels for every plane, without the colours."""
    labels = np.asarray(labels)
    shape = restoration.restored.shape[: len(restoration.axes.removesuffix("S"))]
    if labels.dtype.kind not in "bui":
        raise InputError(
            f"The labels are of dtype {labels.dtype}.", "Labels are whole numbers.", "Convert them, as in astype(int)."
        )
    missing = len(shape) - labels.ndim
    if missing < 0 or labels.ndim < 2 or labels.shape != shape[missing:]:
        raise InputError(
            f"The labels have shape {labels.shape}.",
            f"The restored image has {shape}; they must have this shape, or that of its last dimensions.",
            "Label the image that was restored, or its restored copy.",
        )
    return np.broadcast_to(labels.astype(np.uint8) if labels.dtype.kind == "b" else labels, shape)


def _no_uncertainty(received: int, fewest: int, what: str, *, kept: bool = False) -> InputError:
    how, ticked = ("samples=16, keep_samples=True", ", tick Keep the samples") if kept else ("samples=16", "")
    return InputError(
        f"The restoration {'holds' if kept else 'was made with'} {received} posterior sample(s).",
        f"{what} needs at least {fewest}.",
        f"Restore again with {how} (in the widget: set Samples to 16{ticked}, and press Restore).",
    )
