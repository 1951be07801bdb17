"""What a model file may say: its header as values of the right kind, its tensors as those of the network it tells of.

A model comes from anyone. Nothing is made of the size that a header claims before the file is known to hold it.
"""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_vae_repair.vae.model import HierarchicalVAE

CHANNELS = (1, 3)  # grey, colour
MAX_TEXT = 1000  # characters of a name or a reason
DEEPEST = 256  # lists and dicts within each other; adapting again adds one each time


def parse_header(text: str | bytes) -> dict[str, Any]:
    """The JSON object in a text; ValueError for another value, for a key that stands twice and for absurd depth.

    Of two values of one key other readers take another one: what one program checks, another would use.
    """
    found = json.loads(text, object_pairs_hook=_distinct)
    if not isinstance(found, dict):
        raise ValueError("no object")
    check_depth(found)
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def check_depth(value: Any) -> None:
    """ValueError for lists and dicts deeper than `DEEPEST`: what follows them would run out of its stack."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} values lie within each other")
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        level = [each for each in inner if isinstance(each, dict | list)]


def number(value: Any) -> float:
    """The value as a float; TypeError or ValueError for text, True and what is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{str(value)[:50]!r} is no number")
    if not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return float(value)


def checked_channels(value: Any) -> int:
    """1 or 3; ValueError for anything else."""
    if isinstance(value, bool) or value not in CHANNELS:
        raise ValueError(f"a model of {str(value)[:50]} channels")
    return int(value)


def checked_chains(value: Any) -> tuple[dict[str, Any], ...]:
    """The fitted preprocessing of each channel; TypeError for anything but a list of dicts."""
    if not isinstance(value, list) or not all(isinstance(chain, dict) for chain in value):
        raise TypeError("the chains are no list of records")
    return tuple(value)


def checked_training(value: Any) -> dict[str, Any]:
    """`Model.training`, with numbers where numbers are used; KeyError, TypeError or ValueError otherwise."""
    if not isinstance(value, dict):
        raise TypeError("the training is no record")
    for level in value.get("kl", ()):
        number(level)
    for name in ("mse_training", "mse_held_out", "elbo_training", "elbo_held_out"):
        if name in value:
            number(value[name])
    images = value.get("trained_on", [])
    if not isinstance(images, list) or not all(isinstance(image, dict) and _is_name(image["name"]) for image in images):
        raise TypeError("the images are no list of records with names")
    adapted = value.get("adapted")
    while adapted is not None:
        if not isinstance(adapted["accepted"], bool):
            raise TypeError("whether the adapting was accepted is neither true nor false")
        number(adapted["steps"]), number(adapted["gained_db"])
        if adapted.get("stopped_at") is not None:
            number(adapted["stopped_at"])
        adapted = adapted.get("before")
    return value


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def check_tensors(path: str | os.PathLike[str], network: HierarchicalVAE) -> None:
    """ValueError unless the file holds exactly the tensors of the network, in its dtypes; none of them is read.

    Parameters
    ----------
    path : path
        Of a safetensors file, which is checked to be as long as its header claims.
    network : HierarchicalVAE
        May lie on the device "meta", which takes no memory.
    """
    from safetensors import safe_open

    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        if names != wanted.keys():
            odd = sorted(names ^ wanted.keys())[0]
            raise ValueError(
                f"the weights {odd[:100]!r} are {'not those of its network' if odd in names else 'missing'}"
            )
        for name, shape in wanted.items():
            held = file.get_slice(name)
            if tuple(held.get_shape()) != shape or held.get_dtype() != "F32":
                raise ValueError(
                    f"the weights {name!r} are {held.get_dtype()} of shape {tuple(held.get_shape())}, "
                    f"and those of its network F32 of shape {shape}"
                )
