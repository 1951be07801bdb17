from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import npe2
import numpy as np
import pytest
import tifffile
import zarr

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.files import read_image, read_provenance, write_image
from napari_vae_repair.plugin import reader
from napari_vae_repair.plugin.layers import METADATA_KEY
from napari_vae_repair.plugin.reader import get_reader
from napari_vae_repair.plugin.writer import write_layers
from napari_vae_repair.settings import Settings

Noisy = Callable[..., np.ndarray]
Finish = Callable[[Any], Any]
PLUGIN = "napari-vae-repair"


@pytest.fixture
def photo(noisy: Noisy, tmp_path: Path) -> Path:
    path = tmp_path / "photo.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, noisy(24, 32, dtype="uint16"), ome=True, metadata={"axes": "YX", **sizes})
    return path


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("a.tif", True),
        ("a.TIFF", True),
        ("a.ome.tif", True),
        ("a.png", True),
        ("a.JPG", True),
        ("a.jpeg", True),
        ("a.bmp", True),
        (["a.tif", "b.tif"], True),
        (Path("a.tif"), True),
        ("not/there/at/all.tif", True),
        ("a.txt", False),
        ("a.zarr", True),
        ("a.OME.zarr/", True),
        (["a.zarr", "b.tif"], True),
        (".", False),
        ("zarr", False),
        ("folder.tif/", False),
        ("", False),
        ([], False),
        (["a.tif", "b.txt"], False),
        (3, False),
        (None, False),
        ([None], False),
    ],
)
def test_get_reader_looks_at_the_name_alone_and_never_raises(path: Any, taken: bool) -> None:
    began = time.perf_counter()
    assert (get_reader(path) is not None) is taken
    assert time.perf_counter() - began < 0.01


def test_no_folder_but_a_store_is_taken(tmp_path: Path) -> None:
    for name in ("a.tif", "folder", "b.png"):
        (tmp_path / name).mkdir()
        assert get_reader(str(tmp_path / name)) is None


@pytest.mark.gui
def test_npe2_read_without_a_viewer_gives_original_restored_and_residual(
    preferences: Any, photo: Path, one_thread: None
) -> None:
    layers = npe2.read([str(photo)], stack=False, plugin_name=PLUGIN)
    assert [meta["name"] for _, meta, _ in layers] == ["photo", "photo restored", "photo residual"]
    original, restored, residual = (data for data, _, _ in layers)
    np.testing.assert_array_equal(original, tifffile.imread(photo))
    np.testing.assert_allclose(restored + residual, original, atol=1e-3)
    assert all(list(meta["scale"]) == [0.5, 0.5] for _, meta, _ in layers)
    assert layers[1][1]["metadata"][METADATA_KEY]["settings"]["model"] == preferences.model


@pytest.mark.gui
def test_in_a_viewer_the_image_is_there_at_once_and_the_results_follow(
    viewer: Any, docked: Any, photo: Path, finish: Finish
) -> None:
    layers = viewer.open(photo, plugin=PLUGIN)
    assert [layer.name for layer in viewer.layers] == ["photo"]
    np.testing.assert_array_equal(layers[0].scale, (0.5, 0.5))
    assert finish(docked) is not None
    assert [layer.name for layer in viewer.layers] == ["photo", "photo uncertainty", "photo residual", "photo restored"]


@pytest.mark.gui
def test_opening_docks_the_widget_and_starts_it_as_restore_would(
    viewer: Any, preferences: Any, photo: Path, qtbot: Any
) -> None:
    preferences.epochs, preferences.model = 1000, "scratch"
    viewer.open(photo, plugin=PLUGIN)
    qtbot.waitUntil(lambda: len(viewer.window.dock_widgets) == 1, timeout=5000)
    widget = next(iter(viewer.window.dock_widgets.values()))
    qtbot.waitUntil(lambda: widget.running, timeout=5000)
    assert widget.epochs.value == 1000
    assert widget.cancel_button.enabled
    widget.cancel()
    qtbot.waitUntil(lambda: not widget.running, timeout=10_000)


