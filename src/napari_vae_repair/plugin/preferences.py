"""The settings that the user made in napari's Preferences."""

from __future__ import annotations

from napari_vae_repair.settings import SCRATCH, STARTER, Settings, make_settings

PLUGIN_NAME = "napari-vae-repair"


def read_preferences(base: Settings | None = None) -> Settings:
    """`base` with the values from Preferences; `base` alone where napari or its settings are not there.

    Raises
    ------
    SettingsError
        For a value that was edited by hand and is out of range.
    """
    try:
        from napari.settings import get_plugin_settings

        chosen = get_plugin_settings(PLUGIN_NAME).restoration
    except (ImportError, KeyError):  # no napari, one before 0.9, or the plugin is not registered or is disabled
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
