"""How the starter is shown an image: what is stabilised, and what it is told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from skimage.data import camera

from napari_vae_repair.conditioning import Conditioned, condition
from napari_vae_repair.errors import SettingsError
from napari_vae_repair.image.opponent import from_opponent, to_opponent
from napari_vae_repair.preparation import prepare
from napari_vae_repair.settings import EstimatedNoise, GivenNoise, Settings, make_settings
from napari_vae_repair.vae.device import choose_device
from napari_vae_repair.vae.starter import load_starter

CPU = choose_device("cpu")


def conditioned(image: NDArray[np.floating], settings: Settings, channels: int = 1) -> Conditioned:
    planes = image.reshape(-1, 1, *image.shape[-2:]).astype(np.float32)
    damaged = np.zeros(planes[:, 0].shape, dtype=bool)
    chains, prepared = prepare(planes, damaged, channels, settings.steps)
    return condition(prepared, damaged, chains, settings, load_starter().inspector.noise, CPU)


def steps(found: Conditioned) -> list[str]:
    return [step.settings.step for step in found.chains[0].steps]


def test_gaussian_noise_is_told_in_network_units(photo: NDArray[np.float32]) -> None:
    noisy = photo + np.random.default_rng(0).normal(0, 100, photo.shape)
    found = conditioned(noisy, make_settings())
    assert "stabilise" not in steps(found)
    (view,) = found.views
    assert view.noise_std is not None
    scale, _ = found.domains[0].affine or (0.0, 0.0)
    assert view.noise_std * scale == pytest.approx(100, rel=0.25)
    assert view.told is not None
    assert max(view.told[1:]) < 0.25


def test_photons_are_stabilised_and_the_rest_has_a_variance_of_one(photo: NDArray[np.float32]) -> None:
    noisy = np.random.default_rng(0).poisson(np.tile(photo, (2, 2)) / 20) * 20.0
    found = conditioned(noisy, make_settings())
    assert steps(found)[-1] == "stabilise"
    assert found.noise[0].gain > 0
    assert found.views[0].noise_std == pytest.approx(1, rel=0.4)
    assert (found.views[0].noise_std or 0) >= 1 - 1e-6
    assert found.prepared.std() > 1


def test_a_stabilise_of_the_users_own_counts_as_one(photo: NDArray[np.float32]) -> None:
    noisy = np.random.default_rng(0).poisson(np.tile(photo, (2, 2)) / 400) * 400.0
    found = conditioned(noisy, make_settings(chain="float32, stabilise"))
    assert found.stabilised == [True]
    assert found.chains == found.domains
    assert (found.views[0].noise_std or 0) >= 1 - 1e-6


def test_given_noise_is_taken_as_it_is(photo: NDArray[np.float32]) -> None:
    given = GivenNoise(gain=0.0, read_noise=37.0, correlation=(0.3, 0.1))
    found = conditioned(photo, make_settings(noise=given))
    scale, _ = found.domains[0].affine or (0.0, 0.0)
    assert (found.views[0].noise_std or 0) * scale == pytest.approx(37, rel=1e-4)
    assert found.views[0].told is not None
    assert found.views[0].told[1:] == (0.3, 0.1)
    with pytest.raises(SettingsError):
        conditioned(photo, make_settings(noise=given, preset="classic"))


@pytest.mark.parametrize(("gain", "read_noise"), [(0.0, 60.0), (20.0, 30.0)])
def test_one_noise_for_all_channels_is_told_by_all_of_them(
    photo: NDArray[np.float32], gain: float, read_noise: float
) -> None:
    rng, truth = np.random.default_rng(0), np.tile(photo, (2, 2))
    channels = np.stack([truth, 0.02 * truth + 5, truth[:, ::-1]])  # a dim one tells nothing of its gain
    noisy = rng.normal(0, read_noise, channels.shape) + (rng.poisson(channels / gain) * gain if gain else channels)
    each, joint = (conditioned(noisy, make_settings(noise=EstimatedNoise(joint=on)), 3) for on in (False, True))
    own = [found.domains[at].affine or (0.0, 0.0) for found in (each, joint) for at in range(3)]
    in_units = [noise.rescaled(*affine) for noise, affine in zip((*each.noise, *joint.noise), own, strict=True)]
    for noise in in_units[4:]:
        assert noise.gain == pytest.approx(in_units[3].gain, rel=1e-4)
        assert noise.read_noise == pytest.approx(in_units[3].read_noise, rel=1e-4)
        assert len(noise.grades) == 4
    assert in_units[3].gain == pytest.approx(gain, rel=0.3)
    assert float(in_units[3].variance(np.array(500.0))) == pytest.approx(read_noise**2 + 500 * gain, rel=0.3)
    assert len({round(noise.read_noise, 3) for noise in in_units[:3]}) == 3
    if not gain:  # and it is what the network is told
        stds = [(view.noise_std or 0) * scale for view, (scale, _) in zip(joint.views, own[3:], strict=True)]
        np.testing.assert_allclose(stds, in_units[3].read_noise, rtol=1e-3)


def test_one_noise_needs_units_in_common(photo: NDArray[np.float32]) -> None:
    settings = make_settings(noise={"kind": "estimated", "joint": True}, preset="classic", model="starter")
    with pytest.raises(SettingsError, match="for all channels together"):
        conditioned(np.stack([photo, photo]), settings, 2)
    conditioned(photo, settings)  # of one channel there is nothing to share


def test_all_planes_of_a_stack_are_shown_alike(photo: NDArray[np.float32]) -> None:
    stack = np.stack([photo, 0.3 * photo, photo + 100]) + np.random.default_rng(0).normal(0, 50, (3, *photo.shape))
    found = conditioned(stack, make_settings())
    assert len(found.views) == 3
    assert found.views[0] == found.views[1] == found.views[2]


def test_each_opponent_colour_is_told_how_its_own_noise_is_shared(photo: NDArray[np.float32]) -> None:
    colours = to_opponent(np.repeat(photo[None, None], 3, axis=1).astype(np.float32))
    noise = np.random.default_rng(0).normal(0, 150, colours.shape)
    noise[:, 1:] = 2 * gaussian_filter(noise[:, 1:], (0, 0, 0.8, 0.8))  # as cameras interpolate their colours
    planes = from_opponent((colours + noise).astype(np.float32))
    nothing = np.zeros(planes[:, 0].shape, dtype=bool)
    chains, prepared = prepare(planes, nothing, 1, make_settings().steps)
    found = condition(prepared, nothing, chains, make_settings(), load_starter().inspector.noise, CPU)
    told = [view.told or (0.0, 0.0, 0.0) for view in found.views]
    assert max(told[0][1:]) < 0.25
    assert told[1][1] == pytest.approx(0.67, abs=0.15)
    assert told[2][1] == pytest.approx(0.67, abs=0.15)


def far_reaching(shape: tuple[int, int], std: float) -> NDArray[np.float64]:
    """Noise that was measured on a grid of half as many pixels."""
    drawn = np.random.default_rng(0).standard_normal((shape[0] // 2 + 1, shape[1] // 2 + 1))
    return np.asarray(1.5 * std * zoom(drawn, 2, order=1)[: shape[0], : shape[1]])


def test_means_are_shown_too_where_noise_reaches_far() -> None:
    scene = 4 * camera()[100:292, 60:253].astype(np.float32)
    noisy = scene + far_reaching(scene.shape, 200)
    (view,) = conditioned(noisy, make_settings()).views
    assert view.scales == 3
    assert view.coarser is not None
    assert view.coarser.told is not None
    assert view.noise_std is not None
    assert 0.6 < (view.coarser.noise_std or 0) / view.noise_std < 1
    assert view.coarser.value_range.high < view.value_range.high
    stack = conditioned(np.stack([noisy, noisy]), make_settings()).views
    assert [each.scales for each in stack] == [3, 3]


def test_noise_that_is_given_is_no_stronger_in_means() -> None:
    scene = 4 * camera()[100:292, 60:253].astype(np.float32)
    given = GivenNoise(gain=0.0, read_noise=120.0, correlation=(0.6, 0.6))  # there is more of it
    (view,) = conditioned(scene + far_reaching(scene.shape, 300), make_settings(noise=given)).views
    assert view.coarser is not None
    assert view.coarser.coarser is not None
    assert view.noise_std is not None
    assert (view.coarser.noise_std or 0) <= 0.8 * view.noise_std * (1 + 1e-6)
    assert (view.coarser.coarser.noise_std or 0) < (view.coarser.noise_std or 0)


def test_weak_and_near_noise_is_restored_at_one_scale() -> None:
    scene = 4 * camera()[100:292, 60:253].astype(np.float32)
    white = np.random.default_rng(0).normal(0, 200, scene.shape)
    far = far_reaching(scene.shape, 200)
    for noise in (white, 1.4 * gaussian_filter(white, 0.5), 0.1 * white, 0.1 * far):
        found = conditioned(scene + noise, make_settings())
        assert found.views[0].scales == 1
        assert found.notes == []
    given = GivenNoise(gain=0.0, read_noise=200.0)  # told that it is white
    assert conditioned(scene + far, make_settings(noise=given)).views[0].scales == 1
    assert conditioned((scene + far)[:120], make_settings()).views[0].scales == 1  # too few cells to judge by


def test_where_nothing_can_be_measured_nothing_is_told() -> None:
    found = conditioned(np.random.default_rng(0).normal(100, 10, (9, 40)), make_settings())
    assert [noise.source for noise in found.noise] == ["estimated"]
    found = conditioned(np.random.default_rng(0).normal(100, 10, (9, 12)), make_settings())
    assert [noise.source for noise in found.noise] == ["assumed"]
    assert [view.told for view in found.views] == [None]


def test_single_photons_are_noise_and_no_saturation() -> None:
    counts = np.random.default_rng(0).poisson(0.7, (128, 128)).astype(np.float32)
    found = conditioned(counts, make_settings())
    assert found.noise[0].source == "estimated"
    (scale, _), read = found.domains[0].affine or (0.0, 0.0), found.noise[0]
    values = (counts - counts.min()) * 0 + 0.7 / scale
    assert float(np.sqrt(read.variance(values)).mean()) * scale == pytest.approx(np.sqrt(0.7), rel=0.4)
