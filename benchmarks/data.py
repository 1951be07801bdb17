"""The benchmark's images, and how an estimate is scored on each. The data is no part of the project.

Set12 with Gaussian noise (`numpy.random.default_rng(0)` for each image, not clipped); real pairs: FMD (Zhang et al.,
CVPR 2019), W2S (Zhou et al., ECCV 2020), RENOIR (Anaya and Barbu 2018), low-light SIM frames; film-damage overlays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from imageio.v3 import imread
from numpy.typing import NDArray

Array = NDArray[np.float32]
DATA = Path(__file__).parents[2] / "shared" / "data"
SIGMAS = (15, 25, 50)
PAIRS = ("fmd", "w2s", "renoir", "sim_lowlight")
REPEATS = "_3"  # FMD's second noisy image of a scene


@dataclass(frozen=True, slots=True)
class Case:
    """A noisy image with its truth.

    Attributes
    ----------
    group : str
        "Set12, sigma 25", "fmd", ...
    name : str
        Of the image.
    noisy, reference : ndarray of float32
        ``(Y, X)`` or ``(Y, X, 3)``; 8-bit images divided by 255, 16-bit ones by 65535.
    sigma : float or None
        The noise's standard deviation, where it is known.
    """

    group: str
    name: str
    noisy: Array
    reference: Array
    sigma: float | None

    @property
    def channel_axis(self) -> int | None:
        """Of colours, as scikit-image calls it."""
        return -1 if self.noisy.ndim == 3 else None

    def aligned(self, estimate: Array) -> tuple[NDArray[np.float64], float]:
        """The estimate in the reference's units, and the range that the protocol sets (see the data's README)."""
        x, y = np.asarray(estimate, np.float64), np.asarray(self.reference, np.float64)
        if self.sigma is not None:
            return np.clip(x, 0, 1), 1.0
        if self.group == "fmd":
            return x, 1.0
        slope, offset = np.polyfit(x.ravel(), y.ravel(), 1)
        return slope * x + offset, float(np.ptp(y))

    def psnr(self, estimate: Array) -> float:
        """In dB."""
        x, span = self.aligned(estimate)
        return float(10 * np.log10(span**2 / np.mean((x - self.reference) ** 2)))


def clean_images(data: Path) -> Iterator[tuple[str, Array]]:
    """Set12, in its order."""
    for path in sorted((data / "clean" / "set12").glob("*.png")):
        yield path.stem, imread(path).astype(np.float32) / 255


def cases(data: Path, groups: tuple[str, ...] | None = None) -> Iterator[Case]:
    """Every case of the groups; None = all."""
    for sigma in SIGMAS:
        group = f"Set12, sigma {sigma}"
        if groups is None or group in groups:
            for name, clean in clean_images(data):
                noise = np.random.default_rng(0).normal(0, sigma / 255, clean.shape)
                yield Case(group, name, (clean + noise).astype(np.float32), clean, sigma / 255)
    for group in PAIRS:
        if groups is None or group in groups:
            for path in sorted((data / "pairs" / group).glob("*_noisy.*")):
                noisy, reference = imread(path), imread(path.with_name(path.name.replace("_noisy", "_reference")))
                full = np.float32(np.iinfo(noisy.dtype).max)
                values = (np.asarray(image, np.float32) / full for image in (noisy, reference))
                yield Case(group, path.stem.removesuffix("_noisy"), *values, sigma=None)


def group_names() -> tuple[str, ...]:
    """In the order of `cases`."""
    return (*(f"Set12, sigma {sigma}" for sigma in SIGMAS), *PAIRS)
