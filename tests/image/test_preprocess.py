import itertools
import json
import tracemalloc
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from skimage import color, data, exposure, filters

from napari_vae_repair.chain import (
    PRESETS,
    ClipNegative,
    Contrast,
    Denoise,
    Equalise,
    Float32,
    Grey,
    NoiseStrength,
    Normalise,
    Segment,
    Square,
    Stabilise,
    parse_chain,
)
from napari_vae_repair.errors import InputError, ModelFileError, SettingsError
from napari_vae_repair.image.measured import fill_damage
from napari_vae_repair.image.preprocess import FittedChain, fit_chain

DENOISERS = get_args(Denoise.model_fields["method"].annotation)
INVERTIBLE = [
    "float32",
    "float32, normalise",
    "float32, normalise(low=10, high=60)",
    "float32, equalise",
    "float32, equalise(bins=7)",
    "float32, square",
    "float32, square(power=0.5)",
    "float32, square(power=3)",
    "float32, segment(threshold=20, factor=3)",
    "float32, segment(threshold=otsu)",
    "float32, segment(threshold=li)",
    "float32, segment(threshold=triangle)",
    "float32, stabilise(gain=2, read_noise=10)",
    "float32, normalise, equalise, square, segment(threshold=otsu, factor=0.1), normalise",
    "float32, stabilise(gain=2, read_noise=10), normalise, segment, square(power=1.5), equalise",
    "float32, segment(threshold=30), segment(threshold=10, factor=2)",
]
NOT_INVERTIBLE = [
    Grey(),
    ClipNegative(),
    Equalise(method="adaptive"),
    Contrast(),
    NoiseStrength(),
    *(Denoise(method=method) for method in DENOISERS),
]
POINTWISE = [
    "float32",
    "float32, grey, normalise",
    "float32, normalise(low=10, high=60)",
    "float32, clip_negative, equalise",
    "float32, square, segment(threshold=otsu)",
    "float32, stabilise, noise_strength, segment(threshold=triangle)",
]


def scene(*, channels: int = 1, planes: int = 2, seed: int = 0) -> np.ndarray:
    """Smooth scenes with noise, (N, C, 40, 36) float32, from about -20 to 90."""
    rng = np.random.default_rng(seed)
    rough = rng.random((planes, channels, 40, 36))
    smooth = filters.gaussian(rough, (0, 0, 3, 3))
    return (900 * (smooth - 0.46) + rng.normal(0, 3, smooth.shape)).astype(np.float32)


def nothing(planes: np.ndarray) -> np.ndarray:
    return np.zeros((planes.shape[0], *planes.shape[2:]), dtype=bool)


def some_damage(planes: np.ndarray) -> np.ndarray:
    damaged = np.random.default_rng(5).random(nothing(planes).shape) < 0.1
    damaged[:, 5:12, 8:20] = True
    return damaged


def fixed_noise(planes: np.ndarray, damaged: np.ndarray) -> tuple[float, float, float]:
    measured = planes[~np.broadcast_to(damaged[:, None], planes.shape)]
    return 0.5, float(measured.std()) / 10, float(measured.min())


def assert_round_trip(planes: np.ndarray, text: str) -> None:
    chain, prepared = fit_chain(planes, nothing(planes), parse_chain(text))
    assert prepared.dtype == np.float32
    assert prepared.shape == planes.shape
    assert chain.inverted_to == "source"
    assert chain.in_source_units
    truth = planes.astype(np.float64)
    span = max(np.ptp(truth), np.abs(truth).max(), 1.0)
    np.testing.assert_allclose(chain.invert(prepared, kind="sample"), truth, atol=2e-5 * span)


# ---- inversion ---------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("text", INVERTIBLE)
def test_invertible_chains_give_the_source_back(text: str, channels: int) -> None:
    planes = scene(channels=channels)
    assert planes.min() < -5
    if "stabilise" in text:
        planes = np.abs(planes)
    assert_round_trip(planes, text)


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">u2", ">f4", "g"]
)
def test_every_dtype_comes_back(dtype: str) -> None:
    planes = np.clip(scene(), 0, 90).astype(dtype)
    for text in ("float32, normalise", "float32, equalise, square"):
        assert_round_trip(planes, text)
    chain, _ = fit_chain(planes, nothing(planes), (Float32(),))
    assert chain.steps[0].state == {"dtype": planes.dtype.name, "low": float(planes.min()), "high": float(planes.max())}


