"""`Finding`: one number about a restoration, with its grade, what it says and what to do; one function for each.

Thresholds were set on real fluorescence and camera images with known means of many frames: with those means in place of
the restored image everything is good; with the residual halved, or the image blurred too far, it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.report import Report
from napari_vae_repair.trust_measures import BLOCK_PX, LAGS, Scatter

Verdict = Literal["good", "doubtful", "bad", "not valid here"]
SIGNS: dict[Verdict, str] = {"good": "✓", "doubtful": "?", "bad": "✗", "not valid here": "–"}  # noqa: RUF001
NOTHING_TO_DO = "Nothing to do."

SCATTER_GOOD, SCATTER_DOUBTFUL = 1.35, 2.0  # times; the right model of real images reaches 1.08 to 1.20
CORRELATION_GOOD, CORRELATION_DOUBTFUL = 0.15, 0.3
STRUCTURE_GOOD, STRUCTURE_DOUBTFUL = 0.02, 0.08  # share of blocks; the truth gives 0.1 to 1.5 %, noise alone 0.3 %
OUTLYING = 3.0  # standard errors
TAKEN_GOOD, TAKEN_DOUBTFUL = (0.6, 1.25), (0.35, 1.5)
SATURATED_GOOD, SATURATED_DOUBTFUL = 1e-3, 2e-2
OUTSTANDING_GOOD, OUTSTANDING_DOUBTFUL = 1e-4, 5e-3
DAMAGED_GOOD, DAMAGED_DOUBTFUL = 1e-2, 0.2
FEWEST_BLOCKS, FEWEST_VALUES = 16, 256
_WORST_LAST: tuple[Verdict, ...] = ("good", "doubtful", "bad")


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement of a restoration.

    Attributes
    ----------
    name : str
        What was measured, with the channel where there are several.
    value : float or None
        The number; None where nothing could be measured.
    text : str
        The number with its unit.
    grade : {"good", "doubtful", "bad", "not valid here"}
        Believe it; look at it; do not; cannot be judged.
    reason : str
        In one line, why this grade.
    meaning : str
        In one line, what the number says.
    advice : str
        In one line, what to do.
    """

    name: str
    value: float | None
    text: str
    grade: Verdict
    reason: str
    meaning: str
    advice: str


def obstacle(report: Report, noise: NoiseModel) -> str:
    """Why the noise cannot be compared with the pixels of the result; "" if it can."""
    if not report.in_source_units:
        return f"the step '{report.inverted_to}' cannot be undone, so results and noise have different units"
    if not report.noise_in_source_units:
        return "a step of the preprocessing bends the values, so the noise is not known in the image's units"
    return "nothing could be told of the noise: its strength is only assumed" if noise.source == "assumed" else ""


def noise_estimate(label: str, noise: NoiseModel) -> Finding:
    """How far the estimate trusts itself."""
    meaning = "How far the estimated noise can be trusted, by the estimate's own account."
    name = f"Noise estimate{label}"
    if not noise.grades:
        why = {
            "given": "the noise was given, not estimated",
            "assumed": "nothing could be told of the noise",
        }.get(noise.source, "its estimate, or its fit, was not graded")
        return not_valid(name, why, meaning, "See the noise model below.")
    worst = max((each.grade for each in noise.grades), key=_WORST_LAST.index)
    named = [each for each in noise.grades if each.grade == worst]
    return Finding(
        name,
        None,
        ", ".join(f"{each.quantity} {each.grade}" for each in noise.grades),
        worst,
        "; ".join(f"{each.quantity}: {each.reason}" for each in (named if worst != "good" else noise.grades[:1])),
        meaning,
        NOTHING_TO_DO if worst == "good" else "If you know gain and read noise of your camera, give them.",
    )


