"""Scenes drawn by rules: what the pool of photographs and micrographs has too little of.

Dead leaves (Lee, Mumford & Huang 2001, doi:10.1023/A:1011109015675) share the edges and scales of natural images, and
a denoiser trained on them alone comes within about a decibel of one trained on photographs (Achddou, Gousseau &
Ladjal 2021, doi:10.1007/978-3-030-75549-2_27).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, zoom
from skimage.draw import disk, ellipse, line_aa, polygon
from skimage.segmentation import find_boundaries

Scene = NDArray[np.float32]
Rng = np.random.Generator
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,;:()+-=%"


def procedural_scenes(count: int, side: int, seed: int) -> NDArray[np.uint8]:
    """Scenes of all kinds in turn, seeded one by one.

    Parameters
    ----------
    count : int
        How many.
    side : int
        Height and width in pixels.
    seed : int
        Scene ``i`` depends on ``(seed, i)`` alone.

    Returns
    -------
    ndarray of uint8
        ``(count, side, side)``, each with its own contrast within 0 to 255.
    """
    return np.stack([procedural_scene(side, seed, index) for index in range(count)])


def procedural_scene(side: int, seed: int, index: int) -> NDArray[np.uint8]:
    """Scene `index` of `procedural_scenes`."""
    rng = np.random.default_rng((seed, index))
    return np.round(255 * scene(IN_TURN[index % len(IN_TURN)], rng, side)).astype(np.uint8)


def scene(kind: str, rng: Rng, side: int) -> Scene:
    """One scene ``(side, side)`` within 0 to 1; `kind` is a key of `KINDS`."""
    return _within_one(KINDS[kind](rng, side))


def colour_scene(rng: Rng, side: int) -> Scene:
    """Dead leaves in colour, ``(3, side, side)`` within 0 to 1: planes that share edges, not values."""
    return np.stack([_within_one(plane) for plane in _leaves(rng, side, channels=3)])


def weave(rng: Rng, side: int) -> Scene:
    """Cloth to lay over a scene: one or two fine waves along folds, ``(side, side)`` within -1 to 1, 0 outside."""
    waves = _waves(rng, side, folds=rng.uniform(10, 30), bent=8, counts=(1, 3), periods=(2.5, 12), bars=0)
    sharp = rng.uniform(0.5, 3)  # from threads like sines to threads like bars
    threads = gaussian_filter(np.tanh(sharp * waves), rng.choice([0.0, 0.4]))
    window = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), rng.uniform(8, 30))
    window = window / window.std() + rng.normal(0.3, 0.5)
    return np.asarray(threads * np.clip(window * rng.uniform(1, 6), 0, 1), dtype=np.float32)


# ---- the kinds ---------------------------------------------------------------------------------


def _dead_leaves(rng: Rng, side: int) -> Scene:
    return _leaves(rng, side, channels=1)[0]


def _leaves(rng: Rng, side: int, channels: int) -> NDArray[np.float32]:
    """Opaque shapes with a power law of sizes, each flat, shaded or textured; twice as fine, then reduced."""
    fine = 2 * side
    out = np.tile(rng.uniform(0, 1, (channels, 1, 1)).astype(np.float32), (1, fine, fine))
    smallest, largest = rng.uniform(2, 10), rng.uniform(0.2, 0.6) * fine
    for radius in np.sort(_power_law(rng, int(rng.integers(100, 400)), smallest, largest))[::-1]:
        rows, columns = _shape(rng, rng.uniform(0, fine, 2), radius, fine)
        value = rng.uniform(0, 1, (channels, 1)).astype(np.float32)
        out[:, rows, columns] = value + _surface(rng, rows, columns, radius)
    reduced = out.reshape(channels, side, 2, side, 2).mean(axis=(2, 4))
    return np.asarray(gaussian_filter(reduced, (0, *[rng.choice([0.0, 0.0, 0.5, 1.0])] * 2)), dtype=np.float32)


def _power_law(rng: Rng, count: int, smallest: float, largest: float, power: float = 2.7) -> NDArray[np.float64]:
    share = rng.uniform(0, 1, count)
    low, high = smallest ** (1 - power), largest ** (1 - power)
    return np.asarray((low + share * (high - low)) ** (1 / (1 - power)))


def _shape(rng: Rng, centre: NDArray[np.float64], radius: float, side: int) -> tuple[NDArray[np.intp], ...]:
    kind = rng.integers(3)
    if kind == 0:
        return disk(tuple(centre), radius, shape=(side, side))
    if kind == 1:
        axes = radius * rng.uniform(0.3, 1.5, 2)
        return ellipse(*centre, *axes, shape=(side, side), rotation=rng.uniform(-np.pi, np.pi))
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
    return polygon(centre[0] + radius * np.sin(angles), centre[1] + radius * np.cos(angles), shape=(side, side))


def _surface(rng: Rng, rows: NDArray[np.intp], columns: NDArray[np.intp], radius: float) -> NDArray[np.float32]:
    """A gradient, a wave or a grain, or nothing."""
    kind = rng.integers(5)
    if kind == 0 or rows.size < 16:
        return np.zeros(rows.shape, dtype=np.float32)
    angle, strength = rng.uniform(0, np.pi), rng.uniform(0.03, 0.4)
    along = (rows * np.sin(angle) + columns * np.cos(angle)).astype(np.float32)
    if kind in (1, 2):
        return np.asarray(strength * (along - along.mean()) / radius, dtype=np.float32)
    if kind == 3:
        return np.asarray(strength * np.sin(along * rng.uniform(0.15, 1.6)), dtype=np.float32)
    side = int(max(np.ptp(rows), np.ptp(columns), 31)) + 1  # a blurred grain on fewer pixels has no contrast
    grain = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), rng.uniform(0.8, 4), mode="wrap")
    return np.asarray(strength * (grain / grain.std())[rows - rows.min(), columns - columns.min()] / 2)


def _filaments(rng: Rng, side: int) -> Scene:
    """Bent lines of one microscope's width: cytoskeleton, neurites, fibres."""
    out = np.zeros((side, side), dtype=np.float32)
    for _ in range(int(rng.integers(4, 40))):
        points = _walk(rng, side, steps=int(rng.integers(6, 24)), length=rng.uniform(4, 12))
        value = rng.uniform(0.2, 1)
        for (y0, x0), (y1, x1) in pairwise(points):
            rows, columns, cover = line_aa(int(y0), int(x0), int(y1), int(x1))
            inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
            rows, columns = rows[inside], columns[inside]
            out[rows, columns] = np.maximum(out[rows, columns], value * cover[inside])
    return _seen(rng, out, blur=(0.6, 2.0))


