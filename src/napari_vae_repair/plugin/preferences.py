"""The settings that the user made in napari's Preferences: of a run, of large layers, the default model, presets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from napari_vae_repair.errors import SettingsError
from napari_vae_repair.presets import parse_ways, text_with_way, text_without_way
from napari_vae_repair.settings import SCRATCH, STARTER, Settings, make_settings, parse_memory

PLUGIN_NAME = "napari-vae-repair"
_WHERE = "Preferences ▸ VAE Repair"
_ADDRESS = re.compile(r"([a-z]+://)?[^\s:/]+:\d{1,5}/?|[a-z]+://\[[0-9a-fA-F:]+\]:\d{1,5}/?")


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
    model, memory = chosen.model.strip() or STARTER, chosen.memory.strip()
    if memory:
        base = make_settings(base, memory_mb=parse_memory(memory))
    return make_settings(
        base,
        preset=chosen.preset,
        model=SCRATCH if (model, chosen.preset) == (STARTER, "classic") else model,  # as in the API
        epochs=chosen.epochs,
        samples=chosen.samples or None,
        device=chosen.device,
        seed=chosen.seed,
    )


# ---- large layers -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StorePreferences:
    """How layers are restored that are larger than memory.

    Attributes
    ----------
    folder : Path
        Where their results are written; it need not exist.
    scheduler : str or None
        Address of a dask scheduler; None = this process restores.
    """

    folder: Path
    scheduler: str | None = None


def cache_folder() -> Path:
    """Where large results are written unless the user chose another folder."""
    return user_cache_path(PLUGIN_NAME, appauthor=False) / "results"


def read_store_preferences() -> StorePreferences:
    """What Preferences say now of layers that are larger than memory.

    Raises
    ------
    SettingsError
        The folder's path is relative, or what should be an address is none.
    """
    chosen = _stored()
    told, scheduler = ("", "") if chosen is None else (chosen.store_folder.strip(), chosen.scheduler.strip())
    folder = Path(told).expanduser() if told else cache_folder()
    if not folder.is_absolute():
        raise SettingsError(
            f"The folder for large results is {told!r}.",
            "A whole path is needed, such as /data/results.",
            f"Correct it under {_WHERE}, or empty it for the cache folder.",
        )
    if scheduler and not _ADDRESS.fullmatch(scheduler):
        raise SettingsError(
            f"The address of the scheduler is {scheduler!r}.",
            "The address of a dask scheduler is needed, as in tcp://192.168.1.5:8786.",
            f"Correct it under {_WHERE}, or empty it to restore here.",
        )
    return StorePreferences(folder, scheduler or None)


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
