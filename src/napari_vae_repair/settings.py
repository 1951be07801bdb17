"""Every knob: frozen pydantic models with their defaults, limits and units. No torch, no numpy."""

from __future__ import annotations

import difflib
import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ByteSize, Field, TypeAdapter, ValidationError, model_validator

from napari_vae_repair.chain import PRESETS, Float32, Frozen, Step, parse_chain, validated
from napari_vae_repair.errors import SettingsError

# ---- noise, network, training -----------------------------------------------------------------


_Correlation = Annotated[float, Field(ge=0, lt=1)]


class EstimatedNoise(Frozen):
    """Poisson-Gaussian noise whose gain and read noise are estimated from the pixels."""

    kind: Literal["estimated"] = "estimated"
    joint: bool = Field(
        False,
        description="one noise for all channels, estimated from all of them, as of one camera; else each its own",
    )


class GivenNoise(Frozen):
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


class LearnedNoise(Frozen):
    """Poisson-Gaussian noise estimated first, then learned along with the network's weights."""

    kind: Literal["learned"] = "learned"


Noise = Annotated[EstimatedNoise | GivenNoise | LearnedNoise, Field(discriminator="kind")]


class Network(Frozen):
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


class Training(Frozen):
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


class Settings(Frozen):
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
    def most_kept_samples(self) -> int:
        """How many samples may have to be held in memory; of a model that is not known yet, the most."""
        return (DEFAULT_SAMPLES if self.samples is None else self.samples) * self.keep_samples

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
    return validated(TypeAdapter(Settings), before | _plain(changes))


def trains_alone(changes: dict[str, Any]) -> bool:
    """Whether these settings, without a model named beside them, mean a training from scratch."""
    noise = changes.get("noise")
    kind = noise.get("kind") if isinstance(noise, dict) else getattr(noise, "kind", None)
    return bool({"epochs", "network", "training"} & changes.keys()) or (
        changes.get("preset") == "classic" or kind == "learned"
    )


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
