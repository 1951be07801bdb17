"""A plugin manager that knows napari's builtins and this plugin, tiny settings, and how to wait for a run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_vae_repair.settings import Network, Settings, Training

MANIFEST = Path(__file__).parents[2] / "napari.yaml"
TINY = Settings(
    model="scratch",
    network=Network(widths=(8,), latents=(2,)),
    training=Training(patches_per_epoch=16, patch_px=16, batch_size=8),
    epochs=1,
    samples=2,
)


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Tiny networks on shared cores lose more by waiting for threads than they win."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def manager(npe2pm: Any) -> Any:
    """The plugin manager with napari's builtins and this plugin, in this order."""
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution("napari"))
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    return npe2pm


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory, noisy: Callable[..., np.ndarray], one_thread: None) -> Path:
    """A tiny model, trained for a second."""
    from napari_vae_repair.pipeline import restore
    from napari_vae_repair.vae.checkpoint import save_model

    return save_model(restore(noisy(24, 32), TINY).model, tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def preferences(manager: Any, plugin_settings: Any, model_file: Path) -> Any:
    """This plugin's settings in Preferences, set for a run of a second: Preferences hold no size of the network."""
    from napari.settings import get_plugin_settings

    chosen = get_plugin_settings("napari-vae-repair").restoration
    chosen.model, chosen.epochs, chosen.samples = str(model_file), 1, 2
    return chosen


@pytest.fixture(autouse=True)
def models_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of saved models that is not the developer's own."""
    folder = tmp_path_factory.mktemp("models")
    monkeypatch.setenv("NAPARI_VAE_REPAIR_MODELS", str(folder))
    return folder


@pytest.fixture
def viewer(make_napari_viewer: Any, preferences: Any, one_thread: None) -> Iterator[Any]:
    yield make_napari_viewer()
    gc.collect()


@pytest.fixture
def docked(viewer: Any) -> Any:
    """The widget as the menu docks it, tiny, in a viewer without layers."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-vae-repair", "VAE Repair")
    widget.show_settings(TINY)
    return widget


@pytest.fixture
def finish(qtbot: Any) -> Callable[[Any], Any]:
    """Wait for a widget's run and give its outcome."""

    def wait(widget: Any, seconds: float = 60.0) -> Any:
        outcomes: list[Any] = []
        widget.finished.connect(outcomes.append)
        qtbot.waitUntil(lambda: bool(outcomes), timeout=int(1000 * seconds))
        widget.finished.disconnect(outcomes.append)
        return outcomes[0]

    return wait


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Messages of napari's notifications."""
    from napari.utils.notifications import notification_manager

    messages: list[str] = []

    def keep(notification: Any) -> None:
        messages.append(notification.message)

    notification_manager.notification_ready.connect(keep)
    yield messages
    notification_manager.notification_ready.disconnect(keep)
    notification_manager.records.clear()


@pytest.fixture(scope="session")
def tiny() -> Settings:
    """A training of a second."""
    return TINY


@pytest.fixture(scope="session")
def endless() -> Settings:
    """A training that only ends when it is cancelled."""
    return TINY.model_copy(update={"epochs": 50_000})


@pytest.fixture(scope="session")
def noisy() -> Callable[..., np.ndarray]:
    """Smooth bumps with noise, values between about 50 and 200, in any shape (..., Y, X)."""

    def make(*shape: int, dtype: str = "float32") -> np.ndarray:
        y, x = np.mgrid[: shape[-2], : shape[-1]]
        noise = np.random.default_rng(0).normal(0, 10, shape)
        return (125 + 50 * np.sin(y / 7) * np.cos(x / 9) + noise).astype(dtype)

    return make


@pytest.fixture(scope="session")
def noisy_rgb(noisy: Callable[..., np.ndarray]) -> np.ndarray:
    """A colour image (Y, X, 3) of uint8."""
    return np.moveaxis(noisy(3, 40, 48, dtype="uint8"), 0, -1)
