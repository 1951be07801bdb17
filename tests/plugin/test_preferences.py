from __future__ import annotations

from typing import Any

import pytest

from napari_vae_repair.plugin.preferences import read_preferences
from napari_vae_repair.settings import Settings

pytestmark = pytest.mark.gui


def test_without_the_plugin_the_base_stands(npe2pm: Any, plugin_settings: Any, tiny: Settings) -> None:
    assert read_preferences() == Settings()
    assert read_preferences(tiny) == tiny


def test_untouched_preferences_are_the_defaults(manager: Any, plugin_settings: Any) -> None:
    assert read_preferences() == Settings()


def test_classic_trains_as_in_the_api(preferences: Any) -> None:
    preferences.preset, preferences.model = "classic", ""
    assert read_preferences().model == "scratch"
    preferences.preset = "standard"
    assert read_preferences().model == "starter"


def test_what_the_user_set_is_taken_and_the_rest_of_the_base_kept(preferences: Any, tiny: Settings) -> None:
    preferences.preset, preferences.epochs, preferences.samples = "classic", 9, 4
    preferences.model, preferences.device, preferences.seed = " model.safetensors ", "cpu", 5
    settings = read_preferences(tiny)
    assert settings.network == tiny.network
    assert (settings.preset, settings.epochs, settings.samples) == ("classic", 9, 4)
    assert (settings.model, settings.device, settings.seed) == ("model.safetensors", "cpu", 5)
