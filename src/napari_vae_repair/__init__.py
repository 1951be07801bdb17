"""Restore noisy and damaged images with a variational autoencoder, in napari, Python and the shell.

The public names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers read it as True; importing `typing` would cost half of the import's time
if TYPE_CHECKING:
    from napari_vae_repair.comparison import compare
    from napari_vae_repair.damage import find_damage
    from napari_vae_repair.joint import train
    from napari_vae_repair.pipeline import encode, restore
    from napari_vae_repair.restoration import Restoration
    from napari_vae_repair.settings import Settings
    from napari_vae_repair.vae.checkpoint import load_model, save_model

__version__ = "0.1.0"
__all__ = [
    "Restoration",
    "Settings",
    "compare",
    "encode",
    "find_damage",
    "load_model",
    "restore",
    "save_model",
    "train",
]

_HOME = {
    "Restoration": "restoration",
    "Settings": "settings",
    "compare": "comparison",
    "encode": "pipeline",
    "find_damage": "damage",
    "load_model": "vae.checkpoint",
    "restore": "pipeline",
    "save_model": "vae.checkpoint",
    "train": "joint",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
