"""Preferences: what is read from them, and what is written there and found again by another napari."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from platformdirs import user_cache_path

from napari_vae_repair.errors import SettingsError
from napari_vae_repair.plugin.preferences import (
    StorePreferences,
    default_model,
    delete_way,
    read_preferences,
    read_store_preferences,
    read_ways,
    save_way,
    set_default_model,
)
from napari_vae_repair.settings import Settings, make_settings

pytestmark = pytest.mark.gui


def test_without_the_plugin_the_base_stands(npe2pm: Any, plugin_settings: Any, tiny: Settings) -> None:
    assert read_preferences() == Settings()
    assert read_preferences(tiny) == tiny
    assert default_model() == "starter"
    assert read_ways() == ({}, ())


def test_without_the_plugin_nothing_is_kept_and_that_is_told(npe2pm: Any, plugin_settings: Any) -> None:
    for keep in (lambda: set_default_model("scratch"), lambda: save_way("mine", Settings()), lambda: delete_way("a")):
        with pytest.raises(SettingsError, match="no Preferences to keep this in"):
            keep()


def test_untouched_preferences_are_the_defaults(manager: Any, plugin_settings: Any) -> None:
    assert read_preferences() == Settings()
    assert default_model() == "starter"
    assert read_ways() == ({}, ())


@pytest.mark.filterwarnings("ignore:Could not resolve type hint")  # napari 0.9.2, of its own dialog
def test_napari_can_show_them_all(manager: Any, plugin_settings: Any, qtbot: Any) -> None:
    from napari._qt.dialogs.preferences_dialog import PreferencesDialog

    dialog = PreferencesDialog()  # a number too large for its spin box would take all of napari's Preferences down
    qtbot.addWidget(dialog)
    assert "VAE Repair" in [dialog._list.item(row).text() for row in range(dialog._list.count())]


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


def test_memory_is_taken_as_it_is_written_and_refused_with_the_reason(preferences: Any, tiny: Settings) -> None:
    assert read_preferences(make_settings(tiny, memory_mb=700)).memory_mb == 700
    preferences.memory = " 4GB "
    assert read_preferences(make_settings(tiny, memory_mb=700)).memory_mb == 4000
    preferences.memory = "plenty"
    with pytest.raises(SettingsError, match=r"memory 'plenty' was refused.*2GB"):
        read_preferences()


def test_large_results_go_to_the_cache_folder_and_no_scheduler_unless_the_user_says_so(
    preferences: Any, tmp_path: Path
) -> None:
    assert read_store_preferences().folder == user_cache_path("napari-vae-repair", appauthor=False) / "results"
    assert read_store_preferences().scheduler is None
    preferences.store_folder, preferences.scheduler = f" {tmp_path} ", " tcp://192.168.1.5:8786 "
    assert read_store_preferences() == StorePreferences(tmp_path, "tcp://192.168.1.5:8786")
    preferences.store_folder = "~/results"
    assert read_store_preferences().folder == Path.home() / "results"


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("store_folder", "results", r"'results'.*whole path.*Preferences"),
        ("scheduler", "192.168.1.5", r"'192\.168\.1\.5'.*tcp://192.*Preferences"),
        ("scheduler", "tcp://host", "address of a dask scheduler"),
        ("scheduler", "tcp://a b:8786", "address of a dask scheduler"),
    ],
)
def test_folders_and_addresses_that_cannot_be_used_are_told(
    preferences: Any, name: str, value: str, match: str
) -> None:
    setattr(preferences, name, value)
    with pytest.raises(SettingsError, match=match):
        read_store_preferences()


@pytest.mark.parametrize("address", ["host:8786", "tls://host:1", "tcp://[::1]:8786"])
def test_addresses_of_other_kinds_are_taken(preferences: Any, address: str) -> None:
    preferences.scheduler = address
    assert read_store_preferences().scheduler == address


def test_the_default_model_is_what_a_new_widget_starts_with(preferences: Any) -> None:
    set_default_model("/models/mine.safetensors")
    assert default_model() == read_preferences().model == "/models/mine.safetensors"
    set_default_model("starter")
    assert default_model() == read_preferences().model == "starter"


def test_presets_come_and_go(preferences: Any) -> None:
    save_way("mine", Settings(samples=3))
    save_way("other", Settings(adapt_seconds=5))
    delete_way("mine")
    assert read_ways() == ({"other": Settings(adapt_seconds=5)}, ())


def test_presets_that_were_damaged_by_hand_are_told(preferences: Any) -> None:
    preferences.ways = "{"
    ways, (problem,) = read_ways()
    assert ways == {}
    assert "Repair or empty it" in str(problem)
    with pytest.raises(SettingsError, match="damaged"):
        save_way("mine", Settings())
    assert preferences.ways == "{"


def test_another_process_finds_what_was_written(preferences: Any, tmp_path: Path) -> None:
    save_way("mine µ ü", Settings(samples=3))
    set_default_model("C:\\models\\ü.safetensors")
    code = (
        "from napari_vae_repair.plugin.preferences import default_model, read_ways\n"
        "ways, problems = read_ways()\n"
        "print(ascii([default_model(), list(ways), ways['mine µ ü'].samples, problems]))"
    )
    environment = os.environ | {"NAPARI_CONFIG": str(tmp_path / "settings.yaml"), "PYTHONUTF8": "1"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert printed.strip() == ascii(["C:\\models\\ü.safetensors", ["mine µ ü"], 3, ()])