def _walk(rng: Rng, side: int, steps: int, length: float) -> NDArray[np.float64]:
    turns = rng.normal(0, rng.uniform(0.05, 0.4), steps).cumsum() + rng.uniform(0, 2 * np.pi)
    moves = length * np.stack([np.sin(turns), np.cos(turns)], axis=1)
    return np.asarray(rng.uniform(0, side, 2) + moves.cumsum(axis=0))


def _nuclei(rng: Rng, side: int) -> Scene:
    """Bright ellipses with grain and nucleoli on darkness."""
    out = np.zeros((side, side), dtype=np.float32)
    size = rng.uniform(5, 25)
    grain = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), rng.uniform(0.8, 3))
    grain *= rng.uniform(0, 0.3) / grain.std()
    for _ in range(int(rng.integers(2, 1 + max(3, 4000 // size**2)))):
        axes = size * rng.uniform(0.6, 1.3, 2)
        spot = ellipse(*rng.uniform(0, side, 2), *axes, shape=out.shape, rotation=rng.uniform(-np.pi, np.pi))
        out[spot] = rng.uniform(0.2, 1) * (1 + grain[spot])
    return _seen(rng, out, blur=(0.5, 2.0))


def _puncta(rng: Rng, side: int) -> Scene:
    """Spots no larger than the microscope resolves: vesicles, transcripts, beads."""
    out = np.zeros((side, side), dtype=np.float32)
    count = int(10 ** rng.uniform(1, 2.8))
    places = rng.integers(0, side, (2, count))
    np.add.at(out, tuple(places), rng.exponential(1, count).astype(np.float32))
    return _seen(rng, out, blur=(0.7, 2.5))


def _membranes(rng: Rng, side: int) -> Scene:
    """Outlines of touching cells, bright on dark or dark on bright."""
    count = int(rng.integers(8, 80))
    sites = rng.uniform(0, side, (count, 2))
    grid = np.stack(np.mgrid[:side, :side], axis=-1).astype(np.float32)
    bend = gaussian_filter(rng.standard_normal((side, side, 2)).astype(np.float32), (8, 8, 0))
    grid += rng.uniform(0, 6) * bend / bend.std()
    nearest = np.argmin(((grid[:, :, None] - sites.astype(np.float32)) ** 2).sum(-1), axis=-1)
    edges = find_boundaries(nearest, mode="inner").astype(np.float32)
    filling = rng.uniform(0, 0.5, count).astype(np.float32)[nearest]
    out = _seen(rng, np.maximum(edges, filling), blur=(0.5, 1.5))
    return 1 - out if rng.random() < 0.4 else out


def _gratings(rng: Rng, side: int) -> Scene:
    """Waves and chequers of one or more periods, warped a little."""
    out = _waves(rng, side, folds=12, bent=5, counts=(1, 4), periods=(2.5, 40), bars=0.3)
    window = gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), rng.uniform(5, 25))
    return np.where(window > rng.normal(0, 0.5) * window.std(), out, rng.uniform(-1, 1)).astype(np.float32)


def _text(rng: Rng, side: int) -> Scene:
    """Lines of letters on plain or shaded paper."""
    page = Image.new("L", (2 * side, 2 * side), int(rng.integers(0, 256)))
    draw, y = ImageDraw.Draw(page), -10.0
    while y < 2 * side:
        size = int(rng.integers(12, 60))
        letters = "".join(rng.choice(list(_LETTERS), 40))
        draw.text((-20, y), letters, fill=int(rng.integers(0, 256)), font=ImageFont.load_default(size))
        y += size * rng.uniform(1, 1.6)
    out = np.asarray(page, dtype=np.float32).reshape(side, 2, side, 2).mean(axis=(1, 3)) / 255
    return np.asarray(out + rng.uniform(0, 0.3) * _smooth(rng, side, 0.3), dtype=np.float32)


def _defocused(rng: Rng, side: int) -> Scene:
    """Nothing in focus: clouds, and now and then a soft disc."""
    out = _smooth(rng, side, rng.uniform(0.05, 0.3))
    for _ in range(int(rng.integers(0, 5))):
        spot = disk(tuple(rng.uniform(0, side, 2)), rng.uniform(5, 30), shape=out.shape)
        out[spot] += rng.uniform(0, 0.5)
    return np.asarray(gaussian_filter(out, rng.uniform(2, 6)), dtype=np.float32)


KINDS: dict[str, Callable[[Rng, int], Scene]] = {
    "dead_leaves": _dead_leaves,
    "filaments": _filaments,
    "nuclei": _nuclei,
    "puncta": _puncta,
    "membranes": _membranes,
    "gratings": _gratings,
    "text": _text,
    "defocused": _defocused,
}
# natural images are the hardest to be like, so leaves come more often; emptiness comes as often as text
IN_TURN = ("dead_leaves", "filaments", "dead_leaves", "nuclei", "dead_leaves", "puncta", "dead_leaves", "membranes")
IN_TURN += ("dead_leaves", "gratings", "dead_leaves", "text", "dead_leaves", "defocused")


# ---- what they share ---------------------------------------------------------------------------


def _waves(
    rng: Rng,
    side: int,
    folds: float,
    bent: float,
    counts: tuple[int, int],
    periods: tuple[float, float],
    bars: float,
) -> Scene:
    """The sum of some waves; `folds` pixels wide, up to `bent` pixels deep; `bars` is the share of square ones."""
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    bend = gaussian_filter(rng.standard_normal((2, side, side)).astype(np.float32), (0, folds, folds))
    bend *= rng.uniform(0, bent) / bend.std()
    out = np.zeros((side, side), dtype=np.float32)
    for _ in range(int(rng.integers(*counts))):
        angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(*np.log(periods)))
        phase = 2 * np.pi * ((rows + bend[0]) * np.sin(angle) + (columns + bend[1]) * np.cos(angle)) / period
        wave = np.sin(phase + rng.uniform(0, 6))
        out += np.sign(wave) if rng.random() < bars else wave
    return out


def _seen(rng: Rng, out: Scene, blur: tuple[float, float]) -> Scene:
    """Through a microscope: blurred, over out-of-focus haze."""
    sharp = gaussian_filter(out, rng.uniform(*blur))
    haze = gaussian_filter(out, rng.uniform(6, 20)) + 0.3 * _smooth(rng, len(out), 0.2)
    sharp, haze = sharp / max(float(sharp.max()), 1e-6), haze / max(float(haze.max()), 1e-6)
    return np.asarray(sharp + rng.uniform(0, 0.4) * haze, dtype=np.float32)


def _smooth(rng: Rng, side: int, fineness: float) -> Scene:
    """Clouds within 0 to 1; `fineness` is the share of the side at which they vary."""
    cells = max(4, round(3 / fineness))
    coarse = zoom(rng.standard_normal((cells, cells)).astype(np.float32), side / cells + 0.1, order=3)
    return _within_one(coarse[:side, :side])


def _within_one(values: NDArray[np.float32]) -> Scene:
    low, high = float(values.min()), float(values.max())
    return np.asarray((values - low) / max(high - low, 1e-6), dtype=np.float32)
