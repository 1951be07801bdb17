"""Masks of damage as film, glass, cameras and people leave it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.draw import disk

Mask = NDArray[np.bool_]
Rng = np.random.Generator


def damage_mask(rng: Rng, side: int) -> Mask:
    """One to three kinds of damage, ``(side, side)``; True = lost."""
    out = np.zeros((side, side), dtype=bool)
    for kind in rng.choice(list(KINDS), rng.integers(1, 4)):
        out |= KINDS[kind](rng, side)
    return out


def _brush(rng: Rng, side: int) -> Mask:
    """Strokes of a round brush, 2 to 12 pixels wide."""
    out = np.zeros((side, side), dtype=bool)
    for _ in range(int(rng.integers(1, 4))):
        _stroke(rng, out, width=rng.uniform(2, 12), length=rng.uniform(0.2, 1.2) * side, bend=0.3)
    return out


def _scratches(rng: Rng, side: int) -> Mask:
    """Thin, long and nearly straight."""
    out = np.zeros((side, side), dtype=bool)
    for _ in range(int(rng.integers(1, 6))):
        _stroke(rng, out, width=rng.uniform(1, 3), length=rng.uniform(0.3, 2) * side, bend=0.03)
    return out


def _stroke(rng: Rng, out: Mask, width: float, length: float, bend: float) -> None:
    y, x = rng.uniform(0, len(out), 2)
    angle, step = rng.uniform(0, 2 * np.pi), max(1.0, width / 3)
    for _ in range(int(length / step)):
        angle += rng.normal(0, bend)
        y, x = y + step * np.sin(angle), x + step * np.cos(angle)
        out[disk((y, x), max(width / 2, 0.71), shape=out.shape)] = True


def _dust(rng: Rng, side: int) -> Mask:
    """Specks of 1 to 8 pixels."""
    out = np.zeros((side, side), dtype=bool)
    for _ in range(int(rng.integers(2, 20))):
        out[disk(tuple(rng.uniform(0, side, 2)), rng.uniform(0.71, 4), shape=out.shape)] = True
    return out


def _blots(rng: Rng, side: int) -> Mask:
    """Irregular islands over 2 to 15 % of the area."""
    field = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), rng.uniform(2, 6))
    return np.asarray(field > np.quantile(field, 1 - rng.uniform(0.02, 0.15)))


def _missing_tiles(rng: Rng, side: int) -> Mask:
    """Rectangles, or whole rows or columns."""
    out = np.zeros((side, side), dtype=bool)
    for _ in range(int(rng.integers(1, 4))):
        y, x = rng.integers(0, side, 2)
        height, width = rng.integers(2, 17, 2)
        out[y : y + height, x : x + width] = True
    if rng.random() < 0.3:
        at, wide = int(rng.integers(0, side)), int(rng.integers(1, 4))
        out[at : at + wide] = True
    return out if rng.random() < 0.5 else out.T.copy()


KINDS: dict[str, Callable[[Rng, int], Mask]] = {
    "brush": _brush,
    "scratches": _scratches,
    "dust": _dust,
    "blots": _blots,
    "missing_tiles": _missing_tiles,
}


# ---- as it lies over an image, unmarked --------------------------------------------------------

VISIBLE = 0.1  # opacity from which a pixel counts as damaged


def overlay(rng: Rng, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Dirt, lint, scratches or stains as a film scan shows them.

    Returns
    -------
    opacity, value : ndarray of float32
        ``(side, side)`` each: the image becomes ``(1 - opacity) * image + opacity * value``, with values of 0 (the
        darkest of the image) to 1 (the brightest).
    """
    kind = rng.choice(["dust", "lint", "scratches", "stains", "blots"], p=[0.3, 0.2, 0.3, 0.1, 0.1])
    fine = np.zeros((2 * side, 2 * side), dtype=bool)
    if kind == "dust":
        fine = _dust(rng, 2 * side)
        for _ in range(int(rng.integers(0, 8))):  # specks are not round
            _stroke(rng, fine, width=rng.uniform(2, 6), length=rng.uniform(4, 16), bend=1.0)
    elif kind == "lint":
        for _ in range(int(rng.integers(1, 4))):
            _stroke(rng, fine, width=rng.uniform(1.5, 4), length=rng.uniform(0.2, 1.5) * side, bend=0.15)
    elif kind == "scratches":
        for _ in range(int(rng.integers(1, 6))):
            _stroke(rng, fine, width=rng.uniform(1.5, 4), length=rng.uniform(0.3, 4) * side, bend=0.02)
    else:
        fine = _blots(rng, 2 * side)
    opacity = fine.reshape(side, 2, side, 2).mean(axis=(1, 3), dtype=np.float32)
    opacity = gaussian_filter(opacity, rng.uniform(2, 6) if kind == "stains" else rng.choice([0.0, 0.4, 0.8]))
    texture = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), rng.uniform(0.7, 4))
    texture /= texture.std()
    strongest = rng.uniform(0.2, 0.7) if kind == "stains" else rng.uniform(0.4, 1)
    opacity *= strongest * np.clip(1 + rng.uniform(0, 0.5) * texture, 0, 1 / strongest)
    value = rng.choice([0.0, 1.0, rng.uniform(0, 1)], p=[0.35, 0.5, 0.15])
    return opacity.astype(np.float32), np.clip(value + 0.05 * rng.random() * texture, -0.1, 1.1).astype(np.float32)
