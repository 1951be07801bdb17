"""`find_damage`: single pixels, rows, saturation by rules; scratches by the network; nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.data import camera
from skimage.draw import line

from napari_vae_repair import find_damage, restore
from napari_vae_repair.damage import damaged_rows, outstanding_pixels, saturated_pixels
from napari_vae_repair.errors import DeviceError, InputError
from napari_vae_repair.noise.record import NoiseModel

QUIET = NoiseModel(0.0, 2.0)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return camera().reshape(256, 2, 256, 2).mean(axis=(1, 3)).round().astype(np.uint8)


def test_hot_and_dead_pixels_are_found_even_in_pairs(image: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    values, truth = image.astype(np.float32), np.zeros(image.shape, dtype=bool)
    for y, x in rng.integers(2, 250, (60, 2)):
        truth[y, x : x + 1 + (y % 3 == 0)] = True
    values[truth] = np.where(values[truth] > 128, 0, 255)
    found = outstanding_pixels(values, QUIET)
    assert (found & truth).sum() > 0.8 * truth.sum()
    assert (found & ~truth).mean() < 5e-4
    assert outstanding_pixels(image.astype(np.float32), QUIET).mean() < 5e-4


def test_single_photons_are_no_hot_pixels() -> None:
    counts = np.random.default_rng(0).poisson(0.02, (128, 128)).astype(np.float32)
    assert not outstanding_pixels(counts, NoiseModel(1.0, 0.05)).any()


def test_saturation_is_neither_chance_nor_background(image: np.ndarray) -> None:
    clipped = np.minimum(image, 200).astype(np.float32)
    nothing = np.zeros(image.shape, dtype=bool)
    assert np.array_equal(saturated_pixels(clipped, nothing), image >= 200) == ((image >= 200).mean() <= 0.2)
    assert not saturated_pixels(image.astype(np.float32), nothing).any()
    assert not saturated_pixels((image > 128).astype(np.float32), nothing).any()
    filled = clipped.copy()
    lost = nothing.copy()
    filled[0, 0], lost[0, 0] = 300, True  # what spans a hole may be brighter than all that was measured
    assert np.array_equal(saturated_pixels(filled, lost), saturated_pixels(clipped, nothing) & ~lost)


@pytest.mark.parametrize("along", [0, 1])
def test_damaged_rows_and_columns_are_found_whole(image: np.ndarray, along: int) -> None:
    struck = image.astype(np.float32)
    np.moveaxis(struck, along, 0)[[40, 170]] += 60
    plane = struck if along == 0 else struck.T
    assert np.flatnonzero(damaged_rows(plane, QUIET).any(axis=1)).tolist() == [40, 170]
    assert not damaged_rows(image.astype(np.float32), QUIET).any()


def test_scratches_are_found_and_can_be_filled(image: np.ndarray) -> None:
    struck, truth = image.copy(), np.zeros(image.shape, dtype=bool)
    for y, x, bottom, right in ((10, 20, 240, 60), (200, 10, 120, 250), (30, 200, 90, 120)):
        rows, columns = line(y, x, bottom, right)
        truth[rows, columns] = truth[rows, columns + 1] = True
    struck[truth] = 255
    found = find_damage(struck)
    hits = (found & truth).sum()
    assert 2 * hits / (found.sum() + truth.sum()) > 0.6
    assert find_damage(image).mean() < 2e-3
    filled = restore(struck, mask=truth).restored
    assert np.abs(filled - image)[truth].mean() < 0.3 * np.abs(struck.astype(float) - image)[truth].mean()


def test_the_network_finds_grey_scratches_when_it_is_asked(image: np.ndarray) -> None:
    """Which no rule can: they are neither saturated nor single pixels."""
    struck, truth = image.copy(), np.zeros(image.shape, dtype=bool)
    for y, x, bottom, right in ((10, 20, 120, 60), (90, 130, 20, 250), (60, 150, 80, 240)):
        rows, columns = line(y, x, bottom, right)
        truth[rows, columns] = truth[rows, columns + 1] = True
    struck[truth] = np.minimum(struck[truth] + 60.0, 240)
    by_rules, found = find_damage(struck), find_damage(struck, threshold=0.99)
    assert (by_rules & truth).sum() < 0.05 * truth.sum()
    assert (found & truth).sum() > 0.5 * truth.sum()
    assert (found & ~truth).mean() < 0.02
    assert find_damage(struck, threshold=0.9)[found].all()  # less sure: more


def test_shapes_missing_pixels_and_the_input_itself(image: np.ndarray) -> None:
    stack = np.stack([image[:64, :72], image[64:128, :72]]).astype(np.float32)
    stack[1, 5, 6] = np.nan
    before = stack.copy()
    found = find_damage(stack)
    assert found.shape == stack.shape
    assert found[1, 5, 6]
    np.testing.assert_array_equal(stack, before)
    rgb = np.repeat(image[:64, :72, None], 3, axis=-1)
    assert find_damage(rgb).shape == (64, 72)


@pytest.mark.parametrize("threshold", [0, -1, 1.5])
def test_thresholds_are_probabilities(image: np.ndarray, threshold: float) -> None:
    with pytest.raises(InputError, match="threshold"):
        find_damage(image, threshold=threshold)


def test_a_device_that_does_not_exist_is_refused_by_the_rules_too(image: np.ndarray) -> None:
    with pytest.raises(DeviceError, match="no device 'tpu'"):
        find_damage(image, device="tpu")
