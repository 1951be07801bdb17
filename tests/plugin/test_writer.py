from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import npe2
import numpy as np
import pytest
import tifffile

from napari_vae_repair import large
from napari_vae_repair.errors import ImageFileError, InputError
from napari_vae_repair.image.files import is_restored_file, read_layers, read_provenance
from napari_vae_repair.plugin.writer import LAYERS_EXTENSION, RESTORED_EXTENSION, with_extension, write_restored

Noisy = Callable[..., np.ndarray]
Finish = Callable[[Any], Any]
PLUGIN = "napari-vae-repair"
MANIFEST = Path(__file__).parents[2] / "napari.yaml"

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("order", [("napari", PLUGIN), (PLUGIN, "napari")], ids="-".join)
@pytest.mark.parametrize("name", ["a.tif", "a.tiff", "a.ome.tif", "a.png", "a.jpg", "a.zarr", "a.ome.zarr", "a", "a.b"])
@pytest.mark.parametrize("kinds", [["image"], ["image", "image"], ["image", "labels"], ["labels"]], ids="+".join)
def test_plain_saves_never_reach_our_writers(npe2pm: Any, order: Any, name: str, kinds: list[str]) -> None:
    for plugin in order:
        manifest = npe2.PluginManifest.from_distribution("napari")
        npe2pm.register(manifest if plugin == "napari" else npe2.PluginManifest.from_file(MANIFEST))
    writer, _ = npe2pm.get_writer(name, kinds)
    assert writer is None or writer.plugin_name == "napari"
    first = next(iter(npe2pm.iter_compatible_writers(kinds)))  # the save dialog's first choice
    assert first.plugin_name == "napari" or kinds in (["image", "image"], ["image", "labels"])


@pytest.mark.parametrize("order", [("napari", PLUGIN), (PLUGIN, "napari")], ids="-".join)
def test_our_extensions_reach_our_writers(npe2pm: Any, order: Any) -> None:
    for plugin in order:
        manifest = npe2.PluginManifest.from_distribution("napari")
        npe2pm.register(manifest if plugin == "napari" else npe2.PluginManifest.from_file(MANIFEST))
    assert npe2pm.get_writer("a.restored.ome.tif", ["image"])[0].command.endswith(".write_restored")
    assert npe2pm.get_writer("a.restored.ome.zarr", ["image"])[0].command.endswith(".write_restored")
    assert npe2pm.get_writer("a.layers.ome.tif", ["image"])[0].command.endswith(".write_layers")
    assert npe2pm.get_writer("a.layers.ome.tif", ["image"] * 3 + ["labels"])[0].command.endswith(".write_layers")


def test_a_plain_save_stores_the_layer_itself(viewer: Any, noisy: Noisy, tmp_path: Path) -> None:
    pixels = noisy(24, 32, dtype="uint16")
    viewer.add_image(pixels, name="image")
    viewer.layers.save(str(tmp_path / "a.ome.tif"))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), pixels)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("a.restored.ome.tif", "a.restored.ome.tif"),
        ("a.RESTORED.OME.TIF", "a.RESTORED.OME.TIF"),
        ("a", "a.restored.ome.tif"),
        ("a.tif", "a.restored.ome.tif"),
        ("a.ome.tif", "a.restored.ome.tif"),
        ("a.b", "a.b.restored.ome.tif"),
    ],
)
def test_the_extension_is_added_where_a_dialog_left_it_out(given: str, made: str) -> None:
    assert with_extension(f"/some.where/{given}", RESTORED_EXTENSION) == Path("/some.where", made)


def test_a_restored_copy_holds_restored_and_residual_and_opens_again(
    viewer: Any, docked: Any, noisy: Noisy, tmp_path: Path, qtbot: Any
) -> None:
    pixels = noisy(24, 32, dtype="uint16")
    viewer.add_image(pixels, name="image", scale=(0.5, 0.5), units=("um", "um"))
    (path,) = viewer.layers.save(str(tmp_path / f"a{RESTORED_EXTENSION}"), plugin=PLUGIN)
    assert is_restored_file(path)
    restored, residual = read_layers(path)
    assert (restored.name, residual.name) == ("image restored", "image residual")
    assert (restored.pixels.dtype, residual.pixels.dtype) == (np.uint16, np.float32)
    np.testing.assert_allclose(restored.pixels + residual.pixels, pixels, atol=0.51)
    np.testing.assert_array_equal(tifffile.imread(path, series=0), restored.pixels)
    np.testing.assert_array_equal(tifffile.imread(path, series=1), residual.pixels)
    provenance = read_provenance(path)
    assert provenance is not None
    assert provenance["settings"]["samples"] == 2
    opened = viewer.open(path, plugin=PLUGIN)
    qtbot.wait(100)
    assert [layer.name for layer in opened] == ["image restored", "image residual"]
    np.testing.assert_array_equal(opened[0].data, restored.pixels)
    np.testing.assert_array_equal(opened[0].scale, (0.5, 0.5))
    assert not docked.running


