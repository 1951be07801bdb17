"""Small valid files of every kind that is read, of 16 to 48 pixels, from which fuzzed ones are made."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import tifffile

from napari_vae_repair.image.files import StoredImage, write_image, write_layers

MODELS = Path(__file__).parents[1] / "tests" / "data"
RNG_SEED = 0


def _pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(RNG_SEED).integers(0, 200, shape)
    values[..., shape[-1] // 2 :] = 7  # runs, which codecs treat otherwise
    return values.astype(dtype)


def _tiff(dtype: str, shape: tuple[int, ...] = (24, 32), **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, _pixels(*shape, dtype=dtype), **options)


def _picture(mode: str, kind: str, **options: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        buffer = io.BytesIO()
        PIL.Image.fromarray(_pixels(24, 32)).convert(mode).save(buffer, kind, **options)
        path.write_bytes(buffer.getvalue())

    return write


def _turned(path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(_pixels(24, 32, 3)).save(path, "JPEG", exif=exif.tobytes())


def _layers(path: Path) -> None:
    record = {"scale": [1.0, 2.0], "kind": "image"}
    layers = [StoredImage(f"layer {dtype}", _pixels(2, 16, 20, dtype=dtype), "CYX", {"Y": 0.5, "X": 0.5}, record)
              for dtype in ("uint16", "float32")]  # fmt: skip
    write_layers(path, layers, {"settings": {"seed": 0}}, ["a", "b"])


def _ours(path: Path) -> None:
    sizes, names = {"Y": 0.5, "X": 0.5}, ("DAPI", "GFP")
    write_image(path, _pixels(2, 32, 24, dtype="uint16"), "CYX", pixel_size_um=sizes, channel_names=names)


def _ome(path: Path) -> None:
    metadata = {"axes": "TCYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Channel": {"Name": ["a", "b"]}}
    tifffile.imwrite(path, _pixels(2, 2, 16, 24, dtype="uint16"), ome=True, metadata=metadata, compression="zlib")


def _imagej(path: Path) -> None:
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 2.0, "Labels": ["a", "b", "c"]}
    tifffile.imwrite(path, _pixels(3, 24, 16, dtype="uint16"), imagej=True, metadata=metadata)


def _store(version: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        from napari_vae_repair.image.omezarr import create_store

        pixels = _pixels(2, 24, 32, dtype="uint16")
        store = create_store(
            path, pixels.shape, pixels.dtype, "CYX", chunks=(1, 16, 16), pixel_size_um={"Y": 0.5, "X": 0.5},
            channel_names=("a", "b"), provenance={"source": "a"}, version=version,
        )  # fmt: skip
        store.write((slice(None),) * 3, pixels)
        store.finish()

    return write


SEEDS: dict[str, Callable[[Path], None]] = {
    "plain.tif": _tiff("uint16"),
    "big.tif": _tiff("uint8", bigtiff=True),
    "motorola.tif": _tiff("uint16", byteorder=">"),
    "deflate.tif": _tiff("uint16", compression="zlib", predictor=True),
    "lzw.tif": _tiff("uint8", compression="lzw"),
    "packbits.tif": _tiff("uint8", compression="packbits"),
    "zstd.tif": _tiff("float32", compression="zstd"),
    "lzma.tif": _tiff("uint8", compression="lzma"),
    "jpeg.tif": _tiff("uint8", (32, 48, 3), compression="jpeg", photometric="rgb"),
    "jpeg2000.tif": _tiff("uint16", compression="jpeg2000"),
    "webp.tif": _tiff("uint8", (24, 32, 3), compression="webp", photometric="rgb"),
    "tiled.tif": _tiff("uint16", (40, 48), compression="zlib", tile=(16, 16)),
    "stack.tif": _tiff("uint8", (3, 16, 24), photometric="minisblack"),
    "planar.tif": _tiff("uint8", (3, 24, 16), photometric="rgb", planarconfig="separate"),
    "imagej.tif": _imagej,
    "theirs.ome.tif": _ome,
    "layers.ome.tif": _layers,
    "ours.tif": _ours,
    "grey.png": _picture("L", "PNG"),
    "bits.png": _picture("1", "PNG"),
    "palette.png": _picture("P", "PNG"),
    "alpha.png": _picture("LA", "PNG"),
    "sixteen.png": lambda path: PIL.Image.fromarray(_pixels(24, 32, dtype="uint16")).save(path),
    "colour16.png": lambda path: write_image(path, _pixels(24, 32, 3, dtype="uint16"), "YXS") and None,
    "grey.jpg": _picture("L", "JPEG"),
    "cmyk.jpg": _picture("CMYK", "JPEG"),
    "progressive.jpg": _picture("RGB", "JPEG", progressive=True),
    "turned.jpg": _turned,
    "grey.bmp": _picture("L", "BMP"),
    "colour.bmp": _picture("RGB", "BMP"),
    "one.safetensors": lambda path: shutil.copyfile(MODELS / "model-v1.safetensors", path) and None,
    "two.safetensors": lambda path: shutil.copyfile(MODELS / "model-v2.safetensors", path) and None,
    "four.ome.zarr": _store("0.4"),
    "five.ome.zarr": _store("0.5"),
}


def make_seeds(folder: Path) -> list[Path]:
    """A valid file of each kind in the folder."""
    for name, make in SEEDS.items():
        make(folder / name)
    return [folder / name for name in SEEDS]
