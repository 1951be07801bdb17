"""The single steps of the preprocessing chain: what each learns from an image, does and undoes.

Nothing here checks or guards: `preprocess.py` runs the steps in their order, with floating-point
warnings off, and refuses results that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray
from skimage import exposure, filters

from napari_vae_repair.chain import (
    ClipNegative,
    Contrast,
    Denoise,
    Equalise,
    Float32,
    Grey,
    NoiseStrength,
    Normalise,
    Segment,
    Square,
    Stabilise,
    Step,
)
from napari_vae_repair.errors import SettingsError
from napari_vae_repair.image.anscombe import anscombe, inverse_anscombe
from napari_vae_repair.image.filtering import clahe, denoised, luminance, unsharp
from napari_vae_repair.image.fitted import State
from napari_vae_repair.image.measured import Damaged, Planes, bands, measured_range, measured_sample

NoiseEstimator = Callable[[Planes, Damaged], tuple[float, float, float]]

LINEAR_SHARE = 0.01  # of global equalisation: bounds the slope of its inverse where the histogram is empty
TINY_READ_NOISE = 1e-3  # of the values' standard deviation, where neither gain nor read noise was found
GAIN_RESOLUTION = 1e-5  # gain / read_noise below which float32 cannot hold the Anscombe transform's offset


def is_invertible(step: Step) -> bool:
    """Whether `invert_step` can undo the step."""
    if isinstance(step, Equalise):
        return step.method == "global"
    return isinstance(step, Float32 | Normalise | Square | Segment | Stabilise)


# ---- fit ---------------------------------------------------------------------------------------


def fit_step(
    step: Step, planes: Planes, damaged: Damaged, *, dtype: str, estimate_noise: NoiseEstimator | None = None
) -> State:
    """What the step must know of the image, as numbers, texts and lists: its entries are `fitted.STATE_KEYS`.

    Parameters
    ----------
    step : Step
        The step's settings.
    planes : ndarray of float32, (N, C, Y, X)
        The values that reach the step, all finite.
    damaged : ndarray of bool, (N, Y, X)
        True = not measured; such pixels have no influence.
    dtype : str
        The source's dtype.
    estimate_noise : callable or None
        Gives gain, read noise and its offset (`NoiseModel`) of planes; only `Stabilise` without its own asks it.

    Raises
    ------
    SettingsError
        When `Stabilise` has neither its own gain and read noise nor an estimator.
    """
    match step:
        case Float32():
            low, high = measured_range(planes, damaged)
            return {"dtype": dtype, "low": low, "high": high}
        case Normalise():
            return _fit_normalise(step, measured_sample(planes, damaged))
        case Equalise():
            return _fit_equalise(step, planes, damaged)
        case Denoise():
            return {"std": float(measured_sample(planes, damaged).std())}
        case Segment():
            return {"threshold": _threshold(step, planes, damaged)}
        case Stabilise():
            return _fit_stabilise(step, planes, damaged, estimate_noise)
        case _:
            return {}


def _fit_normalise(step: Normalise, sample: NDArray[np.float64]) -> State:
    low, high = (float(value) for value in np.percentile(sample, (step.low, step.high)))
    # sparse images may have equal percentiles; constant ones nothing to scale by
    scale = high - low or float(np.ptp(sample)) or 1.0
    return {"offset": low, "scale": scale}


def _fit_equalise(step: Equalise, planes: Planes, damaged: Damaged) -> State:
    low, high = measured_range(planes, damaged)  # the true ends, which the sample may miss
    if step.method == "adaptive" or low == high:
        return {"low": low, "high": high, "cdf": []}
    sample = np.append(measured_sample(planes, damaged), (low, high))
    cdf = exposure.cumulative_distribution(sample, nbins=step.bins)[0]
    return {"low": low, "high": high, "cdf": [float(value) for value in cdf]}


def _threshold(step: Segment, planes: Planes, damaged: Damaged) -> float:
    if not isinstance(step.threshold, str):
        return step.threshold
    sample = measured_sample(planes, damaged)
    if np.ptp(sample) == 0.0:
        return float(sample[0])  # nothing lies above it
    if step.threshold == "li":
        # the default tolerance is the smallest gap between two values, which floats make needlessly small
        return float(filters.threshold_li(sample, tolerance=np.ptp(sample) / 2**16))
    return float(filters.threshold_otsu(sample) if step.threshold == "otsu" else filters.threshold_triangle(sample))


def _fit_stabilise(step: Stabilise, planes: Planes, damaged: Damaged, estimate_noise: NoiseEstimator | None) -> State:
    if step.gain is not None and step.read_noise is not None:
        gain, read_noise, offset = step.gain, step.read_noise, step.offset
    elif estimate_noise is not None:
        view = planes.view()
        view.flags.writeable = False
        gain, read_noise, offset = (float(value) for value in estimate_noise(view, damaged))
        gain, read_noise = max(gain, 0.0), max(read_noise, 0.0)
    else:
        raise SettingsError(
            "The step stabilise came without gain and read_noise, and there is no noise estimator.",
            "Either both numbers or an estimator are needed.",
            "Write stabilise(gain=..., read_noise=...), or pass estimate_noise to fit_chain.",
        )
    if gain == 0.0 and read_noise == 0.0:
        read_noise = TINY_READ_NOISE * float(measured_sample(planes, damaged).std()) or 1.0
    gain = gain if gain > GAIN_RESOLUTION * read_noise else 0.0
    return {"gain": gain, "read_noise": read_noise, "offset": offset if gain else 0.0}


# ---- apply -------------------------------------------------------------------------------------


def apply_step(step: Step, state: State, planes: Planes) -> Planes:
    """The step's output, float32 ``(N, C', Y, X)``; `planes` is used up: its memory may hold the result.

    Parameters
    ----------
    step : Step
        The step's settings.
    state : dict
        From `fit_step`.
    planes : ndarray of float32, (N, C, Y, X)
        C-contiguous and finite.
    """
    match step:
        case Float32():
            return planes
        case Grey():
            return _each_plane(luminance, planes, channels=1)
        case ClipNegative():
            return np.maximum(planes, np.float32(0), out=planes)
        case Equalise(method="adaptive"):
            return _each_plane(lambda plane: clahe(plane, step, state["low"], state["high"]), planes)
        case Contrast():
            return _each_plane(lambda plane: unsharp(plane, step), planes)
        case Denoise():
            return _each_plane(lambda plane: denoised(plane, step, state["std"]), planes)
        case NoiseStrength():
            for n, plane in enumerate(planes):
                # seeded by the plane's number too: planes differ, and stay the same however many follow
                rng = np.random.default_rng((step.seed, n))
                plane += np.float32(step.std) * rng.standard_normal(plane.shape, dtype=np.float32)
            return planes
        case Segment():
            return np.multiply(planes, np.float32(step.factor), out=planes, where=segment_mask(state, planes))
        case Normalise() | Equalise() | Square() | Stabilise():
            for index, rows in bands(planes.shape):
                planes[index][rows] = _pointwise(step, state, planes[index][rows].astype(np.float64))
            return planes
        case _:
            assert_never(step)


def segment_mask(state: State, planes: Planes) -> NDArray[np.bool_]:
    """Where the values lie above the threshold of a `Segment` step; shape of `planes`."""
    return planes > np.float32(state["threshold"])


def _pointwise(
    step: Normalise | Equalise | Square | Stabilise, state: State, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    match step:
        case Normalise():
            return (values - float(state["offset"])) / float(state["scale"])
        case Equalise():
            return _interpolated(values, *_equalising_curve(state)) if state["cdf"] else values
        case Square():
            return np.copysign(np.abs(values) ** step.power, values)
        case Stabilise():
            return anscombe(values - state["offset"], state["gain"], state["read_noise"])


def _equalising_curve(state: State) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The knots of the strictly increasing map that global equalisation is: bin edges and values in [0, 1]."""
    straight = np.linspace(0.0, 1.0, len(state["cdf"]) + 1)
    edges = state["low"] + straight * (state["high"] - state["low"])
    return edges, (1.0 - LINEAR_SHARE) * np.append(0.0, state["cdf"]) + LINEAR_SHARE * straight


