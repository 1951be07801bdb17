"""Clean scenes for training: a pool of patches that the recipe is given, beside procedural ones."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.procedural import procedural_scene

PROCEDURAL = "procedural"
IN_A_TURN = 50  # of what is drawn, by one process
IMAGE_ENDINGS = {".png", ".tif", ".tiff", ".jpg", ".jpeg"}


@dataclass(frozen=True, slots=True)
class Scenes:
    """Clean grey patches and where they come from.

    Attributes
    ----------
    patches : ndarray of uint8
        ``(N, Y, X)``.
    source : ndarray of str
        ``(N,)``: what is held out together.
    """

    patches: NDArray[np.uint8]
    source: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.patches)

    def without(self, held_out: tuple[str, ...]) -> Scenes:
        """Those of all other sources."""
        return self._where(~np.isin(self.source, held_out))

    def only(self, sources: tuple[str, ...]) -> Scenes:
        """Those of the named sources.

        Raises
        ------
        ValueError
            If a source has no patch.
        """
        missing = set(sources) - set(self.source.tolist())
        if missing:
            there = sorted(set(self.source.tolist()))
            raise ValueError(f"no patch of {sorted(missing)}; sources, to be named with --held-out, are {there}")
        return self._where(np.isin(self.source, sources))

    def _where(self, chosen: NDArray[np.bool_]) -> Scenes:
        return Scenes(self.patches[chosen], self.source[chosen])


def load_scenes(path: Path, side: int = 160) -> Scenes:
    """Patches of an npz (`patches` (N, Y, X) uint8, `source` (N,) str), or of a folder of images.

    Parameters
    ----------
    path : Path
        A folder's images are made grey and cut into squares; each subfolder is a source.
    side : int
        Height and width of patches cut from a folder, in pixels.

    Raises
    ------
    ValueError
        If there is no image as large as a patch.
    """
    if path.is_file():
        with np.load(path) as stored:
            return Scenes(stored["patches"], stored["source"])
    patches, sources = [], []
    for file in sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_ENDINGS):
        for patch in _squares(file, side):
            patches.append(patch)
            sources.append(str(file.parent.relative_to(path)))
    if not patches:
        raise ValueError(f"{path} holds no image of at least {side} x {side} pixels ({', '.join(IMAGE_ENDINGS)})")
    return Scenes(np.stack(patches), np.array(sources))


def _squares(file: Path, side: int) -> list[NDArray[np.uint8]]:
    from napari_vae_repair.image.files import read_image  # a machine that only trains needs none of its codecs

    image = read_image(file)
    pixels = image.pixels.astype(np.float32)
    grey = pixels[..., :3].mean(axis=-1) if image.axes.endswith("S") else pixels
    low, high = np.percentile(grey, [0, 99.95])
    scaled = np.clip((grey - low) / max(high - low, 1e-6) * 255, 0, 255).round().astype(np.uint8)
    planes = scaled.reshape(-1, *scaled.shape[-2:])
    return [
        plane[y : y + side, x : x + side]
        for plane in planes
        for y in range(0, plane.shape[0] - side + 1, side)
        for x in range(0, plane.shape[1] - side + 1, side)
    ]


def with_procedural(scenes: Scenes, count: int, seed: int, cache: Path) -> Scenes:
    """The scenes, and `count` procedural ones of the same size; these are drawn once and kept in `cache`."""
    side = scenes.patches.shape[1]
    file = cache / f"procedural-{side}-{count}-{seed}.npy"
    drawn = drawn_once(file, partial(procedural_scene, side, seed), count)
    return Scenes(
        np.concatenate([scenes.patches, drawn]),
        np.concatenate([scenes.source, np.full(count, PROCEDURAL)]),
    )


def drawn_once(file: Path, draw: Callable[[int], NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
    """``draw(0)``, ``draw(1)`` and so on, stacked; drawn by all processors, kept in the file, and read from it."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        processors = min(os.cpu_count() or 1, -(-count // IN_A_TURN))
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processors, context) if processors > 1 else nullcontext() as pool:
            drawn = map(draw, range(count)) if pool is None else pool.map(draw, range(count), chunksize=IN_A_TURN)
            stacked = np.stack(list(drawn))
        written = file.with_suffix(f".{os.getpid()}.part.npy")
        np.save(written, stacked)
        written.replace(file)
    return np.asarray(np.load(file, mmap_mode="r"))