@pytest.mark.gui
def test_several_files_are_restored_one_after_the_other(
    viewer: Any, docked: Any, noisy: Noisy, tmp_path: Path, qtbot: Any
) -> None:
    paths = [write_image(tmp_path / f"{name}.png", noisy(24, 32, dtype="uint8"), "YX") for name in "ab"]
    viewer.open([str(path) for path in paths], plugin=PLUGIN)
    qtbot.waitUntil(lambda: {"a restored", "b restored"} <= {layer.name for layer in viewer.layers}, timeout=60_000)


@pytest.mark.gui
def test_files_as_a_stack_become_one_layer(
    viewer: Any, docked: Any, noisy: Noisy, tmp_path: Path, finish: Finish
) -> None:
    paths = [str(write_image(tmp_path / f"{n}.png", noisy(24, 32, dtype="uint8"), "YX")) for n in range(3)]
    (layer,) = viewer.open(paths, stack=True, plugin=PLUGIN)
    assert layer.data.shape == (3, 24, 32)
    assert finish(docked).restored.shape == (3, 24, 32)


@pytest.mark.gui
def test_drag_and_drop_asks_for_the_reader_unless_one_was_chosen_for_the_kind_of_file(
    viewer: Any, docked: Any, photo: Path, finish: Finish
) -> None:
    from napari.errors import MultipleReaderError
    from napari.settings import get_settings

    with pytest.raises(MultipleReaderError) as asked:  # on this napari shows its dialog
        viewer.open(photo, plugin=None)
    assert set(asked.value.available_plugins) == {"napari", PLUGIN}
    assert not viewer.layers
    get_settings().plugins.extension2reader = {"*.tif": PLUGIN}
    viewer.window._qt_viewer._qt_open([str(photo)], stack=False)
    assert finish(docked) is not None


@pytest.mark.gui
def test_opening_without_naming_the_plugin_never_restores(viewer: Any, docked: Any, photo: Path, qtbot: Any) -> None:
    viewer.open(photo)
    qtbot.wait(200)
    assert not docked.running
    assert len(viewer.layers) == 1


@pytest.mark.gui
@pytest.mark.parametrize("name", ["restored.tif", "restored.ome.tif"])
def test_what_the_shell_restored_is_not_restored_again(
    viewer: Any, docked: Any, noisy: Noisy, tmp_path: Path, qtbot: Any, name: str
) -> None:
    pixels = noisy(24, 32, dtype="uint16")
    path = write_image(tmp_path / name, pixels, "YX", pixel_size_um={"Y": 0.5, "X": 0.5}, provenance={})
    (layer,) = viewer.open(path, plugin=PLUGIN)
    np.testing.assert_array_equal(layer.data, pixels)
    np.testing.assert_array_equal(layer.scale, (0.5, 0.5))
    qtbot.wait(100)
    assert not docked.running


