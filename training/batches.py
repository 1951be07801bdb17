"""Batches for training: scenes cropped, varied, corrupted and brought to network units, in a process of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from napari_vae_repair.image.anscombe import anscombe, inverse_anscombe
from napari_vae_repair.image.measured import fill_damage
from training.corruptions import (
    CORRELATED_SHARE,
    Corrupted,
    Corruption,
    Plane,
    Rng,
    corrupt,
    draw_corruption,
    draw_plain_noise,
)
from training.damage import OVERLAY_PX, VISIBLE, damage_mask, opacity_of_damage, overlay, overlay_bank, part_of
from training.procedural import weave
from training.scenes import PROCEDURAL, Scenes, load_scenes, with_procedural

PROCEDURAL_SHARE, PHOTO_SHARE = 0.17, 0.55  # the rest are micrographs
PLAIN_PHOTO_SHARE = 0.65  # of scenes as they are
MASKS, WEAVES = 600, 400
WOVEN_SHARE = 0.15  # of scenes with cloth over them
# So many times are scenes magnified: those of the pool are sharp from pixel to pixel, what lenses draw mostly is not
MAGNIFIED = (1.2, 5.0)
STABILISED_SHARE = 0.85  # of patches with signal-dependent noise
MISTOLD = 0.15  # standard deviation of the logarithm of what is told, and of what stabilises
MISTOLD_PLAIN = 0.05  # where nothing but white noise happened, which estimates get right
MISTOLD_CORRELATED = 0.3  # more for noise whose neighbours share all of it; estimates are mostly too low there
LAID_SHARE, MOST_LAID = 0.3, 0.4  # of masks that are dirt, lint, scratches or stains; of the patch that they cover
BRIGHTER_ELSEWHERE = 0.3  # of patches that count as whole images, as a stain in another part of them makes it
VISIBLE_CHANGE = 0.05  # of the patch's range, from which on damage counts as visible
_COARSE = 4  # every so many pixels of the scene decide its range


@dataclass(frozen=True, slots=True)
class Mix:
    """How often patches are damaged.

    Attributes
    ----------
    marked : float
        Share whose damage is marked, and filled as the preprocessing fills it.
    unmarked : float
        Share over which dirt, lint, scratches or stains lie that nothing marks.
    quiet, marked_quiet : float
        Share with hardly any noise, as scanned photos have, of those without marked damage and of those with it.
    correlated : float
        Share whose noise neighbours share.
    photos : float
        Share of photographs among the scenes.
    whole : bool
        Whether patches count as whole images, whose own extremes become -1 and 1.
    magnified : tuple of float
        Share of photographs, and of all other scenes, that are magnified.
    told : float
        Share whose noise is told.
    plain : float
        Share that is a scene as it is, or printed on cloth, under noise that is white or hardly shared and nothing
        else, told; the other shares are of all others.
    """

    marked: float = 0.25
    unmarked: float = 0.02
    quiet: float = 0.0
    marked_quiet: float = 0.5
    correlated: float = CORRELATED_SHARE
    photos: float = PHOTO_SHARE
    whole: bool = False
    magnified: tuple[float, float] = (0.4, 0.4)
    told: float = 0.88
    plain: float = 0.0


RESTORING = Mix(correlated=0.32)
WHITE = Mix(marked=0.3, correlated=0.0, magnified=(0.15, 0.5), told=1.0, plain=0.85)
FILLING = Mix(marked=1.0, marked_quiet=1.0, correlated=0.0, photos=0.65, magnified=(0.2, 0.5), told=1.0)
NOISY = Mix(marked=0.0, unmarked=0.3, correlated=0.55)
DAMAGED = Mix(marked=0.0, unmarked=0.5, quiet=0.85, photos=0.75, whole=True)


@dataclass(frozen=True, slots=True)
class Batch:
    """Patches in network units: the 0.5 and 99.5 percentiles of the noisy scene are about -1 and 1.

    Attributes
    ----------
    noisy, clean : ndarray of float32
        ``(B, 1, Y, X)``.
    std : ndarray of float32
        ``(B, 1, Y, X)`` standard deviation of the noise.
    neighbours : ndarray of float32
        ``(B, 2)`` correlation of the noise along y and x.
    masked : ndarray of float32
        ``(B, 1, Y, X)``: 1 where the pixel is marked as damaged.
    counted : ndarray of float32
        ``(B, 1, Y, X)``: 1 where the noise is all that happened.
    unmarked : ndarray of float32
        ``(B, 1, Y, X)``: 1 where the pixel is visibly damaged and nothing marks it, single hot and dead ones included.
    unseen : ndarray of float32
        ``(B, 1, Y, X)``: 1 where damage lies that hardly changes the pixel.
    told : ndarray of float32
        ``(B, 3)`` standard deviation and correlation along y and x as an estimate would give them; nan = not told.
    """

    noisy: Plane
    clean: Plane
    std: Plane
    neighbours: Plane
    masked: Plane
    counted: Plane
    unmarked: Plane
    unseen: Plane
    told: Plane


class BatchSource:
    """Batches without end.

    Parameters
    ----------
    scenes : Scenes
        Clean patches; procedural ones among them are drawn with their own share.
    batch_size, patch_px : int
        Of each batch.
    mix : Mix
        How often patches are damaged.
    seed : int or tuple of int
        The same seed gives the same batches.
    overlays : ndarray of uint8, optional
        As `overlay_bank`; None = each is drawn when it is needed, which is slow.
    share : float
        Of all masks and cloths to draw from, at the beginning: where several processes draw, each needs fewer.
    """

    def __init__(
        self,
        scenes: Scenes,
        batch_size: int,
        patch_px: int,
        mix: Mix,
        seed: int | tuple[int, ...],
        overlays: NDArray[np.uint8] | None = None,
        share: float = 1.0,
    ) -> None:
        self._scenes, self._batch_size, self._patch_px, self._mix = scenes, batch_size, patch_px, mix
        self._overlays = overlays
        self._rng = np.random.default_rng(seed)
        masks, weaves = (max(round(share * number), number // 8) for number in (MASKS, WEAVES))
        self._masks = [damage_mask(self._rng, patch_px) for _ in range(masks)]
        self._weaves = [weave(self._rng, scenes.patches.shape[1]) for _ in range(weaves)]
        names = scenes.source
        groups = [np.char.startswith(names, "photo/"), names == PROCEDURAL]
        groups.append(~groups[0] & ~groups[1])
        self._groups = [np.flatnonzero(group) for group in groups]
        self._shares = self._of_groups(mix.photos, PROCEDURAL_SHARE)
        self._plain_shares = self._of_groups(PLAIN_PHOTO_SHARE, 0.0)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.draw()

    def draw(self) -> Batch:
        """The next batch."""
        patches = [self._patch() for _ in range(self._batch_size)]
        return Batch(*(np.stack(part).astype(np.float32) for part in zip(*patches, strict=True)))

    def _of_groups(self, photos: float, procedural: float) -> NDArray[np.float64]:
        """Shares of photos, procedural scenes and micrographs, as far as there are any; all alike where none is."""
        there = np.array([group.size > 0 for group in self._groups])
        shares = np.array([photos, procedural, 1 - photos - procedural]) * there
        return shares / shares.sum() if shares.any() else there / there.sum()

    def _patch(self) -> tuple[Any, ...]:
        rng = self._rng
        plain = self._mix.plain > 0 and bool(rng.random() < self._mix.plain)
        whole, clean = self._clean(plain)
        damage = 1.0 if plain else rng.random()
        corruption = draw_plain_noise(rng, whole) if plain else self._corruption(whole, damage)
        if np.isfinite(corruption.white):
            whole, clean = np.minimum(whole, corruption.white), np.minimum(clean, corruption.white)
        seen = corrupt(clean, corruption, rng)
        coarse = whole[::_COARSE, ::_COARSE]
        span_of = coarse + corruption.std(coarse) * rng.standard_normal(coarse.shape).astype(np.float32)
        span_of = np.clip(span_of, corruption.black, corruption.white)
        if corruption.gain > 0 and not corruption.impulses and rng.random() < STABILISED_SHARE:
            clean, seen, span_of = _stabilised(clean, seen, span_of, corruption, rng)
        noisy, masked, unmarked, unseen = self._damaged(seen, span_of, damage)
        if unmarked.any():  # what nothing marks counts in the range that an image is brought to
            seen_too = noisy[::_COARSE, ::_COARSE].ravel()
            span_of = noisy if self._mix.whole else np.concatenate([span_of.ravel(), seen_too])
        scale, offset = _to_network_units(span_of, rng, varied=not self._mix.whole)
        std, neighbours = seen.std * scale, np.array(corruption.neighbours, dtype=np.float32)
        planes = (noisy * scale + offset, clean * scale + offset, std)
        mistold, share = (MISTOLD_PLAIN, 1.0) if plain else (MISTOLD, self._mix.told)
        told = _told(float(np.sqrt((std**2).mean())), neighbours, rng, share, mistold)
        counted = seen.counted & ~masked & ~unmarked & ~unseen
        marks = (masked[None], counted[None], unmarked[None], unseen[None])
        return (*(p[None] for p in planes), neighbours, *marks, told)

    def _corruption(self, whole: Plane, damage: float) -> Corruption:
        quiet = self._mix.marked_quiet if damage < self._mix.marked else self._mix.quiet
        drawn = bool(self._rng.random() < quiet)
        return draw_corruption(self._rng, whole, quiet=drawn, correlated=self._mix.correlated)

    def _damaged(
        self, seen: Corrupted, span_of: Plane, drawn: float
    ) -> tuple[Plane, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """The noisy patch with damage, what of it is marked, what is not, and what cannot be seen either."""
        rng, noisy, nothing = self._rng, seen.noisy, np.zeros(seen.noisy.shape, dtype=bool)
        if drawn < self._mix.marked:
            masked = self._mask()
            noisy = noisy.copy()
            fill_damage(noisy[None, None], masked[None])
            return noisy, masked, seen.hit & ~masked, nothing
        if drawn < self._mix.marked + self._mix.unmarked:
            opacity, value = overlay(rng, part_of(rng, self._opacity(), self._patch_px))
            low, high = np.percentile(span_of, [0.5, 99.5]).astype(np.float32)
            change = opacity * (low + value * (high - low) - noisy)
            lies = opacity >= VISIBLE
            clear = lies & (np.abs(change) >= VISIBLE_CHANGE * (high - low))
            return noisy + change, nothing, seen.hit | clear, (opacity >= VISIBLE / 5) & ~clear & ~seen.hit
        return noisy, nothing, seen.hit, nothing

    def _mask(self) -> NDArray[np.bool_]:
        """Of marked damage; some as one marks what lies over a film scan."""
        if self._overlays is not None and self._rng.random() < LAID_SHARE:
            laid = part_of(self._rng, self._overlays[self._rng.integers(len(self._overlays))], self._patch_px)
            masked = laid > 255 * VISIBLE / 5
            if 0 < masked.mean() < MOST_LAID:
                return masked
        return self._masks[self._rng.integers(len(self._masks))]

    def _opacity(self) -> Plane:
        if self._overlays is None:
            return opacity_of_damage(self._rng, max(OVERLAY_PX, self._patch_px))
        return self._overlays[self._rng.integers(len(self._overlays))].astype(np.float32) / 255

    def _clean(self, plain: bool) -> tuple[Plane, Plane]:
        """A scene, 0 to 1, varied or `plain`, and the patch of it; of two patches more often the one with more."""
        rng, side = self._rng, self._patch_px
        group = rng.choice(len(self._groups), p=self._plain_shares if plain else self._shares)
        scene = self._scenes.patches[rng.choice(self._groups[group])]
        scene = np.rot90(scene, rng.integers(4))
        if rng.random() < 0.5:
            scene = scene[:, ::-1]
        if rng.random() < (0.0 if plain and group == 0 else self._mix.magnified[min(group, 1)]):
            scene = _magnified(scene, rng)
        corners = rng.integers(0, scene.shape[0] - side + 1, (2, 2))
        contrast = [scene[y : y + side, x : x + side].std() for y, x in corners]
        y, x = corners[int(np.argmax(contrast)) if rng.random() < 0.6 else 0]
        whole = scene.astype(np.float32) / 255
        if rng.random() < WOVEN_SHARE:
            whole = _woven(whole, self._weaves[rng.integers(len(self._weaves))], rng)
        if not plain:
            whole = _varied(whole, rng)
        return whole, np.ascontiguousarray(whole[y : y + side, x : x + side])


def _magnified(scene: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """A part of the scene, at its size."""
    part = int(len(scene) / np.exp(rng.uniform(*np.log(MAGNIFIED))))
    y, x = rng.integers(0, len(scene) - part + 1, 2)
    image = Image.fromarray(np.ascontiguousarray(scene[y : y + part, x : x + part]))
    return np.asarray(image.resize(scene.shape, Image.Resampling.BICUBIC))


def _woven(scene: Plane, cloth: Plane, rng: Rng) -> Plane:
    """The scene printed on cloth, which is never seen the same way twice."""
    cloth = np.rot90(cloth, rng.integers(4))
    strength = np.exp(rng.uniform(np.log(0.03), np.log(0.35)))
    return scene * (1 - strength) + strength * 0.5 * (1 + cloth)


def _varied(scene: Plane, rng: Rng) -> Plane:
    """Other brightness, contrast and shading of the same scene, within 0 to 1."""
    if rng.random() < 0.05:
        scene = 1 - scene
    if rng.random() < 0.35:
        scene = scene ** np.float32(np.exp(rng.uniform(np.log(0.4), np.log(2.5))))
    if rng.random() < 0.3:
        scene = scene * rng.uniform(0.3, 1) + rng.uniform(0, 0.3)
    if rng.random() < 0.1:
        rows, columns = np.indices(scene.shape, dtype=np.float32) / len(scene) - 0.5
        scene = scene * (1 - rng.uniform(0.3, 1.2) * (rows**2 + columns**2))
    return np.clip(scene, 0, 1).astype(np.float32)


def _stabilised(
    clean: Plane, seen: Corrupted, span_of: Plane, corruption: Corruption, rng: Rng
) -> tuple[Plane, Corrupted, Plane]:
    """As the step `stabilise` leaves it, with a gain and read noise that are not quite right."""
    gain, read_noise = (
        float(value * np.exp(MISTOLD * rng.standard_normal())) for value in (corruption.gain, corruption.read_noise)
    )

    def forward(values: Plane) -> Plane:
        return anscombe(values.astype(np.float64), gain, read_noise).astype(np.float32)

    # the clean value that the product's inverse of a mean leads back to this scene
    grid = np.linspace(0, float(forward(np.float32([clean.max()]))[0]) * 1.1 + 3, 512)
    led_back = inverse_anscombe(grid, gain, read_noise, "mean")
    target = np.interp(clean, led_back, grid).astype(np.float32)
    slope = np.sqrt(gain * np.maximum(clean, 0) + read_noise**2)
    stabilised = Corrupted(forward(seen.noisy), (seen.std / slope).astype(np.float32), seen.counted, seen.hit)
    return target, stabilised, forward(span_of)


def _to_network_units(span_of: Plane, rng: Rng, *, varied: bool) -> tuple[np.float32, np.float32]:
    """Scale and offset; `varied` as where a patch is only a part of a larger image with other extremes."""
    low, high = (float(value) for value in np.percentile(span_of, [0.5, 99.5]))
    span = max(high - low, 1e-3)
    if varied and rng.random() < 0.5:
        low, high = low - rng.uniform(0, 0.6) * span, high + rng.exponential(0.5) * span
    elif varied and rng.random() < 0.2:
        high = low + span * rng.uniform(0.3, 1)
    elif not varied and rng.random() < BRIGHTER_ELSEWHERE:
        high += span * rng.uniform(0, 0.3)
    scale = 2 / max(high - low, 1e-3)
    return np.float32(scale), np.float32(-1 - low * scale)


def _told(std: float, neighbours: Plane, rng: Rng, share: float, mistold: float) -> Plane:
    if rng.random() > share:
        return np.full(3, np.nan, dtype=np.float32)
    wrong = rng.standard_normal(3)
    more = MISTOLD_CORRELATED * float(neighbours.max())
    factor = np.exp((mistold + more) * wrong[0] - more / 2)
    return np.array([std * factor, *(neighbours + 0.05 * wrong[1:])], dtype=np.float32)


# ---- in processes of their own -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn; a record that each process is given.

    Attributes
    ----------
    pool, cache : Path
        Of clean scenes, and where procedural ones and overlays are kept.
    held_out : tuple of str
        Sources that are left out.
    procedural, overlays : int
        Scenes and pictures of unmarked damage that are drawn by rules.
    batch_size, patch_px : int
        Of each batch.
    mix : Mix
        How often patches are damaged.
    seed : int
        Each process draws with a seed of its own from it.
    """

    pool: Path
    held_out: tuple[str, ...]
    procedural: int
    overlays: int
    cache: Path
    batch_size: int
    patch_px: int
    mix: Mix
    seed: int

    def clean(self) -> Scenes:
        """Scenes of the pool, and procedural ones."""
        return with_procedural(load_scenes(self.pool).without(self.held_out), self.procedural, 0, self.cache)

    def damage(self) -> NDArray[np.uint8] | None:
        """As `overlay_bank`, where there is damage."""
        return overlay_bank(self.overlays, 0, self.cache) if self.mix.marked + self.mix.unmarked > 0 else None


class Drawn(IterableDataset[dict[str, Tensor]]):
    """Batches without end, those of each worker of a `DataLoader` its own."""

    def __init__(self, drawing: Drawing, workers: int) -> None:
        self._drawing, self._workers = drawing, workers

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        drawing = self._drawing
        source = BatchSource(
            *(drawing.clean(), drawing.batch_size, drawing.patch_px, drawing.mix),
            (drawing.seed, 0 if worker is None else worker.id),
            drawing.damage(),
            share=1 / self._workers,
        )
        for batch in source:
            yield {name: torch.from_numpy(getattr(batch, name)) for name in Batch.__slots__}


def stream(drawing: Drawing, workers: int, *, pinned: bool) -> Iterator[dict[str, Tensor]]:
    """Batches that other processes draw ahead, so that training waits for nothing; `pinned` for a GPU."""
    drawing.clean()  # here, once: the workers find in the cache what is drawn by rules
    drawing.damage()
    loader = DataLoader(
        Drawn(drawing, workers),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4,
        pin_memory=pinned,
        multiprocessing_context="spawn",
        timeout=600,
    )
    return iter(loader)
