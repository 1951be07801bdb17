"""`Restoration`: planes led back into the source's axes, and what they say about themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.image.axes import Layout
from napari_vae_repair.image.compare import compare_planes, psnr, residual_correlation
from napari_vae_repair.image.preprocess import FittedChain
from napari_vae_repair.image.survey import Region
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.preparation import colour_planes
from napari_vae_repair.report import Report
from napari_vae_repair.settings import DEFAULT_SAMPLES, Settings
from napari_vae_repair.trust import Trust, judge
from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.posterior import Posterior
from napari_vae_repair.vae.record import Model

MUCH_MORE_THAN_NOISE = 1.5  # times its variance
WHITE_WITHIN = 0.15  # |correlation| of neighbouring residuals that is still called white
# Standard errors from which on the mean of the residual is no chance, if one of so many pixels is independent
SURELY, SHARING_NOISE = 3.0, 10


@dataclass(frozen=True, slots=True)
class Restoration:
    """What came of one restoration; all images are float32, in one domain (`Report.inverted_to`).

    Attributes
    ----------
    restored : ndarray of float32
        The starter's one pass, with the noisy image's mean where its noise was stabilised, or the mean of the posterior
        samples of a model of one image; in the axes `axes`.
    residual : ndarray of float32
        ``prepared - restored``.
    std : ndarray of float32
        Of each pixel, 0 with less than two samples: with the starter the calibrated error of `restored`, 1.645 times
        which to each side are meant to hold the truth in 90 % of pixels; else the standard deviation over the samples.
    samples : ndarray of float32 or None
        ``(samples, *restored.shape)`` with ``keep_samples=True``.
    prepared : ndarray of float32
        The image after the preprocessing chain, led back as far as the results; damage filled by neighbours.
    damaged : ndarray of bool
        True = was damaged and is filled, in the axes `axes` without ``S``.
    axes : str
        Letters of the dimensions of `restored`; an alpha channel and, after grey, the colour samples are gone.
    noise : tuple of NoiseModel
        One for each channel of ``C``, in the units that `Report.noise` names.
    segmentation : ndarray of bool or None
        Mask of the chain's `segment` step, in the axes `axes` without ``S``.
    report : Report
        What was measured.
    model : Model
        What restored it; may be saved and used again.
    settings : Settings
        With which it was made.
    """

    restored: NDArray[np.float32]
    residual: NDArray[np.float32]
    std: NDArray[np.float32]
    samples: NDArray[np.float32] | None
    prepared: NDArray[np.float32]
    damaged: NDArray[np.bool_]
    axes: str
    noise: tuple[NoiseModel, ...]
    segmentation: NDArray[np.bool_] | None
    report: Report
    model: Model
    settings: Settings

    def trust(self, should_stop: Callable[[], bool] | None = None) -> Trust:
        """How far it can be trusted, number by number; see `judge`. Computed anew at each call (half a second)."""
        return judge(
            self.prepared,
            self.restored,
            self.std,
            self.damaged,
            self.axes,
            self.report,
            calibrated=self.model.calibration is not None,
            should_stop=should_stop,
        )


@dataclass(slots=True)
class Result:
    """Prepared and restored planes, led back on construction and laid out on request."""

    layout: Layout
    chains: list[FittedChain]
    prepared: NDArray[np.float32]
    damaged: NDArray[np.bool_]
    posterior: Posterior

    def __post_init__(self) -> None:
        mean = self.posterior.mean
        self.posterior = Posterior(
            self._led_back(mean, "mean"),
            self._by_channel(lambda chain, part: chain.invert_std(mean[part], self.posterior.std[part])),
            None
            if self.posterior.samples is None
            else np.stack([self._led_back(s, "mean") for s in self.posterior.samples]),
        )
        self.prepared = self._led_back(self.prepared, "sample")

    def keep_means(self, channels: list[bool], regions: Sequence[Region]) -> None:
        """Noise has no mean: shift the restored colours of the channels so that what is taken away has none either.

        One pass has the least squared error where the noise was stabilised; led back from there it is too dark where
        photons are few, by 14 % of the mean of a confocal image with less than one photon a pixel.
        """
        count = len(self.prepared) // len(self.chains)
        parts = [(slice(region.plane, region.plane + 1), *region.window) for region in regions]
        for index in np.flatnonzero(channels):
            part = slice(index * count, (index + 1) * count)
            taken, good = self.prepared[part] - self.posterior.mean[part], ~self.damaged[part]
            shift = mean_taken([taken[p, :, y, x] for p, y, x in parts], [good[window] for window in parts])
            self.posterior.mean[part] += shift[:, None, None]

    def _by_channel(self, function: Callable[[FittedChain, slice], NDArray[np.float32]]) -> NDArray[np.float32]:
        count = len(self.prepared) // len(self.chains)
        parts = [function(chain, slice(i * count, (i + 1) * count)) for i, chain in enumerate(self.chains)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _led_back(self, planes: NDArray[np.float32], kind: Any) -> NDArray[np.float32]:
        return self._by_channel(lambda chain, part: chain.invert(planes[part], kind=kind))

    def led_as_prepared(self, planes: NDArray[np.generic]) -> NDArray[np.float32]:
        """Other planes of the source through the same chain and back."""
        return self._by_channel(lambda chain, part: _there_and_back(chain, planes[part], self.damaged[part]))

    def restoration(self, report: Report, model: Model, settings: Settings) -> Restoration:
        """Everything in the source's axes."""
        out = self.layout.from_planes
        restored, prepared = out(self.posterior.mean), out(self.prepared)
        samples = self.posterior.samples
        masks = [chain.segmentation for chain in self.chains]
        segmented = None if masks[0] is None else np.concatenate([mask for mask in masks if mask is not None])
        return Restoration(
            restored=restored,
            residual=prepared - restored,
            std=out(self.posterior.std),
            samples=None if samples is None else np.stack([out(sample) for sample in samples]),
            prepared=prepared,
            damaged=out(self.damaged[:, None]),
            axes=self.layout.out_axes(self.prepared.shape[1]),
            noise=report.noise,
            segmentation=None if segmented is None else out(segmented[:, None]),
            report=report,
            model=model,
            settings=settings,
        )