def noise_model(label: str, seen: Scatter, noise: NoiseModel, blocked: str) -> Finding:
    """The noise model beside the layer's own scatter of variance over mean."""
    name, meaning = (
        f"Noise model{label}",
        "How far the noise model lies from the scatter of the image's own flat parts.",
    )
    if not blocked and seen.blocks < FEWEST_BLOCKS:
        blocked = f"only {seen.blocks} blocks of {BLOCK_PX} x {BLOCK_PX} pixels are free of damage and saturation"
    told = noise.variance(seen.mean)
    known = (seen.variance > 0) & (told > 0)
    if not blocked and not known.any():
        blocked = "the image does not scatter at all"
    if blocked:
        return not_valid(name, blocked, meaning, "Compare with an image of the same camera that can be judged.")
    apart = np.log(seen.variance[known] / told[known])
    factor, usual = float(np.exp(np.sqrt(np.mean(apart**2)))), float(np.exp(np.median(apart)))
    grade = below(factor, SCATTER_GOOD, SCATTER_DOUBTFUL)
    found = f"flat parts scatter {usual:.2f} times as much as the model says, over {len(apart)} levels of brightness"
    advice = {
        "good": NOTHING_TO_DO,
        "doubtful": "Look at the plot: points above the line at all levels mean more noise than was told.",
    }.get(grade, f"Correct the noise: {'raise' if usual > 1 else 'lower'} gain and read noise, or let it be estimated.")
    return Finding(name, factor, f"{factor:.2f} times apart", grade, found, meaning, advice)


def residual_correlation(label: str, found: NDArray[np.float64], expected: NDArray[np.float64], values: int) -> Finding:
    """Neighbours in the residual against what the noise model expects."""
    name = f"Residual autocorrelation{label}"
    meaning = "Whether neighbouring pixels of what was taken away are as alike as the noise lets them be."
    along_y, along_x = (float(found[index]) for index in ((LAGS + 1, LAGS), (LAGS, LAGS + 1)))
    if values < FEWEST_VALUES or not np.isfinite([along_y, along_x]).all():
        reason = f"only {values} pixels were measured" if values < FEWEST_VALUES else "nothing was taken away"
        return not_valid(name, reason, meaning, "Judge a larger image.")
    wanted = float(expected[LAGS + 1, LAGS]), float(expected[LAGS, LAGS + 1])
    beyond = max((along_y - wanted[0], along_x - wanted[1]), key=abs)
    chance = 2 / np.sqrt(values)  # two standard errors of a correlation of white noise
    grade = below(max(abs(beyond) - chance, 0.0), CORRELATION_GOOD, CORRELATION_DOUBTFUL)
    reason = f"the noise model expects {wanted[0]:+.2f} along y, {wanted[1]:+.2f} along x"
    advice = "Noise was left in: raise the noise, or adapt longer."
    if grade == "good":
        advice = NOTHING_TO_DO
    elif beyond > 0:
        advice = (
            "Look at the residual: structure of the scene went with the noise, or the noise is correlated (give it)."
        )
    return Finding(name, beyond, f"{along_y:+.2f} along y, {along_x:+.2f} along x", grade, reason, meaning, advice)


def structure_left(label: str, deviations: NDArray[np.float64]) -> Finding:
    """Blocks of the residual whose mean noise cannot explain."""
    name = f"Structure in the residual{label}"
    meaning = (
        f"Share of {BLOCK_PX} x {BLOCK_PX} pixel blocks whose mean residual is no chance; noise alone gives 0.3 %."
    )
    known = deviations[np.isfinite(deviations)]
    if known.size < FEWEST_BLOCKS:
        reason = f"only {known.size} blocks could be measured" if known.size else "nothing was taken away"
        return not_valid(name, reason, meaning, "Judge a larger image.")
    outlying = int(np.count_nonzero(np.abs(known) > OUTLYING))
    share = outlying / known.size
    grade = "good" if outlying <= 1 else below(share, STRUCTURE_GOOD, STRUCTURE_DOUBTFUL)
    spread = float(np.sqrt(np.mean(known**2)))
    reason = f"{outlying} of {known.size} blocks are beyond 3 standard errors; they spread {spread:.2f} times as noise"
    advice = (
        NOTHING_TO_DO if grade == "good" else "Do not measure where the map is far from 0: signal was removed or added."
    )
    return Finding(name, share, f"{100 * share:.1f} % of blocks", grade, reason, meaning, advice)


