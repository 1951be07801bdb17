"""From whatever the user has to prepared planes and their noise: the first two phases of a restoration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.chain import Step, format_chain
from napari_vae_repair.errors import InputError, SettingsError
from napari_vae_repair.image.axes import Layout, axes_letters, default_axes
from napari_vae_repair.image.preprocess import FittedChain, fit_chain
from napari_vae_repair.image.record import NAMELESS, Image, check_pixels
from napari_vae_repair.noise.estimate import estimate_noise
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.settings import EstimatedNoise, GivenNoise, Settings


def as_image(image: Any, axes: str | None = None, mask: Any = None) -> Image:
    """An array, a dask array, a napari Image layer or an `Image` as an `Image`; `axes` and `mask` replace its own.

    Raises
    ------
    InputError
        If it is none of these, or no restoration could use it.
    """
    name = NAMELESS
    if isinstance(image, Image):
        masked = image.mask if mask is None else np.asarray(mask)
        return replace(image, axes=axes or image.axes, mask=masked)
    if hasattr(image, "multiscale") and hasattr(image, "rgb"):  # a napari Image layer, told without importing napari
        name = str(image.name)
        axes = axes or axes_letters(image.axis_labels) + ("S" if image.rgb else "")
        image = image.data[0] if image.multiscale else image.data
    elif hasattr(image, "opacity") and hasattr(image, "data"):
        raise InputError(
            f"A {type(image).__name__} layer was given.",
            "Arrays and napari Image layers can be restored.",
            "Choose an Image layer.",
        )
    try:
        pixels = np.asarray(image)
    except ValueError as error:
        raise InputError(
            f"A {type(image).__name__} was given that is no array: {error}.",
            "Arrays, dask arrays and napari Image layers can be restored.",
            "Make an array of it, with rows of one length.",
        ) from error
    check_pixels(pixels)
    return Image(
        pixels,
        default_axes(pixels.shape) if axes is None else axes,
        mask=None if mask is None else np.asarray(mask),
        name=name,
    )


def colour_planes(planes: NDArray[np.generic]) -> NDArray[np.generic]:
    """Without alpha, which is no measured value."""
    return planes[:, :3] if planes.shape[1] == 4 else planes


def mask_planes(image: Image) -> NDArray[np.bool_]:
    """Damage ``(N, Y, X)``."""
    damaged = image.damaged
    layout = Layout(image.axes.replace("S", ""), damaged.shape)
    return np.asarray(layout.to_planes(damaged)[:, 0], dtype=bool)


def check_reference(reference: NDArray[Any], image: Image) -> None:
    """Raise `InputError` unless the truth can be compared with the image, wherever that was measured."""
    if np.shape(reference) != image.pixels.shape:
        raise InputError(
            f"The reference has shape {np.shape(reference)}.",
            f"It must have the image's shape {image.pixels.shape}.",
            "Pass the truth of this very image, uncropped.",
        )
    truth = np.asarray(reference)
    if truth.dtype.kind == "f" and not np.isfinite(truth).all():
        raise InputError(
            "The reference holds NaN or infinite values.",
            "A truth is finite everywhere.",
            "Crop image and reference to where both are known, or leave the reference out.",
        )
    check_pixels(truth)


def prepare(
    planes: NDArray[np.generic], damaged: NDArray[np.bool_], channels: int, steps: tuple[Step, ...]
) -> tuple[list[FittedChain], NDArray[np.float32]]:
    """Each channel through a chain of its own."""
    count = len(planes) // channels
    chains, prepared = [], []
    for index in range(channels):
        part = slice(index * count, (index + 1) * count)
        if channels > 1 and damaged[part].all():
            raise InputError(
                f"Every pixel of channel {index} is damaged or not finite.",
                "Each channel needs something to restore from.",
                "Leave this channel out.",
            )
        chain, values = fit_chain(planes[part], damaged[part], steps, _gain_and_read_noise)
        chains.append(chain)
        prepared.append(values)
    return chains, prepared[0] if channels == 1 else np.concatenate(prepared)


def _gain_and_read_noise(planes: NDArray[np.float32], damaged: NDArray[np.bool_]) -> tuple[float, float, float]:
    noise = estimate_noise(planes, damaged)
    return noise.gain, noise.read_noise, noise.offset


def characterise(
    prepared: NDArray[np.float32], damaged: NDArray[np.bool_], chains: list[FittedChain], settings: Settings
) -> tuple[NoiseModel, ...]:
    """The noise of each channel, on the very values on which the likelihood is evaluated."""
    told = told_noise(prepared, damaged, chains, settings)
    if told is not None:
        return tuple(led_through(told, chain) for chain in chains)
    count = len(prepared) // len(chains)
    parts = [slice(index * count, (index + 1) * count) for index in range(len(chains))]
    return tuple(estimate_noise(prepared[part], damaged[part]) for part in parts)


def told_noise(
    prepared: NDArray[np.float32],
    damaged: NDArray[np.bool_],
    chains: list[FittedChain],
    settings: Settings,
    correlation: tuple[float, float] = (0.0, 0.0),
) -> NoiseModel | None:
    """What holds for all channels, in the image's own units: given, or estimated from all together; None = neither.

    Parameters
    ----------
    prepared : ndarray of float32
        ``(N, C, Y, X)``, channels of the axis ``C`` slowest.
    damaged : ndarray of bool
        ``(N, Y, X)``.
    chains : list of FittedChain
        One for each channel.
    settings : Settings
    correlation : tuple of float
        Of the noise of neighbours along y and x, for the estimate.

    Raises
    ------
    SettingsError
        If the channels have no units in common.
    """
    noise = settings.noise
    if isinstance(noise, GivenNoise):
        return NoiseModel(noise.gain, noise.read_noise, noise.offset, "given", noise.correlation)
    if not isinstance(noise, EstimatedNoise) or not noise.joint or len(chains) == 1:
        return None
    count = len(prepared) // len(chains)
    together = np.empty_like(prepared)
    for index, chain in enumerate(chains):
        part = slice(index * count, (index + 1) * count)
        scale, offset = _affine_of(chain)
        np.multiply(prepared[part], np.float32(scale), out=together[part])
        together[part] += np.float32(offset)
    return estimate_noise(together, damaged, correlation)


def led_through(noise: NoiseModel, chain: FittedChain) -> NoiseModel:
    """Noise in the image's own units, in those that the chain gives.

    Raises
    ------
    SettingsError
        If the chain is not affine.
    """
    scale, offset = _affine_of(chain)
    return noise.rescaled(1 / scale, -offset / scale)


def _affine_of(chain: FittedChain) -> tuple[float, float]:
    if chain.affine is None:
        steps = format_chain(tuple(fitted.settings for fitted in chain.steps))
        raise SettingsError(
            f"The noise was given in the image's units, or for all channels together, but the chain is '{steps}'.",
            "Such noise can be led through the steps float32 and normalise alone.",
            "Leave the other steps out, or let the noise of each channel be estimated (noise={'kind': 'estimated'}).",
        )
    return chain.affine


def in_source_units(noise: tuple[NoiseModel, ...], chains: list[FittedChain]) -> tuple[NoiseModel, ...] | None:
    """Noise of what the chains give, in the image's own units; None where a chain is not affine."""
    affine = [chain.affine for chain in chains]
    led_back = [model.rescaled(*entry) for model, entry in zip(noise, affine, strict=True) if entry is not None]
    return tuple(led_back) if len(led_back) == len(chains) else None
