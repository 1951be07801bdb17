import numpy as np
import pytest

from napari_vae_repair.image.anscombe import anscombe, inverse_anscombe


def poisson_gaussian(mean: float, gain: float, read_noise: float, count: int = 200_000) -> np.ndarray:
    rng = np.random.default_rng(int(mean))
    return gain * rng.poisson(mean / gain, count) + rng.normal(0, read_noise, count)


@pytest.mark.parametrize("mean", [10, 30, 100])
@pytest.mark.parametrize(("gain", "read_noise"), [(1.0, 0.5), (2.0, 3.0), (0.25, 1.0)])
def test_stabilised_noise_has_unit_variance(mean: float, gain: float, read_noise: float) -> None:
    assert anscombe(poisson_gaussian(mean, gain, read_noise), gain, read_noise).var() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("mean", [1, 2, 3, 5, 10, 30, 100])
@pytest.mark.parametrize("read_noise", [0.0, 0.5, 1.0])
def test_mean_inverse_of_the_stabilised_mean_is_the_mean(mean: float, read_noise: float) -> None:
    stabilised = anscombe(poisson_gaussian(mean, 1.0, read_noise, 1_000_000), 1.0, read_noise).mean()
    assert inverse_anscombe(stabilised, 1.0, read_noise, "mean") == pytest.approx(
        mean, rel=0.01, abs=0.035 if read_noise and mean < 2 else 0
    )


def test_sample_inverse_of_the_stabilised_mean_is_biased() -> None:
    stabilised = anscombe(poisson_gaussian(2, 1.0, 0.0), 1.0, 0.0).mean()
    assert inverse_anscombe(stabilised, 1.0, 0.0, "sample") < 0.95 * 2


@pytest.mark.parametrize(("gain", "read_noise"), [(1.0, 0.0), (0.01, 5.0), (30.0, 2.0), (0.0, 2.0)])
def test_sample_inverse_gives_each_value_back(gain: float, read_noise: float) -> None:
    values = np.linspace(-0.3 * gain, 1000.0, 5000)
    restored = inverse_anscombe(anscombe(values, gain, read_noise), gain, read_noise, "sample")
    np.testing.assert_allclose(restored, values, atol=1e-7)


@pytest.mark.parametrize("kind", ["mean", "sample"])
def test_inverse_rises_everywhere_from_zero_and_stays_below_zero_level(kind: str) -> None:
    stabilised = np.linspace(0.01, 20.0, 20_000)
    steps = np.diff(inverse_anscombe(stabilised, 1.0, 0.7, kind))
    assert steps.min() > 0
    assert steps.max() < 2 * 20.0 / 4 * 0.0011  # no jump where the two branches meet: the slope stays below D / 2
    np.testing.assert_array_equal(
        inverse_anscombe(np.array([-5.0]), 1.0, 0.7, kind), inverse_anscombe(np.array([0.0]), 1.0, 0.7, kind)
    )


def test_values_too_dark_to_occur_become_zero() -> None:
    assert anscombe(np.array([-1e6]), 1.0, 1.0) == 0.0
