"""Where a training is, so that it can be left and gone on with: the same steps follow as if it had never been left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from napari_vae_repair.vae.patches import Patches


@dataclass(frozen=True, slots=True)
class State:
    """Everything that going on needs beside the plan of the training.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Weights, the optimiser's moments, and where the random numbers are; on the CPU.
    numbers : dict
        The rest, for JSON.
    """

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


class Keeper(Protocol):
    """Who keeps the states of a training."""

    @property
    def saved(self) -> State | None:
        """What to go on from; None = begin."""

    def offer(self, take: Callable[[], State]) -> None:
        """Called after each step; `take` gives the state until the next step begins."""


class Forgetful:
    """Keeps nothing."""

    saved = None

    def offer(self, take: Callable[[], State]) -> None:
        """Nothing is done."""


@dataclass(frozen=True, slots=True)
class Course:
    """The parts of a training that change with its steps.

    Attributes
    ----------
    modules : dict of str to Module
    optimiser : Optimizer
        Adam, or another whose state is tensors of each parameter.
    generator : Generator
    patches : Patches
    """

    modules: dict[str, nn.Module]
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    patches: Patches

    def state(self, **numbers: Any) -> State:
        """As it is now, with further numbers for JSON."""
        tensors = {
            f"{name}.{key}": value
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{key}": value for key, value in moments.items()}
        tensors["generator"] = self.generator.get_state()
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        return State(on_cpu, numbers | {"patches": self.patches.state()})

    def put_back(self, state: State) -> dict[str, Any]:
        """Go on from there; the further numbers are returned.

        Raises
        ------
        KeyError, ValueError, TypeError or RuntimeError
            If the state is none of such a training.
        """
        for name, module in self.modules.items():
            module.load_state_dict(_under(f"{name}.", state.tensors))
        known = self.optimiser.state_dict()
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimiser.", state.tensors).items():
            index, _, key = name.partition(".")
            like = parameters[int(index)]
            # laid out in memory as the parameter is: sums over them could else differ in their last bits
            moments.setdefault(int(index), {})[key] = (
                value if value.shape != like.shape else torch.empty_like(like).copy_(value).detach()
            )
        self.optimiser.load_state_dict(known | {"state": moments})
        self.generator.set_state(state.tensors["generator"])
        numbers = dict(state.numbers)
        self.patches.put_back(numbers.pop("patches"))
        return numbers


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
