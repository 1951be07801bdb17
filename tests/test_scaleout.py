"""Block by block the same pixels as in one piece, for any chunks, axes and damage."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom
from skimage.data import camera

from napari_vae_repair import restore
from napari_vae_repair.errors import InputError, SettingsError
from napari_vae_repair.image import survey
from napari_vae_repair.scaleout import LazyRestoration, restore_lazily
from napari_vae_repair.settings import Settings
from napari_vae_repair.vae.record import Model

SAME = 1e-3  # of the range


def noisy(*shape: int, seed: int = 0) -> np.ndarray:
    """Photons of a photo, with read noise, in camera units."""
    rng = np.random.default_rng(seed)
    clean = np.broadcast_to(camera()[100 : 100 + shape[-2], 60 : 60 + shape[-1]] / 4.0, shape)
    return (4 * rng.poisson(clean) + rng.normal(0, 3, shape) + 100).astype(np.float32)


def assert_same(lazy: LazyRestoration, whole: Any, image: np.ndarray) -> None:
    span = float(np.nanmax(image) - np.nanmin(image))
    assert lazy.axes == whole.axes
    for name in ("restored", "residual", "std", "samples"):
        expected = getattr(whole, name)
        if expected is None:
            assert getattr(lazy, name) is None
            continue
        found = getattr(lazy, name).compute()
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= SAME * span


@pytest.mark.parametrize("chunks", [(77, 130), (200, 19)])
def test_blocks_equal_the_whole_in_mean_and_samples(chunks: tuple[int, int]) -> None:
    image = noisy(180, 173)
    whole = restore(image, samples=2, keep_samples=True, seed=3)
    lazy = restore_lazily(da.from_array(image, chunks), samples=2, keep_samples=True, seed=3, block_px=128)
    assert lazy.restored.numblocks == (2, 2)
    assert_same(lazy, whole, image)
    assert lazy.noise == whole.noise


@pytest.mark.usefixtures("float32")
def test_noise_that_reaches_far_is_taken_away_in_blocks_as_in_the_whole() -> None:
    scene = np.tile(gaussian_filter(camera()[100:292].astype(np.float32), 1.5), (1, 2))  # wider than a block reads
    drawn = zoom(np.random.default_rng(0).normal(0, 60, (97, 513)), 2, order=1)[: scene.shape[0], : scene.shape[1]]
    image = (scene + drawn).astype(np.float32)
    whole = restore(image, samples=2)
    lazy = restore_lazily(da.from_array(image, (192, 300)), samples=2, block_px=150)
    assert "3 scales" in " ".join(lazy.notes)
    assert_same(lazy, whole, image)


def test_stacks_of_channels_with_any_order_of_axes() -> None:
    image = np.moveaxis(noisy(2, 2, 40, 56), 1, 3)  # C, Y, X, T
    image[1] = 300 - image[1] / 2
    whole = restore(image, axes="CYXT")
    assert_same(restore_lazily(image, axes="CYXT", block_px=32), whole, image)


def test_colour_with_alpha() -> None:
    image = np.stack([noisy(64, 72, seed=colour) / (1 + colour) for colour in range(4)], axis=-1)
    whole = restore(image.astype(np.uint16), axes="YXS", samples=2)
    lazy = restore_lazily(da.from_array(image.astype(np.uint16), (50, 50, 1)), axes="YXS", samples=2, block_px=48)
    assert lazy.restored.shape == (64, 72, 3)
    assert_same(lazy, whole, image)


@pytest.mark.usefixtures("float32")
def test_damage_is_filled_as_in_the_whole_and_empty_ground_stays_quiet() -> None:
    image = noisy(96, 420)
    image[:, :230] = np.nan  # blocks that see nothing at all
    image[20, 300:400] = np.nan
    mask = np.zeros(image.shape, bool)
    mask[60:64, 240:400] = True
    whole = restore(image, mask=mask)
    lazy = restore_lazily(image, mask=da.from_array(mask, 64), block_px=64)
    found, span = lazy.restored.compute(), float(np.nanmax(image) - np.nanmin(image))
    assert np.isfinite(found).all()
    assert np.abs(found - whole.restored)[:, 240:].max() <= SAME * span
    assert np.ptp(found[:, :60]) < 0.05 * span


def test_large_images_are_looked_at_through_the_same_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SURVEY_PX", 2**15)
    monkeypatch.setattr(survey, "WINDOW_PX", 80)
    monkeypatch.setattr(survey, "WHOLE_MEANS_PX", 0)
    image = noisy(220, 230)
    whole = restore(image)
    lazy = restore_lazily(image, block_px=128)
    assert lazy.noise == whole.noise
    assert_same(lazy, whole, image)


def test_a_model_of_one_image_restores_block_by_block(model: Model) -> None:
    image = noisy(100, 140)
    assert_same(
        restore_lazily(image, model=model, samples=2, block_px=64), restore(image, model=model, samples=2), image
    )


def test_only_what_is_asked_for_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    import napari_vae_repair.scaleout as scaleout

    blocks = []
    usual = scaleout.restore_read
    monkeypatch.setattr(
        scaleout, "restore_read", lambda plan, block, *rest: (blocks.append(block), usual(plan, block, *rest))[1]
    )
    lazy = restore_lazily(noisy(128, 128), block_px=64)
    assert blocks == []
    da.compute(lazy.restored[:60, 70:], lazy.residual[:60, 70:], lazy.std[:60, 70:])
    assert [block.number for block in blocks] == [1]


def test_the_image_is_not_changed_and_what_cannot_be_restored_is_refused() -> None:
    image = noisy(64, 64)
    before = image.copy()
    restore_lazily(image).restored.compute()
    np.testing.assert_array_equal(image, before)
    with pytest.raises(InputError, match="complex"):
        restore_lazily(image.astype(complex))
    with pytest.raises(InputError, match="8 x 8"):
        restore_lazily(image[:5])
    with pytest.raises(SettingsError, match=r"median.*whole plane"):
        restore_lazily(image, chain="float32, normalise, denoise(method=median)")


def test_training_and_adapting_happen_once_on_the_windows(tiny: Settings) -> None:
    phases = []
    lazy = restore_lazily(noisy(64, 80), tiny, on_step=lambda progress: phases.append(progress.phase))
    assert phases.count("train") > 1
    assert lazy.model.value_range is not None
    assert np.isfinite(lazy.restored.compute()).all()
