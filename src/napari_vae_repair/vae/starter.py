"""The weights that ship with the package: restorers, filling network, inspector, calibration of the uncertainty."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
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
from napari_vae_repair.vae.record import Model, View

FILE = "starter.safetensors"
SHA256 = "a5a36669fe6992aec9af603320bba44a764a82eca0d0d338ad7754092b41ef66"
SHARING = "white"  # the part that holds only what differs from the restorer
METADATA = "napari_vae_repair_starter"
SCALE, LARGEST = ".scale", 127  # of 8-bit weights: the key's ending, and what the largest of a channel becomes
COARSE = ("up.2.", "up.3.", "levels.2.", "levels.3.")  # most of the weights, and the least felt: in 6 bits
LARGEST_COARSE = 31


@dataclass(frozen=True, slots=True)
class Starter:
    """What the package ships.

    Attributes
    ----------
    model : Model
        Restores grey planes of any image in one pass.
    white : HierarchicalVAE
        The restorer for noise that neighbours hardly share: its coarse levels are the other's.
    filling : HierarchicalVAE
        Fills what damage hides in a restored grey plane, in one pass.
    inspector : Inspector
        Sees noise and damage.
    """

    model: Model
    white: HierarchicalVAE
    filling: HierarchicalVAE
    inspector: Inspector

    def parts(self) -> dict[str, nn.Module]:
        """Its networks, by their names in the file."""
        inspector = self.inspector
        return {
            "restorer": self.model.network,
            "white": self.white,
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
    restorer, white, filling = (HierarchicalVAE(1, Network(**header["network"])) for _ in range(3))
    model = general_model(restorer, header["training"], Calibration.from_dict(header["calibration"]))
    starter = Starter(model, white, filling, Inspector())
    for name, module in starter.parts().items():
        module.load_state_dict(weights[name])
        module.requires_grad_(False).eval()
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as `on_device` wants it
    return starter


def filling_of(model: Model) -> HierarchicalVAE | None:
    """What fills damage after the model's pass: the starter's, for it and what was adapted from it; None = the pass."""
    return load_starter().filling if _built_as_the_starter(model) else None


def white_of(model: Model) -> HierarchicalVAE | None:
    """What restores planes of white noise in the model's place: the starter's, until the model was adapted."""
    adapted = model.training.get("adapted")
    while adapted is not None:
        if adapted["accepted"]:
            return None
        adapted = adapted.get("before")
    return load_starter().white if _built_as_the_starter(model) else None


def _built_as_the_starter(model: Model) -> bool:
    return model.general and model.network.network == load_starter().model.network.network


def network_for(model: Model, views: Sequence[View]) -> HierarchicalVAE:
    """The one network that suits all of the views, to be adapted to them."""
    white = white_of(model)
    return white if white is not None and all(view.white for view in views) else model.network


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

    Those of the two coarsest levels of restorer and filling network have 6 bits. That costs less than a hundredth of a
    decibel. What the network for white noise shares with the restorer is kept once. `Model.training` must hold JSON
    types alone.
    """
    calibration = starter.model.calibration
    assert calibration is not None
    tensors: dict[str, torch.Tensor] = {}
    restorer = starter.model.network.state_dict()
    for part, module in starter.parts().items():
        for key, tensor in module.state_dict().items():
            if part == SHARING and torch.equal(tensor, restorer[key]):
                continue
            name, values = f"{part}.{key}", tensor.detach().cpu().float()
            if key.endswith(".weight"):
                restores = isinstance(module, HierarchicalVAE)
                coarse = restores and key.startswith(COARSE) and values.shape[1] % 4 == 0
                largest = LARGEST_COARSE if coarse else LARGEST
                scale = values.flatten(1).abs().amax(dim=1).clamp(min=1e-12) / largest
                whole = torch.round(values / scale[:, None, None, None]).to(torch.int8).contiguous()
                tensors[name] = _four_in_three(whole) if coarse else whole
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
            whole = _three_to_four(tensor) if tensor.dtype == torch.uint8 else tensor
            values = whole.float() if scale is None else whole.float() * scale[:, None, None, None]
            weights.setdefault(part, {})[name] = values
    weights[SHARING] = weights["restorer"] | weights.get(SHARING, {})
    return header, weights


def _four_in_three(values: torch.Tensor) -> torch.Tensor:
    """``(O, 4 I, Y, X)`` from -32 to 31 as ``(O, 3 I, Y, X)`` bytes."""
    a, b, c, d = (values[:, start::4].int() + 32 for start in range(4))
    packed = torch.stack([a << 2 | b >> 4, (b & 15) << 4 | c >> 2, (c & 3) << 6 | d], dim=2)
    return packed.flatten(1, 2).to(torch.uint8).contiguous()


def _three_to_four(packed: torch.Tensor) -> torch.Tensor:
    """What `_four_in_three` was given."""
    a, b, c = (packed[:, start::3].int() for start in range(3))
    values = torch.stack([a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63], dim=2)
    return values.flatten(1, 2) - 32


def _damaged(received: str) -> ModelFileError:
    return ModelFileError(
        received,
        "They are a part of the package and may not be changed.",
        "Install the package anew: pip install --force-reinstall --no-deps napari-vae-repair",
    )
