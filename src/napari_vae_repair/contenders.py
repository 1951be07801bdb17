"""Names of the methods that can be compared, without loading any of them."""

from __future__ import annotations

import importlib.util

OURS, AUTOENCODER, BM3D = "VAE Repair", "autoencoder", "BM3D"
CLASSICAL = ("Gaussian", "median", "wavelet", "TV", "NLM", "bilateral")  # of scikit-image and SciPy
NOTES = {
    BM3D: "its package is licensed for non-commercial use only",
    AUTOENCODER: "plain, without KL; trains on the image for minutes",
}
LEARNED = "may have been trained on the pixels that it predicts: its loss can be too small"


def methods() -> tuple[str, ...]:
    """Names for `compare`: ours, those of scikit-image and SciPy, BM3D where it is installed, the plain autoencoder."""
    installed = (BM3D,) if importlib.util.find_spec("bm3d") else ()
    return (OURS, *CLASSICAL, *installed, AUTOENCODER)


def usual_methods() -> tuple[str, ...]:
    """Those that `compare` takes where none are named: all but the autoencoder, whose training takes minutes."""
    return tuple(name for name in methods() if name != AUTOENCODER)