def test_the_restoration_that_the_viewer_holds_is_taken_if_it_is_of_these_pixels(
    viewer: Any, docked: Any, noisy: Noisy, tmp_path: Path, finish: Finish
) -> None:
    layer = viewer.add_image(noisy(24, 32), name="image")
    docked.seed.value = 77  # unlike the seed in Preferences
    docked.start()
    result = finish(docked)
    path = tmp_path / f"a{RESTORED_EXTENSION}"
    viewer.layers.selection = {layer}
    viewer.layers.save(str(path), selected=True)
    np.testing.assert_array_equal(read_layers(path)[0].pixels, result.restored)
    layer.data = layer.data + 1
    viewer.layers.save(str(path), selected=True)
    assert read_provenance(path)["settings"]["seed"] == 0  # type: ignore[index]


def test_labels_beside_the_image_mark_damage(manager: Any, preferences: Any, noisy: Noisy, tmp_path: Path) -> None:
    marked = np.zeros((24, 32), int)
    marked[:6] = 1
    layers: list[Any] = [(noisy(24, 32), {"name": "image"}, "image"), (marked, {"name": "scratch"}, "labels")]
    (path,) = npe2.write(str(tmp_path / f"a{RESTORED_EXTENSION}"), layers)
    assert read_provenance(path)["report"]["damaged_share"] == pytest.approx(0.25)  # type: ignore[index]
    layers[1] = (marked[:5], {"name": "scratch"}, "labels")
    with pytest.raises(InputError, match="shape"):
        npe2.write(str(tmp_path / f"b{RESTORED_EXTENSION}"), layers)


def test_cancelling_in_the_activity_dock_writes_nothing(
    viewer: Any, preferences: Any, noisy: Noisy, tmp_path: Path, qtbot: Any
) -> None:
    from napari.utils.progress import cancelable_progress, progress
    from qtpy.QtCore import QTimer

    preferences.epochs, preferences.model = 50_000, "scratch"
    viewer.add_image(noisy(24, 32), name="image")
    cancelled = []

    def cancel() -> None:
        for bar in list(progress._all_instances):
            if isinstance(bar, cancelable_progress) and "Training" in bar.desc:
                bar.cancel()
                cancelled.append(bar)
        if not cancelled:
            QTimer.singleShot(50, cancel)

    QTimer.singleShot(50, cancel)
    path = tmp_path / f"a{RESTORED_EXTENSION}"
    with pytest.warns(UserWarning, match="did not return any written paths"):
        assert viewer.layers.save(str(path)) == []
    assert cancelled
    assert not list(tmp_path.glob("a*"))
    assert not progress._all_instances


def test_layers_are_written_with_everything_and_open_again(viewer: Any, noisy: Noisy, tmp_path: Path) -> None:
    viewer.add_image(noisy(3, 24, 32, dtype="int16"), name="stack", scale=(2, 0.5, 0.5), colormap="magma")
    viewer.add_image(da.from_array(noisy(24, 32), chunks=8), name="lazy", gamma=0.5)
    viewer.add_labels((noisy(24, 32) > 125).astype(int), name="cells")
    (path,) = viewer.layers.save(str(tmp_path / f"a{LAYERS_EXTENSION}"))
    before = list(viewer.layers)
    opened = viewer.open(path, plugin=PLUGIN)
    for old, new in zip(before, opened, strict=True):
        assert type(old) is type(new)
        np.testing.assert_array_equal(np.asarray(old.data), new.data)
        np.testing.assert_array_equal(old.scale, new.scale)
    assert (opened[0].colormap.name, opened[1].gamma) == ("magma", 0.5)


def test_a_folder_that_is_not_there_is_told_and_nothing_is_left(viewer: Any, noisy: Noisy, tmp_path: Path) -> None:
    viewer.add_image(noisy(24, 32), name="image")
    with pytest.raises(ImageFileError):
        viewer.layers.save(str(tmp_path / "none" / f"a{LAYERS_EXTENSION}"))
    assert not list(tmp_path.rglob("*.tif"))


def test_a_lazy_image_larger_than_memory_is_refused_before_it_is_read(
    manager: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(block: np.ndarray) -> np.ndarray:
        raise AssertionError("it was read")

    monkeypatch.setattr(large, "free_memory_bytes", lambda: 10**8)
    empty = np.empty((0, 0), "float32")
    scan = da.zeros((40, 48), dtype="float32", chunks=24).map_blocks(read, dtype="float32", meta=empty)
    with pytest.raises(InputError, match="Saving a restoration needs 'scan' in memory"):
        write_restored(str(tmp_path / "a.tif"), [(scan, {"name": "scan"}, "image")])
    assert list(tmp_path.iterdir()) == []
