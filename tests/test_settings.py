import itertools

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from napari_vae_repair.chain import (
    PRESETS,
    STEP_TYPES,
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
    format_chain,
    parse_chain,
)
from napari_vae_repair.errors import SettingsError
from napari_vae_repair.settings import EstimatedNoise, GivenNoise, LearnedNoise, Settings, make_settings, parse_memory

CHANGED = [
    Float32(),
    Grey(),
    ClipNegative(),
    Normalise(low=1.0, high=99.9),
    Normalise(low=1e-05),
    Equalise(method="adaptive", bins=64, clip_limit=0.03),
    Contrast(sigma=2.5, amount=0.5),
    Square(power=0.5),
    Denoise(method="nlm", sigma=2.0, strength=0.2),
    NoiseStrength(std=0.1, seed=7),
    Segment(threshold="otsu", factor=2.0),
    Segment(threshold=-0.25),
    Stabilise(gain=1.5, read_noise=0.0),
]


# ---- the chain as text -------------------------------------------------------------------------


def test_every_step_of_the_chain_is_covered_here() -> None:
    assert {step.step for step in CHANGED} == set(STEP_TYPES)


@pytest.mark.parametrize("step", CHANGED, ids=lambda step: step.step)
def test_each_step_comes_back_from_its_text(step) -> None:
    assert parse_chain(format_chain((step,))) == (step,)
    default = STEP_TYPES[step.step]()
    assert format_chain((default,)) == step.step
    assert parse_chain(step.step) == (default,)


@given(st.lists(st.sampled_from(CHANGED), max_size=12))
@hypothesis_settings(max_examples=50)
def test_any_chain_comes_back_from_its_text(steps) -> None:
    assert parse_chain(format_chain(tuple(steps))) == tuple(steps)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_come_back_from_their_text(preset: str) -> None:
    assert parse_chain(format_chain(PRESETS[preset])) == PRESETS[preset]


def test_presets_are_those_that_are_documented() -> None:
    assert format_chain(PRESETS["standard"]) == "float32, normalise"
    assert format_chain(PRESETS["classic"]) == (
        "float32, grey, equalise, contrast, square, denoise, noise_strength, segment"
    )
    assert Contrast().sigma == 1.5
    assert (Segment().threshold, Segment().factor) == (0.5, 0.5)
    assert Square().power == 2


def test_spaces_and_quotes_in_a_chain_do_not_matter() -> None:
    assert parse_chain("  float32 ,denoise( method = 'median',sigma=2 ) ") == (
        Float32(),
        Denoise(method="median", sigma=2),
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("float32, sharpen", "cannot be read at 'sharpen'.*Steps are float32, grey"),
        ("float32 normalise", "cannot be read at 'float32 normalise'"),
        ("float32, normalise(low=1", "cannot be read at"),
        ("float32, normalise(low=60, high=40)", "must lie below"),
        ("float32, normalise(lower=1)", r"normalise\.lower.*refused"),
        ("float32, normalise(low=-1)", r"normalise\.low = -1 was refused"),
        ("float32, normalise(high=101)", r"normalise\.high = 101 was refused"),
        ("float32, normalise(low=nan)", r"normalise\.low = 'nan' was refused"),
        ("float32, denoise(method=bm3d)", r"denoise\.method = 'bm3d'.*median"),
        ("float32, square(power=0)", r"square\.power"),
        ("float32, segment(threshold=best)", "segment.*refused"),
        ("float32, stabilise(gain=1)", "given together"),
        ("float32, equalise(bins=1)", r"equalise\.bins"),
        ("float32, noise_strength(std=-0.1)", r"noise_strength\.std"),
        ("float32, contrast(sigma=0)", r"contrast\.sigma"),
    ],
)
def test_chains_that_mean_nothing_are_refused(text: str, match: str) -> None:
    with pytest.raises(SettingsError, match=match) as caught:
        parse_chain(text)
    assert all((caught.value.received, caught.value.allowed, caught.value.remedy))


# ---- all settings ------------------------------------------------------------------------------


