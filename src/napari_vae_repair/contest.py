"""`Contest`: one image, what each method makes of it, and how well each predicts pixels from the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import restoration as sk

from napari_vae_repair.contenders import AUTOENCODER, OURS
from napari_vae_repair.errors import Cancelled, SettingsError
from napari_vae_repair.image.classical import FAMILIES, Family, rough_noise, tuned
from napari_vae_repair.pipeline import restore
from napari_vae_repair.restoration import Restoration
from napari_vae_repair.settings import Settings
from napari_vae_repair.vae.autoencoder import TrainedAutoencoder, reconstruct, train_autoencoder
from napari_vae_repair.vae.device import choose_device
from napari_vae_repair.vae.memory import MOST_TILE_PX

STRIDE, GRIDS = 4, (0, 5, 10, 15)  # a quarter of the pixels is predicted, one grid of them after the other
MOST_SHARED = 0.15  # correlation of neighbours from which on they tell of a pixel's noise
TRAINING_SHARE = 0.95  # of the autoencoder's time

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Entry:
    """What one method made of the image.

    Attributes
    ----------
    restored : ndarray of float32
        In the image's shape and units.
    loss : float
        Mean squared error of predicted pixels, in squared units of the image.
    seconds : float
        Of the result, tuning and training included, without the loss.
    parameters : dict
        That were found best.
    learned : bool
        Whether the method was trained on an image, and it may be this one: its loss can be too small then.
    """

    restored: Array
    loss: float
    seconds: float
    parameters: dict[str, float]
    learned: bool


class Contest:
    """The methods on one image.

    Parameters
    ----------
    pixels : ndarray of float32
        ``(Y, X)`` or ``(Y, X, 3)``, finite.
    settings : Settings
        Of ours, and of the autoencoder's training.
    should_stop : callable
        Polled before each call of a denoiser, each training step and each layer of ours; True ends the run with
        `Cancelled`.

    Attributes
    ----------
    share : float
        How much of the method under way is done, 0 to 1; may be read from another thread.
    """

    def __init__(self, pixels: Array, settings: Settings, should_stop: Callable[[], bool]) -> None:
        self._low, self._span = np.float32(pixels.min()), np.float32(np.ptp(pixels) or 1)
        self._pixels, self._image = pixels, (pixels - self._low) / self._span
        self._axis = None if pixels.ndim == 2 else -1
        self._settings, self._should_stop = settings, should_stop
        self._ours: Restoration | None = None
        self.share = 0.0

    def enter(self, name: str) -> Entry:
        """Restore the image by a method, and measure its loss.

        Raises
        ------
        VaeRepairError
            As `restore` and `train_autoencoder`; `SettingsError` where ours leaves the image's units.
        """
        self.share, started, learned = 0.0, time.perf_counter(), name == AUTOENCODER
        if name == OURS:
            result, again, found = self._by_ours()
            learned = self._ours is not None and "trained_on" in self._ours.model.training
        elif name == AUTOENCODER:
            result, again, found = self._by_autoencoder()
        else:
            result, again, found = self._by_classical(name)
        seconds = time.perf_counter() - started
        restored = (result * self._span + self._low).astype(np.float32)
        return Entry(restored, self._loss(again) * float(self._span) ** 2, seconds, found, learned)

    def doubt(self) -> str:
        """Why the loss ranks nothing here; "" where it does."""
        if self._ours is None:
            one_pass = Settings(device=self._settings.device)
            self._ours = restore(self._pixels, one_pass, should_stop=self._should_stop)  # to know the noise
        shared = max(max(noise.correlation) for noise in self._ours.noise)
        doubt = f"neighbours share {shared:.2f} of their noise, and keeping it lowers a loss on held-out pixels"
        return doubt if shared > MOST_SHARED else ""

    def _loss(self, again: Callable[[Array], Array]) -> float:
        """Mean squared error of predicted pixels."""
        grids = [
            tuple(slice(phase, None, STRIDE) for phase in np.unravel_index(grid, (STRIDE, STRIDE))) for grid in GRIDS
        ]

        def predict(image: Array, channel_axis: int | None) -> Array:
            return again(image)

        predicted = sk.denoise_invariant(
            self._image, predict, masks=grids, denoiser_kwargs={"channel_axis": self._axis}
        )
        return float(np.mean([np.mean((predicted[grid] - self._image[grid]) ** 2) for grid in grids]))

    # ---- the methods ----------------------------------------------------------------------------

    def _by_ours(self) -> tuple[Array, Callable[[Array], Array], dict[str, float]]:
        ours = self._ours = restore(self._pixels, self._settings, should_stop=self._should_stop)
        if not ours.report.in_source_units or ours.restored.shape != self._pixels.shape:
            raise SettingsError(
                f"The step '{ours.report.inverted_to}' of the chain cannot be undone.",
                "What is compared must be in the units of the image.",
                "Choose the preset standard, or take that step out of the chain.",
            )
        calls, told = 1 + len(GRIDS), ours.settings.without_adapting()
        self.share += 1 / calls

        def again(image: Array) -> Array:
            pixels = image * self._span + self._low  # noise and chain may be given in the image's units
            found = restore(pixels, told, model=ours.model, should_stop=self._should_stop).restored
            self.share += 1 / calls
            return (found - self._low) / self._span

        return (ours.restored - self._low) / self._span, again, {}

    def _by_autoencoder(self) -> tuple[Array, Callable[[Array], Array], dict[str, float]]:
        device = choose_device(self._settings.device)
        steps = train_autoencoder(_as_planes(self._image), self._settings, device, self._should_stop)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                trained: TrainedAutoencoder = end.value
                break
            self.share = TRAINING_SHARE * step.done / step.total

        def again(image: Array) -> Array:
            tile_px, stop = self._settings.tile_px or MOST_TILE_PX, self._should_stop
            planes = reconstruct(trained, _as_planes(image), tile_px=tile_px, device=device, should_stop=stop)
            return planes[0, 0] if self._axis is None else np.moveaxis(planes[0], 0, -1)

        return again(self._image), again, {"epochs": float(self._settings.epochs)}

    def _by_classical(self, name: str) -> tuple[Array, Callable[[Array], Array], dict[str, float]]:
        noise = rough_noise(self._image, self._axis)
        family = FAMILIES.get(name)
        calls = 1 + len(GRIDS) + (0 if family is None else len(family.parameters(noise)))

        def apply(image: Array, **parameters: Any) -> Array:
            if self._should_stop():
                raise Cancelled("compare")
            found = _bm3d(image, **parameters) if family is None else family.apply(image, **parameters)
            self.share += 1 / calls
            return found

        if family is None:
            best: dict[str, float] = {"sigma": noise}
            result = apply(self._image, **best, channel_axis=self._axis)
        else:
            best, result = tuned(Family(apply, family.parameters), self._image, self._axis)
        return result, lambda image: apply(image, **best, channel_axis=self._axis), best


def _as_planes(image: Array) -> Array:
    """``(1, C, Y, X)``."""
    return image[None, None] if image.ndim == 2 else np.ascontiguousarray(np.moveaxis(image, -1, 0))[None]


def _bm3d(image: Array, *, sigma: float, channel_axis: int | None) -> Array:
    import bm3d

    planes = [image] if channel_axis is None else [image[..., colour] for colour in range(image.shape[-1])]
    found = [np.asarray(bm3d.bm3d(plane, sigma), np.float32) for plane in planes]
    return found[0] if channel_axis is None else np.stack(found, axis=-1)
