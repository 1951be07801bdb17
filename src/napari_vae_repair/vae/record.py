"""Records of a training run and of the model that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.image.record import Image
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.settings import Settings
from napari_vae_repair.vae.calibration import Calibration
from napari_vae_repair.vae.model import HierarchicalVAE

# Correlation of neighbours below which the network for white noise is better: on held-out scenes 0.3 to 0.4 dB in the
# mean at 0.03, 0.2 at 0.09 (single scenes lose 0.6), 0 to 0.2 at 0.17; 1.5 worse at 0.4
WHITE_BELOW = 0.1
COLLAPSE_NATS = 3e-3  # per value, over all levels: below it the latents say next to nothing about the image


@dataclass(frozen=True, slots=True)
class ValueRange:
    """Prepared values that become -1 and 1 in the network.

    Attributes
    ----------
    low, high : float
        In prepared units, ``low < high``.
    """

    low: float
    high: float

    @classmethod
    def of(cls, planes: NDArray[np.float32]) -> ValueRange:
        """From the 0.5 and 99.5 percentiles, on a regular subsample of at most about a million pixels."""
        step = max(1, int(np.sqrt(planes.size / 1e6)))
        return cls.of_sample(planes[..., ::step, ::step])

    @classmethod
    def of_sample(cls, values: NDArray[np.floating]) -> ValueRange:
        """From the 0.5 and 99.5 percentiles of values of any shape."""
        low, high = (float(value) for value in np.percentile(values, [0.5, 99.5]))
        if high - low <= 1e-6 * max(abs(low), abs(high)):
            high = low + max(1e-6 * abs(low), 1.0)
        return cls(low, high)

    @property
    def scale(self) -> float:
        """Network units per prepared unit."""
        return 2 / (self.high - self.low)

    @property
    def offset(self) -> float:
        """Network value of a prepared 0."""
        return -1 - self.low * self.scale


@dataclass(frozen=True, slots=True)
class View:
    """How the network is shown a plane.

    Attributes
    ----------
    value_range : ValueRange
        Prepared values that become -1 and 1.
    told : tuple of float or None
        Standard deviation of the noise, in network units, and its correlation between neighbours along y and along x,
        for networks that can be told; None = the network finds out.
    coarser : View or None
        How its means over 2 x 2 pixels are shown, where these are restored too; None = where they are not.
    """

    value_range: ValueRange
    told: tuple[float, float, float] | None = None
    coarser: View | None = None

    @property
    def noise_std(self) -> float | None:
        """Standard deviation of the noise in the units of the plane, where it is told and there is any."""
        return None if self.told is None or self.told[0] <= 0 else self.told[0] / self.value_range.scale

    @property
    def white(self) -> bool:
        """Whether it is known that neighbours share none of the noise, or hardly any."""
        return self.told is not None and max(self.told[1:]) < WHITE_BELOW

    @property
    def scales(self) -> int:
        """At how many scales the plane is restored."""
        return 1 if self.coarser is None else 1 + self.coarser.scales


def most_scales(views: Sequence[View]) -> int:
    """At how many scales any of the planes is restored; 1 where nothing is known of them."""
    return max((view.scales for view in views), default=1)


@dataclass(frozen=True, slots=True)
class Losses:
    """What one step of training or adapting measured, in nats per value of the patch.

    Attributes
    ----------
    loss : float
        What was minimised. Training: nll plus the weighted KL with free bits. Adapting: the squared error of one
        pass in variances of the noise, and a part of nll plus KL.
    nll : float
        Negative log likelihood of the measured values, in network units.
    kl : tuple of float
        KL divergence of each level, finest first.
    validation : float or None
        Negative ELBO of the held-out pixels, after the last step of an epoch.
    """

    loss: float
    nll: float
    kl: tuple[float, ...]
    validation: float | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A trained network with everything needed to use it on another image.

    Attributes
    ----------
    network : HierarchicalVAE
        On the CPU, in evaluation mode; never changed after training.
    settings : Settings
        With which it was trained.
    value_range : ValueRange or None
        Between prepared values and network units; None = taken from each image, as the starter does.
    noise : tuple of NoiseModel
        One for each channel of ``C`` of the training image, in prepared units.
    chains : tuple of dict
        The fitted preprocessing of each channel of the training image.
    training : dict
        Losses of each epoch, steps, seconds and device, and under "trained_on" which images (see `trained_on`).
    calibration : Calibration or None
        Of the spread of its samples; None = not calibrated.
    """

    network: HierarchicalVAE
    settings: Settings
    value_range: ValueRange | None
    noise: tuple[NoiseModel, ...]
    chains: tuple[dict[str, Any], ...]
    training: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None

    @property
    def general(self) -> bool:
        """Whether it restores any image in one pass: the starter, or adapted from it."""
        return self.value_range is None

    @property
    def collapsed(self) -> bool:
        """Whether the posterior collapsed onto the prior, so that the latents say nothing about the image."""
        kl = self.training.get("kl")
        return kl is not None and sum(kl) < COLLAPSE_NATS


def trained_on(model: Model, images: Sequence[Image]) -> Model:
    """The same model, which tells under ``training["trained_on"]`` on which images it was trained.

    Parameters
    ----------
    model : Model
        As it came from training on these images; one that was adapted but not kept has seen none, and stays as it is.
    images : sequence of Image
        Their names, shapes, axes and dtypes are noted with the present time, after those that the model already tells.
    """
    entries = [(image.name, image.pixels.shape, image.axes, str(image.pixels.dtype)) for image in images]
    return noted(model, entries)


def noted(model: Model, images: Sequence[tuple[str, tuple[int, ...], str, str]]) -> Model:
    """As `trained_on`, with name, shape, axes and dtype of each image."""
    if not model.training.get("adapted", {"accepted": True})["accepted"]:
        return model
    date = datetime.now(UTC).isoformat(timespec="seconds")
    new = [
        {"name": name, "shape": list(shape), "axes": axes, "dtype": dtype, "date": date}
        for name, shape, axes, dtype in images
    ]
    return replace(model, training=model.training | {"trained_on": [*model.training.get("trained_on", []), *new]})
