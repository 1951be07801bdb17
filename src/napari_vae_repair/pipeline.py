"""Prepare, characterise, fit, restore, compare: the page to read first."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.errors import Cancelled, InputError, SettingsError
from napari_vae_repair.image.axes import Layout, axes_letters, default_axes
from napari_vae_repair.image.compare import compare_planes, psnr, residual_correlation
from napari_vae_repair.image.preprocess import FittedChain, fit_chain
from napari_vae_repair.image.record import Image
from napari_vae_repair.noise.estimate import estimate_noise
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.report import Report
from napari_vae_repair.settings import GivenNoise, Settings, Step, format_chain, make_settings
from napari_vae_repair.vae.checkpoint import load_model
from napari_vae_repair.vae.device import Device, choose_device
from napari_vae_repair.vae.predict import Posterior, latent_means, predict_steps
from napari_vae_repair.vae.record import Losses, Model
from napari_vae_repair.vae.train import Prepared, steps_of, train

SCRATCH = "scratch"
WHITE_WITHIN = 0.15  # |correlation| of neighbouring residuals that is still called white


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a restoration.

    Attributes
    ----------
    phase : str
        "prepare", "train", "restore" or "report", in this order; "train" is left out with a saved model.
    done, total : int
        Steps of the phase.
    losses : Losses or None
        What the training step measured.
    model : Model or None
        The trained or loaded model, as soon as there is one.
    """

    phase: str
    done: int
    total: int
    losses: Losses | None = None
    model: Model | None = None


@dataclass(frozen=True, slots=True)
class Restoration:
    """What came of one restoration; all images are float32, in one domain (`Report.inverted_to`).

    Attributes
    ----------
    restored : ndarray of float32
        Mean of the posterior samples, in the axes `axes`.
    residual : ndarray of float32
        ``prepared - restored``.
    std : ndarray of float32
        Standard deviation over the samples at each pixel (0 with one sample).
    samples : ndarray of float32 or None
        ``(samples, *restored.shape)`` with ``keep_samples=True``.
    prepared : ndarray of float32
        The image after the preprocessing chain, led back as far as the results; damage filled by neighbours.
    axes : str
        Letters of the dimensions of `restored`; an alpha channel and, after grey, the colour samples are gone.
    noise : tuple of NoiseModel
        One for each channel of ``C``, in prepared units.
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
    axes: str
    noise: tuple[NoiseModel, ...]
    segmentation: NDArray[np.bool_] | None
    report: Report
    model: Model
    settings: Settings


def restore(
    image: Any,
    settings: Settings | None = None,
    *,
    axes: str | None = None,
    mask: NDArray[np.bool_] | None = None,
    reference: NDArray[Any] | None = None,
    on_step: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    **changes: Any,
) -> Restoration:
    """Restore an image with a variational autoencoder.

    Parameters
    ----------
    image : array, dask array or napari Image layer
        Any real dtype, 2-D to 5-D; never written to.
    settings : Settings, optional
        All knobs; the defaults train a model on the image.
    axes : str, optional
        One letter a dimension, as in "ZYX", "TCZYX" or "YXS"; None = napari's convention (`image.axes.default_axes`).
    mask : ndarray of bool, optional
        True = damaged: left out of the likelihood and filled. NaN and infinite pixels always are.
    reference : array, optional
        The truth, in the image's shape and units, for the report.
    on_step : callable, optional
        Called with each `Progress`.
    should_stop : callable, optional
        Polled before each training step and each layer of a prediction; True ends the run with `Cancelled`.
    **changes
        Single fields of `settings`, as in ``restore(x, epochs=20, preset="classic")``; `model` may also be a `Model`.

    Returns
    -------
    Restoration

    Raises
    ------
    InputError
        The image, axes, mask or reference cannot be used.
    SettingsError
        A setting is unknown, out of range, or contradicts another.
    ModelFileError
        The model file cannot be used.
    DeviceError, DeviceMemoryError
        The device is absent, or its memory exhausted.
    TrainingError
        Training diverged.
    Cancelled
        `should_stop` said so.
    """
    given = changes.pop("model") if isinstance(changes.get("model"), Model) else None
    chosen = make_settings(settings, **changes)
    steps = restore_steps(
        as_image(image, axes, mask), chosen, reference=reference, model=given, should_stop=should_stop or _never
    )
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            result: Restoration = end.value
            return result
        if on_step is not None:
            on_step(progress)


def restore_steps(
    image: Image,
    settings: Settings,
    *,
    reference: NDArray[Any] | None = None,
    model: Model | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Progress, None, Restoration]:
    """The steps of `restore`, one at a time, for callers with an event loop of their own.

    Parameters
    ----------
    image : Image
        What to restore.
    settings : Settings
        All knobs.
    reference : array, optional
        The truth, in the image's shape and units.
    model : Model, optional
        Takes the place of `settings.model`.
    should_stop : callable
        True ends the run with `Cancelled`.

    Yields
    ------
    Progress

    Raises
    ------
    VaeRepairError
        As `restore`.
    """
    clock = _Clock()
    device = choose_device(settings.device)
    if model is None and settings.model != SCRATCH:
        model = load_model(settings.model)
    if reference is not None and np.shape(reference) != image.pixels.shape:
        raise InputError(
            f"The reference has shape {np.shape(reference)}.",
            f"It must have the image's shape {image.pixels.shape}.",
            "Pass the truth of this very image, uncropped.",
        )
    yield Progress("prepare", 0, 1, model=model)
    layout = Layout(image.axes, image.pixels.shape)
    planes, damaged = _colour_planes(layout.to_planes(image.pixels)), _mask_planes(image)
    chains, prepared = _prepare(planes, damaged, layout.channels, settings.steps if model is None else model.settings.steps)
    noise = _characterise(prepared, damaged, chains, settings)
    channel = np.repeat(np.arange(layout.channels), len(prepared) // layout.channels)
    clock.stop("prepare")
    _stop_if(should_stop, "prepare")
    yield Progress("prepare", 1, 1, model=model)

    notes = []
    if model is None:
        model = yield from _fit(Prepared(prepared, damaged, channel, noise), chains, settings, device, should_stop)
        noise = model.noise
        clock.stop("train")
    else:
        notes += _loaded_model_notes(model, settings, prepared.shape[1])
    posterior = yield from _restore(model, prepared, damaged, settings, device, should_stop)
    clock.stop("restore")

    yield Progress("report", 0, 1, model=model)
    result = _Result(layout, chains, prepared, damaged, posterior)
    compared = None if reference is None else _against(reference, result)
    clock.stop("report")
    report = _report(result, noise, model, settings, device, clock.seconds, compared, notes)
    yield Progress("report", 1, 1, model=model)
    return result.restoration(noise, report, model, settings)


def encode(
    image: Any, model: Model | str | os.PathLike[str], *, axes: str | None = None, mask: NDArray[np.bool_] | None = None, device: str = "auto"
) -> tuple[NDArray[np.float32], ...]:
    """Latent means of an image as feature maps.

    Parameters
    ----------
    image, axes, mask
        As `restore`.
    model : Model or path
        Trained or saved.
    device : str
        As `Settings.device`.

    Returns
    -------
    tuple of ndarray of float32
        For each level, finest first, ``(N, latents, Y', X')``: N planes with ``C`` slowest, and ``Y' = Y / 2**(level + 1)``.

    Raises
    ------
    VaeRepairError
        As `restore`.
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    chosen = as_image(image, axes, mask)
    layout, damaged = Layout(chosen.axes, chosen.pixels.shape), _mask_planes(chosen)
    planes = _colour_planes(layout.to_planes(chosen.pixels))
    _, prepared = _prepare(planes, damaged, layout.channels, loaded.settings.steps)
    _check_channels(loaded, prepared.shape[1])
    return latent_means(loaded, prepared, damaged, choose_device(device))


