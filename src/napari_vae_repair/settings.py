"""Every knob: frozen pydantic models with their defaults, limits and units. No torch, no numpy."""

from __future__ import annotations

import ast
import difflib
import os
import re
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ByteSize, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from napari_vae_repair.errors import SettingsError

_T = TypeVar("_T")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# ---- the preprocessing chain ------------------------------------------------------------------


class Float32(_Frozen):
    """Any integer, bool or float image to float32; its dtype and range are remembered. Invertible."""

    step: Literal["float32"] = "float32"


class Grey(_Frozen):
    """Luminance of RGB(A), by `skimage.color.rgb2gray`; grey images pass. Not invertible."""

    step: Literal["grey"] = "grey"


class ClipNegative(_Frozen):
    """Values below zero to zero. Not invertible."""

    step: Literal["clip_negative"] = "clip_negative"


class Normalise(_Frozen):
    """Affine map of two percentiles to [0, 1], never clipped. Invertible."""

    step: Literal["normalise"] = "normalise"
    low: float = Field(0.5, ge=0, le=100, description="percentile that becomes 0")
    high: float = Field(99.5, ge=0, le=100, description="percentile that becomes 1")

    @model_validator(mode="after")
    def _ordered(self) -> Normalise:
        if self.low >= self.high:
            raise ValueError(f"low={self.low} must lie below high={self.high}")
        return self


class Equalise(_Frozen):
    """Histogram equalisation to [0, 1]: global (invertible) or adaptive (CLAHE, not invertible)."""

    step: Literal["equalise"] = "equalise"
    method: Literal["global", "adaptive"] = "global"
    bins: int = Field(256, ge=2, le=65536, description="histogram bins")
    clip_limit: float = Field(0.01, gt=0, le=1, description="CLAHE only: 1 = strongest contrast")


class Contrast(_Frozen):
    """Local contrast by unsharp masking, `skimage.filters.unsharp_mask`. Not invertible."""

    step: Literal["contrast"] = "contrast"
    sigma: float = Field(1.5, gt=0, le=100, description="radius of the blur, in pixels")
    amount: float = Field(1.0, ge=0, le=10, description="share of the detail that is added")


class Square(_Frozen):
    """Power of the values, their sign kept below zero. Invertible."""

    step: Literal["square"] = "square"
    power: float = Field(2.0, gt=0, le=8)


class Denoise(_Frozen):
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


class NoiseStrength(_Frozen):
    """Adds seeded Gaussian noise. Not invertible."""

    step: Literal["noise_strength"] = "noise_strength"
    std: float = Field(0.02, ge=0, description="standard deviation, in the units that the chain has there")
    seed: int = Field(0, ge=0, lt=2**32)


class Segment(_Frozen):
    """Values above a threshold are scaled by a factor. Invertible with the mask that it keeps."""

    step: Literal["segment"] = "segment"
    threshold: float | Literal["otsu", "li", "triangle"] = 0.5
    factor: float = Field(0.5, gt=0, le=1000)


class Stabilise(_Frozen):
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


# ---- noise, network, training -----------------------------------------------------------------


_Correlation = Annotated[float, Field(ge=0, lt=1)]


class EstimatedNoise(_Frozen):
    """Poisson-Gaussian noise whose gain and read noise are estimated from the pixels."""

    kind: Literal["estimated"] = "estimated"


class GivenNoise(_Frozen):
    """Poisson-Gaussian noise in the layer's own units: variance = gain * max(value - offset, 0) + read_noise**2."""

    kind: Literal["given"] = "given"
    gain: float = Field(0.0, ge=0, description="layer units per detected photon; 0 = Gaussian noise")
    read_noise: float = Field(ge=0, description="standard deviation without light, in layer units")
    offset: float = Field(0.0, description="value without light (camera offset), in layer units")
    correlation: tuple[_Correlation, _Correlation] = Field(
        (0.0, 0.0), description="of the noise of neighbours, along y and x"
    )

    @model_validator(mode="after")
    def _some_noise(self) -> GivenNoise:
        if self.gain == 0 and self.read_noise == 0:
            raise ValueError("gain and read_noise cannot both be 0: the image would have no noise")
        return self


class LearnedNoise(_Frozen):
    """Poisson-Gaussian noise estimated first, then learned along with the network's weights."""

    kind: Literal["learned"] = "learned"


