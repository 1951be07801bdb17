"""The weights that ship with the package: a restorer, an inspector, and the calibration of its uncertainty."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import safetensors.torch
import torch

from napari_vae_repair.errors import ModelFileError
from napari_vae_repair.settings import STARTER, Network, Settings
from napari_vae_repair.vae.calibration import Calibration
from napari_vae_repair.vae.inspector import Inspector
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.record import Model

FILE = "starter.safetensors"
SHA256 = "23f64d90cd492d52fb855e64b0f9f7ba6424adebedc8bd1786602fc0ee46fc57"
METADATA = "napari_vae_repair_starter"


@dataclass(frozen=True, slots=True)
class Starter:
    """What the package ships.

    Attributes
    ----------
    model : Model
        Restores grey planes of any image in one pass.
    inspector : Inspector
        Sees noise and damage.
    """

    model: Model
    inspector: Inspector


@functools.cache
def load_starter() -> Starter:
    """The shipped weights, read once, on the CPU; nobody may change them.

    Raises
    ------
    ModelFileError
        If the file is missing or is not the one that this version was released with.
    """
    try:
        content = (resources.files("napari_vae_repair") / "weights" / FILE).read_bytes()
    except OSError as error:
        raise _damaged(f"The starter weights cannot be read: {error.strerror or error}.") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise _damaged(f"The starter weights ({FILE}) are not those of this version.")
    header, weights = unpack_starter(content)
    network = HierarchicalVAE(1, Network(**header["network"]))
    inspector = Inspector()
    for name, module in (("restorer", network), ("noise", inspector.noise), ("damage", inspector.damage)):
        module.load_state_dict({key: tensor.float() for key, tensor in weights[name].items()})
        module.requires_grad_(False).eval()
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as `on_device` wants it
    model = general_model(network, header["training"], Calibration.from_dict(header["calibration"]))
    return Starter(model, inspector)


def general_model(network: HierarchicalVAE, training: dict[str, Any], calibration: Calibration | None) -> Model:
    """The restorer as a model of any image."""
    return Model(network, Settings(model=STARTER, network=network.network), None, (), (), training, calibration)


def pack_starter(starter: Starter) -> bytes:
    """The file that `load_starter` reads: weights in half precision, which costs no hundredth of a decibel.

    `Model.training` must hold JSON types alone.
    """
    network, calibration = starter.model.network, starter.model.calibration
    assert calibration is not None
    inspector = starter.inspector
    tensors = {
        f"{name}.{key}": tensor.detach().cpu().half().contiguous()
        for name, module in (("restorer", network), ("noise", inspector.noise), ("damage", inspector.damage))
        for key, tensor in module.state_dict().items()
    }
    header = {
        "network": network.network.model_dump(mode="json"),
        "training": starter.model.training,
        "calibration": calibration.to_dict(),
    }
    return bytes(safetensors.torch.save(tensors, metadata={METADATA: json.dumps(header)}))


def unpack_starter(content: bytes) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
    """What `pack_starter` wrote: the header, and the weights of "restorer", "noise" and "damage"."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][METADATA])
    weights: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in safetensors.torch.load(content).items():
        part, _, name = key.partition(".")
        weights.setdefault(part, {})[name] = tensor
    return header, weights


def _damaged(received: str) -> ModelFileError:
    return ModelFileError(
        received,
        "They are a part of the package and may not be changed.",
        "Install the package anew: pip install --force-reinstall --no-deps napari-vae-repair",
    )
