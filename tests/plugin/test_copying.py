"""Copy as Python and as a command: what the clipboard gets restores the same pixels."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from qtpy.QtGui import QGuiApplication

from napari_vae_repair import cli

pytestmark = pytest.mark.gui

Noisy = Callable[..., np.ndarray]
Finish = Callable[[Any], Any]


def assert_same(first: np.ndarray, second: np.ndarray) -> None:
    """Up to the rounding that another number of threads brings: the button has a thread of its own."""
    np.testing.assert_allclose(first, second, rtol=1e-5)


def run_in_console(viewer: Any, text: str) -> Any:
    scope: dict[str, Any] = {"viewer": viewer}
    exec(text, scope)
    return scope["result"]


@pytest.mark.parametrize("kind", ["stack", "plane", "multiscale plane", "rgb", "masked", "masked plane"])
def test_copied_python_gives_the_pixels_of_the_button(
    viewer: Any, docked: Any, noisy: Noisy, noisy_rgb: np.ndarray, finish: Finish, kind: str
) -> None:
    stack = noisy(3, 24, 32)
    if kind == "rgb":
        viewer.add_image(noisy_rgb, name="my 'layer'", rgb=True)
    elif kind == "multiscale plane":
        viewer.add_image([stack, stack[:, ::2, ::2]], name="my 'layer'", multiscale=True)
    else:
        viewer.add_image(stack, name="my 'layer'")
    if "masked" in kind:
        labels = np.zeros(stack.shape, int)
        labels[1, :6] = 1
        docked.mask_layer.value = viewer.add_labels(labels, name="lost")
    viewer.dims.set_current_step(0, 1)
    docked.plane_only.value = "plane" in kind
    docked.copies.python.changed.emit(True)
    text = QGuiApplication.clipboard().text()
    assert text == docked.as_python()
    assert text in docked.status.value
    docked.start()
    result = finish(docked)
    again = run_in_console(viewer, text)
    assert_same(again.restored, result.restored)
    assert again.report.damaged_share == result.report.damaged_share
    assert again.axes == result.axes


@pytest.mark.parametrize("kind", ["stack", "plane", "rgb", "masked"])
def test_of_a_layer_larger_than_memory_python_is_lazy(
    viewer: Any, docked: Any, noisy: Noisy, noisy_rgb: np.ndarray, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_vae_repair.plugin.storing.is_large", lambda *_: True)
    pixels = noisy_rgb if kind == "rgb" else noisy(3, 24, 32)
    viewer.add_image(da.from_array(pixels), name="large", rgb=kind == "rgb")
    if kind == "masked":
        labels = np.zeros(pixels.shape, int)
        labels[1, :6] = 1
        docked.mask_layer.value = viewer.add_labels(labels, name="lost")
    docked.plane_only.value = kind == "plane"
    text = docked.as_python()
    assert ("restore_lazily" in text) == (kind != "plane")  # a plane fits
    result = run_in_console(viewer, text)
    assert isinstance(result.restored, np.ndarray if kind == "plane" else da.Array)
    viewer.layers["large"].data = pixels
    whole = run_in_console(viewer, docked.as_python())
    assert np.abs(np.asarray(result.restored) - whole.restored).max() < 1e-3 * np.ptp(pixels)


@pytest.mark.parametrize("shape", [(24, 32), (2, 24, 32)], ids=["plane", "channels"])
def test_a_copied_command_gives_the_pixels_of_the_button(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """Also of channels that napari's own reader shows as a stack: of one noise, not one for each."""
    file = tmp_path / "my image.tif"
    pixels = noisy(*shape).astype(np.float32)
    pixels[-1] *= 3
    tifffile.imwrite(file, pixels, imagej=True, metadata={"axes": "CYX"[-len(shape) :]})
    viewer.open(file, plugin="napari")
    docked.copies.command.changed.emit(True)
    text = QGuiApplication.clipboard().text()
    docked.start()
    result = finish(docked)
    assert cli.main(shlex.split(text)[1:]) == 0
    assert_same(iio.imread(tmp_path / "my image.restored.tif"), result.restored)


def test_seconds_of_adapting_are_copied_as_the_steps_of_the_last_run(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish
) -> None:
    viewer.add_image(noisy(64, 64), name="layer")
    docked.model_from.value = "starter (ready at once)"
    docked.adapt.value = 1
    assert "adapt_seconds=1.0" in docked.as_python()
    docked.start()
    steps = finish(docked).model.training["adapted"]["steps"]
    assert f"adapt_steps={steps}" in docked.as_python()
    assert f"--set adapt_steps={steps}" in docked.as_command()
    docked.seed.value = 3
    assert "adapt_seconds=1.0" in docked.as_python()


def test_the_settings_of_a_restored_layer_come_back(
    viewer: Any, docked: Any, noisy: Noisy, finish: Finish, told: list[str]
) -> None:
    source = viewer.add_image(noisy(64, 64), name="layer")
    docked.model_from.value = "starter (ready at once)"
    docked.adapt.value, docked.samples.value, docked.seed.value = 1, 3, 7
    docked.start()
    made = finish(docked)
    docked.seed.value, docked.samples.value, docked.adapt.value = 0, 0, 0
    docked.copies.take.changed.emit(True)  # napari has selected the result
    assert "layer restored" in docked.status.value
    settings = docked.current_settings()
    assert (settings.seed, settings.samples, settings.adapt_seconds) == (7, 3, 0)
    assert settings.adapt_steps == made.model.training["adapted"]["steps"]
    docked.start()
    assert_same(finish(docked).restored, made.restored)
    viewer.layers.selection.active = source
    docked.copies.take.changed.emit(True)
    assert any("'layer' was not made by VAE Repair" in message for message in told)


def test_without_a_layer_nothing_is_copied(docked: Any, told: list[str]) -> None:
    QGuiApplication.clipboard().setText("before")
    docked.copies.command.changed.emit(True)
    assert QGuiApplication.clipboard().text() == "before"
    assert any("no image layer" in message for message in told)
