"""`FittedStep`: one step of the chain with what it learned from an image, and its form in a model file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from napari_vae_repair.chain import Step
from napari_vae_repair.errors import InputError

State = dict[str, Any]
Window = tuple[slice, slice]

STATE_KEYS: dict[str, tuple[str, ...]] = {
    "float32": ("dtype", "low", "high"),
    "normalise": ("offset", "scale"),
    "equalise": ("low", "high", "cdf"),
    "denoise": ("std",),
    "segment": ("threshold",),
    "stabilise": ("gain", "read_noise", "offset"),
}


@dataclass(frozen=True, slots=True)
class FittedStep:
    """One step with what it learned from an image.

    Attributes
    ----------
    settings : Step
        The step's own settings.
    state : dict
        Numbers, texts and lists; the entries are `STATE_KEYS`.
    mask : ndarray of bool, (N, C, Y, X), or None
        Where a `Segment` step scaled the planes that the chain last ran over; it is not saved.
    """

    settings: Step
    state: State
    mask: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)

    def mask_of(
        self, n: int, channel: int, window: Window | None, rows: slice, shape: tuple[int, ...]
    ) -> NDArray[np.bool_]:
        """The rows `rows` of the mask within `window` of one channel of plane `n`.

        Raises
        ------
        InputError
            When there is no mask, or when it does not have `shape` there.
        """
        if self.mask is None:
            raise _mask_error("The chain has no mask", shape)
        if n >= len(self.mask) or channel >= self.mask.shape[1]:
            raise _mask_error(f"The mask has shape {self.mask.shape}, without plane {n} or channel {channel},", shape)
        part: NDArray[np.bool_] = self.mask[n, channel]
        part = (part if window is None else part[window])[rows]
        if part.shape != shape:
            raise _mask_error(f"The mask covers {part.shape} pixels", shape)
        return part

    def to_dict(self) -> dict[str, Any]:
        """Settings and state as JSON knows them, without the mask."""
        return {"settings": self.settings.model_dump(mode="json"), "state": dict(self.state)}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> FittedStep:
        """The step that `to_dict` described; KeyError, TypeError or ValueError where it describes none."""
        settings: Step = TypeAdapter(Step).validate_python(saved["settings"])
        state = dict(saved["state"])
        keys = STATE_KEYS.get(settings.step, ())
        if set(keys) != set(state):
            raise KeyError(*sorted(set(keys) ^ set(state)))
        for key in keys:
            numbers = () if key == "dtype" else state[key] if key == "cdf" else [state[key]]
            if not all(math.isfinite(number) for number in numbers):
                raise ValueError(key)
        no_scale = "scale" in keys and state["scale"] <= 0
        strength = [state[key] for key in ("gain", "read_noise") if key in keys]
        no_noise = bool(strength) and (min(strength) < 0 or max(strength) == 0)
        if no_scale or no_noise:
            raise ValueError(settings.step)
        return cls(settings, state)


def _mask_error(received: str, shape: tuple[int, ...]) -> InputError:
    return InputError(
        f"{received} of the step 'segment', which must be undone for {shape} pixels.",
        "The inverse of 'segment' needs the mask of the very planes that it is applied to.",
        "Use the chain that fit_chain or refit_masks returned for these planes, with their plane and window.",
    )