def as_image(image: Any, axes: str | None = None, mask: Any = None) -> Image:
    """An array, a dask array or a napari Image layer as an `Image`.

    Raises
    ------
    InputError
        If it is none of these, or no restoration could use it.
    """
    name = "image"
    if isinstance(image, Image):
        return image
    if hasattr(image, "multiscale") and hasattr(image, "rgb"):  # a napari Image layer, told without importing napari
        name = str(image.name)
        axes = axes or axes_letters(image.axis_labels) + ("S" if image.rgb else "")
        image = image.data[0] if image.multiscale else image.data
    elif hasattr(image, "data") and hasattr(image, "opacity"):
        raise InputError(
            f"A {type(image).__name__} layer was given.", "Arrays and napari Image layers can be restored.", "Choose an Image layer."
        )
    pixels = np.asarray(image)
    return Image(
        pixels,
        default_axes(pixels.shape) if axes is None else axes,
        mask=None if mask is None else np.asarray(mask),
        name=name,
    )


# ---- the phases -------------------------------------------------------------------------------


class _Clock:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase], self._last = now - self._last, now


def _colour_planes(planes: NDArray[np.generic]) -> NDArray[np.generic]:
    """Without alpha, which is no measured value."""
    return planes[:, :3] if planes.shape[1] == 4 else planes


def _mask_planes(image: Image) -> NDArray[np.bool_]:
    """Damage ``(N, Y, X)``."""
    damaged = image.damaged
    layout = Layout(image.axes.replace("S", ""), damaged.shape)
    return np.asarray(layout.to_planes(damaged)[:, 0], dtype=bool)


