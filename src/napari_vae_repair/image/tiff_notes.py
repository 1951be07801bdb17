"""What this package noted in the TIFF files that it wrote: whose they are, how they came to be, what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from napari_vae_repair.image.tiff import DECODING_ERRORS, OURS, decoding, opened_tiff


def is_restored_tiff(path: str | Path) -> bool:
    """Whether a TIFF was written by this package; False for any other, for folders and for missing files."""
    try:
        with tifffile.TiffFile(path) as tif:
            tag = tif.pages.first.tags.get("Software")
            return tag is not None and str(tag.value).startswith(OURS)
    except DECODING_ERRORS:
        return False


def read_tiff_provenance(path: str | Path) -> dict[str, Any] | None:
    """How a TIFF written by this package came to be; None for other files.

    Raises
    ------
    ImageFileError
        The file is missing or damaged.
    """
    path = Path(path)
    with decoding(path), opened_tiff(path) as tif:
        shaped = (tif.shaped_metadata or ({},))[0].get(OURS)
        record = shaped or next(iter(ome_records(tif)), {})
        provenance = record.get("provenance")
        return provenance if isinstance(provenance, dict) else None


def first_record(path: Path) -> dict[str, Any] | None:
    """What `write_layers` noted on the first image of its file; None for other files."""
    with opened_tiff(path) as tif:
        records = ome_records(tif)
        return records[0] if len(records) == len(tif.series) else None


def ome_records(tif: tifffile.TiffFile) -> list[dict[str, Any]]:
    """What `ometiff.write_layers` noted on each image; empty for OME-TIFF of other programs."""
    if not tif.is_ome or tif.ome_metadata is None:
        return []
    records = []
    for description in ElementTree.fromstring(tif.ome_metadata).findall("{*}Image/{*}Description"):
        text = description.text or ""
        record = json.loads(text).get(OURS) if text.startswith(f'{{"{OURS}"') else None
        if isinstance(record, dict):
            records.append(record)
    return records
