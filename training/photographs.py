"""More photographs for training, from packages of Debian: ``python -m training.photographs --clean POOL --out NPZ``.

The pool of the recipe has some ten photographs, too few to learn what a photograph is. These are in the public domain
or under CC BY; what their packages hold under other licences (see their file `copyright`) is left out. Packages are
read by Debian's `dpkg-deb`.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_vae_repair.image.atomic import replacing
from training.scenes import Scenes, load_scenes

DEBIAN = "http://deb.debian.org/debian/pool/main/"
LONGEST_SHORT_SIDE = 640  # pixels: larger photographs are reduced to it, which suppresses their own noise
FLAT = 4  # grey values: a patch with less standard deviation shows nothing


@dataclass(frozen=True, slots=True)
class Package:
    """Photographs of one package.

    Attributes
    ----------
    path, sha256 : str
        Of the package below `DEBIAN`.
    source : str
        As `Scenes.source`.
    files : str
        Regular expression of the paths that are taken.
    reduced : float
        How many times smaller they are made at least.
    """

    path: str
    sha256: str
    source: str
    files: str
    reduced: float


PACKAGES = (
    # of unsplash.com, NASA, USGS and others, in the public domain as its file `copyright` says; those with a suffix,
    # and of the names left out, are CC BY-SA
    Package(
        "e/endless-sky/endless-sky-data_0.9.8-1.2_all.deb",
        "e45835e05a11e84bb1a890a0ded390246a53b8318f21a25925aa70fa54f80c13",
        "photo/endless-sky-public-domain",
        r"images/land/(?!bwerner|myrabella|dmottl|mfield|lava5)[a-z]+[0-9]*\.jpg$",
        1.25,
    ),
    # Aitzol Berasategi, Trevor "Freespace", Jakub Mede, Abhishek Mudgal: CC BY 4.0; Clemens Engelhardt: CC0
    Package(
        "l/lomiri-wallpapers/lomiri-wallpapers-16.04_20.04.0-2_all.deb",
        "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
        "photo/lomiri-ccby",
        r"/(?:(?:aitzgorri|friends|life|picosdeeuropa|sunset|Picture_0B|Picture_1A|Wine|umang|seeding)_by_\w+)\.jpg$",
        2.0,
    ),
)


def photographs(package: Package, side: int) -> Scenes:
    """Grey squares of `side` pixels of a package's photographs.

    Raises
    ------
    ValueError
        If the package is not the one that is meant.
    OSError
        If it cannot be had, or `dpkg-deb` is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "photographs.deb")
        with urllib.request.urlopen(DEBIAN + package.path) as answer:
            file.write_bytes(answer.read())
        if hashlib.sha256(file.read_bytes()).hexdigest() != package.sha256:
            raise ValueError(f"{DEBIAN + package.path} is not the package that was used: its SHA-256 differs")
        patches = [patch for image in _images(file, package) for patch in _squares(image, side)]
    return Scenes(np.stack(patches), np.full(len(patches), package.source))


def _images(file: Path, package: Package) -> Iterator[NDArray[np.uint8]]:
    """Reduced and grey, in the order of their names."""
    content = Path(file.parent, "content.tar")
    with content.open("wb") as written:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", file], check=True, stdout=written)
    with tarfile.open(content) as archive:
        for name in sorted(name for name in archive.getnames() if re.search(package.files, name)):
            member = archive.extractfile(name)
            assert member is not None  # a photograph is a file
            image = Image.open(member).convert("L")
            times = max(package.reduced, min(image.size) / LONGEST_SHORT_SIDE)
            size = (int(image.width / times), int(image.height / times))
            yield np.asarray(image.resize(size, Image.Resampling.LANCZOS))


def _squares(image: NDArray[np.uint8], side: int) -> list[NDArray[np.uint8]]:
    """Spread evenly, so that all of the image is seen; those that show nothing are left out."""
    rows, columns = (np.linspace(0, length - side, max(1, round(length / side))).astype(int) for length in image.shape)
    patches = [image[y : y + side, x : x + side] for y in rows for x in columns]
    return [patch for patch in patches if patch.std() >= FLAT]


def main(arguments: list[str] | None = None) -> None:
    """Write the given pool and the photographs as one npz."""
    parser = argparse.ArgumentParser(prog="python -m training.photographs", description=__doc__)
    parser.add_argument("--clean", type=Path, required=True, help="npz or folder of clean patches (training.scenes)")
    parser.add_argument("--out", type=Path, required=True, help="npz")
    options = parser.parse_args(arguments)
    pool = load_scenes(options.clean)
    found = [photographs(package, pool.patches.shape[1]) for package in PACKAGES]
    patches = np.concatenate([pool.patches, *(scenes.patches for scenes in found)])
    source = np.concatenate([pool.source, *(scenes.source for scenes in found)])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.out) as stream:
        np.savez_compressed(stream, patches=patches, source=source)
    print(", ".join(f"{len(scenes)} patches of {scenes.source[0]}" for scenes in found))


if __name__ == "__main__":
    main()
