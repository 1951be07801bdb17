"""Tiles agree with the whole, for the mean, the standard deviation and each sample."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from napari_vae_repair.errors import Cancelled
from napari_vae_repair.pipeline import encode, restore, restore_steps
from napari_vae_repair.preparation import as_image
from napari_vae_repair.restoration import Restoration
from napari_vae_repair.settings import Settings
from napari_vae_repair.vae.record import Model


@pytest.fixture(scope="module", autouse=True)
def in_float32() -> Iterator[None]:
    """Rounding to 16 bits depends on the shape of what is convolved, so on the tile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_vae_repair.vae.device._cpu_autocast", lambda: None)
        yield


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    """Two planes of 203 x 251 pixels."""
    rng = np.random.default_rng(1)
    return (rng.random((2, 203, 251)) * 1000).astype(np.float32)


@pytest.fixture(scope="module")
def whole(large: np.ndarray, model: Model) -> Restoration:
    return restore(large, model=model, samples=3, keep_samples=True, tile_px=1024)


@pytest.mark.parametrize("tile_px", [100, 160])
def test_tiled_equals_untiled(large: np.ndarray, model: Model, whole: Restoration, tile_px: int) -> None:
    tiled = restore(large, model=model, samples=3, keep_samples=True, tile_px=tile_px)
    span = float(np.ptp(whole.restored))
    for name in ("restored", "std", "samples"):
        assert np.abs(getattr(tiled, name) - getattr(whole, name)).max() < 1e-4 * span, name


def test_mean_and_std_are_those_of_the_samples(whole: Restoration) -> None:
    assert whole.samples is not None
    assert whole.samples.shape == (3, 2, 203, 251)
    span = float(np.ptp(whole.restored))
    assert np.abs(whole.samples.mean(axis=0) - whole.restored).max() < 1e-5 * span
    assert np.abs(whole.samples.std(axis=0, ddof=1) - whole.std).max() < 1e-4 * span


def test_planes_and_samples_differ(whole: Restoration) -> None:
    assert whole.samples is not None
    deviation = whole.samples - whole.restored
    for a, b in ((deviation[0, 0], deviation[1, 0]), (deviation[0, 0], deviation[0, 1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.9
        assert not np.array_equal(a, b)


def test_more_samples_begin_with_the_same_ones(large: np.ndarray, model: Model, whole: Restoration) -> None:
    two = restore(large, model=model, samples=2, keep_samples=True)
    assert two.samples is not None
    assert whole.samples is not None
    assert np.allclose(two.samples, whole.samples[:2], atol=1e-3)


def test_one_sample_has_no_uncertainty_and_says_so(noisy: np.ndarray, model: Model) -> None:
    result = restore(noisy, model=model, samples=1)
    assert not result.std.any()
    assert any("one sample" in note for note in result.report.notes)


def test_prediction_stops_between_layers(large: np.ndarray, model: Model) -> None:
    polls = 0

    def should_stop() -> bool:
        nonlocal polls
        polls += 1
        return polls > 10

    with pytest.raises(Cancelled, match="'restore'"):
        restore(large, model=model, should_stop=should_stop)
    assert polls == 11


def test_the_caller_keeps_its_gradients_between_steps(noisy: np.ndarray, model: Model) -> None:
    seen: list[bool] = []
    restore(noisy, model=model, samples=2, on_step=lambda step: seen.append(torch.is_grad_enabled()))
    assert seen
    assert all(seen)


def test_a_model_is_not_changed_by_using_it(noisy: np.ndarray, model: Model) -> None:
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    restore(noisy, model=model, samples=1)
    after = model.network.state_dict()
    assert all((after[name] == value).all() for name, value in before.items())


def test_a_run_that_waits_stops_no_other_and_goes_on_in_any_thread(noisy: np.ndarray, model: Model) -> None:
    wishes: list[bool] = []
    steps = restore_steps(as_image(noisy, None), Settings(samples=3), model=model, should_stop=lambda: bool(wishes))
    while next(steps).phase != "restore":
        pass
    wishes.append(True)
    restore(noisy, model=model, samples=1)
    with ThreadPoolExecutor(1) as elsewhere, pytest.raises(Cancelled):
        elsewhere.submit(lambda: list(steps)).result()


def test_encode_gives_a_feature_map_for_each_level(noisy: np.ndarray, model: Model) -> None:
    fine, coarse = encode(noisy, model)
    assert fine.shape == (1, 4, 49, 38)
    assert coarse.shape == (1, 4, 25, 19)
    stack = encode(np.stack([noisy, noisy[::-1]]), model, axes="ZYX")
    assert np.allclose(stack[0][:1], fine, atol=2e-3)


def test_odd_sizes_keep_their_shape(model: Model, tiny: Settings) -> None:
    for shape in ((8, 8), (9, 31), (130, 11)):
        image = np.random.default_rng(2).random(shape).astype(np.float32)
        assert restore(image, model=model, samples=1).restored.shape == shape
