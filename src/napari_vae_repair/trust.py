"""`judge`: how far a restoration can be trusted, and why; what cannot be judged is said to be so."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import Cancelled
from napari_vae_repair.image.axes import Layout
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.report import Report
from napari_vae_repair.trust_findings import (
    SIGNS,
    Finding,
    Verdict,
    damaged_pixels,
    noise_estimate,
    noise_model,
    noise_taken,
    obstacle,
    outstanding_pixels,
    residual_correlation,
    saturated_pixels,
    structure_left,
)
from napari_vae_repair.trust_measures import (
    Channel,
    Scatter,
    autocorrelation,
    closure,
    expected_correlation,
    over_noise,
    scatter,
    structure,
    taken_away,
)
from napari_vae_repair.trust_pixels import outstanding_share, saturated_share
from napari_vae_repair.trust_uncertainty import balance, calibration, held_out

__all__ = ["SIGNS", "Finding", "Plots", "Trust", "Verdict", "judge"]

CENTRE_PX, CHANNEL_PX = 2048, 1 << 22  # side of what is looked at of large planes; values of a channel
Planes = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Plots:
    """What is drawn of one channel.

    Attributes
    ----------
    label : str
        "" or as in "channel 2".
    scatter : Scatter
        Variance over brightness of the image's flat parts, in the result's units.
    noise : NoiseModel or None
        For the line beside it; None where its units are others.
    correlation, expected : ndarray of float64
        ``(17, 17)`` autocorrelation of the residual, and of the noise by its model, at lags -8 to 8 along y and x.
    structure : ndarray of float64
        ``(rows, columns)`` of the plane in the middle of the stack, an entry for 8 x 8 pixels: mean residual in
        standard errors, mean over colours; NaN where too little was measured.
    """

    label: str
    scatter: Scatter
    noise: NoiseModel | None
    correlation: NDArray[np.float64]
    expected: NDArray[np.float64]
    structure: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trust:
    """A restoration judged.

    Attributes
    ----------
    findings : tuple of Finding
        Those of each channel, then those of the whole.
    plots : tuple of Plots
        One for each channel.
    """

    findings: tuple[Finding, ...]
    plots: tuple[Plots, ...]

    def count(self) -> dict[Verdict, int]:
        """How many findings have each grade."""
        return {grade: sum(each.grade == grade for each in self.findings) for grade in SIGNS}

    def summary(self) -> str:
        """The counts as a sentence."""
        return ", ".join(f"{count} {grade}" for grade, count in self.count().items())

    def text(self) -> str:
        """Three lines for each finding, after the counts."""
        lines = [self.summary()]
        for each in self.findings:
            lines.append(f"{SIGNS[each.grade]} {each.grade}: {each.name}: {each.text} ({each.reason})")
            lines += [f"    {each.meaning}", f"    {each.advice}"]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the maps: ``counts`` and ``findings``."""
        findings = [asdict(each) for each in self.findings]
        for each in findings:
            if each["value"] is not None and not math.isfinite(each["value"]):
                each["value"] = None
        return {"counts": dict(self.count()), "findings": findings}


def judge(
    prepared: Planes,
    restored: Planes,
    std: Planes,
    damaged: NDArray[np.bool_],
    axes: str,
    report: Report,
    *,
    calibrated: bool,
    should_stop: Callable[[], bool] | None = None,
) -> Trust:
    """Judge a restoration by its arrays and its report.

    Of planes larger than 2048 pixels on a side the middle is judged, of stacks with more than four million values in
    a channel some planes at equal steps.

    Parameters
    ----------
    prepared, restored, std : ndarray of float32
        As those of a `Restoration`, in the axes `axes`; all in the same units.
    damaged : ndarray of bool
        In the axes `axes` without ``S``; True = filled.
    axes : str
        Letters of the dimensions.
    report : Report
        Of the restoration; its noise holds one model for each entry of ``C``.
    calibrated : bool
        Whether `std` is a calibrated error rather than the spread of samples.
    should_stop : callable, optional
        Polled before each channel, which takes half a second at most.

    Returns
    -------
    Trust

    Raises
    ------
    Cancelled
        When `should_stop` says so.
    """
    layout = Layout(axes, prepared.shape)
    planes = [layout.to_planes(values) for values in (prepared, restored, std)]
    lost = Layout(axes.replace("S", ""), damaged.shape).to_planes(damaged)
    count = len(lost) // layout.channels
    findings: list[Finding] = []
    plots = []
    for index, noise in enumerate(report.noise):
        if should_stop is not None and should_stop():
            raise Cancelled("judge")
        part = slice(index * count, (index + 1) * count)
        label = f"channel {index + 1}" if layout.channels > 1 else ""
        shown, colours = _chosen([values[part] for values in planes], lost[part], noise)
        found, plot = _judge_channel(label, shown, colours, report, calibrated)
        findings += found
        plots.append(plot)
    return Trust((*findings, damaged_pixels(report), held_out(report, report.noise)), tuple(plots))


