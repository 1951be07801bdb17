"""The steps of the preprocessing chain: frozen models with their defaults and limits, and the text that names them."""

from __future__ import annotations

import ast
import re
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from napari_vae_repair.errors import SettingsError

_T = TypeVar("_T")


class Frozen(BaseModel):
    """Refuses unknown names and NaN, and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Float32(Frozen):
    """Any integer, bool or float image to float32; its dtype and range are remembered. Invertible."""

    step: Literal["float32"] = "float32"


class Grey(Frozen):
    """Luminance of RGB(A), by `skimage.color.rgb2gray`; grey images pass. Not invertible."""

    step: Literal["grey"] = "grey"


class ClipNegative(Frozen):
    """Values below zero to zero. Not invertible."""

    step: Literal["clip_negative"] = "clip_negative"


class Normalise(Frozen):
    """Affine map of two percentiles to [0, 1], never clipped. Invertible."""

    step: Literal["normalise"] = "normalise"
    low: float = Field(0.5, ge=0, le=100, description="percentile that becomes 0")
    high: float = Field(99.5, ge=0, le=100, description="percentile that becomes 1")

    @model_validator(mode="after")
    def _ordered(self) -> Normalise:
        if self.low >= self.high:
            raise ValueError(f"low={self.low} must lie below high={self.high}")
        return self


class Equalise(Frozen):
    """Histogram equalisation to [0, 1]: global (invertible) or adaptive (CLAHE, not invertible)."""

    step: Literal["equalise"] = "equalise"
    method: Literal["global", "adaptive"] = "global"
    bins: int = Field(256, ge=2, le=65536, description="histogram bins")
    clip_limit: float = Field(0.01, gt=0, le=1, description="CLAHE only: 1 = strongest contrast")


class Contrast(Frozen):
    """Local contrast by unsharp masking, `skimage.filters.unsharp_mask`. Not invertible."""

    step: Literal["contrast"] = "contrast"
    sigma: float = Field(1.5, gt=0, le=100, description="radius of the blur, in pixels")
    amount: float = Field(1.0, ge=0, le=10, description="share of the detail that is added")


class Square(Frozen):
    """Power of the values, their sign kept below zero. Invertible."""

    step: Literal["square"] = "square"
    power: float = Field(2.0, gt=0, le=8)


class Denoise(Frozen):
    """A classical denoiser of scikit-image before the VAE. Not invertible."""

    step: Literal["denoise"] = "denoise"
    method: Literal["median", "gaussian", "bilateral", "tv", "wavelet", "nlm"] = "gaussian"
    sigma: float = Field(
        1.0, gt=0, le=50, description="median and Gaussian: radius, in pixels; bilateral: its spatial sigma"
    )
    strength: float = Field(
        0.05,
        gt=0,
        le=10,
        description="TV, NLM, bilateral, wavelet: share of the values' standard deviation that is smoothed",
    )


class NoiseStrength(Frozen):
    """Adds seeded Gaussian noise. Not invertible."""

    step: Literal["noise_strength"] = "noise_strength"
    std: float = Field(0.02, ge=0, description="standard deviation, in the units that the chain has there")
    seed: int = Field(0, ge=0, lt=2**32)


class Segment(Frozen):
    """Values above a threshold are scaled by a factor. Invertible with the mask that it keeps."""

    step: Literal["segment"] = "segment"
    threshold: float | Literal["otsu", "li", "triangle"] = 0.5
    factor: float = Field(0.5, gt=0, le=1000)


class Stabilise(Frozen):
    """Generalised Anscombe transform of Poisson-Gaussian noise to unit variance. Invertible.

    Gain and read noise are estimated from the values that reach the step unless both are given, in the
    units that the chain has there.
    """

    step: Literal["stabilise"] = "stabilise"
    gain: float | None = Field(None, gt=0)
    read_noise: float | None = Field(None, ge=0)
    offset: float = Field(0.0, description="value without light, at which the read noise holds; with given noise alone")

    @model_validator(mode="after")
    def _both_or_none(self) -> Stabilise:
        if (self.gain is None) != (self.read_noise is None):
            raise ValueError("gain and read_noise are given together or not at all")
        return self


Step = Annotated[
    Float32
    | Grey
    | ClipNegative
    | Normalise
    | Equalise
    | Contrast
    | Square
    | Denoise
    | NoiseStrength
    | Segment
    | Stabilise,
    Field(discriminator="step"),
]
STEP_TYPES: dict[str, type[BaseModel]] = {
    kind.model_fields["step"].default: kind for kind in get_args(get_args(Step)[0])
}
PRESETS: dict[str, tuple[Step, ...]] = {
    "standard": (Float32(), Normalise()),
    "classic": (Float32(), Grey(), Equalise(), Contrast(), Square(), Denoise(), NoiseStrength(), Segment()),
}


# ---- as text ----------------------------------------------------------------------------------


def parse_chain(text: str) -> tuple[Step, ...]:
    """The steps that a text such as ``float32, normalise(low=1, high=99), denoise(method=median)`` names.

    Raises
    ------
    SettingsError
        For an unknown step or parameter, a value out of range or text that is no chain.
    """
    steps: list[dict[str, Any]] = []
    rest = text.strip()
    while rest:
        match = re.match(r"(\w+)\s*(?:\(([^()]*)\))?\s*(?:,\s*|$)", rest)
        if match is None or match[1] not in STEP_TYPES:
            raise SettingsError(
                f"The chain cannot be read at {rest!r}.",
                f"Steps are {', '.join(STEP_TYPES)}.",
                "Write them as in 'float32, normalise(low=1, high=99), denoise(method=median)'.",
            )
        pairs = [pair.partition("=") for pair in (match[2] or "").split(",") if pair.strip()]
        steps.append({"step": match[1]} | {name.strip(): _literal(value.strip()) for name, _, value in pairs})
        rest = rest[match.end() :]
    return validated(TypeAdapter(tuple[Step, ...]), steps)


def format_chain(steps: tuple[Step, ...]) -> str:
    """The text that `parse_chain` reads; parameters at their defaults are left out."""
    parts = []
    for step in steps:
        changed = step.model_dump(exclude_defaults=True)
        inner = ", ".join(f"{name}={value}" for name, value in changed.items())
        parts.append(step.step + (f"({inner})" if inner else ""))
    return ", ".join(parts)


def validated(adapter: TypeAdapter[_T], value: Any) -> _T:
    """What the adapter makes of a value; its first complaint as `SettingsError`."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"The setting {where} = {first['input']!r} was refused." if where else "These settings do not go together.",
            f"{first['msg'].removeprefix('Value error, ').capitalize()}.",
            "Correct it, or leave it out for the default.",
        ) from None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
