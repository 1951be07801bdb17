"""Where training looks, and where it never does."""

from __future__ import annotations

import numpy as np
import pytest

from napari_vae_repair.vae.patches import PatchSource


def source(shape: tuple[int, ...] = (2, 1, 96, 80), damaged: np.ndarray | None = None, **changes: float) -> PatchSource:
    planes = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    lost = np.zeros((shape[0], *shape[2:]), dtype=bool) if damaged is None else damaged
    options = {"patch_px": 32, "stride": 8, "held_out": 0.1, "seed": 0} | changes
    return PatchSource(planes, lost, np.arange(shape[0]), **options)


def pixels(values: np.ndarray, counted: np.ndarray) -> set[float]:
    """The counted pixels, told by their values, which are all different."""
    return set(values[counted > 0].tolist())


def test_held_out_pixels_are_never_trained_on() -> None:
    patches = source()
    validation = patches.validation(1000)
    held_out = pixels(validation.values, validation.counted)
    trained: set[float] = set()
    for _ in range(200):
        batch = patches.training(8)
        trained |= pixels(batch.values, batch.counted)
    assert len(held_out) >= 0.09 * 2 * 96 * 80
    assert not trained & held_out
    assert len(trained) > 0.85 * 2 * 96 * 80


def test_the_same_seed_gives_the_same_patches_and_another_seed_others() -> None:
    a, b, c = (source(seed=seed).training(8).values for seed in (3, 3, 4))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_patches_come_in_all_eight_orientations() -> None:
    patches = source((1, 1, 32, 32))
    corners = {tuple(value[0, [0, 0, -1], [0, -1, 0]]) for _ in range(20) for value in patches.training(8).values}
    assert len(corners) == 8


def test_damage_is_neither_counted_nor_seen_as_it_is() -> None:
    damaged = np.zeros((2, 96, 80), dtype=bool)
    damaged[0, 20:60, 10:70] = True
    patches = source(damaged=damaged)
    planes = np.arange(2 * 96 * 80).reshape(2, 96, 80)
    lost = set(planes[damaged].astype(float).tolist())
    for batch in [patches.training(32), patches.validation(100), patches.visible(100)]:
        assert not pixels(batch.values, batch.counted) & lost


def test_hidden_pixels_are_filled_for_the_encoder_but_stay_in_the_likelihood() -> None:
    damaged = np.zeros((2, 96, 80), dtype=bool)
    damaged[0, 0, 0] = True  # an image with damage loses blobs in half of its patches
    planes = np.random.default_rng(0).standard_normal((2, 1, 96, 80)).astype(np.float32)
    patches = PatchSource(planes, damaged, np.arange(2), patch_px=32, stride=8, held_out=0.1, seed=0)
    batch = patches.training(64)
    hidden = (batch.damaged > 0) & (batch.counted > 0)
    assert hidden.any(axis=(1, 2, 3)).mean() > 0.25
    assert (batch.seen[hidden] != batch.values[hidden]).all()
    assert np.array_equal(batch.seen[batch.damaged == 0], batch.values[batch.damaged == 0])


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 3, 9, 200), (5, 1, 33, 12)])
def test_small_images_still_train_and_validate(shape: tuple[int, ...]) -> None:
    patches = source(shape)
    training, validation = patches.training(4), patches.validation(4)
    assert training.counted.any()
    assert validation.counted.any()
    assert training.values.shape[2] % 8 == 0
