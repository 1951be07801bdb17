"""Uncertainty: probabilities are met as often as they say, and intervals of means know that errors go together."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from napari_vae_repair import restore
from napari_vae_repair.errors import InputError
from napari_vae_repair.restoration import Restoration
from napari_vae_repair.uncertainty import credible_interval, label_table, label_table_steps, probability_above
from napari_vae_repair.vae.calibration import Calibration

Make = Callable[..., Restoration]


@pytest.fixture
def make(restoration: Restoration) -> Make:
    """A restoration with given images, of the starter's kind or of a model of one image."""

    def made(restored: Any, std: Any, samples: Any = None, *, axes: str = "YX", general: bool = True) -> Restoration:
        model = replace(restoration.model, value_range=None) if general else restoration.model
        assert model.general == general
        return replace(
            restoration,
            restored=np.asarray(restored, np.float32),
            std=np.asarray(std, np.float32),
            samples=None if samples is None else np.asarray(samples, np.float32),
            axes=axes,
            model=model,
        )

    return made


def smooth(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Errors of standard deviation 1 that neighbours share."""
    field = gaussian_filter(rng.standard_normal(shape), [0.0] * (len(shape) - 2) + [3.0, 3.0])
    return np.asarray(field / field.std())


def grid(side: int, cell: int) -> np.ndarray:
    """Square labels from 1 on."""
    count = side // cell
    return np.kron(np.arange(1, count**2 + 1).reshape(count, count), np.ones((cell, cell), int))


# ---- probability ---------------------------------------------------------------------------------


def test_a_probability_is_that_of_a_normal_around_the_restored(make: Make) -> None:
    restored, std = np.array([[1.0, 3.0, 5.0], [2.0, 3.0, 4.0]]), np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    found = probability_above(make(restored, std), 3.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], norm.sf(3.0, restored[0], std[0]), rtol=1e-5)
    np.testing.assert_array_equal(found[1], [0.0, 0.5, 1.0])


def test_probabilities_are_met_as_often_as_they_say(make: Make) -> None:
    rng = np.random.default_rng(0)
    restored, std = rng.uniform(0, 10, (300, 300)), rng.uniform(0.5, 3, (300, 300))
    truth = rng.normal(restored, std)
    found = probability_above(make(restored, std), 5.0)
    for low in np.arange(0, 1, 0.2):
        here = (found >= low) & (found < low + 0.2)
        assert np.mean(truth[here] > 5) == pytest.approx(found[here].mean(), abs=0.02)


def test_kept_samples_of_a_model_of_one_image_are_counted(make: Make) -> None:
    samples = np.array([1.0, 2.0, 3.0, 4.0])[:, None, None] * np.ones((2, 3))
    counted = probability_above(make(samples.mean(0), samples.std(0), samples, general=False), 1.5)
    np.testing.assert_allclose(counted, 3.5 / 5)
    # the starter's single samples are not calibrated, its standard deviation is
    normal = probability_above(make(samples.mean(0), samples.std(0), samples), 1.5)
    np.testing.assert_allclose(normal, norm.sf(1.5, 2.5, samples.std(0)), rtol=1e-5)


@pytest.mark.parametrize("general", [True, False])
def test_a_part_is_a_part_of_the_whole(make: Make, general: bool) -> None:
    rng = np.random.default_rng(1)
    stack = make(
        rng.normal(size=(3, 8, 9)), np.ones((3, 8, 9)), rng.normal(size=(4, 3, 8, 9)), axes="ZYX", general=general
    )
    part = (1, slice(2, 5))
    np.testing.assert_array_equal(probability_above(stack, 0.2, part=part), probability_above(stack, 0.2)[part])


def test_without_uncertainty_there_is_no_probability(make: Make) -> None:
    plain = make(np.zeros((4, 4)), np.zeros((4, 4)))
    with pytest.raises(InputError, match=r"with 1 posterior sample.*at least 2.*set Samples to 16"):
        probability_above(replace(plain, report=replace(plain.report, samples=1)), 0.0)
    with pytest.raises(InputError, match="threshold is nan"):
        probability_above(plain, float("nan"))


# ---- intervals -----------------------------------------------------------------------------------

HEAVY = Calibration((1.0,), (1.0,), ((0.5, 0.5), (0.8, 1.2), (0.9, 1.645), (0.95, 2.2)))


def test_an_interval_holds_as_much_as_was_measured(make: Make) -> None:
    restored, std = np.array([[1.0, -3.0]]), np.array([[2.0, 0.0]])
    plain = make(restored, std)
    low, high = credible_interval(plain, 0.8)
    np.testing.assert_allclose(high - restored, std * norm.ppf(0.9), rtol=1e-6)
    np.testing.assert_allclose(restored - low, high - restored, rtol=1e-6)
    heavy = replace(plain, model=replace(plain.model, calibration=HEAVY))
    for level, width in HEAVY.widths:
        low, high = credible_interval(heavy, level, part=(0,))
        assert (low.dtype, low.shape) == (np.float32, (2,))
        np.testing.assert_allclose(high - low, 2 * width * std[0], rtol=1e-5)
        # what lies above the upper end does so with half of what the interval leaves
        assert probability_above(heavy, float(high[0]))[0, 0] == pytest.approx((1 - level) / 2, abs=1e-3)


@pytest.mark.parametrize("level", [0, 1, -0.5, 90, float("nan")])
def test_levels_are_between_none_and_all(make: Make, level: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        credible_interval(make(np.zeros((4, 4)), np.ones((4, 4))), level)


def test_one_pass_has_no_interval(make: Make) -> None:
    plain = make(np.zeros((4, 4)), np.zeros((4, 4)))
    with pytest.raises(InputError, match="An interval needs at least 2"):
        credible_interval(replace(plain, report=replace(plain.report, samples=1)))


# ---- labels --------------------------------------------------------------------------------------


def covered(restoration: Restoration, truth: np.ndarray, labels: np.ndarray) -> float:
    rows = label_table(restoration, labels).rows
    assert len(rows) == labels.max()
    return float(np.mean([row.low <= truth[labels == row.label].mean() <= row.high for row in rows]))


@pytest.mark.parametrize("general", [True, False])
@pytest.mark.parametrize("count", [8, 16])
def test_intervals_of_means_cover_though_errors_go_together(make: Make, count: int, general: bool) -> None:
    rng = np.random.default_rng(2)
    truth, samples = smooth(rng, 480, 480), smooth(rng, count, 480, 480)
    # one pass is the posterior's mean itself; the mean of samples errs a little
    restored = np.zeros((480, 480)) if general else samples.mean(axis=0)
    std = np.ones((480, 480)) if general else samples.std(axis=0, ddof=1)
    made, labels = make(restored, std, samples, general=general), grid(480, 12)
    assert 0.88 < covered(made, truth, labels) < 0.96  # 1600 labels
    # as if the errors of pixels were independent
    off = np.abs([truth[labels == label].mean() for label in range(1, 101)])
    assert np.mean(off < 1.645 / 12) < 0.5


def test_where_calibration_widened_the_spread_the_interval_is_wider(make: Make) -> None:
    rng = np.random.default_rng(3)
    truth, samples = smooth(rng, 240, 240), smooth(rng, 16, 240, 240) / 3
    zeros, labels = np.zeros((240, 240)), grid(240, 12)
    spread = samples.std(axis=0, ddof=1)
    assert covered(make(zeros, spread, samples), truth, labels) < 0.6
    assert covered(make(zeros, 3 * spread, samples), truth, labels) > 0.88
    assert covered(make(zeros, spread / 3, samples), truth, labels) == covered(
        make(zeros, spread, samples), truth, labels
    )


def test_a_pass_that_lies_off_its_samples_is_less_sure(make: Make) -> None:
    rng = np.random.default_rng(4)
    samples, labels = smooth(rng, 16, 48, 48), grid(48, 24)
    near, off = (
        label_table(make(samples.mean(axis=0) + shift, np.ones((48, 48)), samples), labels) for shift in (0, 5)
    )
    for first, second in zip(near.rows, off.rows, strict=True):
        assert second.mean == pytest.approx(first.mean + 5, abs=1e-4)
        assert second.high - second.low > 2 * 5 > 2 * (first.high - first.low)


def test_the_starters_intervals_cover_on_a_scene_it_did_not_see(photo: np.ndarray) -> None:
    scene = photo[:96, :72]
    noisy = scene + np.random.default_rng(0).normal(0, 60, scene.shape).astype(np.float32)
    labels = grid(72, 8)
    found = restore(noisy[:72], samples=16, keep_samples=True)
    assert covered(found, scene[:72], labels) > 0.8


def test_rows_for_each_plane_and_colour(make: Make) -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(2, 6, 8, 3))
    labels = np.zeros((2, 6, 8), int)
    labels[0, :2], labels[1, 3:] = 7, 9
    found = label_table(make(values, np.ones_like(values), rng.normal(size=(8, *values.shape)), axes="ZYXS"), labels)
    assert found.columns == ("label", "z", "colour", "area_px", "mean", "low_90", "high_90", "pixel_std")
    records = found.records()
    assert [(row["label"], row["z"], row["colour"], row["area_px"]) for row in records] == [
        *((7, 0, colour, 16) for colour in ("red", "green", "blue")),
        *((9, 1, colour, 24) for colour in ("red", "green", "blue")),
    ]
    assert records[4]["mean"] == pytest.approx(values[1, 3:, :, 1].mean(), rel=1e-5)
    assert records[4]["pixel_std"] == pytest.approx(1)
    one_plane = label_table(
        make(values[..., 0], np.ones((2, 6, 8)), rng.normal(size=(8, 2, 6, 8)), axes="CYX"), labels[0] == 7
    )
    assert [(row.label, row.position) for row in one_plane.rows] == [(1, (0,)), (1, (1,))]
    assert one_plane.axes == "C"


def test_the_table_as_csv_is_the_table(make: Make) -> None:
    rng = np.random.default_rng(6)
    made = make(rng.normal(size=(24, 24)), np.ones((24, 24)), rng.normal(size=(8, 24, 24)))
    table = label_table(made, grid(24, 12), pixel_size_um={"Y": 0.5, "X": 0.25})
    read = list(csv.DictReader(io.StringIO(table.csv())))
    assert [{key: float(value) for key, value in row.items()} for row in read] == table.records()
    assert read[0]["area_um2"] == "18.0"
    assert label_table(made, np.zeros((24, 24), int)).csv() == "label,area_px,mean,low_90,high_90,pixel_std\n"


def test_measuring_can_be_left_between_samples(make: Make) -> None:
    made = make(np.zeros((2, 6, 6)), np.ones((2, 6, 6)), np.ones((8, 2, 6, 6)), axes="ZYX")
    assert list(label_table_steps(made, np.ones((6, 6), int))) == [(done, 16) for done in range(16)]


@pytest.mark.parametrize(
    ("samples", "labels", "match"),
    [
        (None, np.ones((6, 6), int), r"holds 0 posterior.*at least 8.*keep_samples=True.*set Samples to 16, tick Keep"),
        (7, np.ones((6, 6), int), "holds 7 posterior"),
        (8, np.ones((6, 6)), "dtype float64"),
        (8, np.ones((6, 5), int), r"shape \(6, 5\).*has \(6, 6\)"),
        (8, np.ones(6, int), r"shape \(6,\)"),
        (8, np.ones((2, 6, 6), int), r"shape \(2, 6, 6\)"),
    ],
)
def test_what_cannot_be_measured_is_refused(make: Make, samples: int | None, labels: np.ndarray, match: str) -> None:
    drawn = None if samples is None else np.zeros((samples, 6, 6))
    with pytest.raises(InputError, match=match):
        label_table(make(np.zeros((6, 6)), np.ones((6, 6)), drawn), labels)