Noise = Annotated[EstimatedNoise | GivenNoise | LearnedNoise, Field(discriminator="kind")]


class Network(_Frozen):
    """The size of the hierarchical VAE; level 0 is the finest, at half the image's resolution."""

    widths: tuple[int, ...] = Field((48, 64, 64), min_length=1, max_length=6, description="features of each level")
    latents: tuple[int, ...] = Field((4, 8, 8), description="latent channels of each level")
    blocks: int = Field(1, ge=1, le=8, description="residual blocks of each level, up and down")
    told: bool = Field(False, description="whether the network can be told the noise beside the image")
    deeper: int = Field(
        0, ge=0, le=1024, description="hidden features of a second way to the finest level's posterior; 0 = none"
    )

    @property
    def stride_px(self) -> int:
        """Grid of the coarsest level, in pixels: height and width of what the network sees are multiples of it."""
        return int(2 ** len(self.widths))

    @model_validator(mode="after")
    def _same_levels(self) -> Network:
        if len(self.widths) != len(self.latents):
            raise ValueError(
                f"widths has {len(self.widths)} levels and latents {len(self.latents)}: give one entry a level to each"
            )
        if min(*self.widths, *self.latents, 1024) < 1 or max(*self.widths, *self.latents) > 1024:
            raise ValueError("widths and latents must lie between 1 and 1024")
        return self


class Training(_Frozen):
    """How a model is trained from scratch."""

    patches_per_epoch: int = Field(
        256, ge=1, le=10**6, description="an epoch is this many patches, whatever the layer's size"
    )
    patch_px: int = Field(64, ge=8, le=1024, description="side of a patch, in pixels")
    batch_size: int = Field(8, ge=1, le=1024)
    learning_rate: float = Field(3e-3, gt=0, le=1)
    kl_warmup: float = Field(0.1, ge=0, le=1, description="share of the run over which the KL weight rises to 1")
    free_bits: float = Field(1e-3, ge=0, description="KL in nats per latent value that costs nothing")
    held_out: float = Field(0.05, gt=0, le=0.5, description="share of the area that leaves the loss, for validation")


STARTER, SCRATCH = "starter", "scratch"
DEVICE_PATTERN = r"^(auto|cpu|mps|cuda(:\d+)?)$"
LEAST_MEMORY_MB = 256
DEFAULT_SAMPLES = 16  # of a model of one image, whose mean of samples is better than its one pass

# ---- all of it --------------------------------------------------------------------------------


class Settings(_Frozen):
    """Everything that decides a restoration; with the same settings and pixels, the same result."""

    preset: Literal["standard", "classic"] = "standard"
    chain: tuple[Step, ...] | None = Field(
        None, description="the preprocessing steps in their order; None = the preset's"
    )
    model: str = Field(
        STARTER, description='"starter" has been trained, "scratch" trains on the image, else the path of a saved model'
    )
    epochs: int = Field(50, ge=1, le=100_000, description="of a training from scratch")
    adapt_seconds: float = Field(0.0, ge=0, le=86_400, description="how long the starter is adapted to the image")
    adapt_steps: int | None = Field(None, ge=1, le=10**6, description="the same as a count, which can be repeated")
    adapt_stop: int | None = Field(
        None, ge=3, le=10**6, description="of the steps, after how many adapting was ended early"
    )
    samples: int | None = Field(
        None, ge=0, le=1000, description="posterior samples; None = 0 with the starter, 16 with a model of one image"
    )
    keep_samples: bool = Field(False, description="give the single samples back as well")
    noise: Noise = EstimatedNoise()
    network: Network = Network()
    training: Training = Training()
    device: str = Field("auto", pattern=DEVICE_PATTERN, description="auto = CUDA, then MPS, then CPU")
    tile_px: int | None = Field(
        None, ge=64, le=16384, description="side of the tiles of a restoration, in pixels; None = as memory allows"
    )
    memory_mb: int | None = Field(
        None, ge=LEAST_MEMORY_MB, description="most memory that a run may use, in MB (10**6 bytes); None = what is free"
    )
    allow_cpu: bool = Field(False, description="go on on the CPU where the smallest tile exhausts a GPU")
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="before")
    @classmethod
    def _training_where_only_that_can_follow(cls, given: Any) -> Any:
        if isinstance(given, dict) and "model" not in given and trains_alone(given):
            return given | {"model": SCRATCH}
        return given

    @model_validator(mode="after")
    def _chain_begins_with_float32(self) -> Settings:
        if self.chain is not None and (not self.chain or not isinstance(self.chain[0], Float32)):
            raise ValueError("the chain must begin with the step float32")
        return self

    @property
    def adapts(self) -> bool:
        """Whether the starter is trained further on the image."""
        return self.adapt_seconds > 0 or self.adapt_steps is not None

    def without_adapting(self) -> Settings:
        """The same for a model that is used as it is."""
        return self.model_copy(update={"adapt_seconds": 0.0, "adapt_steps": None, "adapt_stop": None})

    @model_validator(mode="after")
    def _a_starter_adapts(self) -> Settings:
        if self.adapts and self.model == SCRATCH:
            raise ValueError("the starter can be adapted, a training from scratch cannot: leave model or adapt_* out")
        return self

    @model_validator(mode="after")
    def _something_is_kept(self) -> Settings:
        if self.keep_samples and self.samples == 0:
            raise ValueError("keep_samples needs samples: ask for 2 or more")
        return self

    @property
    def steps(self) -> tuple[Step, ...]:
        """The preprocessing steps in force."""
        return PRESETS[self.preset] if self.chain is None else self.chain