@given(
    low=st.floats(-1e6, 1e6, width=32),
    span=st.floats(1e-2, 1e6),
    names=st.lists(st.sampled_from(["normalise", "equalise", "square", "segment(threshold=otsu)"]), max_size=4),
)
@hypothesis_settings(max_examples=40, deadline=None)
def test_chains_of_any_order_are_undone(low: float, span: float, names: list[str]) -> None:
    planes = np.float32(low) + np.float32(span) * np.random.default_rng(0).random((1, 1, 16, 16), dtype=np.float32)
    # normalised between powers, whose dynamic range would otherwise leave float32
    text = ", ".join(["float32", "normalise", *itertools.chain.from_iterable((name, "normalise") for name in names)])
    chain, prepared = fit_chain(planes, nothing(planes), parse_chain(text))
    scale = np.ptp(planes) + 1e-6 * np.abs(planes).max()
    np.testing.assert_allclose(chain.invert(prepared, kind="sample"), planes, atol=1e-3 * scale)


@pytest.mark.parametrize("step", NOT_INVERTIBLE, ids=lambda step: getattr(step, "method", step.step))
def test_inversion_stops_at_the_last_step_without_inverse(step) -> None:
    planes = scene(channels=3)
    before, kept = fit_chain(planes, nothing(planes), (Float32(), Normalise(), step))
    after, prepared = fit_chain(planes, nothing(planes), (Float32(), Normalise(), step, Square(), Normalise()))
    for chain in (before, after):
        assert chain.inverted_to == step.step
        assert not chain.in_source_units
        assert chain.affine is None
    np.testing.assert_array_equal(before.invert(kept), kept)
    np.testing.assert_allclose(after.invert(prepared), kept, atol=1e-5 * np.abs(kept).max())


@pytest.mark.parametrize(("preset", "expected"), [("standard", "source"), ("classic", "noise_strength")])
def test_presets_are_undone_as_far_as_they_go(preset: str, expected: str) -> None:
    planes = scene(channels=3)
    chain, prepared = fit_chain(planes, nothing(planes), PRESETS[preset])
    assert chain.inverted_to == expected
    assert prepared.shape == (2, 3 if preset == "standard" else 1, 40, 36)
    assert np.isfinite(prepared).all()


def test_part_of_a_plane_is_undone_with_its_own_part_of_the_mask() -> None:
    planes = scene(channels=3, planes=3)
    chain, prepared = fit_chain(planes, nothing(planes), parse_chain("float32, segment(threshold=25, factor=4)"))
    whole = chain.invert(prepared)
    window = (slice(7, 31), slice(3, 20))
    np.testing.assert_array_equal(chain.invert(prepared[1], plane=1), whole[1])
    np.testing.assert_array_equal(chain.invert(prepared[2][:, *window], plane=2, window=window), whole[2][:, *window])
    samples = np.stack([prepared, prepared + 1])
    np.testing.assert_array_equal(chain.invert(samples)[0], whole)
    assert chain.segmentation is not None
    np.testing.assert_array_equal(chain.segmentation, (planes > 25).any(axis=1))


def test_masks_belong_to_the_planes_that_the_chain_ran_over() -> None:
    planes, others = scene(seed=1), scene(seed=2, planes=1)
    chain, _ = fit_chain(planes, nothing(planes), parse_chain("float32, segment(threshold=otsu)"))
    other_chain, prepared = chain.refit_masks(others)
    np.testing.assert_allclose(other_chain.invert(prepared), others, rtol=1e-6)
    saved = FittedChain.from_dict(chain.to_dict())
    assert saved.segmentation is None
    with pytest.raises(InputError, match="has no mask"):
        saved.invert(prepared)
    with pytest.raises(InputError, match="covers"):
        chain.invert(prepared[..., :20])
    with pytest.raises(InputError, match="without plane 2"):
        chain.invert(scene(planes=3))


