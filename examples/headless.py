"""Restore every image of a folder without a window: restored, standard deviation and trust report beside each other.

    python examples/headless.py FOLDER OUTPUT [--samples 16] [--adapt-steps 40]

Without FOLDER, a noisy photo is made and restored, so that the script can be tried at once.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
import tifffile

from napari_vae_repair import restore
from napari_vae_repair.trust_page import write_trust_page

ENDINGS = (".tif", ".tiff")


def main() -> None:
    """Restore what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="of TIFF files, each with one grey plane or stack")
    parser.add_argument("output", nargs="?", type=Path, default=Path("restored"), help="default: %(default)s")
    parser.add_argument("--samples", type=int, default=16, help="for the uncertainty; default: %(default)s")
    parser.add_argument("--adapt-steps", type=int, help="adapt to each image for so many steps first")
    options = parser.parse_args()
    folder = options.folder or example_folder()
    options.output.mkdir(parents=True, exist_ok=True)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not paths:
        parser.error(f"{folder} holds no file that ends in {' or '.join(ENDINGS)}")
    for path in paths:
        result = restore(tifffile.imread(path), samples=options.samples, adapt_steps=options.adapt_steps)
        named = options.output / path.stem
        tifffile.imwrite(named.with_suffix(".restored.tif"), result.restored)
        tifffile.imwrite(named.with_suffix(".std.tif"), result.std)
        write_trust_page(result, str(named.with_suffix(".html")), source=path.name)
        print(f"{path.name}: {result.report.headline()}")
        print(f"    trust: {result.trust().summary()}")


def example_folder() -> Path:
    """A new folder with one file: part of a photo with Gaussian noise."""
    clean = skimage.data.camera()[100:292, 130:322].astype(np.float32)
    folder = Path(tempfile.mkdtemp())
    noisy = clean + np.random.default_rng(0).normal(0, 25, clean.shape).astype(np.float32)
    tifffile.imwrite(folder / "photo.tif", noisy)
    return folder


if __name__ == "__main__":
    main()
