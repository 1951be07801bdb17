"""Masks of damage as film, glass, cameras and people leave it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.draw import disk

from training.scenes import drawn_once

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
MOST_COVERED = 0.8  # of a patch
OVERLAY_PX = 320  # side of what is drawn; patches see a part of it, as of a large image


def overlay_bank(count: int, seed: int, cache: Path) -> NDArray[np.uint8]:
    """Opacities times 255, ``(count, OVERLAY_PX, OVERLAY_PX)``; drawn once and kept in `cache`."""
    return drawn_once(cache / f"overlays-{OVERLAY_PX}-{count}-{seed}.npy", partial(_opacity, seed), count)


def _opacity(seed: int, index: int) -> NDArray[np.uint8]:
    opacity = opacity_of_damage(np.random.default_rng((seed, index)), OVERLAY_PX)
    return np.round(255 * opacity).astype(np.uint8)


def opacity_of_damage(rng: Rng, side: int) -> NDArray[np.float32]:
    """How opaque dirt, lint, scratches or stains are, ``(side, side)``, 0 to 1."""
    kind = rng.choice(list(LAID), p=[0.22, 0.2, 0.25, 0.33])
    opacity = LAID[kind](rng, side)
    if rng.random() < 0.1:
        opacity = np.maximum(opacity, LAID[rng.choice(list(LAID))](rng, side))
    return np.clip(opacity / max(float(opacity.max()), 1e-3), 0, 1)


def part_of(rng: Rng, opacity: NDArray[Any], side: int) -> NDArray[Any]:
    """A square of it, turned; of two more often the one with more in it, up to `MOST_COVERED`."""
    corners = rng.integers(0, len(opacity) - side + 1, (2, 2))
    parts = [opacity[y : y + side, x : x + side] for y, x in corners]
    if rng.random() < 0.8:
        # what hides nearly all of a patch cannot be told from a scene
        parts.sort(key=lambda each: -1.0 if (each > 0).mean() > MOST_COVERED else float((each > 0).mean()))
    part = parts[-1]
    part = np.rot90(part, rng.integers(4))
    return part[:, ::-1] if rng.random() < 0.5 else part


def overlay(rng: Rng, opacity: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Damage of that opacity as a film scan shows it.

    Returns
    -------
    opacity, value : ndarray of float32
        ``(side, side)`` each: the image becomes ``(1 - opacity) * image + opacity * value``, with values of 0 (the
        darkest of the image) to 1 (the brightest), and beyond, as white film is brighter than the scene on it.
    """
    texture = gaussian_filter(rng.standard_normal(opacity.shape).astype(np.float32), rng.uniform(0.7, 4))
    texture /= texture.std()
    opacity = opacity * rng.uniform(0.6, 1) * np.clip(1 + rng.uniform(0, 0.3) * texture, 0, 2)
    value = rng.choice([-0.3 * rng.random(), rng.uniform(0.92, 1.25), rng.random()], p=[0.12, 0.82, 0.06])
    value = np.clip(value + rng.choice([0, 0.05 * rng.random()]) * texture, -0.4, 1.5)
    return np.clip(opacity, 0, 1).astype(np.float32), value.astype(np.float32)


def _fine(rng: Rng, side: int, fine: NDArray[Any], softest: float) -> NDArray[np.float32]:
    """What was drawn twice as large, at its size, sharp or a little blurred."""
    opacity = fine.reshape(side, 2, side, 2).mean(axis=(1, 3), dtype=np.float32)
    return np.asarray(gaussian_filter(opacity, rng.choice([0.0, 0.4, softest])), dtype=np.float32)


def _spatter(rng: Rng, side: int) -> NDArray[np.float32]:
    """Specks of all sizes, most of them small, scattered around a few middles, longer one way than the other."""
    fine = np.zeros((2 * side, 2 * side), dtype=np.float32)
    for _ in range(int(rng.integers(1, 6))):
        middle, reach = rng.uniform(0, 2 * side, 2), rng.uniform(0.03, 0.25, 2) * 2 * side
        for place in middle + reach * rng.standard_normal((int(np.exp(rng.uniform(2, 6))), 2)):
            radius, dense = 0.8 * rng.pareto(2.2) + 0.8, rng.uniform(0.4, 1)
            _dot(fine, place, min(radius, 10), dense)
            if radius > 3:  # larger ones are not round
                _dot(fine, place + rng.normal(0, radius, 2), min(radius, 8), dense)
    return _fine(rng, side, fine, 0.7)