def test_std_follows_an_affine_chain_exactly_and_others_to_first_order() -> None:
    planes = np.abs(scene()) + 30_000
    std = np.full(planes.shape, 0.003, dtype=np.float32)
    chain, prepared = fit_chain(planes, nothing(planes), PRESETS["standard"])
    np.testing.assert_allclose(chain.invert_std(prepared, std), 0.003 * chain.steps[1].state["scale"], rtol=1e-5)
    planes = np.abs(scene())
    chain, prepared = fit_chain(planes, nothing(planes), parse_chain("float32, stabilise(gain=2, read_noise=5)"))
    poisson_gaussian_std = np.sqrt(2 * (planes + 0.75) + 25)  # what unit variance stands for
    np.testing.assert_allclose(chain.invert_std(prepared, np.ones_like(planes)), poisson_gaussian_std, rtol=1e-3)


def test_affine_is_the_whole_way_back_of_affine_chains() -> None:
    planes = scene()
    chain, prepared = fit_chain(planes, nothing(planes), parse_chain("float32, normalise, normalise(low=20, high=40)"))
    assert chain.affine is not None
    scale, offset = chain.affine
    np.testing.assert_allclose(scale * prepared + offset, planes, atol=1e-4)
    np.testing.assert_allclose(chain.invert(prepared), planes, atol=1e-4)


def test_mean_and_sample_inverse_differ_for_stabilised_values_only() -> None:
    planes = np.abs(scene()) / 10
    for text, differs in (("float32, stabilise(gain=1, read_noise=0)", True), ("float32, square, normalise", False)):
        chain, prepared = fit_chain(planes, nothing(planes), parse_chain(text))
        same = np.array_equal(chain.invert(prepared, kind="mean"), chain.invert(prepared, kind="sample"))
        assert same is not differs


# ---- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("text", [*POINTWISE, "float32, grey, equalise, contrast, square, denoise(method=median)"])
def test_damaged_values_influence_nothing(text: str, channels: int) -> None:
    planes = scene(channels=channels)
    damaged = some_damage(planes)
    chain, prepared = fit_chain(planes, damaged, parse_chain(text), fixed_noise)
    for garbage in (np.nan, np.inf, -3e38, 1e9):
        spoilt = np.where(damaged[:, None], np.float32(garbage), planes)
        again, prepared_again = fit_chain(spoilt, damaged, parse_chain(text), fixed_noise)
        assert again == chain
        np.testing.assert_array_equal(prepared_again, prepared)


@pytest.mark.parametrize("text", POINTWISE[1:4])
def test_statistics_are_those_of_the_measured_pixels_alone(text: str) -> None:
    planes = scene(planes=1)
    damaged = np.zeros((1, 40, 36), dtype=bool)
    damaged[:, 20:] = True
    chain, _ = fit_chain(planes, damaged, parse_chain(text))
    cropped, _ = fit_chain(planes[:, :, :20], damaged[:, :20], parse_chain(text))
    assert chain == cropped


def test_filled_pixels_do_not_widen_the_range_behind_a_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_vae_repair.image.measured.MOST_SPANNED", 0)  # nearest values overshoot the most
    planes = scene()
    damaged = ~nothing(planes)
    damaged[:, ::3, ::3] = False
    _, sharp = fit_chain(planes, damaged, parse_chain("float32, contrast(amount=3)"))
    measured = sharp[:, 0][~damaged]
    assert np.ptp(measured) < np.ptp(sharp)
    chain, _ = fit_chain(planes, damaged, parse_chain("float32, contrast(amount=3), equalise"))
    assert (chain.steps[2].state["low"], chain.steps[2].state["high"]) == (measured.min(), measured.max())


def test_damage_is_filled_from_around_it_or_with_the_median() -> None:
    planes = np.arange(3 * 8 * 8, dtype=np.float64).reshape(3, 1, 8, 8)
    damaged = nothing(planes)
    damaged[0, 2, 3] = True
    damaged[2] = True
    planes[0, 0, 2, 3] = np.nan
    planes[2] = 1e300
    _, prepared = fit_chain(planes, damaged, (Float32(),))
    around = (planes[0, 0, 2, 2], planes[0, 0, 2, 4], planes[0, 0, 1, 3], planes[0, 0, 3, 3])
    assert prepared[0, 0, 2, 3] == pytest.approx(np.mean(around), rel=1e-6)
    measured = planes[:2][~damaged[:2, None]]
    np.testing.assert_array_equal(prepared[2], np.float32(np.median(measured)))
    np.testing.assert_array_equal(prepared[:2][~damaged[:2, None]], measured)


