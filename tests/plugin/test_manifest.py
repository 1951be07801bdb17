"""npe2 passes unknown keys and command ids in silence: everything in the manifest is checked against its use."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from npe2 import PluginManifest
from npe2.manifest import contributions
from npe2.manifest.contributions import ContributionPoints

MANIFEST = Path(__file__).parents[2] / "napari.yaml"
DATA: dict[str, Any] = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
POINTS: dict[str, Any] = DATA["contributions"]
COMMANDS = {command["id"]: command["python_name"] for command in POINTS["commands"]}
KINDS = {
    "commands": contributions.CommandContribution,
    "readers": contributions.ReaderContribution,
    "writers": contributions.WriterContribution,
    "widgets": contributions.WidgetContribution,
    "sample_data": contributions.SampleDataGenerator,
}


def used_commands() -> set[str]:
    listed = [entry["command"] for kind in ("readers", "writers", "widgets", "sample_data") for entry in POINTS[kind]]
    return {*listed, *(item["command"] for items in POINTS["menus"].values() for item in items)}


def test_names_and_category() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    assert (manifest.name, manifest.display_name) == ("napari-vae-repair", "VAE Repair")
    assert list(manifest.categories) == ["Image Processing"]


def test_every_command_is_used_and_every_use_is_a_command() -> None:
    assert used_commands() == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_id_is_snake_case_under_the_plugins_name(command: str) -> None:
    plugin, _, name = command.partition(".")
    assert plugin == "napari-vae-repair"
    assert name.islower()
    assert name.isidentifier()


@pytest.mark.parametrize("python_name", COMMANDS.values())
def test_python_name_leads_to_something_callable(python_name: str) -> None:
    module, _, name = python_name.partition(":")
    assert callable(getattr(import_module(module), name))


def test_no_key_is_unknown() -> None:
    assert set(DATA) <= set(PluginManifest.model_fields)
    assert set(POINTS) <= set(ContributionPoints.model_fields)
    for kind, model in KINDS.items():
        for entry in POINTS[kind]:
            assert set(entry) <= set(model.model_fields), entry
    for configuration in POINTS["configurations"].values():
        assert set(configuration) == {"title", "properties"}
        for entry in configuration["properties"].values():
            known = set(contributions._configuration.ConfigurationProperty.model_fields)
            assert set(entry) <= known, entry


def test_menus_take_contributions() -> None:
    from napari._app_model.constants._menus import is_menu_contributable

    assert all(is_menu_contributable(menu) for menu in POINTS["menus"])


def test_reader_and_manifest_name_the_same_files() -> None:
    from napari_vae_repair.plugin.reader import EXTENSIONS, STORES

    assert POINTS["readers"][0]["filename_patterns"] == [f"*{extension}" for extension in (*EXTENSIONS, *STORES)]


def test_writers_and_manifest_name_the_same_extensions() -> None:
    from napari_vae_repair.plugin.writer import LAYERS_EXTENSION, RESTORED_EXTENSION, RESTORED_STORE_EXTENSION

    named = {entry["command"].partition(".")[2]: entry["filename_extensions"] for entry in POINTS["writers"]}
    restored = [RESTORED_EXTENSION, RESTORED_STORE_EXTENSION]
    assert named == {"write_restored": restored, "write_layers": [LAYERS_EXTENSION]}


def test_preferences_have_the_defaults_and_limits_of_settings() -> None:
    from napari_vae_repair.chain import PRESETS
    from napari_vae_repair.plugin.device_label import DEVICE_NAMES
    from napari_vae_repair.settings import Settings

    properties = POINTS["configurations"]["restoration"]["properties"]
    defaults = Settings()
    assert properties["samples"]["default"] == 0  # stands for None: the model decides
    for name in ("preset", "model", "epochs", "device", "seed"):
        assert properties[name]["default"] == getattr(defaults, name)
    assert properties["preset"]["enum"] == list(PRESETS)
    assert properties["device"]["enum"] == list(DEVICE_NAMES)
    for name in ("epochs", "samples", "seed"):
        for limit in ("minimum", "maximum"):
            Settings(**{name: properties[name][limit]})
