"""The results of a comparison side by side, as one picture."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from napari_vae_repair.ranking import Comparison

CELL_PX, LABEL_PX, COLUMNS = 256, 34, 3
LIMITS = (0.5, 99.5)  # percentiles of the first image that become black and white


def contact_sheet(image: NDArray[np.generic], comparison: Comparison) -> Image.Image:
    """The middle of the image and of each result, pixel by pixel, in one grey scale.

    Parameters
    ----------
    image : ndarray
        ``(Y, X)`` or ``(Y, X, C)`` as it was compared.
    comparison : Comparison
        Of it.

    Returns
    -------
    PIL.Image.Image
        In colour; small images are magnified a whole number of times.
    """
    shown = np.asarray(image[..., :3] if image.ndim == 3 else image, dtype=np.float32)
    low, high = np.percentile(shown, LIMITS)
    cells = [("as it is", shown)]
    for row in comparison.rows:
        measured = f"loss {row.loss:.4g}" + ("" if row.psnr is None else f", {row.psnr:.2f} dB, SSIM {row.ssim:.3f}")
        cells.append((f"{row.method}\n{measured}", row.restored))
    rows = math.ceil(len(cells) / COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL_PX, rows * (CELL_PX + LABEL_PX)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, (label, pixels) in enumerate(cells):
        x, y = index % COLUMNS * CELL_PX, index // COLUMNS * (CELL_PX + LABEL_PX)
        sheet.paste(_middle(pixels, float(low), float(high)), (x, y + LABEL_PX))
        draw.text((x + 4, y + 2), label, fill="black", font=font)
    return sheet


def _middle(pixels: NDArray[np.float32], low: float, high: float) -> Image.Image:
    starts = [max(0, (side - CELL_PX) // 2) for side in pixels.shape[:2]]
    part = pixels[tuple(slice(start, start + CELL_PX) for start in starts)]
    scaled = np.clip((part - low) / max(high - low, 1e-30), 0, 1)
    picture = Image.fromarray(np.round(255 * scaled).astype(np.uint8))
    times = max(1, CELL_PX // max(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST).convert("RGB")