def test_a_hole_is_spanned_by_a_plate_under_tension(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = np.mgrid[:40, :50].astype(np.float32)
    slope = np.stack([3 * rows - columns + 100, columns**2])[None]
    lost = np.zeros((1, 40, 50), dtype=bool)
    lost[0, 10:22, 15:27] = True
    lost[0, 0, 40:] = True  # at the image's edge nothing pulls from outside
    filled = np.where(lost[:, None], np.nan, slope).astype(np.float32)
    fill_damage(filled, lost)
    hole = np.s_[0, 0, 10:22, 15:27]
    np.testing.assert_allclose(filled[hole], slope[hole], rtol=2e-3)
    inside = filled[0, 1, 10:22, 15:27]
    assert slope[0, 1, 9, 14] <= inside.min()
    assert inside.max() <= slope[0, 1, 9, 27]
    np.testing.assert_array_equal(filled[:, :, ~lost[0]], slope[:, :, ~lost[0]])
    monkeypatch.setattr("napari_vae_repair.image.measured.MOST_SPANNED", 10)
    nearest = np.where(lost[:, None], np.nan, slope).astype(np.float32)
    fill_damage(nearest, lost)
    assert set(nearest[hole].ravel().tolist()) <= set(slope[:, :, ~lost[0]][0, 0].ravel().tolist())


def test_large_images_are_sampled_and_measured_where_the_grid_meets_only_damage(monkeypatch) -> None:
    monkeypatch.setattr("napari_vae_repair.image.measured.SAMPLE_PX", 100)
    planes = scene()
    full = np.percentile(planes, 50)
    chain, _ = fit_chain(planes, nothing(planes), parse_chain("float32, normalise(low=50, high=99)"))
    assert chain.steps[1].state["offset"] == pytest.approx(full, abs=0.2 * float(planes.std()))
    damaged = ~nothing(planes)
    damaged[:, 1::2, 1::2] = False
    chain, _ = fit_chain(planes, damaged, parse_chain("float32, normalise(low=50, high=99)"))
    assert chain.steps[1].state["offset"] == pytest.approx(np.percentile(planes[..., 1::2, 1::2], 50))


# ---- the input is left alone -------------------------------------------------------------------


@pytest.mark.parametrize("text", [*INVERTIBLE[:6], "float32, grey, clip_negative, contrast, denoise, noise_strength"])
def test_input_is_unchanged_and_may_be_of_any_layout(text: str) -> None:
    planes = scene(channels=3)
    damaged = some_damage(planes)
    copy, damage_copy = planes.copy(), damaged.copy()
    chain, expected = fit_chain(planes, damaged, parse_chain(text))
    chain.invert(expected)
    frozen = planes.copy()
    frozen.flags.writeable = False
    strided = np.repeat(planes, 2, axis=-1)[..., ::2]
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(planes, 1, -1)), -1, 1)
    for same in (frozen, strided, last, planes.astype(">f4"), np.asfortranarray(planes)):
        np.testing.assert_array_equal(fit_chain(same, damaged, parse_chain(text))[1], expected)
    np.testing.assert_array_equal(planes, copy)
    np.testing.assert_array_equal(damaged, damage_copy)
    assert not np.shares_memory(planes, expected)


def test_invert_leaves_its_argument_alone() -> None:
    planes = scene()
    for text in INVERTIBLE:
        chain, prepared = fit_chain(np.abs(planes), nothing(planes), parse_chain(text))
        prepared.flags.writeable = False
        chain.invert(prepared)
        chain.invert_std(prepared, prepared)


