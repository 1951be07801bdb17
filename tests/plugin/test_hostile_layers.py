"""A file of layers comes from anyone: a note that is none of ours opens as a plain image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.files import StoredImage, read_layers, write_layers
from napari_vae_repair.plugin.layer_files import from_stored
from napari_vae_repair.plugin.reader import get_reader

PIXELS = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)
LAYER = {"scale": [1.0, 2.0], "rgb": False}
NOTES: dict[str, dict[str, Any]] = {
    "layer as text": {"kind": "image", "layer": "x", "facts": None},
    "another kind": {"kind": "shapes", "layer": LAYER, "facts": None},
    "no kind": {"layer": LAYER},
    "another argument": {"kind": "image", "layer": LAYER | {"plane": {}}, "facts": None},
    "a path": {"kind": "image", "layer": LAYER | {"path": "/etc/passwd"}, "facts": None},
    "scale as text": {"kind": "image", "layer": {"scale": "wide"}, "facts": None},
    "ragged affine": {"kind": "image", "layer": {"affine": [[1], [1, 2]]}, "facts": None},
    "facts as a list": {"kind": "image", "layer": LAYER, "facts": [1]},
    "facts without a source": {"kind": "image", "layer": LAYER, "facts": {"role": "restored"}},
    "role as a list": {"kind": "image", "layer": LAYER, "facts": {"role": ["restored"], "source": "a"}},
}


@pytest.mark.parametrize("kind", NOTES)
def test_a_note_that_is_none_of_ours_opens_as_an_image(kind: str, tmp_path: Path) -> None:
    path = write_layers(tmp_path / "a.layers.ome.tif", [StoredImage("a", PIXELS, "YX", {}, NOTES[kind])])
    with pytest.raises(ImageFileError, match="none of this version"):
        from_stored(read_layers(path)[0])
    read = get_reader(str(path))
    assert read is not None
    ((data, meta, layer_type),) = read(str(path))
    assert np.array_equal(data, PIXELS)
    assert layer_type == "image"
    assert set(meta) <= {"name", "rgb", "axis_labels", "scale", "units"}


def test_a_note_of_ours_opens_as_its_layer(tmp_path: Path) -> None:
    note = {"kind": "image", "layer": LAYER, "facts": {"role": "restored", "source": "a"}}
    path = write_layers(tmp_path / "a.layers.ome.tif", [StoredImage("a", PIXELS, "YX", {}, note)])
    _, meta, kind = from_stored(read_layers(path)[0])
    assert kind == "image"
    assert meta["metadata"]["napari-vae-repair"] == note["facts"]
