from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import napari.layers
import numpy as np
import pytest
import tifffile

from napari_vae_repair.image.files import read_layers, write_layers
from napari_vae_repair.image.record import Image
from napari_vae_repair.plugin.layer_files import axes_of, from_stored, image_layer, to_stored
from napari_vae_repair.plugin.layers import METADATA_KEY

Noisy = Callable[..., np.ndarray]

LAYERS: dict[str, Callable[[Noisy], Any]] = {
    "grey": lambda noisy: napari.layers.Image(
        noisy(24, 32, dtype="uint16"),
        name="grey µ",
        scale=(0.5, 0.25),
        translate=(1, 2),
        rotate=20,
        shear=[0.2],
        affine=np.diag([2, 3, 1]),
        units=("um", "nm"),
        axis_labels=("y", "x"),
        colormap="magma",
        gamma=0.8,
        opacity=0.5,
        blending="additive",
        contrast_limits=(10, 90),
        visible=False,
        metadata={METADATA_KEY: {"role": "restored", "source": "x"}, "others": object()},
    ),
    "rgb stack": lambda noisy: napari.layers.Image(
        np.moveaxis(noisy(3, 2, 40, 48, dtype="uint8"), 0, -1), rgb=True, name="rgb"
    ),
    "dask": lambda noisy: napari.layers.Image(da.from_array(noisy(3, 24, 32), chunks=(1, 24, 32)), name="lazy"),
    "multiscale": lambda noisy: napari.layers.Image([noisy(24, 32), noisy(12, 16)], multiscale=True, name="pyramid"),
    "channels": lambda noisy: napari.layers.Image(noisy(2, 24, 32), axis_labels=("c", "y", "x"), name="channels"),
    "labels": lambda noisy: napari.layers.Labels((noisy(24, 32) > 125).astype("int32") * 7, scale=(2, 2), name="cells"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_written_and_read_is_the_same_layer(name: str, noisy: Noisy, tmp_path: Path) -> None:
    layer = LAYERS[name](noisy)
    data, meta, kind = layer.as_layer_data_tuple()
    path = write_layers(tmp_path / "a.layers.ome.tif", [to_stored(data, meta, kind)])
    data, meta, kind = from_stored(read_layers(path)[0])
    back = napari.layers.Layer.create(data, meta, kind)
    full = layer.data[0] if layer.multiscale else layer.data
    np.testing.assert_array_equal(back.data, np.asarray(full))
    assert back.data.dtype == full.dtype
    assert type(back) is type(layer)
    for key in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(back, key), getattr(layer, key), atol=1e-12)
    np.testing.assert_allclose(back.affine.affine_matrix, layer.affine.affine_matrix)
    for key in ("name", "units", "axis_labels", "opacity", "blending", "visible"):
        assert getattr(back, key) == getattr(layer, key), key
    if kind == "image":
        assert (back.rgb, back.gamma, back.contrast_limits) == (layer.rgb, layer.gamma, layer.contrast_limits)
        assert back.colormap.name == layer.colormap.name
        np.testing.assert_allclose(back.colormap.colors, layer.colormap.colors, atol=1e-6)
    assert back.metadata.get(METADATA_KEY) == layer.metadata.get(METADATA_KEY)


def test_other_programs_see_the_values(noisy: Noisy, tmp_path: Path) -> None:
    layers = [LAYERS[name](noisy) for name in ("grey", "dask", "labels")]
    path = write_layers(tmp_path / "a.ome.tif", [to_stored(*layer.as_layer_data_tuple()) for layer in layers])
    with tifffile.TiffFile(path) as tif:
        for series, layer in zip(tif.series, layers, strict=True):
            np.testing.assert_array_equal(series.asarray(), np.asarray(layer.data))


@pytest.mark.parametrize(
    ("shape", "meta", "axes"),
    [
        ((20, 30), {}, "YX"),
        ((40, 50, 3), {}, "YXS"),
        ((40, 50, 3), {"rgb": False}, "ZYX"),
        ((2, 20, 30, 3), {"rgb": True}, "ZYXS"),
        ((2, 20, 30), {"axis_labels": ("c", "-2", "-1")}, "CYX"),
    ],
)
def test_axes_of_a_layer_data_tuple(shape: tuple[int, ...], meta: dict[str, Any], axes: str) -> None:
    assert axes_of(np.zeros(shape), meta) == axes


def test_an_image_file_becomes_a_layer_with_its_pixel_sizes(noisy: Noisy) -> None:
    image = Image(noisy(3, 24, 32), "TYX", name="cells", pixel_size_um={"Y": 0.5, "X": 0.25})
    data, meta, kind = image_layer(image)
    layer = napari.layers.Layer.create(data, meta, kind)
    np.testing.assert_array_equal(layer.scale, (1, 0.5, 0.25))
    assert [str(unit) for unit in layer.units] == ["pixel", "micrometer", "micrometer"]
    assert layer.axis_labels == ("t", "y", "x")
    assert layer.data is image.pixels
