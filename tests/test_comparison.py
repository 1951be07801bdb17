"""Comparing: the ranking follows the true error, where it can; what cannot be compared is refused."""

from __future__ import annotations

import importlib.util
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_vae_repair import compare, restore
from napari_vae_repair.comparison import Comparison, ComparisonProgress, compare_steps
from napari_vae_repair.contenders import AUTOENCODER, BM3D, CLASSICAL, OURS, methods, usual_methods
from napari_vae_repair.errors import Cancelled, InputError, SettingsError
from napari_vae_repair.image.classical import FAMILIES
from napari_vae_repair.image.record import Image
from napari_vae_repair.settings import Settings, make_settings

FAST = (OURS, "Gaussian", "median", "TV", "wavelet")


@pytest.fixture(scope="module")
def clean(photo: np.ndarray) -> np.ndarray:
    return photo[:64, :64].astype(np.float32)


@pytest.fixture(scope="module")
def compared(clean: np.ndarray) -> Comparison:
    noisy = clean + np.random.default_rng(0).normal(0, 60, clean.shape).astype(np.float32)
    return compare(noisy, only=FAST, reference=clean)


def test_the_loss_ranks_as_the_truth_does(compared: Comparison, clean: np.ndarray) -> None:
    assert not compared.doubt
    assert {row.method for row in compared.rows} == set(FAST)
    losses = [row.loss for row in compared.rows]
    assert losses == sorted(losses)
    true = [float(np.mean((row.restored - clean) ** 2)) for row in compared.rows]
    assert np.corrcoef(losses, true)[0, 1] > 0.7
    # without the noise's variance the loss is about the true error
    best = compared.rows[0]
    assert 0.7 * 3600 < best.loss < 1.5 * 3600
    assert best.psnr == max(row.psnr or 0 for row in compared.rows)


def test_results_are_in_the_images_units(compared: Comparison, clean: np.ndarray) -> None:
    for row in compared.rows:
        assert row.restored.shape == clean.shape
        assert row.restored.dtype == np.float32
        assert abs(row.restored.mean() - clean.mean()) < 0.03 * clean.mean()
        assert row.seconds >= 0
    table = compared.table()
    assert [line["method"] for line in table] == [row.method for row in compared.rows]
    assert all(line["method"] in compared.text() for line in table)


def test_colours_are_compared_too(clean: np.ndarray) -> None:
    rgb = np.stack([clean, clean[::-1], clean.T], axis=-1)
    rgb = np.clip(rgb / 4 + np.random.default_rng(0).normal(0, 20, rgb.shape), 0, 255).astype(np.uint8)
    asked: list[tuple[str, int, int]] = []
    found = compare(rgb, only=("median", "Gaussian", OURS), on_step=lambda *step: asked.append(step))
    assert asked == [("median", 0, 3), ("Gaussian", 1, 3), (OURS, 2, 3)]
    assert all(row.restored.shape == rgb.shape and row.psnr is None for row in found.rows)
    assert found.rows[0].method == OURS


def test_correlated_noise_is_told_to_rank_nothing(clean: np.ndarray) -> None:
    noise = gaussian_filter(np.random.default_rng(0).normal(0, 1, clean.shape), 1.0)
    found = compare(clean + (60 / noise.std() * noise).astype(np.float32), only=("Gaussian",))
    assert "neighbours share" in found.doubt
    assert found.doubt in found.text()


def test_what_cannot_be_compared_is_refused(clean: np.ndarray) -> None:
    with pytest.raises(SettingsError, match="no method 'nml'.*Methods are"):
        compare(clean, only=("nml",))
    with pytest.raises(SettingsError, match="No method was chosen"):
        compare(clean, only=())
    with pytest.raises(InputError, match="One plane"):
        compare(np.stack([clean] * 3), only=("Gaussian",))
    with pytest.raises(InputError, match="at least 32"):
        compare(clean[:20], only=("Gaussian",))
    with pytest.raises(InputError, match="1 pixels are damaged"):
        compare(np.where(np.arange(clean.size).reshape(clean.shape) == 5, np.nan, clean), only=("Gaussian",))
    with pytest.raises(InputError, match="reference has shape"):
        compare(clean, only=("Gaussian",), reference=clean[1:])
    assert set(FAST) <= set(methods())


def test_the_names_are_those_of_the_families() -> None:
    assert tuple(FAMILIES) == CLASSICAL
    assert (BM3D in methods()) == (importlib.util.find_spec("bm3d") is not None)
    assert set(methods()) - set(usual_methods()) == {AUTOENCODER}


