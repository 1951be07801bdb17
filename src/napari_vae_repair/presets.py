"""Ways of working: named choices of model, steps, time and samples, shipped with the package or the user's own.

A way is what the widget calls a preset; `Settings.preset`, which is another thing, names preprocessing steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from typing import Any

from napari_vae_repair.errors import SettingsError
from napari_vae_repair.settings import DEFAULT_SAMPLES, SCRATCH, STARTER, Settings, make_settings

# what a way decides; everything else, such as network, device and seed, it leaves as it is
OF_A_WAY = ("preset", "chain", "model", "epochs", "adapt_seconds", "adapt_steps", "adapt_stop", "samples")
OF_AN_OWN_WAY = (*OF_A_WAY, "noise", "keep_samples")  # a camera's gain and read noise, say, for whose images it is
WAYS: dict[str, Settings] = {
    "Fast": Settings(samples=0),
    "Balanced": Settings(adapt_seconds=15, samples=0),
    "Careful": Settings(adapt_seconds=60, samples=DEFAULT_SAMPLES),
    "Classic": Settings(preset="classic", model=SCRATCH, samples=DEFAULT_SAMPLES),
    "Train my own": Settings(model=SCRATCH, samples=DEFAULT_SAMPLES),
}
NO_WAY = "custom"  # what the widget shows for settings that are no way; no way can be called so
LONGEST_NAME = 40  # characters
_WHERE = "Preferences ▸ VAE Repair ▸ My presets"


def with_way(settings: Settings, way: Settings, *, own: bool = False) -> Settings:
    """The settings with what a way decides: `OF_A_WAY`, and one of the user's `OF_AN_OWN_WAY`; the rest stays.

    Raises
    ------
    SettingsError
        If the two contradict each other, as ``keep_samples=True`` and a way without samples do.
    """
    return make_settings(settings, **{name: getattr(way, name) for name in (OF_AN_OWN_WAY if own else OF_A_WAY)})


def way_of(settings: Settings, own: Mapping[str, Settings] | None = None) -> str | None:
    """The name of the way that the settings are, judged by what the widget shows; None = none of them.

    Parameters
    ----------
    settings : Settings
        As the widget shows them.
    own : mapping of str to Settings, optional
        The user's own ways, looked at after the shipped ones.
    """
    ours = (name for name, way in WAYS.items() if same_way(way, settings))
    theirs = (name for name, way in (own or {}).items() if same_way(way, settings, own=True))
    return next(chain(ours, theirs), None)


def same_way(way: Settings, settings: Settings, *, own: bool = False) -> bool:
    """Whether the widget shows what the way decides; `own` ones decide the noise, too."""
    alike = _shown(way) == _shown(settings)
    return alike and (not own or (way.noise, way.keep_samples) == (settings.noise, settings.keep_samples))


def _shown(settings: Settings) -> tuple[Any, ...]:
    """What the widget shows of the settings: fields that do not apply are hidden there."""
    trains, has_steps = settings.model == SCRATCH, settings.model in (STARTER, SCRATCH)
    of_the_model = 0 if settings.model == STARTER else DEFAULT_SAMPLES
    return (
        settings.model,
        settings.steps if has_steps else None,  # a saved model may bring its own
        settings.epochs if trains else None,
        None if trains else (settings.adapt_seconds, settings.adapt_steps, settings.adapt_stop),
        of_the_model if settings.samples is None else settings.samples,
    )


# ---- the user's own, as text -------------------------------------------------------------------


def parse_ways(text: str) -> tuple[dict[str, Settings], tuple[SettingsError, ...]]:
    """The user's own ways in a text that `text_with_way` made, and an error for each that cannot be used.

    Parameters
    ----------
    text : str
        JSON; empty = none.

    Returns
    -------
    ways : dict of str to Settings
        Those that can be used.
    problems : tuple of SettingsError
        What is wrong with the others, and what to do.
    """
    try:
        entries = _entries(text)
    except SettingsError as error:
        return {}, (error,)
    ways: dict[str, Settings] = {}
    problems = []
    for name, entry in entries.items():
        try:
            ways[checked_name(name)] = _way(entry)
        except SettingsError as error:
            problems.append(
                SettingsError(
                    f"Your preset {name!r} cannot be used: {error.received}",
                    error.allowed,
                    f"Save it anew under this name, or take it out of {_WHERE}; your other presets are not touched.",
                )
            )
    return ways, tuple(problems)


def text_with_way(text: str, name: str, settings: Settings) -> str:
    """The text with one more way, or with another one of that name; what cannot be used stays in it.

    Raises
    ------
    SettingsError
        For a name that is refused (see `checked_name`), or a text that is no JSON.
    """
    way = settings.model_dump(mode="json", include=set(OF_AN_OWN_WAY))
    return json.dumps(_entries(text) | {checked_name(name): way}, ensure_ascii=False)


def text_without_way(text: str, name: str) -> str:
    """The text without the way of that name.

    Raises
    ------
    SettingsError
        If there is none, or for a text that is no JSON.
    """
    entries = _entries(text)
    if name not in entries:
        raise SettingsError(
            f"There is no preset of yours called {name!r}.",
            f"Yours are: {', '.join(entries) or 'none'}; the shipped ones cannot be deleted.",
            "Choose one of yours.",
        )
    del entries[name]
    return json.dumps(entries, ensure_ascii=False) if entries else ""


def checked_name(name: str) -> str:
    """The name without spaces around it.

    Raises
    ------
    SettingsError
        If it is empty, too long, or that of a shipped way.
    """
    name = name.strip()
    reserved = [*WAYS, NO_WAY]
    if not name or len(name) > LONGEST_NAME or name.casefold() in [each.casefold() for each in reserved]:
        raise SettingsError(
            f"A preset cannot be called {name!r}.",
            f"A name has 1 to {LONGEST_NAME} characters and is none of {', '.join(reserved)}.",
            "Choose another name.",
        )
    return name


def _entries(text: str) -> dict[str, Any]:
    try:
        entries = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise SettingsError(
            "Your presets cannot be read: the text in Preferences is damaged.",
            "It is JSON that the widget writes itself.",
            f"Repair or empty it under {_WHERE}.",
        )
    return entries


def _way(entry: Any) -> Settings:
    if not isinstance(entry, dict) or not entry.keys() <= set(OF_AN_OWN_WAY):
        unknown = ", ".join(sorted(entry.keys() - set(OF_AN_OWN_WAY))) if isinstance(entry, dict) else repr(entry)
        raise SettingsError(
            f"it holds {unknown}, which this version does not know.", f"It may hold {', '.join(OF_AN_OWN_WAY)}.", ""
        )
    return make_settings(**entry)