def _prepare(
    planes: NDArray[np.generic], damaged: NDArray[np.bool_], channels: int, steps: tuple[Step, ...]
) -> tuple[list[FittedChain], NDArray[np.float32]]:
    """Each channel through a chain of its own."""
    count = len(planes) // channels
    chains, prepared = [], []
    for index in range(channels):
        part = slice(index * count, (index + 1) * count)
        chain, values = fit_chain(planes[part], damaged[part], steps, _gain_and_read_noise)
        chains.append(chain)
        prepared.append(values)
    return chains, prepared[0] if channels == 1 else np.concatenate(prepared)


def _gain_and_read_noise(planes: NDArray[np.float32], damaged: NDArray[np.bool_]) -> tuple[float, float]:
    """For `stabilise`, whose read noise is that at the value 0."""
    noise = estimate_noise(planes, damaged)
    return noise.gain, math.sqrt(max(noise.read_noise**2 - noise.gain * noise.offset, 0.0))


def _characterise(
    prepared: NDArray[np.float32], damaged: NDArray[np.bool_], chains: list[FittedChain], settings: Settings
) -> tuple[NoiseModel, ...]:
    """The noise of each channel, on the very values on which the likelihood is evaluated."""
    count = len(prepared) // len(chains)
    out = []
    for index, chain in enumerate(chains):
        part = slice(index * count, (index + 1) * count)
        if isinstance(settings.noise, GivenNoise):
            out.append(_given_noise(settings.noise, chain))
        else:
            out.append(estimate_noise(prepared[part], damaged[part]))
    return tuple(out)


def _given_noise(given: GivenNoise, chain: FittedChain) -> NoiseModel:
    if chain.affine is None:
        raise SettingsError(
            f"The noise was given in the image's units, but the chain is '{format_chain(tuple(s.settings for s in chain.steps))}'.",
            "Given noise can be led through the steps float32 and normalise alone.",
            "Leave the other steps out, or let the noise be estimated (noise={'kind': 'estimated'}).",
        )
    scale, offset = chain.affine
    return NoiseModel(given.gain, given.read_noise, given.offset, "given").rescaled(1 / scale, -offset / scale)


def _fit(
    prepared: Prepared, chains: list[FittedChain], settings: Settings, device: Device, should_stop: Callable[[], bool]
) -> Generator[Progress, None, Model]:
    _, total = steps_of(settings)
    steps = train(_padded(prepared, 2 ** len(settings.network.widths)), settings, device)
    for done in range(1, total + 1):
        losses = next(steps)
        yield Progress("train", done, total, losses)
        _stop_if(should_stop, "train")
    try:
        next(steps)
    except StopIteration as end:
        model = replace(end.value, chains=tuple(chain.to_dict() for chain in chains))
    yield Progress("train", total, total, model=model)
    return model


def _padded(prepared: Prepared, side: int) -> Prepared:
    """Mirrored up to the smallest patch, for images smaller than that; what was added counts as damaged."""
    missing = [(0, max(0, side - length)) for length in prepared.planes.shape[2:]]
    if not any(after for _, after in missing):
        return prepared
    planes = np.pad(prepared.planes, [(0, 0), (0, 0), *missing], mode="symmetric")
    damaged = np.pad(prepared.damaged, [(0, 0), *missing], constant_values=True)
    return replace(prepared, planes=planes, damaged=damaged)


def _restore(
    model: Model,
    prepared: NDArray[np.float32],
    damaged: NDArray[np.bool_],
    settings: Settings,
    device: Device,
    should_stop: Callable[[], bool],
) -> Generator[Progress, None, Posterior]:
    _check_channels(model, prepared.shape[1])
    steps = predict_steps(
        model,
        prepared,
        damaged,
        samples=settings.samples,
        keep_samples=settings.keep_samples,
        seed=settings.seed,
        tile_px=settings.tile_px,
        device=device,
        should_stop=should_stop,
    )
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            posterior: Posterior = end.value
            return posterior
        yield Progress("restore", done, total, model=model)


def _check_channels(model: Model, channels: int) -> None:
    if model.network.channels != channels:
        kinds = {1: "grey images (1 channel)", 3: "colour images (3 channels)"}
        raise InputError(
            f"The image has {channels} channel(s) after the chain.",
            f"The model was trained on {kinds.get(model.network.channels, f'{model.network.channels} channels')}.",
            "Use a model of the same kind, train a new one, or put the step grey into the chain that you train with.",
        )


def _loaded_model_notes(model: Model, settings: Settings, channels: int) -> list[str]:
    _check_channels(model, channels)
    if settings.steps == model.settings.steps:
        return []
    return [f"the saved model's own preprocessing was used: {format_chain(model.settings.steps)}"]


