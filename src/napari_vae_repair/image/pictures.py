"""PNG, JPEG and BMP to pixels, once what they claim has been found to be possible."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.BmpImagePlugin
import PIL.Image
import PIL.ImageFile
import PIL.ImageOps
import PIL.JpegImagePlugin
import PIL.PngImagePlugin
from numpy.typing import NDArray

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.limits import check_ratio, check_size
from napari_vae_repair.image.orientation import ORIENTATION_TAG, turned
from napari_vae_repair.image.tiff import decoding

_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PNG_COLOURS = (2, 4, 6)  # colour types whose 16 bits Pillow would cut to 8
# By their first bytes. Pillow knows some forty kinds more, one of which starts another program.
_KINDS: dict[bytes, type[PIL.ImageFile.ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PIL.PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": PIL.JpegImagePlugin.JpegImageFile,
    b"BM": PIL.BmpImagePlugin.BmpImageFile,
}


def read_picture(path: Path) -> NDArray[Any]:
    """Pixels (Y, X) or (Y, X, S) of a PNG, JPEG or BMP, whatever its name ends in.

    Raises
    ------
    ImageFileError
        It is none, damaged, larger than the memory, or claims more than its bytes can hold.
    """
    with decoding(path):
        with path.open("rb") as stream:
            header = stream.read(64)
        kind = next((kind for magic, kind in _KINDS.items() if header.startswith(magic)), None)
        if kind is None:
            raise ImageFileError(
                f"{path} cannot be read: it begins like no PNG, JPEG or BMP.",
                "The content of a file must be what its name says.",
                "Export the image again as TIFF or PNG.",
            )
        png = _png_header(header)
        if png is not None:
            width, height, bits, colour = png
            samples = _PNG_SAMPLES.get(colour, 4)
            check_ratio(path, width * height * samples * bits / 8, path.stat().st_size, "deflate")
            check_size(path, (height, width, 3 if colour == 3 else samples), "uint16" if bits == 16 else "uint8")
            if bits == 16 and colour in _PNG_COLOURS:
                pixels: NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
                pixels = pixels[..., 0] if pixels.shape[-1] == 2 else pixels
                with kind(path) as picture:
                    return turned(pixels, picture.getexif().get(ORIENTATION_TAG, 1))
        # Pillow's own limit, which large micrographs exceed, stands in PIL.Image.open alone
        with path.open("rb", buffering=0) as raw, _Bounded(raw) as stream, kind(stream) as picture:
            if png is None:
                _check_claim(path, picture)
            return _pixels(PIL.ImageOps.exif_transpose(picture))


class _Bounded(io.BufferedReader):
    """A file of which no more bytes are asked for than it has: Python makes room for all that is asked for first."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            at = self.tell()
            size = min(size, max(self.seek(0, io.SEEK_END) - at, 0))
            self.seek(at)
        return super().read(size)


def _check_claim(path: Path, picture: PIL.ImageFile.ImageFile) -> None:
    """Raise where a JPEG or BMP claims too much."""
    width, height = picture.size
    samples = PIL.Image.getmodebands(picture.mode)
    # at least so much stands in a BMP without compression: a palette's pixels may take 1 bit, a colour's 15
    bits = 1 if samples == 1 else 15
    if isinstance(picture, PIL.JpegImagePlugin.JpegImageFile):
        bits = 8 * samples
    is_plain = isinstance(picture, PIL.BmpImagePlugin.BmpImageFile) and picture.info.get("compression") in (0, 3)
    check_ratio(path, width * height * bits / 8, path.stat().st_size, "none" if is_plain else "picture")
    check_size(path, (height, width, samples if picture.mode in ("1", "L") else max(samples, 3)), "uint8")


def _pixels(picture: PIL.Image.Image) -> NDArray[Any]:
    if picture.mode in ("1", "L", "RGB", "RGBA") or picture.mode.startswith("I;16"):
        return np.array(picture)
    if picture.mode == "I":  # how Pillow before 11.0 gives 16-bit grey PNG
        return np.array(picture).astype(np.uint16)
    return np.array(picture.getchannel(0) if picture.mode in ("LA", "La") else picture.convert("RGB"))


def _png_header(header: bytes) -> tuple[int, int, int, int] | None:
    """Width, height, bits and colour type of a PNG; None for other files."""
    if not header.startswith(b"\x89PNG\r\n\x1a\n") or len(header) < 26:
        return None
    width, height, bits, colour = struct.unpack(">IIBB", header[16:26])
    return width, height, bits, colour
