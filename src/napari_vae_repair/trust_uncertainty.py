"""Findings on what a restoration claims of itself: its uncertainty, and that training on the image helped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.report import Report
from napari_vae_repair.settings import DEFAULT_SAMPLES
from napari_vae_repair.trust_findings import NOTHING_TO_DO, Finding, below, not_valid, within

BALANCE_GOOD, BALANCE_DOUBTFUL = (0.75, 1.35), (0.5, 2.0)
LEAST_SHARE = 0.25  # of std in the noise's variance: about what is uncertain of the noise
NORMAL_90 = 1.645  # standard deviations to each side (see `vae.calibration`)
# of neighbours' noise, from which on held-out pixels are told by their neighbours (see `vae.adapt`)
MOST_SHARED = 0.3
LOST_GOOD, LOST_DOUBTFUL = 0.5, 1.5  # dB that held-out pixels are worse


def calibration(label: str, share: float, report: Report, blocked: str, *, calibrated: bool) -> Finding:
    """Whether std is a calibrated error, and how large it is beside the noise."""
    name, meaning = (
        f"Calibration{label}",
        "The uncertainty beside the noise, and whether it was calibrated as an error.",
    )
    if blocked or not np.isfinite(share):
        return not_valid(name, blocked or "nothing was measured", meaning, "Do not quote std as an error here.")
    size = float(np.sqrt(share))
    text = f"std is {size:.2f} times the noise's"
    if not calibrated:
        reason = "it is the spread of the samples of a model of this image, which was not calibrated"
    elif report.training.get("adapted", {}).get("accepted", False):
        reason = "it was calibrated for the starter, and the network was adapted since"
    elif report.samples < DEFAULT_SAMPLES:
        reason = f"it was calibrated for {DEFAULT_SAMPLES} samples, and {report.samples} were drawn"
    else:
        reason = (
            f"calibrated on synthetic scenes so that {NORMAL_90} std hold 90 %; its coverage here needs a reference"
        )
        advice = "Measure its coverage on a pair of your own if your conclusions rest on it."
        return Finding(name, size, text, "good", reason, meaning, advice)
    advice = "Take std as a map of where to be careful, not as an error bar."
    return Finding(name, size, text, "doubtful", reason, meaning, advice)


def balance(label: str, parts: NDArray[np.float64], share: float, blocked: str) -> Finding:
    """Whether residual and uncertainty together make up the noise in dark, middle and bright parts."""
    name = f"Residual and uncertainty{label}"
    meaning = "Squares of residual and std together, over the noise's: 1 where restored image, noise and std agree."
    known = [(kind, float(part)) for kind, part in zip(("dark", "middle", "bright"), parts, strict=True) if part > 0]
    if blocked or not known:
        return not_valid(name, blocked or "too few pixels were measured", meaning, "Measure against a reference.")
    kind, worst = max(known, key=lambda part: abs(np.log(part[1])))
    grade = within(worst, BALANCE_GOOD, BALANCE_DOUBTFUL)
    if grade == "good" and share < LEAST_SHARE:
        reason = f"the parts give {worst:.2f} at worst, but std is too small beside the noise to be checked by it"
        return not_valid(name, reason, meaning, "Measure the coverage of std on a pair of your own if it matters.")
    more = "residual and std exceed" if worst > 1 else "residual and std fall short of"
    reason = "no part stands out" if grade == "good" else f"in {kind} parts {more} the noise"
    advice = "Noise or std is too small there, or the brightness is biased: look at noise model and structure."
    if grade == "good":
        advice = NOTHING_TO_DO
    elif worst < 1:
        advice = "Std is too small there, or the noise is weaker than told: do not quote std as an error."
    text = ", ".join(f"{kind} {part:.2f}" for kind, part in known)
    return Finding(name, worst, text, grade, reason, meaning, advice)


def held_out(report: Report, noise: Sequence[NoiseModel]) -> Finding:
    """What pixels say that the network was not trained on, after adapting or a training."""
    name, meaning = "Held-out criterion", "Whether training on this image helped on parts that it was not trained on."
    record = report.training.get("adapted")
    refused = next((note for note in report.notes if note.startswith("not adapted: ")), "")
    shared = max(0.0, *report.residual_correlation, *(value for each in noise for value in each.correlation))
    reason = ""
    if refused:
        reason = refused.removeprefix("not adapted: ")
    elif record is None and "held_out" not in report.reconstruction:
        reason = "the network was not trained on this image"
    elif shared > MOST_SHARED:
        reason = f"neighbours share {shared:.2f} of their noise, so that held-out pixels are told by those around"
    if reason:
        advice = NOTHING_TO_DO if "not trained" in reason else "Compare by eye, or against a reference."
        return not_valid(name, reason, meaning, advice)
    if record is not None:
        gained, kept = float(record["gained_db"]), bool(record["accepted"])
        verdict = "kept: surely better" if kept else "not kept: not surely better, so the network is as before"
        return Finding(name, gained, f"{gained:+.2f} dB", "good", verdict, meaning, NOTHING_TO_DO)
    seen, unseen = (report.reconstruction[part]["psnr"] for part in ("training", "held_out"))
    lost = float(seen - unseen)
    grade = below(lost, LOST_GOOD, LOST_DOUBTFUL)
    text, reason = f"{-lost:+.2f} dB", f"{seen:.2f} dB on training pixels, {unseen:.2f} dB on held-out ones"
    advice = NOTHING_TO_DO if grade == "good" else "Train for fewer epochs: the network learns this image's noise."
    return Finding(name, -lost, text, grade, reason, meaning, advice)
