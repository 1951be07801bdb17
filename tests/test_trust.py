"""Verdicts on restorations whose truth is known."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.data import camera

from napari_vae_repair.errors import Cancelled
from napari_vae_repair.noise.record import Grade, NoiseModel
from napari_vae_repair.report import Report
from napari_vae_repair.restoration import Restoration
from napari_vae_repair.trust import SIGNS, Finding, Trust, judge
from napari_vae_repair.trust_measures import autocorrelation, blocks, expected_correlation, scatter, structure

Array = NDArray[np.float32]
GAIN, READ_NOISE = 2.0, 5.0
BALANCE = "Residual and uncertainty"
TOLD = NoiseModel(GAIN, READ_NOISE, 0.0)
REPORT = Report(
    inverted_to="source",
    in_source_units=True,
    noise=(TOLD,),
    noise_in_source_units=True,
    reconstruction={},
    against_reference=None,
    kl=(),
    collapsed=False,
    residual_correlation=(0.0, 0.0),
    residual_std=1.0,
    residual_over_noise=1.0,
    samples=16,
    damaged_share=0.0,
    seconds={},
    device="CPU",
)


def scene(*shape: int) -> Array:
    """Smooth bumps between 20 and 180."""
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    return np.broadcast_to(100 + 80 * np.sin(y / 17) * np.cos(x / 23), shape).astype(np.float32)


def measured(clean: Array, seed: int = 0) -> Array:
    """With the noise that `TOLD` describes."""
    random = np.random.default_rng(seed)
    return (GAIN * random.poisson(clean / GAIN) + random.normal(0, READ_NOISE, clean.shape)).astype(np.float32)


def judged(prepared: Array, restored: Array, report: Report = REPORT, **given: Any) -> Trust:
    std = given.pop("std", np.full_like(restored, 1.0))
    axes = given.pop("axes", "ZYX"[-prepared.ndim :])
    shape = prepared.shape[:-1] if axes.endswith("S") else prepared.shape
    damaged = given.pop("damaged", np.zeros(shape, dtype=bool))
    return judge(prepared, restored, std, damaged, axes, report, calibrated=given.pop("calibrated", True))


def found(trust: Trust, name: str) -> Finding:
    (finding,) = [each for each in trust.findings if each.name == name]
    return finding


CLEAN = scene(256, 256)
NOISY = measured(CLEAN)


@pytest.fixture(scope="module")
def truth() -> Trust:
    """Of a restoration that equals the truth."""
    return judged(NOISY, CLEAN)


# ---- the truth is good, and what is not is not ------------------------------------------------


def test_the_truth_is_good_in_everything_that_can_be_judged(truth: Trust) -> None:
    assert {each.grade for each in truth.findings} == {"good", "not valid here"}
    unknown = [each.name for each in truth.findings if each.grade != "good"]
    assert unknown == ["Noise estimate", BALANCE, "Held-out criterion"]
    assert all(each.reason and each.meaning and each.advice for each in truth.findings)


def test_variance_over_mean_is_found_as_it_was_made() -> None:
    seen = scatter(NOISY[None], np.ones((1, 256, 256), dtype=bool), (0.0, 0.0))
    assert np.ptp(seen.mean) > 80
    assert np.abs(seen.variance / TOLD.variance(seen.mean) - 1).max() < 0.35
    assert abs(float(np.mean(seen.variance / TOLD.variance(seen.mean))) - 1) < 0.06


def test_correlated_noise_is_found_as_strong_as_it_is() -> None:
    blurred = gaussian_filter(np.random.default_rng(0).normal(size=(256, 256)), 0.8)
    noise = (10 * blurred / blurred.std()).astype(np.float32)
    rho = float(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1])
    assert rho > 0.5
    seen = scatter((scene(256, 256) + noise)[None], np.ones((1, 256, 256), dtype=bool), (rho, rho))
    assert abs(float(np.median(seen.variance)) / 100 - 1) < 0.2


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_a_gain_three_times_wrong_is_bad(factor: float) -> None:
    wrong = replace(REPORT, noise=(NoiseModel(factor * GAIN, READ_NOISE, 0.0),))
    trust = judged(NOISY, CLEAN, wrong)
    model = found(trust, "Noise model")
    assert model.grade == "bad"
    assert ("raise" if factor < 1 else "lower") in model.advice
    assert found(trust, BALANCE).grade == "not valid here"
    assert found(trust, "Noise taken away").grade != "good"


def test_a_noise_model_that_ignores_the_signal_is_not_good() -> None:
    flat = NoiseModel(0.0, float(np.sqrt(TOLD.variance(CLEAN).mean())))
    assert found(judged(NOISY, CLEAN, replace(REPORT, noise=(flat,))), "Noise model").grade != "good"


def test_an_oversmoothed_restoration_leaves_structure() -> None:
    clean = camera()[100:356, 100:356].astype(np.float32)
    noisy = clean + np.random.default_rng(0).normal(0, 15, clean.shape).astype(np.float32)
    report = replace(REPORT, noise=(NoiseModel(0.0, 15.0),))
    assert found(judged(noisy, clean, report), "Structure in the residual").grade == "good"
    trust = judged(noisy, gaussian_filter(noisy, 3), report)
    left = found(trust, "Structure in the residual")
    assert left.grade == "bad"
    assert left.value is not None
    assert left.value > 0.1
    assert found(trust, "Noise taken away").grade == "bad"
    # where detail was lost
    outlying = np.abs(trust.plots[0].structure) > 3
    lost = blocks(np.abs(clean - gaussian_filter(clean, 3))[None])[0].mean(axis=-1)
    assert lost[outlying].mean() > 3 * lost[~outlying].mean()


def test_noise_that_was_left_in_is_told() -> None:
    trust = judged(NOISY, (CLEAN + 3 * NOISY) / 4)
    taken = found(trust, "Noise taken away")
    assert taken.grade == "bad"
    assert taken.value == pytest.approx(1 / 16, rel=0.05)
    assert "left in" in taken.advice
    assert found(trust, BALANCE).grade == "bad"


def test_residual_that_neighbours_share_is_bad_unless_the_noise_model_expects_it() -> None:
    blurred = gaussian_filter(np.random.default_rng(0).normal(size=(256, 256)), 0.8)
    noisy = CLEAN + (10 * blurred / blurred.std()).astype(np.float32)
    white = judged(noisy, CLEAN, replace(REPORT, noise=(NoiseModel(0.0, 10.0),)))
    told = judged(noisy, CLEAN, replace(REPORT, noise=(NoiseModel(0.0, 10.0, correlation=(0.67, 0.67)),)))
    name = "Residual autocorrelation"
    assert (found(white, name).grade, found(told, name).grade) == ("bad", "good")
    assert "correlated" in found(white, name).advice
    assert found(white, "Structure in the residual").grade == "bad"
    assert found(told, "Structure in the residual").grade == "good"


def test_uncertainty_makes_up_for_what_was_left_in_by_the_best_estimate() -> None:
    # a normal prior of variance 100 under noise of variance 100: the best estimate is half way, its variance 50
    random = np.random.default_rng(0)
    clean = random.normal(500, 10, (256, 256)).astype(np.float32)
    noisy = clean + random.normal(0, 10, clean.shape).astype(np.float32)
    best = (noisy + 500) / 2
    report = replace(REPORT, noise=(NoiseModel(0.0, 10.0),))
    right = found(judged(noisy, best, report, std=np.full_like(best, np.sqrt(50))), BALANCE)
    assert right.grade == "good"
    assert right.value == pytest.approx(1, abs=0.05)
    for wrong in (2.0, 12.0):
        assert found(judged(noisy, best, report, std=np.full_like(best, wrong)), BALANCE).grade != "good"


def test_an_uncertainty_too_small_to_be_checked_is_not_called_good(truth: Trust) -> None:
    finding = found(truth, BALANCE)
    assert finding.grade == "not valid here"
    assert "too small beside the noise" in finding.reason


ADAPTED = {"adapted": {"steps": 4, "accepted": True, "gained_db": 0.4}}


@pytest.mark.parametrize(
    ("change", "calibrated", "grade", "reason"),
    [
        ({}, True, "good", "needs a reference"),
        ({}, False, "doubtful", "was not calibrated"),
        ({"samples": 4}, True, "doubtful", "4 were drawn"),
        ({"training": ADAPTED}, True, "doubtful", "adapted since"),
        ({"training": {"adapted": ADAPTED["adapted"] | {"accepted": False}}}, True, "good", "needs a reference"),
    ],
)
def test_uncertainty_is_good_only_as_it_was_calibrated(
    change: dict[str, Any], calibrated: bool, grade: str, reason: str
) -> None:
    finding = found(judged(NOISY, CLEAN, replace(REPORT, **change), calibrated=calibrated), "Calibration")
    assert finding.grade == grade
    assert reason in finding.reason
    assert finding.value == pytest.approx(1 / np.sqrt(TOLD.variance(CLEAN).mean()), rel=0.01)


# ---- single pixels ----------------------------------------------------------------------------


def test_saturated_and_dead_and_filled_pixels_are_counted() -> None:
    noisy = np.minimum(NOISY, np.quantile(NOISY, 0.97)).astype(np.float32)
    chosen = np.random.default_rng(1).choice(CLEAN[8:-8:4, 8:-8:4].size, 40, replace=False)
    dark = CLEAN[8:-8:4, 8:-8:4] > 0
    dark.ravel()[:] = False
    dark.ravel()[chosen] = True
    noisy[8:-8:4, 8:-8:4][dark & (CLEAN[8:-8:4, 8:-8:4] > 120)] = -100.0
    dead = int((noisy == -100).sum())
    assert dead > 5
    trust = judged(noisy, CLEAN, replace(REPORT, damaged_share=0.05))
    saturated, single = found(trust, "Saturated pixels"), found(trust, "Dead and hot pixels")
    assert saturated.value == pytest.approx(0.03, rel=0.05)
    assert saturated.grade == "bad"
    assert single.value == pytest.approx(dead / noisy.size, rel=0.1)
    assert single.grade == "doubtful"
    assert found(trust, "Filled pixels").grade == "doubtful"


def test_filled_pixels_are_judged_by_nothing() -> None:
    damaged = np.zeros(CLEAN.shape, dtype=bool)
    damaged[40:200, 60:90] = True
    noisy = NOISY.copy()
    noisy[damaged] = 5e4
    trust, without = judged(noisy, CLEAN, damaged=damaged), judged(NOISY, CLEAN, damaged=damaged)
    assert trust.findings == without.findings
    assert np.isnan(trust.plots[0].structure[6:24, 8:11]).all()


# ---- what cannot be judged --------------------------------------------------------------------

OF_NOISE = ("Noise model", "Noise taken away", "Calibration", BALANCE, "Dead and hot pixels")


@pytest.mark.parametrize(
    ("change", "names", "reason"),
    [
        ({"in_source_units": False, "inverted_to": "contrast"}, (*OF_NOISE, "Saturated pixels"), "'contrast' cannot"),
        ({"noise_in_source_units": False}, OF_NOISE, "not known in the image's units"),
        ({"noise": (replace(TOLD, source="assumed"),)}, OF_NOISE, "only assumed"),
        ({"noise": (replace(TOLD, source="given"),)}, ("Noise estimate",), "was given"),
        ({"samples": 0}, ("Calibration", BALANCE), "0 were drawn"),
        ({"samples": 1}, ("Calibration", BALANCE), "1 were drawn"),
        ({"notes": ("not adapted: neighbours share too much",)}, ("Held-out criterion",), "neighbours share too much"),
        ({}, ("Held-out criterion",), "was not trained on this image"),
    ],
)
def test_what_cannot_be_judged_is_not_guessed(change: dict[str, Any], names: tuple[str, ...], reason: str) -> None:
    trust = judged(NOISY, CLEAN, replace(REPORT, **change))
    for name in names:
        finding = found(trust, name)
        assert (finding.grade, finding.value) == ("not valid here", None)
        assert reason in finding.reason or name == "Saturated pixels"
    others = {each.name for each in trust.findings if each.grade == "not valid here"}
    assert others - set(names) <= {"Noise estimate", "Held-out criterion", BALANCE}


HELD_OUT = {"training": {"psnr": 31.0}, "held_out": {"psnr": 30.8}}


@pytest.mark.parametrize(
    ("change", "grade", "said"),
    [
        ({"training": {"adapted": {"steps": 4, "accepted": True, "gained_db": 0.4}}}, "good", "surely better"),
        ({"training": {"adapted": {"steps": 4, "accepted": False, "gained_db": 0.01}}}, "good", "not kept"),
        ({"reconstruction": HELD_OUT}, "good", "30.80 dB on held-out"),
        ({"reconstruction": HELD_OUT | {"held_out": {"psnr": 28.0}}}, "bad", "28.00 dB"),
        ({"reconstruction": HELD_OUT, "residual_correlation": (0.5, 0.1)}, "not valid here", "share 0.50"),
        ({"reconstruction": HELD_OUT, "noise": (replace(TOLD, correlation=(0.1, 0.4)),)}, "not valid here", "0.40"),
    ],
)
def test_held_out_pixels_count_unless_neighbours_tell_them(change: dict[str, Any], grade: str, said: str) -> None:
    finding = found(judged(NOISY, CLEAN, replace(REPORT, **change)), "Held-out criterion")
    assert finding.grade == grade
    assert said in finding.reason


def test_the_estimates_own_grades_are_repeated() -> None:
    grades = (Grade("strength", "good", "many cells"), Grade("stripes", "bad", "offsets of rows"))
    finding = found(judged(NOISY, CLEAN, replace(REPORT, noise=(replace(TOLD, grades=grades),))), "Noise estimate")
    assert finding.grade == "bad"
    assert "offsets of rows" in finding.reason
    assert "many cells" not in finding.reason


# ---- any image --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16, 16), (5, 5), (1, 1), (40, 3), (3, 16, 16)])
def test_tiny_and_constant_images_are_judged_without_guessing(shape: tuple[int, ...]) -> None:
    clean = np.full(shape, 100, dtype=np.float32)
    for noisy in (clean, measured(clean)):
        trust = judged(noisy, clean)
        assert found(trust, "Noise model").grade == "not valid here"
        assert found(trust, "Structure in the residual").grade == "not valid here"
        json.dumps(trust.to_dict(), allow_nan=False)
    constant = judged(clean, clean)
    assert found(constant, "Residual autocorrelation").grade == "not valid here"
    assert found(constant, "Saturated pixels").grade == "not valid here"


def test_an_image_that_is_all_filled_is_not_judged() -> None:
    trust = judged(NOISY, CLEAN, damaged=np.ones(CLEAN.shape, dtype=bool))
    assert {each.grade for each in trust.findings[:-2]} == {"not valid here"}


def test_each_channel_is_judged_by_its_own_noise() -> None:
    clean = scene(2, 2, 96, 96)
    noisy = measured(clean)
    report = replace(REPORT, noise=(TOLD, NoiseModel(5 * GAIN, READ_NOISE)))
    trust = judged(noisy, clean, report, axes="ZCYX")
    assert found(trust, "Noise model, channel 1").grade == "good"
    assert found(trust, "Noise model, channel 2").grade == "bad"
    assert [plots.label for plots in trust.plots] == ["channel 1", "channel 2"]
    assert all(plots.structure.shape == (12, 12) for plots in trust.plots)


def test_judging_stops_between_channels_when_told() -> None:
    clean = scene(2, 64, 64)
    asked: list[int] = []
    with pytest.raises(Cancelled, match="judge"):
        judge(
            measured(clean),
            clean,
            clean,
            np.zeros(clean.shape, dtype=bool),
            "CYX",
            replace(REPORT, noise=(TOLD, TOLD)),
            calibrated=True,
            should_stop=lambda: asked.append(1) or len(asked) > 1,  # type: ignore[func-returns-value]
        )
    assert len(asked) == 2


def test_colours_are_judged_together() -> None:
    clean = np.repeat(scene(96, 96)[..., None], 3, axis=-1)
    trust = judged(measured(clean), clean, axes="YXS")
    assert len(trust.plots) == 1
    assert {each.grade for each in trust.findings} == {"good", "not valid here"}
    assert trust.plots[0].structure.shape == (12, 12)


def test_a_large_image_is_judged_in_half_a_second_and_inputs_are_untouched() -> None:
    clean = scene(2048, 2048)
    noisy, damaged = measured(clean), np.zeros(clean.shape, dtype=bool)
    for array in (clean, noisy, damaged):
        array.flags.writeable = False
    seconds = []
    for _ in range(5):
        began = time.thread_time()  # of this thread alone: others may keep the machine busy
        trust = judged(noisy, clean, damaged=damaged)
        seconds.append(time.thread_time() - began)
    assert min(seconds) < 0.5
    assert found(trust, "Noise model").grade == "good"


def test_planes_beyond_the_limit_are_judged_in_their_middle() -> None:
    clean = scene(2300, 16)
    assert judged(measured(clean), clean).plots[0].structure.shape == (256, 2)


# ---- the measures themselves ------------------------------------------------------------------


def test_autocorrelation_is_that_of_its_definition() -> None:
    values = gaussian_filter(np.random.default_rng(0).normal(size=(1, 30, 40)), (0, 1, 1)).astype(np.float32)
    good = np.random.default_rng(1).random(values.shape) > 0.1
    seen, count = autocorrelation(values, good)
    deviation = np.where(good, values - values[good].mean(), 0)[0].astype(np.float64)
    products = (deviation[:-2, 3:] * deviation[2:, :-3]).sum() / (good[0, :-2, 3:] & good[0, 2:, :-3]).sum()
    assert count == good.sum()
    assert seen[8 + 2, 8 - 3] == pytest.approx(products / (deviation**2).sum() * good.sum(), abs=1e-5)
    assert np.allclose(seen, seen[::-1, ::-1], atol=1e-5)
    assert seen[8, 8] == pytest.approx(1)


def test_means_of_blocks_of_correlated_noise_have_unit_variance() -> None:
    white = np.random.default_rng(0).normal(size=(4, 256, 256))
    noise = gaussian_filter(white, (0, 0.6, 0.9)).astype(np.float32)
    rho = tuple(
        float(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1])
        if axis == 1
        else float(np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1])
        for axis in (1, 2)
    )
    seen = structure(noise, np.ones(noise.shape, dtype=bool), (rho[0], rho[1]))
    assert seen.std() == pytest.approx(1, abs=0.1)
    assert expected_correlation((0.5, 0.2))[8 + 1, 8] == 0.5
    assert expected_correlation((0.5, 0.2))[8, 8 + 1] == 0.2


def test_offsets_of_rows_are_no_structure_where_the_noise_model_has_them() -> None:
    random = np.random.default_rng(0)
    noise = (random.normal(size=(1, 256, 256)) + random.normal(size=(1, 256, 1))).astype(np.float32)
    good = np.ones(noise.shape, dtype=bool)
    assert structure(noise, good, (0, 0)).std() > 2
    assert structure(noise, good, (0, 0), (1.0, 0.0)).std() == pytest.approx(1, abs=0.25)


def test_blocks_hold_neighbours() -> None:
    planes = np.arange(2 * 17 * 24).reshape(2, 17, 24)
    cut = blocks(planes)
    assert cut.shape == (2, 2, 3, 64)
    assert np.array_equal(cut[1, 1, 2], planes[1, 8:16, 16:24].ravel())


# ---- the record -------------------------------------------------------------------------------


def test_text_tells_each_finding_with_word_and_sign(truth: Trust) -> None:
    text = truth.text()
    for each in truth.findings:
        assert f"{SIGNS[each.grade]} {each.grade}: {each.name}: {each.text}" in text
        assert each.advice in text
    assert text.startswith("8 good, 0 doubtful, 0 bad, 3 not valid here")


def test_the_dict_is_strict_json_without_maps(truth: Trust) -> None:
    plain = json.loads(json.dumps(truth.to_dict(), allow_nan=False))
    assert plain["counts"] == {"good": 8, "doubtful": 0, "bad": 0, "not valid here": 3}
    assert [each["name"] for each in plain["findings"]] == [each.name for each in truth.findings]
    assert set(plain["findings"][0]) == {"name", "value", "text", "grade", "reason", "meaning", "advice"}


def test_a_restoration_judges_itself(restoration: Restoration) -> None:
    trust = restoration.trust()
    assert found(trust, "Calibration").grade == "doubtful"  # a model of one image is not calibrated
    assert found(trust, "Held-out criterion").reason
    assert trust.to_dict() == restoration.trust().to_dict()