def _chosen(planes: list[Planes], lost: NDArray[np.bool_], noise: NoiseModel) -> tuple[Channel, int]:
    """Of ``(N, C, Y, X)`` what is looked at, and how many colours it has; the plane in the middle is among it."""
    count, colours, height, width = planes[0].shape
    size = colours * min(height, CENTRE_PX) * min(width, CENTRE_PX)
    step = max(1, -(-count * size // CHANNEL_PX))
    starts = [max(0, (length - CENTRE_PX) // 2) for length in (height, width)]
    window = (slice(count // 2 % step, None, step), slice(None), *(slice(s, s + CENTRE_PX) for s in starts))
    seen = [np.ascontiguousarray(values[window]) for values in planes]
    flat = (-1, *seen[0].shape[2:])
    good = np.broadcast_to(~lost[window], seen[0].shape).reshape(flat)
    prepared, restored, std = (values.reshape(flat) for values in seen)
    return Channel(prepared, restored, std, good, noise), colours


def _judge_channel(
    label: str, channel: Channel, colours: int, report: Report, calibrated: bool
) -> tuple[list[Finding], Plots]:
    noise, good = channel.noise, channel.good
    named = f", {label}" if label else ""
    blocked = obstacle(report, noise)
    unmeasured = "" if good.any() else "every pixel is filled"
    seen = scatter(channel.prepared, good, noise.correlation)
    residual = over_noise(channel, known=not blocked)
    correlation, values = autocorrelation(residual, good)
    expected = expected_correlation(noise.correlation)
    deviations = structure(residual, good, noise.correlation, (0.0, 0.0) if blocked else _stripes(channel))
    model = noise_model(named, seen, noise, blocked or unmeasured)
    undone = "" if report.in_source_units else "the image's own values cannot be led back through the preprocessing"
    unsure = _no_uncertainty(report, blocked or unmeasured)
    parts, share = (np.full(3, math.nan), math.nan) if unsure else closure(channel)
    unclear = unsure or ("the noise model that it is compared with is bad" if model.grade == "bad" else "")
    findings = [
        noise_estimate(named, noise),
        model,
        residual_correlation(named, correlation, expected, values),
        structure_left(named, deviations),
        noise_taken(named, math.nan if unmeasured else taken_away(channel), blocked or unmeasured),
        calibration(named, share, report, unsure, calibrated=calibrated),
        balance(named, parts, share, unclear),
        saturated_pixels(named, None if unmeasured else saturated_share(channel.prepared, good), undone or unmeasured),
        outstanding_pixels(named, None if blocked or unmeasured else outstanding_share(channel), blocked or unmeasured),
    ]
    plane = len(deviations) // colours // 2 * colours
    shown = _mean_over_colours(deviations[plane : plane + colours])
    return findings, Plots(label, seen, None if blocked else noise, correlation, expected, shown)


def _no_uncertainty(report: Report, blocked: str) -> str:
    """Why the uncertainty cannot be judged; "" if it can."""
    if report.samples < 2:
        return f"there is none: it needs posterior samples, and {report.samples} were drawn"
    return blocked


def _stripes(channel: Channel) -> tuple[float, float]:
    """Offsets of rows and columns over the usual standard deviation of the noise."""
    usual = float(np.sqrt(channel.noise.variance(np.array(float(np.median(channel.restored[:, ::8, ::8]))))))
    rows, columns = channel.noise.stripes
    return (rows / usual, columns / usual) if usual > 0 else (0.0, 0.0)


def _mean_over_colours(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(deviations)
    total = np.where(known, deviations, 0).sum(axis=0)
    return np.asarray(np.divide(total, known.sum(axis=0), out=np.full(total.shape, np.nan), where=known.any(axis=0)))