def _dot(fine: NDArray[np.float32], place: NDArray[np.float64], radius: float, dense: float) -> None:
    at = disk((float(place[0]), float(place[1])), radius, shape=fine.shape)
    fine[at] = np.maximum(fine[at], dense)


def _lint(rng: Rng, side: int) -> NDArray[np.float32]:
    """Bent fibres, soft at their edges, denser here than there; some are tangled."""
    fine = np.zeros((2 * side, 2 * side), dtype=bool)
    tangled = rng.random() < 0.25
    for _ in range(int(rng.integers(6, 16) if tangled else rng.integers(1, 6))):
        width = rng.uniform(2, 5) if tangled else rng.uniform(3, 16)
        _stroke(rng, fine, width=width, length=rng.uniform(0.3, 1.5) * side, bend=rng.uniform(0.02, 0.15))
    density = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), rng.uniform(4, 25))
    return _fine(rng, side, fine, 1.8) * np.clip(rng.uniform(0.5, 1) + 0.3 * density / density.std(), 0.15, 1)


def _bundles(rng: Rng, side: int) -> NDArray[np.float32]:
    """Scratches that run side by side, whole or broken into dashes and dots, with grit around them."""
    fine = np.zeros((2 * side, 2 * side), dtype=np.float32)
    for _ in range(int(rng.integers(1, 4))):
        angle, spread, broken = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.25), rng.uniform(0, 0.9)
        middle, reach = rng.uniform(0, 2 * side, 2), rng.uniform(0.1, 0.6) * side
        for _ in range(int(rng.integers(1, 18))):
            _scratch(rng, fine, middle + rng.normal(0, reach, 2), angle + spread * rng.standard_normal(), broken)
    opacity = _fine(rng, side, fine, 0.7)
    if rng.random() < 0.5:
        opacity = np.maximum(opacity, rng.uniform(0.3, 1) * _spatter(rng, side))
    return opacity


def _scratch(rng: Rng, fine: NDArray[np.float32], place: NDArray[np.float64], heading: float, broken: float) -> None:
    usual, drawn = rng.uniform(1.2, 6), True
    width, left = usual, rng.uniform(0.1, 0.8) * len(fine)
    while left > 0:
        heading += rng.normal(0, 0.02)
        place = place + 0.7 * width * np.array([np.sin(heading), np.cos(heading)])
        left -= 0.7 * width
        if rng.random() < 0.25:  # another dash, or a gap
            drawn, width = rng.random() > broken, usual * rng.uniform(0.4, 1.6)
        if drawn:
            _dot(fine, place, max(width / 2, 0.8), 1.0)


def _stains(rng: Rng, side: int) -> NDArray[np.float32]:
    """Islands of any size with sharp, ragged edges, opaque here and thin there, with drops around them."""
    field = np.zeros((side, side), dtype=np.float32)
    roughness = rng.uniform(0.5, 1.1)
    for reach in (1.5, 4.0, 10.0, 25.0, 50.0):
        part = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), reach, mode="reflect")
        field += part / part.std() * np.float32(reach**roughness)
    islands = field > np.quantile(field, 1 - rng.uniform(0.03, 0.6))
    density = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), rng.uniform(4, 30))
    density = density / density.std() + rng.uniform(0, 0.3) * field / field.std()
    opacity = islands * np.clip(rng.uniform(0.5, 1.3) + rng.uniform(0, 0.35) * density, 0.12, 1)
    if rng.random() < 0.6:
        opacity = np.maximum(opacity, rng.uniform(0.3, 1) * _spatter(rng, side))
    return np.asarray(gaussian_filter(opacity, rng.choice([0.0, 0.5, 1.5])), dtype=np.float32)


LAID: dict[str, Callable[[Rng, int], NDArray[np.float32]]] = {
    "spatter": _spatter,
    "lint": _lint,
    "bundles": _bundles,
    "stains": _stains,
}