def mean_taken(taken: Sequence[NDArray[np.float32]], good: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """Mean of what was taken away, for each colour; 0 where chance could have made it.

    Parameters
    ----------
    taken : sequence of ndarray
        Prepared less restored, ``(N, C, Y, X)``.
    good : sequence of ndarray of bool
        ``(N, Y, X)``: what was measured.
    """
    shifts = []
    for colour in range(taken[0].shape[1]):
        values = np.concatenate([part[:, colour][measured] for part, measured in zip(taken, good, strict=True)])
        mean = float(values.mean(dtype=np.float64)) if values.size else 0.0
        error = float(values.std(dtype=np.float64)) / np.sqrt(values.size / SHARING_NOISE) if values.size else 0.0
        shifts.append(mean if abs(mean) > SURELY * error else 0.0)
    return np.array(shifts, dtype=np.float32)


def _there_and_back(chain: FittedChain, planes: NDArray[np.generic], damaged: NDArray[np.bool_]) -> NDArray[np.float32]:
    fitted, prepared = chain.refit_masks(planes, damaged)
    return fitted.invert(prepared, kind="sample")


def against_reference(reference: NDArray[Any], result: Result) -> dict[str, dict[str, float]]:
    """Restored and prepared against the reference, led through the same chain."""
    truth = result.led_as_prepared(colour_planes(result.layout.to_planes(np.asarray(reference))))
    return {
        "prepared": compare_planes(result.prepared, truth, result.damaged),
        "restored": compare_planes(result.posterior.mean, truth),
    }


def make_report(
    result: Result,
    noise: tuple[NoiseModel, ...],
    model: Model,
    device: Device,
    seconds: dict[str, float],
    compared: dict[str, dict[str, float]] | None,
    notes: list[str],
    *,
    noise_led_back: bool,
    samples: int,
) -> Report:
    """Everything that was measured, for `Restoration.report`."""
    residual = result.prepared - result.posterior.mean
    correlation = residual_correlation(residual, result.damaged)
    ratio = _residual_over_noise(residual, result, noise) if noise_led_back else None
    chain = result.chains[0]
    return Report(
        inverted_to=chain.inverted_to,
        in_source_units=chain.in_source_units,
        noise=noise,
        noise_in_source_units=noise_led_back,
        reconstruction=_reconstruction(model)
        | {"image": compare_planes(result.posterior.mean, result.prepared, result.damaged)},
        against_reference=compared,
        kl=tuple(model.training.get("kl", ())),
        collapsed=model.collapsed,
        residual_correlation=correlation,
        residual_std=float(residual[~np.broadcast_to(result.damaged[:, None], residual.shape)].std(dtype=np.float64)),
        residual_over_noise=ratio,
        samples=samples,
        damaged_share=float(result.damaged.mean()),
        seconds=dict(seconds),
        device=device.label,
        notes=(*notes, *_warnings(chain, model, noise, correlation, ratio, samples)),
        training=dict(model.training),
    )


def _residual_over_noise(residual: NDArray[np.float32], result: Result, noise: tuple[NoiseModel, ...]) -> float:
    """Mean square of the residual over the mean variance of the noise, in the source's units; mean over channels."""
    count, step = len(residual) // len(noise), max(1, int(np.sqrt(residual[0].size / 1e6)))
    ratios = []
    for index, model in enumerate(noise):
        part = np.s_[index * count : (index + 1) * count, :, ::step, ::step]
        good = np.broadcast_to(~result.damaged[:, None][part], residual[part].shape)
        squares = np.square(residual[part][good], dtype=np.float64)
        variances = model.variance(result.posterior.mean[part][good].astype(np.float64))
        if squares.size:
            ratios.append(float(squares.mean() / variances.mean()))
    return float(np.mean(ratios))


def _reconstruction(model: Model) -> dict[str, dict[str, float]]:
    """Of the noisy pixels on which the model was trained, and of those held out."""
    record = model.training
    if model.value_range is None:
        return {}
    span = model.value_range.high - model.value_range.low
    names = [name for name in ("training", "held_out") if f"mse_{name}" in record]
    return {
        name: {"mse": record[f"mse_{name}"], "psnr": psnr(record[f"mse_{name}"], span), "elbo": record[f"elbo_{name}"]}
        for name in names
    }


def _warnings(
    chain: FittedChain,
    model: Model,
    noise: tuple[NoiseModel, ...],
    correlation: tuple[float, float],
    ratio: float | None,
    samples: int,
) -> list[str]:
    out = []
    if ratio is not None and ratio > MUCH_MORE_THAN_NOISE:
        out.append(
            f"{ratio:.1f} times the noise's variance was taken away: detail went with it"
            f"{'' if model.general else ' (train longer)'}, or the noise is stronger than was estimated (give it)"
        )
    if model.collapsed:
        out.append("the posterior collapsed: the result hardly depends on the image; give the noise or train longer")
    if not chain.in_source_units:
        out.append(f"the step '{chain.inverted_to}' cannot be undone, so the results are in the units after it")
    known = max(value for model_ in noise for value in model_.correlation)
    if max(map(abs, correlation)) > WHITE_WITHIN + known:
        out.append("the residual is not white: the noise is spatially correlated, or structure was removed with it")
    if model.calibration is not None and samples > 1:
        if any(each.source == "assumed" for each in noise):
            out.append("the uncertainty is not calibrated: nothing could be told of the noise")
        elif samples < DEFAULT_SAMPLES:
            out.append(f"the uncertainty was calibrated for {DEFAULT_SAMPLES} samples; with fewer it is rougher")
    if samples == 1:
        out.append("with one sample there is no uncertainty: std is 0")
    return out