def _stop_if(should_stop: Callable[[], bool], phase: str) -> None:
    if should_stop():
        raise Cancelled(phase)


def _never() -> bool:
    return False


# ---- results ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Result:
    """Prepared and restored planes, led back and laid out on request."""

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
            None if self.posterior.samples is None else np.stack([self._led_back(s, "sample") for s in self.posterior.samples]),
        )
        self.prepared = self._led_back(self.prepared, "sample")

    def _by_channel(self, function: Callable[[FittedChain, slice], NDArray[np.float32]]) -> NDArray[np.float32]:
        count = len(self.prepared) // len(self.chains)
        parts = [function(chain, slice(i * count, (i + 1) * count)) for i, chain in enumerate(self.chains)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _led_back(self, planes: NDArray[np.float32], kind: Any) -> NDArray[np.float32]:
        return self._by_channel(lambda chain, part: chain.invert(planes[part], kind=kind))

    def led_as_prepared(self, planes: NDArray[np.generic]) -> NDArray[np.float32]:
        """Other planes of the source through the same chain and back."""
        return self._by_channel(lambda chain, part: _there_and_back(chain, planes[part], self.damaged[part]))

    def restoration(self, noise: tuple[NoiseModel, ...], report: Report, model: Model, settings: Settings) -> Restoration:
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
            axes=self.layout.out_axes(self.prepared.shape[1]),
            noise=noise,
            segmentation=None if segmented is None else out(segmented[:, None]),
            report=report,
            model=model,
            settings=settings,
        )


def _there_and_back(chain: FittedChain, planes: NDArray[np.generic], damaged: NDArray[np.bool_]) -> NDArray[np.float32]:
    fitted, prepared = chain.refit_masks(planes, damaged)
    return fitted.invert(prepared, kind="sample")


def _against(reference: NDArray[Any], result: _Result) -> dict[str, dict[str, float]]:
    """Restored and prepared against the reference, led through the same chain."""
    truth = result.led_as_prepared(_colour_planes(result.layout.to_planes(np.asarray(reference))))
    return {
        "prepared": compare_planes(result.prepared, truth, result.damaged),
        "restored": compare_planes(result.posterior.mean, truth),
    }


def _report(
    result: _Result,
    noise: tuple[NoiseModel, ...],
    model: Model,
    settings: Settings,
    device: Device,
    seconds: dict[str, float],
    compared: dict[str, dict[str, float]] | None,
    notes: list[str],
) -> Report:
    affine = [chain.affine for chain in result.chains]
    in_source = all(entry is not None for entry in affine)
    if in_source:
        noise = tuple(model_.rescaled(*entry) for model_, entry in zip(noise, affine, strict=True) if entry is not None)
    residual = result.prepared - result.posterior.mean
    correlation = residual_correlation(residual, result.damaged)
    chain = result.chains[0]
    return Report(
        inverted_to=chain.inverted_to,
        in_source_units=chain.in_source_units,
        noise=noise,
        noise_in_source_units=in_source,
        reconstruction=_reconstruction(model) | {"image": compare_planes(result.posterior.mean, result.prepared, result.damaged)},
        against_reference=compared,
        kl=tuple(model.training.get("kl", ())),
        collapsed=model.collapsed,
        residual_correlation=correlation,
        residual_std=float(residual[~np.broadcast_to(result.damaged[:, None], residual.shape)].std()),
        damaged_share=float(result.damaged.mean()),
        seconds=dict(seconds),
        device=device.label,
        notes=tuple([*notes, *_warnings(chain, model, settings, correlation)]),
        training=dict(model.training),
    )


def _reconstruction(model: Model) -> dict[str, dict[str, float]]:
    """Of the noisy pixels on which the model was trained, and of those held out."""
    record, span = model.training, model.value_range.high - model.value_range.low
    names = [name for name in ("training", "held_out") if f"mse_{name}" in record]
    return {
        name: {"mse": record[f"mse_{name}"], "psnr": psnr(record[f"mse_{name}"], span), "elbo": record[f"elbo_{name}"]}
        for name in names
    }


def _warnings(chain: FittedChain, model: Model, settings: Settings, correlation: tuple[float, float]) -> list[str]:
    out = []
    if model.collapsed:
        out.append("the posterior collapsed: the result hardly depends on the image; give the noise or train longer")
    if not chain.in_source_units:
        out.append(f"the step '{chain.inverted_to}' cannot be undone, so the results are in the units after it")
    if max(map(abs, correlation)) > WHITE_WITHIN:
        out.append("the residual is not white: the noise is spatially correlated, or structure was removed with it")
    if settings.samples < 2:
        out.append("with one sample there is no uncertainty: std is 0")
    return out