def test_large_plane_needs_at_most_two_float32_copies() -> None:
    planes = np.tile(np.arange(4096, dtype=np.uint16), (1, 1, 4096, 1))
    damaged = nothing(planes)
    tracemalloc.start()
    fit_chain(planes, damaged, PRESETS["standard"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * planes.size * 4


# ---- the single steps --------------------------------------------------------------------------


def run(planes: np.ndarray, text: str) -> np.ndarray:
    return fit_chain(planes, nothing(planes), parse_chain(text))[1]


def test_normalise_maps_its_percentiles_to_zero_and_one_and_clips_nothing() -> None:
    prepared = run(scene(), "float32, normalise(low=5, high=90)")
    np.testing.assert_allclose(np.percentile(prepared, [5, 90]), [0, 1], atol=1e-6)
    assert prepared.min() < 0
    assert prepared.max() > 1


@pytest.mark.parametrize("value", [0.0, -7.5, 3e38])
@pytest.mark.parametrize(
    "text",
    [
        "float32, normalise, square",
        "float32, equalise",
        "float32, equalise(method=adaptive)",
        "float32, normalise, contrast, segment(threshold=otsu), stabilise",
        "float32, segment(threshold=li), segment(threshold=triangle)",
        *(f"float32, normalise, denoise(method={method})" for method in DENOISERS),
    ],
)
def test_constant_images_stay_constant(value: float, text: str) -> None:
    planes = np.full((1, 1, 12, 10), value, dtype=np.float32)
    _, prepared = fit_chain(planes, nothing(planes), parse_chain(text), lambda *_: (0.0, 0.0, 0.0))
    assert np.ptp(prepared) == 0


def test_constant_image_is_normalised_to_zero_and_back() -> None:
    planes = np.full((1, 1, 8, 8), 42, dtype=np.uint8)
    chain, prepared = fit_chain(planes, nothing(planes), PRESETS["standard"])
    assert (prepared == 0).all()
    assert chain.affine == (1.0, 42.0)


def test_sparse_image_with_equal_percentiles_is_scaled_by_its_range() -> None:
    planes = np.zeros((1, 1, 100, 100))
    planes[0, 0, 0, 0] = 500
    assert run(planes, "float32, normalise").max() == 1.0


def test_grey_is_the_luminance_of_scikit_image_in_the_range_at_hand() -> None:
    planes = scene(channels=3)
    expected = color.rgb2gray(np.moveaxis(planes, 1, -1))
    np.testing.assert_allclose(run(planes, "float32, grey")[:, 0], expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(run(planes[:, :1], "float32, grey"), planes[:, :1])


def test_global_equalisation_is_that_of_scikit_image_but_for_a_bin() -> None:
    planes = data.camera()[None, None, ::4, ::4].astype(np.float32)
    expected = exposure.equalize_hist(planes)
    equalised = run(planes, "float32, equalise")
    step = np.diff(exposure.cumulative_distribution(planes)[0]).max()
    assert np.abs(equalised - expected).max() < 0.01 + step
    assert equalised.min() == 0.0
    assert equalised.max() == 1.0


def test_values_beyond_the_fitted_range_are_equalised_further_and_come_back() -> None:
    planes = scene()
    chain, _ = fit_chain(planes, nothing(planes), parse_chain("float32, equalise"))
    wider = planes * 3
    prepared = chain.apply(wider)
    assert prepared.min() < 0
    assert prepared.max() > 1
    np.testing.assert_allclose(chain.invert(prepared), wider, atol=1e-3)


def test_adaptive_equalisation_and_contrast_are_those_of_scikit_image() -> None:
    planes = data.camera()[None, None, 100:200, 200:300]
    unit = (planes[0, 0] - planes.min()) / np.ptp(planes).astype(float)
    np.testing.assert_allclose(
        run(planes, "float32, equalise(method=adaptive)")[0, 0], exposure.equalize_adapthist(unit), atol=1e-6
    )
    sharp = filters.unsharp_mask(planes[0, 0].astype(np.float32), 1.5, 1.0, preserve_range=True)
    np.testing.assert_array_equal(run(planes, "float32, contrast")[0, 0], sharp)
    assert sharp.max() > 255  # not clipped


def test_square_keeps_the_sign() -> None:
    planes = np.linspace(-3, 3, 64).reshape(1, 1, 8, 8)
    np.testing.assert_allclose(run(planes, "float32, square"), planes * np.abs(planes), atol=1e-6)


def test_clip_negative_clips_below_zero_only() -> None:
    planes = scene()
    np.testing.assert_array_equal(run(planes, "float32, clip_negative"), np.maximum(planes, 0))


def test_noise_strength_is_seeded_and_independent_from_plane_to_plane() -> None:
    planes = np.zeros((4, 1, 128, 128))
    noise = run(planes, "float32, noise_strength(std=0.3)")
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert np.abs(np.corrcoef(noise.reshape(4, -1)) - np.eye(4)).max() < 0.05
    np.testing.assert_array_equal(run(planes[:2], "float32, noise_strength(std=0.3)"), noise[:2])
    assert not np.array_equal(run(planes, "float32, noise_strength(std=0.3, seed=1)"), noise)


@pytest.mark.parametrize("method", ["otsu", "li", "triangle"])
def test_segment_scales_what_lies_above_the_threshold_of_scikit_image(method: str) -> None:
    planes = data.coins()[None, None, ::3, ::3].astype(np.float32)
    chain, prepared = fit_chain(planes, nothing(planes), parse_chain(f"float32, segment(threshold={method})"))
    threshold = getattr(filters, f"threshold_{method}")(planes.ravel())
    assert chain.steps[1].state["threshold"] == pytest.approx(threshold, abs=1)
    above = planes > chain.steps[1].state["threshold"]
    np.testing.assert_array_equal(prepared, np.where(above, planes / 2, planes))


@pytest.mark.parametrize("method", DENOISERS)
@pytest.mark.parametrize("colour", [False, True])
def test_every_denoiser_brings_a_noisy_image_nearer_to_the_truth(method: str, colour: bool) -> None:
    crop = data.astronaut()[0:96, 180:276] if colour else data.camera()[100:196, 200:296, None]
    truth = np.moveaxis(crop, -1, 0)[None].astype(np.float32) * 100 - 3000  # far from [0, 1], and negative
    noisy = truth + np.random.default_rng(0).normal(0, 2000, truth.shape).astype(np.float32)
    strength = 2000 / float(noisy.std())
    chain = (Float32(), Denoise(method=method, strength=strength, sigma=2 if method == "bilateral" else 1))
    _, prepared = fit_chain(noisy, nothing(noisy), chain)
    assert prepared.shape == noisy.shape
    assert ((prepared - truth) ** 2).mean() < 0.6 * ((noisy - truth) ** 2).mean()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("step", NOT_INVERTIBLE, ids=lambda step: getattr(step, "method", step.step))
def test_smallest_planes_pass_every_filter(step, channels: int) -> None:
    planes = np.random.default_rng(0).random((1, channels, 8, 8))
    assert fit_chain(planes, nothing(planes), (Float32(), step))[1].shape[2:] == (8, 8)


def test_stabilise_estimates_where_it_stands() -> None:
    planes = np.abs(scene())
    seen = []

    def estimate(values: np.ndarray, damaged: np.ndarray) -> tuple[float, float, float]:
        seen.append(values.copy())
        with pytest.raises(ValueError, match="read-only"):
            values[:] = 0
        return 0.01, 0.02, 0.0

    chain, _ = fit_chain(planes, nothing(planes), (Float32(), Normalise(), Stabilise()), estimate)
    np.testing.assert_array_equal(seen[0], run(planes, "float32, normalise"))
    assert chain.steps[-1].state == {"gain": 0.01, "read_noise": 0.02, "offset": 0.0}


@pytest.mark.parametrize(
    ("estimated", "state"),
    [
        ((-1.0, 2.0, 5.0), {"gain": 0.0, "read_noise": 2.0, "offset": 0.0}),
        ((1e-9, 2.0, 5.0), {"gain": 0.0, "read_noise": 2.0, "offset": 0.0}),
        ((3.0, -1.0, -5.0), {"gain": 3.0, "read_noise": 0.0, "offset": -5.0}),
    ],
)
def test_noise_without_gain_or_read_noise_is_stabilised_and_undone(estimated, state) -> None:
    planes = np.abs(scene())
    chain, prepared = fit_chain(planes, nothing(planes), (Float32(), Stabilise()), lambda *_: estimated)
    assert chain.steps[1].state == state
    np.testing.assert_allclose(chain.invert(prepared, kind="sample"), planes, atol=1e-3)


def test_no_noise_at_all_falls_back_to_a_thousandth_of_the_contrast() -> None:
    planes = scene()
    chain, prepared = fit_chain(planes, nothing(planes), (Float32(), Stabilise()), lambda *_: (0.0, 0.0, 0.0))
    assert chain.steps[1].state["read_noise"] == pytest.approx(planes.std() / 1000, rel=1e-4)
    np.testing.assert_allclose(chain.invert(prepared), planes, atol=1e-4)


def test_order_matters_and_classic_has_its_own() -> None:
    names = [step.step for step in PRESETS["classic"]]
    assert names == ["float32", "grey", "equalise", "contrast", "square", "denoise", "noise_strength", "segment"]
    planes = scene()
    assert not np.allclose(run(planes, "float32, square, normalise"), run(planes, "float32, normalise, square"))


# ---- saving, applying, refusing ----------------------------------------------------------------


@pytest.mark.parametrize("text", [*INVERTIBLE, *POINTWISE, "float32, grey, equalise, contrast, square, denoise"])
def test_saved_chain_prepares_alike(text: str) -> None:
    planes = scene(channels=3)
    chain, prepared = fit_chain(planes, nothing(planes), parse_chain(text), fixed_noise)
    saved = FittedChain.from_dict(json.loads(json.dumps(chain.to_dict())))
    assert saved == chain
    np.testing.assert_array_equal(saved.apply(planes), prepared)
    again, prepared_again = saved.refit_masks(planes, nothing(planes))
    np.testing.assert_array_equal(prepared_again, prepared)
    np.testing.assert_array_equal(again.invert(prepared), chain.invert(prepared))


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"steps": 3},
        {"steps": [{"settings": {"step": "sharpen"}, "state": {}}]},
        {"steps": [{"settings": {"step": "normalise"}, "state": {"scale": 1.0}}]},
        {"steps": [{"settings": {"step": "normalise"}, "state": {"scale": 0.0, "offset": 0.0}}]},
        {"steps": [{"settings": {"step": "normalise"}, "state": {"scale": float("nan"), "offset": 0.0}}]},
        {"steps": [{"settings": {"step": "normalise"}, "state": {"scale": "1", "offset": 0.0}}]},
        {"steps": [{"settings": {"step": "stabilise"}, "state": {"gain": 0.0, "read_noise": 0.0}}]},
        {"steps": [{"settings": {"step": "equalise"}, "state": {"low": 0.0, "high": 1.0, "cdf": ["x"]}}]},
    ],
)
def test_damaged_saved_chain_is_refused(saved) -> None:
    with pytest.raises(ModelFileError, match="preprocessing chain cannot be read"):
        FittedChain.from_dict(saved)


