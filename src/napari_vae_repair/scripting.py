"""Settings as the call, and as the command, that gives the same pixels again."""

from __future__ import annotations

import shlex
from typing import Any

from napari_vae_repair.chain import format_chain
from napari_vae_repair.settings import EstimatedNoise, Settings, trains_alone

IMAGE, INPUT, OUTPUT, MASK = "image", "INPUT.tif", "restored.tif", "MASK.tif"
_OPTIONS = {"adapt_seconds": "--adapt"}  # else the setting's own name
_WITH_OPTION = ("epochs", "adapt_seconds", "samples", "preset", "chain", "model", "device", "seed")
_WIDTH = 88  # of a line of Python


def repeatable(settings: Settings, training: dict[str, Any]) -> Settings:
    """The same with a budget of seconds as the steps that it became, and where it was ended early.

    Parameters
    ----------
    settings : Settings
        Of a restoration.
    training : dict
        `Model.training` of its model.
    """
    record = training.get("adapted")
    if record is None or not settings.adapts:
        return settings
    steps = {"adapt_steps": settings.adapt_steps or record["steps"], "adapt_stop": record.get("stopped_at")}
    return settings.model_copy(update={"adapt_seconds": 0.0} | steps)


def changes(settings: Settings) -> dict[str, Any]:
    """What `make_settings` needs for the same settings: everything that is not at its default.

    The chain comes as text, inner settings as dicts.
    """
    out: dict[str, Any] = settings.model_dump(exclude_defaults=True)
    if settings.chain is not None:
        out["chain"] = format_chain(settings.chain)
    if settings.noise != EstimatedNoise():
        out["noise"] = {"kind": settings.noise.kind} | out["noise"]
    if trains_alone(out):  # some settings mean a training, unless a model is named
        out["model"] = settings.model
    return out


def as_python(
    settings: Settings, image: str = IMAGE, *, axes: str | None = None, mask: str | None = None, lazily: bool = False
) -> str:
    """Lines of Python that restore.

    Parameters
    ----------
    settings : Settings
        See `repeatable` for those with a budget in seconds.
    image, mask : str
        Expressions of the image, and of the mask where there is one.
    axes : str, optional
        Of the image, where it does not tell them itself.
    lazily : bool
        Whether the image is too large for the memory, so that dask arrays are to come of it.

    Returns
    -------
    str
        Imports and one call, with a newline at its end.
    """
    given = [image]
    given += [] if axes is None else [f"axes={axes!r}"]
    given += [] if mask is None else [f"mask={mask}"]
    given += [f"{key}={value!r}" for key, value in changes(settings).items()]
    home, name = ("napari_vae_repair.scaleout", "restore_lazily") if lazily else ("napari_vae_repair", "restore")
    call = f"result = {name}({', '.join(given)})"
    if len(call) > _WIDTH:
        call = f"result = {name}(\n" + "".join(f"    {part},\n" for part in given) + ")"
    return f"from {home} import {name}\n\n{call}\n"


def as_command(
    settings: Settings, given: str = INPUT, to: str = OUTPUT, *, axes: str | None = None, mask: str | None = None
) -> str:
    """The line for a shell that restores a file.

    Parameters
    ----------
    settings : Settings
        See `repeatable` for those with a budget in seconds.
    given, to, mask : str
        Files; `mask` where there is one.
    axes : str, optional
        Of the file, where it does not tell them itself.

    Returns
    -------
    str
        Quoted for a POSIX shell.
    """
    words = ["vae-repair", "restore", given, to]
    words += [] if axes is None else ["--axes", axes]
    words += [] if mask is None else ["--mask", mask]
    for name, value in changes(settings).items():
        if name in _WITH_OPTION:
            words += [_OPTIONS.get(name, f"--{name}"), str(value)]
        else:
            words += [word for inner, plain in _flat(name, value) for word in ("--set", f"{inner}={plain!r}")]
    return shlex.join(words)


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """Dotted names of what is in nested dicts."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for key, inner in value.items() for pair in _flat(f"{name}.{key}", inner)]