def noise_taken(label: str, ratio: float, blocked: str) -> Finding:
    """How many times the noise's variance was taken away."""
    name, meaning = (
        f"Noise taken away{label}",
        "Variance of the residual over that of the noise; a little below 1 is right.",
    )
    if blocked or not np.isfinite(ratio):
        return not_valid(name, blocked or "nothing was measured", meaning, "Look at the residual by eye.")
    grade = within(ratio, TAKEN_GOOD, TAKEN_DOUBTFUL)
    reason = f"{TAKEN_GOOD[0]} to {TAKEN_GOOD[1]} is good, {TAKEN_DOUBTFUL[0]} to {TAKEN_DOUBTFUL[1]} doubtful"
    advice = NOTHING_TO_DO
    if grade != "good":
        less, more = "Noise was left in, or is weaker than told", "Detail went too, or the noise is stronger than told"
        advice = f"{less if ratio < 1 else more}: look at the noise model, and give the noise if you know it."
    return Finding(name, ratio, f"{ratio:.2f} times its variance", grade, reason, meaning, advice)


def saturated_pixels(label: str, share: float | None, blocked: str) -> Finding:
    """Share of values at the top of the range."""
    name, meaning = (
        f"Saturated pixels{label}",
        "Share of pixels piled up at the largest value; the truth there lies above.",
    )
    if blocked or share is None:
        return not_valid(name, blocked or "the image has too few different values", meaning, "Look at its histogram.")
    grade = below(share, SATURATED_GOOD, SATURATED_DOUBTFUL)
    reason = "values pile up at the largest one" if share else "no pile at the largest value"
    advice = (
        NOTHING_TO_DO if grade == "good" else "Do not measure brightness there; mark them as damage, or expose less."
    )
    return Finding(name, share, _percent(share), grade, reason, meaning, advice)


def outstanding_pixels(label: str, share: float | None, blocked: str) -> Finding:
    """Share of single dead and hot pixels."""
    name, meaning = (
        f"Dead and hot pixels{label}",
        "Share of single pixels that leave their neighbours by more than 6 noise std.",
    )
    if blocked or share is None:
        reason = blocked or "too many pixels stand out to be single: texture, or a wrong noise model"
        return not_valid(name, reason, meaning, "Look for them by eye.")
    grade = below(share, OUTSTANDING_GOOD, OUTSTANDING_DOUBTFUL)
    reason = "not marked as damage, so they were taken for measured values" if share else "none stands out"
    advice = NOTHING_TO_DO if grade == "good" else "Run find damage, correct its mask, and restore again with it."
    return Finding(name, share, _percent(share), grade, reason, meaning, advice)


def damaged_pixels(report: Report) -> Finding:
    """Share of pixels that were filled."""
    share = report.damaged_share
    grade = below(share, DAMAGED_GOOD, DAMAGED_DOUBTFUL)
    advice = (
        NOTHING_TO_DO if grade == "good" else "Leave the filled pixels out of measurements; the damage mask tells them."
    )
    meaning = "Share of pixels that were not measured but filled in."
    reason = "marked as damage, or not finite" if share else "all pixels were measured"
    return Finding("Filled pixels", share, _percent(share), grade, reason, meaning, advice)


def not_valid(name: str, reason: str, meaning: str, advice: str) -> Finding:
    """What cannot be judged, with the reason."""
    return Finding(name, None, "not judged", "not valid here", reason, meaning, advice)


def below(value: float, good: float, doubtful: float) -> Verdict:
    """The smaller the better."""
    return "good" if value < good else "doubtful" if value < doubtful else "bad"


def within(value: float, good: tuple[float, float], doubtful: tuple[float, float]) -> Verdict:
    """The nearer to the middle the better."""
    if good[0] <= value <= good[1]:
        return "good"
    return "doubtful" if doubtful[0] <= value <= doubtful[1] else "bad"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} % of pixels"