def make_settings(settings: Settings | None = None, **changes: Any) -> Settings:
    """Settings with single fields changed; `chain` may be given as text (see `parse_chain`).

    What only a training from scratch can follow (`epochs`, `network`, `training`, learned noise, the preset "classic")
    means one, unless a model is named too.

    Raises
    ------
    SettingsError
        For an unknown name (the near ones are listed) or a value out of range.
    """
    for name in changes:
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name, Settings.model_fields, n=3, cutoff=0.4) or list(
                Settings.model_fields
            )
            raise SettingsError(
                f"There is no setting {name!r}.",
                f"Near names: {', '.join(near)}.",
                "Correct the name; Settings.model_fields lists them all.",
            )
    if isinstance(changes.get("model"), os.PathLike):
        changes["model"] = os.fspath(changes["model"])
    if isinstance(changes.get("chain"), str):
        changes["chain"] = parse_chain(changes["chain"])
    before = {} if settings is None else settings.model_dump()
    if "model" not in changes and trains_alone(changes):
        changes["model"] = SCRATCH
    # the chain of an earlier choice must not outlive a newly chosen preset
    if "preset" in changes and "chain" not in changes:
        before.pop("chain", None)
    return _validated(TypeAdapter(Settings), before | _plain(changes))


def trains_alone(changes: dict[str, Any]) -> bool:
    """Whether these settings, without a model named beside them, mean a training from scratch."""
    noise = changes.get("noise")
    kind = noise.get("kind") if isinstance(noise, dict) else getattr(noise, "kind", None)
    return bool({"epochs", "network", "training"} & changes.keys()) or (
        changes.get("preset") == "classic" or kind == "learned"
    )


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
    return _validated(TypeAdapter(tuple[Step, ...]), steps)


def format_chain(steps: tuple[Step, ...]) -> str:
    """The text that `parse_chain` reads; parameters at their defaults are left out."""
    parts = []
    for step in steps:
        changed = step.model_dump(exclude_defaults=True)
        inner = ", ".join(f"{name}={value}" for name, value in changed.items())
        parts.append(step.step + (f"({inner})" if inner else ""))
    return ", ".join(parts)


def parse_memory(text: str) -> int:
    """`Settings.memory_mb` that a text such as ``2GB``, ``1.5 GiB`` or ``800MB`` means, in MB (10**6 bytes).

    Raises
    ------
    SettingsError
        For text that is no amount of memory with its unit, or less than the smallest `memory_mb`.
    """
    try:
        megabytes = TypeAdapter(ByteSize).validate_python(text) // 10**6
        if text.strip()[-1:].isalpha() and megabytes >= LEAST_MEMORY_MB:
            return int(megabytes)
    except ValidationError:
        pass
    raise SettingsError(
        f"The memory {text!r} was refused.",
        f"A number with its unit is needed, {LEAST_MEMORY_MB} MB or more.",
        "Write it as in 2GB, 1.5GiB or 800MB.",
    )


def _plain(value: Any) -> Any:
    """Models inside `value` as dicts, so that pydantic reports errors by their full path."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _validated(adapter: TypeAdapter[_T], value: Any) -> _T:
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
