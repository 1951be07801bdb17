"""Models as safetensors files with a JSON header: no pickle, no code, nothing that runs on loading."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vae_repair import __version__
from napari_vae_repair.errors import ImageFileError, ModelFileError, SettingsError
from napari_vae_repair.image.atomic import replacing
from napari_vae_repair.settings import Settings, make_settings
from napari_vae_repair.vae.untrusted import (
    check_tensors,
    checked_chains,
    checked_channels,
    checked_training,
    number,
    parse_header,
)

if TYPE_CHECKING:
    from napari_vae_repair.vae.record import Model

FORMAT = "napari-vae-repair model"
FORMAT_VERSION = 2  # 2: models without a value range of their own
MAX_HEADER_BYTES = 16 * 2**20
_REMEDY = "Choose a file that was saved by napari-vae-repair, or train a new model."


def save_model(model: Model, path: str | os.PathLike[str]) -> Path:
    """Write a model; a file that is already there is replaced only when the new one is complete.

    Parameters
    ----------
    model : Model
        Trained or loaded.
    path : path
        Conventionally ending in ``.safetensors``.

    Raises
    ------
    ModelFileError
        If the file cannot be written; what was there before is unchanged.
    """
    from safetensors.torch import save

    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "channels": model.network.channels,
        "settings": model.settings.model_dump(mode="json"),
        "value_range": None if model.value_range is None else [model.value_range.low, model.value_range.high],
        "noise": [noise.to_dict() for noise in model.noise],
        "chains": list(model.chains),
        "training": model.training,
        "calibration": None if model.calibration is None else model.calibration.to_dict(),
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}
    content = save(tensors, metadata={"napari_vae_repair": json.dumps(header)})
    try:
        with replacing(path) as stream:
            stream.write(content)
    except ImageFileError as error:
        raise ModelFileError(
            error.received, error.allowed, "Save the model elsewhere: it is still in memory."
        ) from error
    return Path(path)


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON header of a model file, without loading its weights or PyTorch.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, no model of this package, or of a later format.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            if size > MAX_HEADER_BYTES:
                raise ValueError("header too large")
            metadata = parse_header(file.read(size))["__metadata__"]
        header = parse_header(metadata["napari_vae_repair"])
        if header["format"] != FORMAT:
            raise ValueError("another format")
    except OSError as error:
        raise ModelFileError(
            f"The model {path} cannot be read: {error.strerror or error}.", "It must be a readable file.", _REMEDY
        ) from error
    except (ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise ModelFileError(
            f"{path} is no model of this package, or it is damaged.",
            "A model is a safetensors file with a header of ours.",
            _REMEDY,
        ) from error
    if header.get("format_version") not in range(1, FORMAT_VERSION + 1) or header["format_version"] is True:
        raise ModelFileError(
            f"{path} has format version {str(header.get('format_version'))[:50]}, "
            f"written by version {str(header.get('package_version'))[:50]}.",
            f"This version ({__version__}) reads formats up to {FORMAT_VERSION}.",
            "Update with: pip install -U napari-vae-repair",
        )
    return header


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read a model that `save_model` wrote.

    Returns
    -------
    Model
        On the CPU; restoring with it gives what it gave when it was saved.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, no model of this package, or of a later format.
    """
    header = read_header(path)
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from napari_vae_repair.noise.record import NoiseModel
    from napari_vae_repair.vae.calibration import Calibration
    from napari_vae_repair.vae.model import HierarchicalVAE
    from napari_vae_repair.vae.record import Model, ValueRange

    try:
        settings: Settings = make_settings(**header["settings"])
        # a header may tell of a network that fills any memory: it gets some once the file is known to hold it
        with torch.device("meta"):
            network = HierarchicalVAE(checked_channels(header["channels"]), settings.network)
        check_tensors(path, network)
        network.to_empty(device="cpu").load_state_dict(load_file(path))
        stored = header["value_range"]
        value_range = None if stored is None else ValueRange(*(number(value) for value in stored))
        if value_range is not None and not value_range.low < value_range.high:
            raise ValueError("its value range is empty")
        noise = tuple(NoiseModel.from_dict(entry) for entry in header["noise"])
        described = header.get("calibration")
        calibration = None if described is None else Calibration.from_dict(described)
        chains, training = checked_chains(header["chains"]), checked_training(header["training"])
    except (
        SafetensorError, SettingsError, RuntimeError, LookupError, TypeError, ValueError, AttributeError,
        ArithmeticError, MemoryError, OSError,
    ) as error:  # fmt: skip
        raise ModelFileError(
            f"The model {path} is damaged: {str(error)[:500]}.", "Header and weights must agree.", _REMEDY
        ) from error
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise ModelFileError(f"The model {path} holds weights that are not finite.", "All must be finite.", _REMEDY)
    network.requires_grad_(False).eval()
    return Model(network, settings, value_range, noise, chains, training, calibration)
