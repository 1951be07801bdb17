"""Every way in which a file comes in, each of which may refuse it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_vae_repair.errors import VaeRepairError
from napari_vae_repair.image.files import is_restored_file, read_image, read_layers, read_provenance
from napari_vae_repair.image.opened import open_image


def _window(path: Path) -> None:
    with open_image(path) as opened:
        array = opened.array
        values = array[tuple(slice(0, min(length, 16)) for length in array.shape)]
        assert isinstance(values, np.ndarray)


def _ways(path: Path) -> list[Callable[[Path], Any]]:
    if path.suffix == ".safetensors":
        from napari_vae_repair.vae.checkpoint import load_model, read_header

        return [read_header, load_model, _listed]
    return [read_image, _window, read_layers, read_provenance, is_restored_file]


def _listed(path: Path) -> None:
    from napari_vae_repair.model_store import ModelStore

    ModelStore(path.parent).entries()


def read_every_way(path: Path) -> dict[str, VaeRepairError | None]:
    """By the reader's name why it refused the file, None where it read it.

    Raises
    ------
    Exception
        Whatever else a reader raises: that is a fault.
    """
    outcomes: dict[str, VaeRepairError | None] = {}
    for read in _ways(path):
        try:
            read(path)
            outcomes[read.__name__] = None
        except VaeRepairError as error:
            outcomes[read.__name__] = error
    return outcomes