def test_defaults_are_the_standard_chain_and_the_starter() -> None:
    settings = make_settings()
    assert settings == Settings()
    assert settings.steps == PRESETS["standard"]
    assert (settings.model, settings.epochs, settings.samples, settings.device) == ("starter", 50, None, "auto")


@pytest.mark.parametrize(
    ("name", "near"),
    [("epoch", "epochs"), ("sample", "samples"), ("Preset", "preset"), ("tile", "tile_px"), ("zzzz", "seed")],
)
def test_unknown_names_list_near_ones(name: str, near: str) -> None:
    with pytest.raises(SettingsError, match=f"There is no setting '{name}'.*Near names: .*{near}"):
        make_settings(**{name: 1})


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"epochs": 2.5},
        {"epochs": "many"},
        {"samples": -1},
        {"samples": 0, "keep_samples": True},
        {"seed": -1},
        {"seed": 2**32},
        {"preset": "modern"},
        {"device": "gpu"},
        {"device": "cuda:x"},
        {"tile_px": 8},
        {"memory_mb": 255},
        {"allow_cpu": "perhaps"},
        {"chain": ()},
        {"chain": (Normalise(),)},
        {"chain": "normalise, float32"},
        {"noise": {"kind": "loud"}},
        {"noise": {"kind": "given", "read_noise": 0.0}},
        {"noise": {"kind": "given", "read_noise": float("inf")}},
        {"network": {"widths": (8, 8), "latents": (4,)}},
        {"network": {"widths": (), "latents": ()}},
        {"network": {"widths": (8,), "latents": (0,)}},
        {"training": {"held_out": 0.9}},
        {"training": {"learning_rate": 0}},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(changes) -> None:
    with pytest.raises(SettingsError) as caught:
        make_settings(**changes)
    assert all((caught.value.received, caught.value.allowed, caught.value.remedy))


def test_changes_override_single_fields_and_keep_the_rest() -> None:
    first = make_settings(epochs=20, noise=LearnedNoise(), chain="float32, square")
    second = make_settings(first, samples=4)
    assert (second.epochs, second.samples, second.noise, second.steps) == (20, 4, LearnedNoise(), (Float32(), Square()))
    assert first.samples is None


def test_new_preset_drops_the_chain_of_an_earlier_choice() -> None:
    custom = make_settings(chain="float32, square")
    assert make_settings(custom, preset="classic").steps == PRESETS["classic"]
    assert make_settings(custom, preset="classic", chain="float32").steps == (Float32(),)


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:1"])
def test_devices_are_accepted(device: str) -> None:
    assert make_settings(device=device).device == device


@pytest.mark.parametrize(
    "noise", [EstimatedNoise(), LearnedNoise(), GivenNoise(gain=2.0, read_noise=1.0, offset=100.0)]
)
def test_settings_come_back_from_json(noise) -> None:
    settings = make_settings(noise=noise, chain=tuple(itertools.chain([Float32()], CHANGED)))
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 5},
        {"preset": "classic"},
        {"network": {"blocks": 2}},
        {"training": {"batch_size": 4}},
        {"noise": {"kind": "learned"}},
        {"noise": LearnedNoise()},
    ],
    ids=str,
)
def test_what_only_training_can_follow_means_training_unless_a_model_is_named(changes: dict[str, object]) -> None:
    assert make_settings(None, **changes).model == "scratch"
    assert make_settings(None, model="starter", **changes).model == "starter"
    assert Settings.model_validate(changes).model == "scratch"


@pytest.mark.parametrize(
    ("text", "megabytes"), [("2GB", 2000), ("1.5 GiB", 1610), ("800MB", 800), ("2g", 2000), ("1TB", 10**6)]
)
def test_an_amount_of_memory_is_read_with_its_unit(text: str, megabytes: int) -> None:
    assert parse_memory(text) == megabytes
    assert make_settings(memory_mb=parse_memory(text)).memory_mb == megabytes


@pytest.mark.parametrize("text", ["2", "2000000000", "", "much", "-3GB", "100MB", "0GB"])
def test_an_amount_without_unit_or_too_small_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="memory.*2GB"):
        parse_memory(text)
