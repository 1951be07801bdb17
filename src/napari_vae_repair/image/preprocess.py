"""The preprocessing chain: fit, apply, invert.

Steps run in their order, each fitted on what the one before it gave; what was fitted is returned, as a
`FittedChain`. Inversion runs from the last step back and stops at the first that has no inverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_vae_repair.chain import Float32, Normalise, Segment, Step
from napari_vae_repair.errors import InputError, ModelFileError, SettingsError
from napari_vae_repair.image.fitted import FittedStep, State, Window
from napari_vae_repair.image.measured import Damaged, Planes, bands, check_finite, fill_damage
from napari_vae_repair.image.steps import (
    NoiseEstimator,
    apply_step,
    fit_step,
    invert_step,
    is_invertible,
    segment_mask,
)

SOURCE = "source"


@dataclass(frozen=True, slots=True)
class FittedChain:
    """The chain as it was fitted on one image; it prepares further planes and leads results back.

    Attributes
    ----------
    steps : tuple of FittedStep
        In the order in which they run.
    """

    steps: tuple[FittedStep, ...]

    @property
    def inverted_to(self) -> str:
        """Name of the last step without inverse, whose output `invert` gives; "source" if there is none."""
        return self.steps[self._kept - 1].settings.step if self._kept else SOURCE

    @property
    def in_source_units(self) -> bool:
        """Whether `invert` leads all the way back to the source's own values."""
        return self._kept == 0

    @property
    def affine(self) -> tuple[float, float] | None:
        """Scale and offset with ``source = scale * prepared + offset``; None when a step is not affine by its kind."""
        scale, offset = 1.0, 0.0
        for fitted in reversed(self.steps):
            if isinstance(fitted.settings, Normalise):
                scale, offset = scale * fitted.state["scale"], offset * fitted.state["scale"] + fitted.state["offset"]
            elif not isinstance(fitted.settings, Float32):
                return None
        return scale, offset

    @property
    def segmentation(self) -> NDArray[np.bool_] | None:
        """``(N, Y, X)``, True where the last `Segment` step scaled any channel; None without its mask."""
        masks = [fitted.mask for fitted in self.steps if fitted.mask is not None]
        return np.asarray(masks[-1].any(axis=1)) if masks else None

    def apply(self, planes: NDArray[np.generic], damaged: Damaged | None = None) -> Planes:
        """Further planes, prepared as the fitted ones were; see `refit_masks` for the arguments and errors."""
        return self.refit_masks(planes, damaged)[1]

    def refit_masks(self, planes: NDArray[np.generic], damaged: Damaged | None = None) -> tuple[FittedChain, Planes]:
        """Further planes prepared with the same state, and the chain that can invert them.

        The two chains differ only in the masks of their `Segment` steps, which belong to the planes.

        Parameters
        ----------
        planes : ndarray, (N, C, Y, X)
            Any boolean, integer or float dtype; C is 1 or 3. Never written to.
        damaged : ndarray of bool, (N, Y, X), or None
            True = not measured, filled from the measured ones around; None = nothing.

        Raises
        ------
        InputError
            As `fit_chain` does.
        """
        if damaged is None:
            damaged = np.zeros((planes.shape[0], *planes.shape[2:]), dtype=bool)
        return _run(planes, damaged, [(fitted.settings, fitted.state) for fitted in self.steps], None)

    def invert(
        self,
        values: NDArray[np.floating[Any]],
        *,
        kind: Literal["mean", "sample"] = "mean",
        plane: int | None = None,
        window: Window | None = None,
    ) -> NDArray[np.float32]:
        """Values in the domain `inverted_to`, in which prepared, restored and residual are compared.

        Parameters
        ----------
        values : ndarray, (..., N, C, Y, X), or (..., C, Y, X) with `plane`
            Prepared or restored values; leading axes (samples) are free.
        kind : {"mean", "sample"}
            "mean" for what stands for a clean image, restored or sampled: `Stabilise` is then undone without bias;
            "sample" for the prepared values themselves, which come back as they were.
        plane : int or None
            The number of the plane that `values` belong to; None = all planes.
        window : tuple of slice or None
            Rows and columns of the planes that `values` cover, without step; None = all.

        Returns
        -------
        ndarray of float32
            Shape of `values`.

        Raises
        ------
        InputError
            When a `Segment` step must be undone and the chain has no mask, or one of another shape; when
            the result is not finite.
        """
        out = np.empty(values.shape, dtype=np.float32)
        with np.errstate(all="ignore"):
            for index, rows in bands(values.shape):
                out[index][rows] = self._inverse(values[index][rows], index, rows, kind, plane, window)
        check_finite(out, "The inverse of the chain")
        return out

    def invert_std(
        self,
        mean: NDArray[np.floating[Any]],
        std: NDArray[np.floating[Any]],
        *,
        plane: int | None = None,
        window: Window | None = None,
    ) -> NDArray[np.float32]:
        """Standard deviations in the domain `inverted_to`, by the delta method.

        The inverse of ``mean + std / 2`` less that of ``mean - std / 2``: exact for affine chains, of first
        order for others. Arguments and errors are those of `invert`; `std` has the shape of `mean`.
        """
        out = np.empty(mean.shape, dtype=np.float32)
        with np.errstate(all="ignore"):
            for index, rows in bands(mean.shape):
                middle, half = mean[index][rows].astype(np.float64), std[index][rows].astype(np.float64) / 2
                high = self._inverse(middle + half, index, rows, "sample", plane, window)
                low = self._inverse(middle - half, index, rows, "sample", plane, window)
                out[index][rows] = np.abs(high - low)
        check_finite(out, "The inverse of the chain")
        return out

    def to_dict(self) -> dict[str, Any]:
        """Settings and state as JSON knows them, for `from_dict`; masks are left out."""
        return {"steps": [fitted.to_dict() for fitted in self.steps]}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> FittedChain:
        """The chain that `to_dict` described.

        Raises
        ------
        ModelFileError
            When `saved` describes no chain: a step is unknown, or its state lacks a number.
        """
        try:
            return cls(tuple(FittedStep.from_dict(entry) for entry in saved["steps"]))
        except (ValidationError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"The saved preprocessing chain cannot be read ({type(error).__name__}).",
                "Each of its steps needs settings and a state as this version writes them.",
                "Save the model again with this version, or train a new one.",
            ) from error

    @property
    def _kept(self) -> int:
        """How many of the first steps are not undone."""
        not_undone = [n for n, fitted in enumerate(self.steps, 1) if not is_invertible(fitted.settings)]
        return max(not_undone, default=0)

    def _inverse(
        self,
        block: NDArray[np.floating[Any]],
        index: tuple[int, ...],
        rows: slice,
        kind: Literal["mean", "sample"],
        plane: int | None,
        window: Window | None,
    ) -> NDArray[np.float64]:
        """The inverse of the rows `rows` of one channel; `index` ends with the plane (unless given) and the channel."""
        values = block.astype(np.float64)
        for fitted in reversed(self.steps[self._kept :]):
            mask = None
            if isinstance(fitted.settings, Segment):
                n = index[-2] if plane is None else plane
                mask = fitted.mask_of(n, index[-1], window, rows, values.shape)
            values = invert_step(fitted.settings, fitted.state, values, kind=kind, mask=mask)
        return values