def _interpolated(values: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Piecewise linear between the knots; beyond them on with the mean slope, so that it can be undone."""
    beyond = values - np.clip(values, x[0], x[-1])
    return np.asarray(np.interp(values, x, y) + beyond * ((y[-1] - y[0]) / (x[-1] - x[0])), dtype=np.float64)


def _each_plane(function: Callable[[Planes], Planes], planes: Planes, channels: int | None = None) -> Planes:
    """`function` of each plane ``(C, Y, X)``, in place where the number of channels stays."""
    same = channels is None or channels == planes.shape[1]
    out = planes if same else np.empty((planes.shape[0], channels or 1, *planes.shape[2:]), dtype=np.float32)
    for n, plane in enumerate(planes):
        out[n] = function(plane)
    return out


# ---- invert ------------------------------------------------------------------------------------


def invert_step(
    step: Step,
    state: State,
    values: NDArray[np.float64],
    *,
    kind: Literal["mean", "sample"],
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """The values before an invertible step, from those after it, pixel by pixel.

    Parameters
    ----------
    step : Step
        Settings for which `is_invertible` holds.
    state : dict
        From `fit_step`.
    values : ndarray of float64
        Any shape.
    kind : {"mean", "sample"}
        Whether they are means or single samples: `Stabilise` tells them apart (see `inverse_anscombe`).
    mask : ndarray of bool or None
        For `Segment` only: where it scaled; shape of `values`.
    """
    match step:
        case Normalise():
            return values * float(state["scale"]) + float(state["offset"])
        case Equalise(method="global"):
            return _interpolated(values, *reversed(_equalising_curve(state))) if state["cdf"] else values
        case Square():
            return np.copysign(np.abs(values) ** (1.0 / step.power), values)
        case Segment():
            assert mask is not None
            return np.where(mask, values / step.factor, values)
        case Stabilise():
            return inverse_anscombe(values, state["gain"], state["read_noise"], kind) + float(state["offset"])
        case _:
            return values
