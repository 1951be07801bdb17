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
        darkest of the image) to 1 (the brightest), and beyond, as white film is brighter than the scene on it.
    """
    kind = rng.choice(list(LAID), p=[0.25, 0.2, 0.25, 0.3])
    opacity = LAID[kind](rng, side)
    opacity *= rng.uniform(0.7 if kind == "stains" else 0.5, 1) / max(float(opacity.max()), 1e-3)
    texture = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), rng.uniform(0.7, 4))
    texture /= texture.std()
    opacity = np.clip(opacity * (1 + rng.uniform(0, 0.3) * texture), 0, 1)
    value = rng.choice([-0.3 * rng.random(), 1 + 0.4 * rng.random(), rng.random()], p=[0.12, 0.8, 0.08])
    value = np.clip(value + rng.choice([0, 0.05 * rng.random()]) * texture, -0.4, 1.5)
    return opacity.astype(np.float32), value.astype(np.float32)


def _fine(rng: Rng, side: int, fine: Mask, softest: float) -> NDArray[np.float32]:
    """What was drawn twice as large, at its size, sharp or a little blurred."""
    opacity = fine.reshape(side, 2, side, 2).mean(axis=(1, 3), dtype=np.float32)
    return np.asarray(gaussian_filter(opacity, rng.choice([0.0, 0.4, softest])), dtype=np.float32)


def _spatter(rng: Rng, side: int) -> NDArray[np.float32]:
    """Specks of all sizes, most of them small, scattered around a few middles."""
    fine = np.zeros((2 * side, 2 * side), dtype=bool)
    for _ in range(int(rng.integers(1, 4))):
        middle, reach = rng.uniform(0, 2 * side, 2), rng.uniform(0.05, 0.6) * 2 * side
        for place in middle + reach * rng.standard_normal((int(np.exp(rng.uniform(1, 5))), 2)):
            radius = 0.8 * rng.pareto(2.0) + 0.8
            fine[disk(tuple(place), min(radius, 10), shape=fine.shape)] = True
            if radius > 3:  # larger ones are not round
                fine[disk(tuple(place + rng.normal(0, radius, 2)), min(radius, 8), shape=fine.shape)] = True
    return _fine(rng, side, fine, 0.7)


def _lint(rng: Rng, side: int) -> NDArray[np.float32]:
    """Bent fibres, soft at their edges."""
    fine = np.zeros((2 * side, 2 * side), dtype=bool)
    for _ in range(int(rng.integers(1, 5))):
        _stroke(rng, fine, width=rng.uniform(3, 14), length=rng.uniform(0.3, 1.5) * side, bend=rng.uniform(0.05, 0.2))
    return _fine(rng, side, fine, 1.5)


def _bundles(rng: Rng, side: int) -> NDArray[np.float32]:
    """Scratches that run side by side, whole or broken into dashes and dots."""
    fine = np.zeros((2 * side, 2 * side), dtype=bool)
    angle, spread, broken = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.2), rng.uniform(0, 0.9)
    for _ in range(int(rng.integers(1, 16))):
        (y, x), width = rng.uniform(0, 2 * side, 2), rng.uniform(1.2, 5)
        heading, drawn = angle + spread * rng.standard_normal(), True
        for _ in range(int(rng.uniform(0.1, 1.5) * side / width)):
            heading += rng.normal(0, 0.02)
            y, x = y + width * np.sin(heading), x + width * np.cos(heading)
            if rng.random() < 0.3:
                drawn = rng.random() > broken
            if drawn:
                fine[disk((y, x), max(width / 2, 0.8), shape=fine.shape)] = True
    return _fine(rng, side, fine, 0.7)


def _stains(rng: Rng, side: int) -> NDArray[np.float32]:
    """Islands of any size with sharp, ragged edges, denser here than there, with drops around them."""
    field = np.zeros((side, side), dtype=np.float32)
    for reach in (1.5, 4.0, 10.0, 25.0, 50.0):
        part = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), reach, mode="reflect")
        field += part / part.std() * np.float32(reach**0.7)
    islands = field > np.quantile(field, 1 - rng.uniform(0.03, 0.6))
    density = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), rng.uniform(4, 20))
    opacity = islands * np.clip(rng.uniform(0.4, 1) + 0.2 * rng.random() * density / density.std(), 0.1, 1)
    if rng.random() < 0.5:
        opacity = np.maximum(opacity, rng.uniform(0.3, 1) * _spatter(rng, side))
    return np.asarray(gaussian_filter(opacity, rng.choice([0.0, 0.5, 1.5])), dtype=np.float32)


LAID: dict[str, Callable[[Rng, int], NDArray[np.float32]]] = {
    "spatter": _spatter,
    "lint": _lint,
    "bundles": _bundles,
    "stains": _stains,
}