@pytest.mark.parametrize(
    ("value", "text", "step"),
    [
        (1e30, "float32, square", "square"),
        (np.inf, "float32", "float32"),
        (np.nan, "float32, normalise", "float32"),
        (1e300, "float32, normalise", "float32"),
        (3e38, "float32, segment(threshold=1e30, factor=10)", "segment"),
        (3e38, "float32, contrast(amount=10)", "contrast"),
    ],
)
def test_values_that_leave_float32_name_the_step(value: float, text: str, step: str) -> None:
    planes = np.ones((1, 1, 8, 8))
    planes[0, 0, 3, 3] = value
    with pytest.raises(InputError, match=f"The step '{step}' gave values that are not finite"):
        run(planes, text)


def test_inverse_that_leaves_float32_is_refused() -> None:
    planes = scene()
    chain, _ = fit_chain(planes, nothing(planes), parse_chain("float32, normalise, square(power=0.1)"))
    with pytest.raises(InputError, match="inverse of the chain"):
        chain.invert(np.full((2, 1, 40, 36), 1e6, dtype=np.float32))


@pytest.mark.parametrize(
    ("steps", "error", "match"),
    [
        ((), SettingsError, "must be 'float32'"),
        ((Normalise(),), SettingsError, "begins with 'normalise'"),
        ((Float32(), Stabilise()), SettingsError, "no noise estimator"),
    ],
)
def test_chains_that_cannot_run_are_refused(steps, error, match) -> None:
    with pytest.raises(error, match=match):
        fit_chain(scene(), nothing(scene()), steps)


@pytest.mark.parametrize(
    ("shape", "damaged_shape"),
    [((8, 8), (8, 8)), ((1, 2, 8, 8), (1, 8, 8)), ((1, 1, 8, 8), (1, 8, 9)), ((2, 1, 8, 8), (8, 8))],
)
def test_planes_of_another_shape_are_refused(shape, damaged_shape) -> None:
    with pytest.raises(InputError, match="The planes have shape"):
        fit_chain(np.ones(shape), np.zeros(damaged_shape, dtype=bool), (Float32(),))


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(InputError, match="Every pixel is marked"):
        fit_chain(scene(), ~nothing(scene()), (Float32(),))


def test_given_segment_threshold_is_taken_as_it_is() -> None:
    chain, _ = fit_chain(scene(), nothing(scene()), (Float32(), Segment(threshold=12.5)))
    assert chain.steps[1].state == {"threshold": 12.5}
