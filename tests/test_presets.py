"""Ways of working: what they decide, which one settings are, and the user's own as text."""

from __future__ import annotations

import json

import pytest

from napari_vae_repair.errors import SettingsError
from napari_vae_repair.presets import (
    NO_WAY,
    OF_A_WAY,
    OF_AN_OWN_WAY,
    WAYS,
    checked_name,
    parse_ways,
    text_with_way,
    text_without_way,
    way_of,
    with_way,
)
from napari_vae_repair.settings import Settings, make_settings


@pytest.mark.parametrize("name", WAYS)
def test_each_shipped_way_is_recognised_and_no_two_are_alike(name: str) -> None:
    assert way_of(WAYS[name]) == name


def test_the_defaults_are_the_fast_way() -> None:
    assert way_of(Settings()) == "Fast"


@pytest.mark.parametrize("name", WAYS)
def test_a_way_leaves_what_it_does_not_decide(name: str) -> None:
    before = make_settings(
        model="scratch", network={"widths": (8,), "latents": (2,)}, noise={"kind": "learned"}, device="cpu", seed=5
    )
    after = with_way(before, WAYS[name])
    assert way_of(after) == name
    for field in Settings.model_fields.keys() - set(OF_A_WAY):
        assert getattr(after, field) == getattr(before, field)


def test_a_way_ends_what_another_had_decided() -> None:
    counted = make_settings(adapt_steps=40, adapt_stop=20, chain="float32, square")
    assert way_of(counted) is None
    assert with_way(counted, WAYS["Fast"]) == WAYS["Fast"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"seed": 3, "device": "cpu"}, "Fast"),  # no part of a way
        ({"epochs": 9, "model": "starter"}, "Fast"),  # hidden with the starter
        ({"samples": 2}, None),
        ({"adapt_seconds": 15}, "Balanced"),
        ({"adapt_steps": 15}, None),
        ({"chain": "float32, normalise"}, "Fast"),  # the steps of the preset
        ({"chain": "float32"}, None),
        ({"epochs": 9}, None),
        ({"model": "scratch"}, "Train my own"),
        ({"preset": "classic"}, "Classic"),
        ({"model": "my.safetensors"}, None),
    ],
)
def test_settings_are_judged_by_what_the_widget_shows(changes: dict[str, object], name: str | None) -> None:
    assert way_of(make_settings(**changes)) == name


def test_a_contradiction_is_told() -> None:
    with pytest.raises(SettingsError, match="(?i)keep_samples needs samples"):
        with_way(Settings(keep_samples=True, samples=4), WAYS["Fast"])


# ---- the user's own ----------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [make_settings(epochs=7, samples=3, chain="float32, square(power=3)"), Settings()])
def test_a_saved_way_comes_back(settings: Settings) -> None:
    ways, problems = parse_ways(text_with_way("", " Mine µ ü ", settings))
    assert ways == {"Mine µ ü": settings}
    assert problems == ()


def test_only_what_a_way_decides_is_kept() -> None:
    text = text_with_way("", "mine", make_settings(device="cpu", seed=5, network={"blocks": 2}))
    assert set(json.loads(text)["mine"]) == set(OF_AN_OWN_WAY)


def test_own_ways_are_recognised_after_the_shipped_ones() -> None:
    own = {"mine": Settings(samples=5), "like Fast": Settings()}
    assert way_of(Settings(samples=5), own) == "mine"
    assert way_of(Settings(), own) == "Fast"


def test_saving_again_replaces_and_deleting_forgets() -> None:
    text = text_with_way(text_with_way("", "a", Settings(samples=2)), "b", Settings(samples=3))
    text = text_with_way(text, "a", Settings(samples=4))
    assert {name: way.samples for name, way in parse_ways(text)[0].items()} == {"a": 4, "b": 3}
    assert set(parse_ways(text_without_way(text, "a"))[0]) == {"b"}
    assert text_without_way(text_without_way(text, "a"), "b") == ""


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"epochs": 0}, r"'old' cannot be used: The setting epochs = 0"),
        ({"temperature": 3}, "temperature, which this version does not know"),
        ({"device": "cpu"}, "device, which this version does not know"),
        ({"chain": [{"step": "float32"}, {"step": "magic"}]}, "chain"),
        (["epochs"], "this version does not know"),
    ],
)
def test_one_of_another_version_is_told_and_the_others_stay_usable(entry: object, match: str) -> None:
    text = json.dumps(json.loads(text_with_way("", "good", Settings(samples=2))) | {"old": entry})
    ways, problems = parse_ways(text)
    assert set(ways) == {"good"}
    (problem,) = problems
    with pytest.raises(SettingsError, match=match):
        raise problem
    assert "take it out of Preferences" in problem.remedy
    # and nothing is lost by saving another
    assert json.loads(text_with_way(text, "more", Settings()))["old"] == entry


@pytest.mark.parametrize("text", ["{", "[]", "null", "[" * 100_000])
def test_a_damaged_text_is_told_and_never_overwritten(text: str) -> None:
    ways, (problem,) = parse_ways(text)
    assert ways == {}
    assert "Repair or empty it" in problem.remedy
    for change in (lambda: text_with_way(text, "mine", Settings()), lambda: text_without_way(text, "mine")):
        with pytest.raises(SettingsError, match="damaged"):
            change()


@pytest.mark.parametrize("name", ["", "  ", "Fast", "fast", " CLASSIC ", NO_WAY, "x" * 41])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="Choose another name"):
        checked_name(name)


def test_a_shipped_way_cannot_be_deleted() -> None:
    with pytest.raises(SettingsError, match="shipped ones cannot be deleted"):
        text_without_way("", "Fast")


def test_an_own_way_brings_the_noise_of_its_microscope() -> None:
    given = make_settings(noise={"kind": "given", "gain": 2.1, "read_noise": 1.6, "offset": 100}, samples=4)
    ways, _ = parse_ways(text_with_way("", "mine", given))
    plain = make_settings(device="cpu")
    chosen = with_way(plain, ways["mine"], own=True)
    assert (chosen.noise, chosen.device) == (given.noise, "cpu")
    assert way_of(chosen, ways) == "mine"
    assert way_of(make_settings(chosen, noise=plain.noise), ways) is None
    assert with_way(chosen, WAYS["Fast"]).noise == given.noise  # shipped ones know no microscope
