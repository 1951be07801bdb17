"""What damage hides: filled better than by smooth interpolation, alike in tiles, and samples follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2gray
from skimage.data import astronaut, camera, coffee, coins
from skimage.draw import line
from skimage.morphology import dilation, disk
from skimage.restoration import inpaint_biharmonic

from napari_vae_repair import restore
from napari_vae_repair.image.measured import fill_damage
from napari_vae_repair.vae.checkpoint import load_model
from napari_vae_repair.vae.device import choose_device
from napari_vae_repair.vae.filling import filled
from napari_vae_repair.vae.memory import Footprint, tile_that_fits
from napari_vae_repair.vae.model import FAR_PX
from napari_vae_repair.vae.record import Model
from napari_vae_repair.vae.starter import calibration_of, filling_of, load_starter

CPU = choose_device("cpu")
RELEASED = Path(__file__).parents[1] / "data" / "model-v2.safetensors"


@pytest.fixture(scope="module")
def clean() -> NDArray[np.float32]:
    return camera()[40:296, 100:356].astype(np.float32)


@pytest.fixture(scope="module")
def strokes(clean: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Of a round brush, 7 pixels wide, over 9 % of the image."""
    rng, out = np.random.default_rng(0), np.zeros(clean.shape, dtype=bool)
    for _ in range(8):
        out[line(*rng.integers(0, 256, 4))] = True
    return np.asarray(dilation(out, disk(3)))


def psnr(image: NDArray[np.float32], truth: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    return float(10 * np.log10(255**2 / np.mean((image - truth)[where] ** 2)))


def test_strokes_are_filled_better_than_by_smooth_interpolation(strokes: NDArray[np.bool_]) -> None:
    gained = []
    for photo in (camera(), rgb2gray(astronaut()) * 255, coins(), rgb2gray(coffee()) * 255):
        truth = photo[40:296, 100:356].astype(np.float32)
        painted = np.where(strokes, 0, truth).astype(np.float32)
        ours, plate = restore(painted, mask=strokes).restored, painted[None, None].copy()
        fill_damage(plate, strokes[None])
        peers = (plate[0, 0], inpaint_biharmonic(painted, strokes))
        gained.append([psnr(ours, truth, strokes) - psnr(peer, truth, strokes) for peer in peers])
    assert (np.mean(gained, axis=0) > 0.8).all()


def test_what_was_measured_does_not_depend_on_the_filling(
    clean: NDArray[np.float32], strokes: NDArray[np.bool_], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = gaussian_filter(np.random.default_rng(0).normal(0, 1, clean.shape), 1.5)
    for scales, image in ((1, clean), (3, clean + (30 / slow.std()) * slow.astype(np.float32))):
        with_filling = restore(image, mask=strokes)
        assert any(f"{scales} scales" in note for note in with_filling.report.notes) == (scales > 1)
        with monkeypatch.context() as patch:
            patch.setattr("napari_vae_repair.phases.filling_of", lambda model: None)
            without = restore(image, mask=strokes).restored
        np.testing.assert_allclose(with_filling.restored[~strokes], without[~strokes], atol=1e-4 * 255)
        assert np.abs(with_filling.restored - without)[strokes].mean() > 0.5


@pytest.mark.usefixtures("float32")
def test_tiles_agree_with_the_whole() -> None:
    strip = np.tile(camera()[100:196].T.astype(np.float32), (2, 1))[:900]
    noisy = strip + np.random.default_rng(0).normal(0, 15, strip.shape).astype(np.float32)
    mask = np.zeros(strip.shape, dtype=bool)
    mask[::37, ::11] = mask[300:340, 20:90] = mask[600:, 40:44] = True
    whole = restore(noisy, mask=mask, samples=2, keep_samples=True)
    tiled = restore(noisy, mask=mask, samples=2, keep_samples=True, tile_px=128)
    for name in ("restored", "samples", "std"):
        assert np.abs(getattr(whole, name) - getattr(tiled, name)).max() < 1e-3 * np.ptp(noisy), name


def test_samples_lie_around_what_is_filled_and_its_uncertainty_is_honest(
    clean: NDArray[np.float32], strokes: NDArray[np.bool_]
) -> None:
    result = restore(clean, mask=strokes, samples=8, keep_samples=True)
    assert result.samples is not None
    off = np.abs(result.samples.mean(axis=0) - result.restored)[strokes].mean()
    assert off < 0.5 * np.abs(result.samples - result.restored)[:, strokes].mean()
    error = np.abs(result.restored - clean)[strokes]
    assert 0.7 < (error <= 1.645 * result.std[strokes]).mean() < 0.99


def test_only_what_lies_around_damage_is_looked_at() -> None:
    network, looked = load_starter().filling, []
    hook = network.stem.register_forward_hook(lambda module, inputs, out: looked.append(tuple(out.shape[2:])))
    damaged = torch.zeros(1, 1, 1024, 64)
    damaged[..., 500:504, 30] = damaged[..., 1000, 30] = 1
    image = torch.rand(1, 1, 1024, 64)
    with torch.no_grad():
        out = filled(network, image, damaged, (slice(400, 600), slice(0, 64)))
    hook.remove()
    ((height, width),) = looked
    assert 2 * height <= 2 * FAR_PX + 4 + 2 * network.stride
    assert 2 * width == 64
    changed = (out != image).nonzero()[:, 2].tolist()
    assert set(changed) == {500, 501, 502, 503}


def test_models_of_another_build_fill_by_themselves(model: Model, clean: NDArray[np.float32]) -> None:
    assert filling_of(model) is None
    assert calibration_of(model) is model.calibration
    starter = load_starter()
    assert filling_of(starter.model) is starter.filling
    # one adapted before there was a network that fills
    assert starter.model.calibration is not None
    older = replace(starter.model, calibration=replace(starter.model.calibration, hidden=()))
    assert calibration_of(older) == starter.model.calibration
    other = load_model(RELEASED)
    assert other.general
    assert filling_of(other) is None
    mask = np.zeros((48, 40), dtype=bool)
    mask[20:24, 20:24] = True
    assert np.isfinite(restore(clean[:48, :40], model=other, mask=mask, samples=2).restored).all()


def test_where_nothing_was_measured_nothing_is_sure(clean: NDArray[np.float32]) -> None:
    stack = np.stack([clean[:96, :96], clean[:96, :96]])
    mask = np.zeros(stack.shape, dtype=bool)
    mask[1] = mask[0, 40:44] = True
    std = restore(stack, mask=mask, samples=2, axes="ZYX").std
    assert std[1].min() > 10 * np.median(std[0, :30])
    assert std[1].min() > std[0].max()


def test_deep_in_a_hole_one_is_less_sure_than_at_its_edge(clean: NDArray[np.float32]) -> None:
    mask = np.zeros(clean.shape, dtype=bool)
    mask[80:180, 80:180] = True
    std = restore(clean, mask=mask, samples=2).std
    assert np.median(std[110:150, 110:150]) > 1.5 * np.median(std[80:83, 80:180])


def test_filling_takes_more_memory_and_so_a_smaller_tile() -> None:
    network, footprint = load_starter().model.network, Footprint(2000.0, 500.0, 3000.0, 10**7)
    assert footprint.peak_bytes(network, 512, fills=True) > 1.5 * footprint.peak_bytes(network, 512)
    assert tile_that_fits(network, CPU, memory_mb=2500, fills=True) < tile_that_fits(network, CPU, memory_mb=2500)
