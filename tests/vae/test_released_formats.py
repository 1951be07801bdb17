"""Model files of every released format are read, and restore as they did for the version that wrote them.

`tests/data/model-vN.safetensors` was written by the first version of format N (1: commit 37ec326; 2: a model without a
value range, calibrated). A new format adds its file and its row; files are never written anew.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_vae_repair.pipeline import restore
from napari_vae_repair.vae.checkpoint import FORMAT_VERSION, load_model, read_header, save_model

DATA = Path(__file__).parents[1] / "data"
# every 16th row and 13th column of the restored image; those of version 1 come from the code that wrote it
RESTORED = {
    1: [[113.326, 74.535, 139.228, 84.776], [109.02, 68.595, 138.559, 74.94], [104.699, 73.807, 166.302, 78.173]],
    2: [[112.7, 74.608, 136.687, 84.109], [106.595, 70.195, 137.109, 73.792], [106.801, 69.089, 141.009, 73.194]],
}
STD = {
    1: [[5.178, 4.408, 15.092, 6.659], [9.637, 11.73, 23.339, 3.76], [7.703, 7.166, 29.865, 13.218]],
    2: [[8.551, 7.423, 22.646, 10.651], [14.721, 17.595, 35.006, 6.462], [12.102, 11.361, 44.802, 19.828]],
}


def scene() -> np.ndarray:
    """Waves with noise-like waves upon them, without a generator that a later numpy could change."""
    y, x = np.mgrid[:48, :40]
    clean = 100 + 60 * np.sin(x / 5.0) * np.cos(y / 7.0)
    return (clean + 20 * np.sin(12.9898 * x + 78.233 * y + 0.5 * x * y)).astype(np.float32)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_a_model_of_each_format_restores_as_when_it_was_written(version: int) -> None:
    path = DATA / f"model-v{version}.safetensors"
    assert read_header(path)["format_version"] == version
    result = restore(scene(), model=str(path), samples=4)
    span = float(np.ptp(scene()))
    assert np.allclose(result.restored[::16, ::13], RESTORED[version], rtol=0, atol=1e-3 * span)
    assert np.allclose(result.std[::16, ::13], STD[version], rtol=0, atol=1e-3 * span)


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_a_model_of_each_format_can_be_saved_in_the_present_one(version: int, tmp_path: Path) -> None:
    model = load_model(DATA / f"model-v{version}.safetensors")
    again = load_model(save_model(model, tmp_path / "model.safetensors"))
    assert (again.settings, again.value_range, again.noise) == (model.settings, model.value_range, model.noise)
    for one, other in zip(again.network.parameters(), model.network.parameters(), strict=True):
        assert np.array_equal(one.numpy(), other.numpy())
