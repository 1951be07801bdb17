"""The settings that the user made in napari's Preferences, the default model and the user's own presets among them."""

from __future__ import annotations

from typing import Any

from napari_vae_repair.errors import SettingsError
from napari_vae_repair.presets import parse_ways, text_with_way, text_without_way
from napari_vae_repair.settings import SCRATCH, STARTER, Settings, make_settings

PLUGIN_NAME = "napari-vae-repair"


def read_preferences(base: Settings | None = None) -> Settings:
    """`base` with the values from Preferences; `base` alone where napari or its settings are not there.

    Raises
    ------
    SettingsError
        For a value that was edited by hand and is out of range.
    """
    chosen = _stored()
    if chosen is None:
        return base or Settings()
    model = chosen.model.strip() or STARTER
    return make_settings(
        base,
        preset=chosen.preset,
        model=SCRATCH if (model, chosen.preset) == (STARTER, "classic") else model,  # as in the API
        epochs=chosen.epochs,
        samples=chosen.samples or None,
        device=chosen.device,
        seed=chosen.seed,
    )


# ---- the default model --------------------------------------------------------------------------


def default_model() -> str:
    """What a new widget restores with: "starter", "scratch" or the path of a saved model."""
    chosen = _stored()
    return STARTER if chosen is None else chosen.model.strip() or STARTER


def set_default_model(model: str) -> None:
    """Keep what new widgets restore with, beyond this session.

    Parameters
    ----------
    model : str
        "starter", "scratch" or a path.

    Raises
    ------
    SettingsError
        Where there are no Preferences.
    """
    _writable().model = model


# ---- the user's own presets ---------------------------------------------------------------------


def read_ways() -> tuple[dict[str, Settings], tuple[SettingsError, ...]]:
    """The user's own presets, and an error for each that cannot be used; none where there are no Preferences."""
    chosen = _stored()
    return ({}, ()) if chosen is None else parse_ways(chosen.ways)


def save_way(name: str, settings: Settings) -> None:
    """Keep a preset beyond this session, in the place of one of the user's own of that name.

    Raises
    ------
    SettingsError
        For a name that is refused (see `presets.checked_name`), a damaged text in Preferences, or where there are none.
    """
    chosen = _writable()
    chosen.ways = text_with_way(chosen.ways, name, settings)


def delete_way(name: str) -> None:
    """Forget a preset of the user's own.

    Raises
    ------
    SettingsError
        If there is none of that name, for a damaged text in Preferences, or where there are none.
    """
    chosen = _writable()
    chosen.ways = text_without_way(chosen.ways, name)


def _stored() -> Any:
    """What napari keeps for this plugin; it saves what is assigned. None without it."""
    try:
        from napari.settings import get_plugin_settings

        return get_plugin_settings(PLUGIN_NAME).restoration
    except (ImportError, KeyError):  # no napari, one before 0.9, or the plugin is not registered or is disabled
        return None


def _writable() -> Any:
    chosen = _stored()
    if chosen is None:
        raise SettingsError(
            "There are no Preferences to keep this in.",
            "napari 0.9 or later keeps them while the plugin is enabled.",
            "Update napari, or enable VAE Repair under Plugins ▸ Install/Uninstall Plugins.",
        )
    return chosen