def test_rows_come_one_by_one(clean: np.ndarray) -> None:
    asked = ("TV", "Gaussian", "TV", OURS)
    told, found = driven(Image(clean, "YX"), only=asked)
    rows = [(step.method, step.done) for step in told if step.row is not None]
    assert rows == [("TV", 1), ("Gaussian", 2), (OURS, 3)]
    assert {step.row.method: step.row.loss for step in told if step.row} == {r.method: r.loss for r in found.rows}
    assert all(step.total == 3 and 0 <= step.share <= 1 for step in told)
    for name in ("TV", "Gaussian", OURS):  # its start is told before its end
        assert next(step.row is None for step in told if step.method == name)


def test_the_plain_autoencoder_is_trained_alike(clean: np.ndarray, tiny: Settings) -> None:
    noisy = clean + np.random.default_rng(0).normal(0, 60, clean.shape).astype(np.float32)
    chosen = tiny.model_copy(update={"model": "starter", "epochs": 6})
    told, found = driven(Image(noisy, "YX"), only=(AUTOENCODER, "Gaussian"), settings=chosen, reference=clean)
    shares = [step.share for step in told if step.method == AUTOENCODER and step.done == 0]
    assert shares == sorted(shares)
    assert shares[-1] > 0
    (row,) = (row for row in found.rows if row.method == AUTOENCODER)
    assert row.parameters == {"epochs": 6}
    assert row.loss < 0.7 * noisy.var()
    assert row.restored.shape == clean.shape
    assert row.psnr is not None
    assert "without KL" in row.note
    assert "trained on the pixels that it predicts" in row.note
    again = compare(noisy, only=(AUTOENCODER,), settings=chosen).rows[0]
    assert np.array_equal(again.restored, row.restored)
    assert again.loss == row.loss


def test_only_what_learned_from_the_image_is_marked(clean: np.ndarray, tiny: Settings) -> None:
    noisy = clean + np.random.default_rng(0).normal(0, 60, clean.shape).astype(np.float32)
    notes = {
        model: compare(noisy, only=(OURS,), settings=tiny.model_copy(update={"model": model, "epochs": 1})).rows[0].note
        for model in ("scratch", "starter")
    }
    assert "trained on the pixels that it predicts" in notes["scratch"]
    assert notes["starter"] == ""


def test_noise_that_is_given_stays_in_the_images_units(clean: np.ndarray) -> None:
    noisy = clean + np.random.default_rng(0).normal(0, 60, clean.shape).astype(np.float32)
    given = make_settings(noise={"kind": "given", "read_noise": 60.0})
    row = compare(noisy, only=(OURS,), settings=given).rows[0]
    np.testing.assert_allclose(row.restored, restore(noisy, given).restored, atol=1e-2)


def test_a_chain_that_cannot_be_undone_is_refused(clean: np.ndarray, tiny: Settings) -> None:
    with pytest.raises(SettingsError, match=r"cannot be undone.*units of the image.*preset standard"):
        compare(clean, only=(OURS,), settings=make_settings(tiny, preset="classic"))


@pytest.mark.parametrize("name", [OURS, AUTOENCODER, "NLM"])
def test_a_comparison_is_cancelled_within_a_second(photo: np.ndarray, name: str) -> None:
    """The wish comes while the method is under way; nothing of it is waited for."""
    large = np.tile(photo, (6, 6))
    wished: list[float] = []

    def should_stop() -> bool:
        return bool(wished)

    steps = compare_steps(Image(large, "YX"), only=(name,), should_stop=should_stop)
    next(steps)  # the method begins with the next step
    timer = threading.Timer(0.5, lambda: wished.append(time.perf_counter()))
    timer.start()
    with pytest.raises(Cancelled):
        while True:
            next(steps)
    assert time.perf_counter() - wished[0] < 1
    timer.join()


def test_a_call_that_cannot_be_stopped_is_left_alone(clean: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended, release = threading.Event(), threading.Event(), threading.Event()

    def slow(image: np.ndarray, *, sigma: float, channel_axis: int | None) -> np.ndarray:
        begun.set()
        release.wait(30)
        ended.set()
        return image

    monkeypatch.setitem(FAMILIES, "Gaussian", replace(FAMILIES["Gaussian"], apply=slow))
    steps = compare_steps(Image(clean, "YX"), only=("Gaussian",), should_stop=begun.is_set)
    next(steps)
    with pytest.raises(Cancelled):
        while True:
            next(steps)
    assert not ended.is_set()
    release.set()
    assert ended.wait(5)


def driven(image: Image, **options: Any) -> tuple[list[ComparisonProgress], Comparison]:
    steps, told = compare_steps(image, **options), []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return told, end.value