@pytest.mark.gui
@pytest.mark.parametrize("content", [b"", b"no image", b"II*\0\x08\0\0\0"], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_image_is_told(viewer: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.tif"
    path.write_bytes(content)
    with pytest.raises(ImageFileError):
        viewer.open(path, plugin=PLUGIN)
    assert not viewer.layers


@pytest.mark.gui
def test_called_by_others_than_the_viewer_it_starts_nothing(
    viewer: Any, docked: Any, photo: Path, qtbot: Any, tiny: Settings
) -> None:
    layers = npe2.read([str(photo)], stack=False, plugin_name=PLUGIN)
    assert len(layers) == 1
    qtbot.wait(300)
    assert not docked.running


def by_others(path: Path, values: np.ndarray, axes: str, sizes: dict[str, float]) -> Path:
    """The file as another program writes it: without our note."""
    if path.suffix == ".zarr":
        write_image(path, values, axes, pixel_size_um=sizes)
        del zarr.open_group(path).attrs[PLUGIN]
    else:
        about = {f"PhysicalSize{axis}": size for axis, size in sizes.items()}
        tifffile.imwrite(path, values, photometric="minisblack", metadata={"axes": axes} | about)
    return path


@pytest.mark.gui
@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.tif"])
def test_what_the_viewer_restored_the_shell_reads_and_the_other_way_round(
    viewer: Any, docked: Any, noisy: Noisy, tmp_path: Path, finish: Finish, name: str
) -> None:
    sizes = {"Y": 0.5, "X": 0.25}
    path = by_others(tmp_path / name, noisy(24, 32, dtype="uint16"), "YX", sizes)
    (layer,) = viewer.open(path, plugin=PLUGIN)
    np.testing.assert_array_equal(layer.scale, (0.5, 0.25))
    assert finish(docked) is not None
    (saved,) = layer.save(str(tmp_path / f"b.restored{Path(name).suffixes[0]}{Path(name).suffixes[1]}"))
    restored = next(one for one in viewer.layers if one.name == "a restored")
    image = read_image(saved)
    assert (image.axes, image.pixel_size_um, image.pixels.dtype) == ("YX", sizes, np.dtype("uint16"))
    np.testing.assert_array_equal(image.pixels, np.rint(np.clip(restored.data, 0, 65535)))
    assert read_provenance(saved)["settings"]["seed"] == 0  # type: ignore[index]
    again = viewer.open(saved, plugin=PLUGIN)
    np.testing.assert_array_equal(again[0].data, image.pixels)
    assert not docked.running


@pytest.mark.gui
@pytest.mark.parametrize(("name", "levels"), [("a.zarr", 3), ("a.ome.tif", 1)])
def test_a_large_image_stays_in_its_file_and_is_not_restored_at_once(
    viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any, name: str, levels: int
) -> None:
    monkeypatch.setattr(reader, "LAZY_FROM_BYTES", 2**20)
    values = np.random.default_rng(0).integers(0, 60_000, (2, 600, 700)).astype(np.uint16)
    path = by_others(tmp_path / name, values, "CYX", {"Y": 0.5, "X": 0.5})
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert layer.multiscale is (levels > 1)
    finest = layer.data[0] if layer.multiscale else layer.data
    assert isinstance(finest, da.Array)
    assert len(layer.data) == levels or levels == 1
    np.testing.assert_array_equal(finest[:, 100:110, 5:9].compute(), values[:, 100:110, 5:9])
    np.testing.assert_array_equal(layer.scale, (1, 0.5, 0.5))
    qtbot.waitUntil(lambda: len(viewer.window.dock_widgets) == 1, timeout=5000)
    assert not next(iter(viewer.window.dock_widgets.values())).running


@pytest.mark.gui
def test_large_layers_that_we_saved_open_as_the_layers_they_are(
    manager: Any, noisy: Noisy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LAZY_FROM_BYTES", 1)
    pixels = noisy(24, 32)
    look = {"name": "a residual", "colormap": "magma", "contrast_limits": [-3.0, 3.0]}
    facts = {"metadata": {METADATA_KEY: {"source": "a", "role": "residual"}}}
    saved: list[Any] = [(pixels, {"name": "a restored"}, "image"), (pixels - 125, look | facts, "image")]
    (path,) = write_layers(str(tmp_path / "a"), [*saved, (pixels > 125, {"name": "marks"}, "labels")])
    layers = reader.read_and_restore(path)
    assert [(meta["name"], kind) for _, meta, kind in layers] == [
        ("a restored", "image"),
        ("a residual", "image"),
        ("marks", "labels"),
    ]
    assert layers[1][1].items() >= (look | facts).items()
    np.testing.assert_array_equal(layers[1][0], pixels - 125)
    # what the shell restored is one image
    for name in ("b.ome.tif", "b.tif", "b.ome.zarr"):
        (one,) = reader.read_and_restore(write_image(tmp_path / name, pixels, "YX", provenance={}))
        assert isinstance(one[0], da.Array)