def fit_chain(
    planes: NDArray[np.generic],
    damaged: Damaged,
    steps: Sequence[Step],
    estimate_noise: NoiseEstimator | None = None,
) -> tuple[FittedChain, Planes]:
    """The chain fitted on an image, and the prepared image.

    Parameters
    ----------
    planes : ndarray, (N, C, Y, X)
        Any boolean, integer or float dtype; C is 1 (grey) or 3 (RGB). Never written to. Values must be
        finite where measured.
    damaged : ndarray of bool, (N, Y, X)
        True = not measured. Such values influence nothing; they are filled from the measured pixels around
        of their plane, or with the median of all where a plane has none.
    steps : sequence of Step
        Begins with `Float32`.
    estimate_noise : callable or None
        Planes ``(N, C, Y, X)`` float32 and `damaged` to gain, read noise and offset in the planes' units; needed
        by `Stabilise` without its own.

    Returns
    -------
    FittedChain
        With everything that `apply` and `invert` need.
    ndarray of float32, (N, C', Y, X)
        The prepared planes, all finite; C' is 1 after `Grey`, else C.

    Raises
    ------
    InputError
        For planes or a damage mask of another shape, planes without a measured pixel, or values that
        leave the range of float32 on the way (the step is named).
    SettingsError
        When the chain does not begin with `Float32`, or when noise must be estimated and cannot be.

    Notes
    -----
    Percentiles, histograms, thresholds and standard deviations are taken from at most about 4 million
    pixels, on a regular grid over rows and columns; of larger images the rest is not looked at.
    """
    if not steps or not isinstance(steps[0], Float32):
        raise SettingsError(
            f"The chain begins with {steps[0].step if steps else 'nothing'!r}.",
            "Its first step must be 'float32'.",
            "Put float32 first, as in 'float32, normalise'.",
        )
    return _run(planes, damaged, [(step, None) for step in steps], estimate_noise)


def extend_chain(chain: FittedChain, prepared: Planes, damaged: Damaged, step: Step) -> tuple[FittedChain, Planes]:
    """The chain with one more step, fitted on what it prepared; the arguments and errors are those of `fit_chain`."""
    further, values = _run(prepared, damaged, [(step, None)], None)
    return FittedChain((*chain.steps, *further.steps)), values


def _run(
    planes: NDArray[np.generic],
    damaged: Damaged,
    steps: Iterable[tuple[Step, State | None]],
    estimate_noise: NoiseEstimator | None,
) -> tuple[FittedChain, Planes]:
    """All steps in their order; a state of None is fitted."""
    if planes.ndim != 4 or planes.shape[1] not in (1, 3) or damaged.shape != (planes.shape[0], *planes.shape[2:]):
        raise InputError(
            f"The planes have shape {planes.shape} and the damage mask {damaged.shape}.",
            "Planes are (N, C, Y, X) with C = 1 (grey) or 3 (RGB), the damage mask is (N, Y, X).",
            "Bring the image into planes first; drop an alpha channel.",
        )
    fitted = []
    with np.errstate(all="ignore"):  # what overflows is found and named below
        values = np.array(planes, dtype=np.float32, order="C")  # always a copy, so that steps may work in place
        fill_damage(values, damaged)
        check_finite(values, "The step 'float32'")
        for step, known in steps:
            state = known
            if state is None:
                state = fit_step(step, values, damaged, dtype=planes.dtype.name, estimate_noise=estimate_noise)
            mask = segment_mask(state, values) if isinstance(step, Segment) else None
            values = apply_step(step, state, values)
            check_finite(values, f"The step {step.step!r}")
            fitted.append(FittedStep(step, state, mask))
    return FittedChain(tuple(fitted)), values
