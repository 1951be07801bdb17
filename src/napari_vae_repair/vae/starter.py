"""The weights that ship with the package: restorer, filling network, inspector, calibration of the uncertainty."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import safetensors.torch
import torch
from torch import nn

from napari_vae_repair.errors import ModelFileError
from napari_vae_repair.settings import STARTER, Network, Settings
from napari_vae_repair.vae.calibration import Calibration
from napari_vae_repair.vae.inspector import Inspector
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.record import Model

FILE = "starter.safetensors"
SHA256 = "dee1cae1ebb1fc3d59aeb4b9e316b1c35968517cbd2e9801bd8c69f4502ff14d"
METADATA = "napari_vae_repair_starter"
SCALE, LARGEST = ".scale", 127  # of 8-bit weights: the key's ending, and what the largest of a channel becomes


@dataclass(frozen=True, slots=True)
class Starter:
    """What the package ships.

    Attributes
    ----------
    model : Model
        Restores grey planes of any image in one pass.
    filling : HierarchicalVAE
        Fills what damage hides in a restored grey plane, in one pass.
    inspector : Inspector
        Sees noise and damage.
    """

    model: Model
    filling: HierarchicalVAE
    inspector: Inspector

    def parts(self) -> dict[str, nn.Module]:
        """Its networks, by their names in the file."""
        inspector = self.inspector
        return {
            "restorer": self.model.network,
            "filling": self.filling,
            "noise": inspector.noise,
            "damage": inspector.damage,
        }


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
    restorer, filling = (HierarchicalVAE(1, Network(**header["network"])) for _ in range(2))
    model = general_model(restorer, header["training"], Calibration.from_dict(header["calibration"]))
    starter = Starter(model, filling, Inspector())
    for name, module in starter.parts().items():
        module.load_state_dict(weights[name])
        module.requires_grad_(False).eval()
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as `on_device` wants it
    return starter


def filling_of(model: Model) -> HierarchicalVAE | None:
    """What fills damage after the model's pass: the starter's, for it and what was adapted from it; None = the pass."""
    if not model.general:
        return None
    filling = load_starter().filling
    return filling if model.network.network == filling.network else None


def calibration_of(model: Model) -> Calibration | None:
    """The model's, with what is known of the network that fills after it."""
    if model.calibration is None or filling_of(model) is None:
        return model.calibration
    shipped = load_starter().model.calibration
    assert shipped is not None
    return replace(model.calibration, hidden=shipped.hidden)


def general_model(network: HierarchicalVAE, training: dict[str, Any], calibration: Calibration | None) -> Model:
    """The restorer as a model of any image."""
    return Model(network, Settings(model=STARTER, network=network.network), None, (), (), training, calibration)


def pack_starter(starter: Starter) -> bytes:
    """The file that `load_starter` reads: convolutions in 8 bits, each output channel with a scale of its own.

    That costs less than a hundredth of a decibel. `Model.training` must hold JSON types alone.
    """
    calibration = starter.model.calibration
    assert calibration is not None
    tensors: dict[str, torch.Tensor] = {}
    for part, module in starter.parts().items():
        for key, tensor in module.state_dict().items():
            name, values = f"{part}.{key}", tensor.detach().cpu().float()
            if key.endswith(".weight"):
                scale = values.flatten(1).abs().amax(dim=1).clamp(min=1e-12) / LARGEST
                tensors[name] = torch.round(values / scale[:, None, None, None]).to(torch.int8).contiguous()
                tensors[name + SCALE] = scale
            else:
                tensors[name] = values.half().contiguous()
    header = {
        "network": starter.model.network.network.model_dump(mode="json"),
        "training": starter.model.training,
        "calibration": calibration.to_dict(),
    }
    return bytes(safetensors.torch.save(tensors, metadata={METADATA: json.dumps(header)}))


def unpack_starter(content: bytes) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
    """What `pack_starter` wrote: the header, and the weights of each of `Starter.parts` in float32."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][METADATA])
    tensors = safetensors.torch.load(content)
    weights: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if not key.endswith(SCALE):
            part, _, name = key.partition(".")
            scale = tensors.get(key + SCALE)
            values = tensor.float() if scale is None else tensor.float() * scale[:, None, None, None]
            weights.setdefault(part, {})[name] = values
    return header, weights


def _damaged(received: str) -> ModelFileError:
    return ModelFileError(
        received,
        "They are a part of the package and may not be changed.",
        "Install the package anew: pip install --force-reinstall --no-deps napari-vae-repair",
    )
