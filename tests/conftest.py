"""Which tests run: `slow` on request, `gpu` where there is one, `gui` only with a display."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import camera

from napari_vae_repair.settings import Settings, make_settings

# Shells start what runs in the background with Ctrl-C ignored, and so would be the processes that tests interrupt
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tiny networks lose more by waiting for threads than they win; before any test module loads PyTorch
os.environ["OMP_NUM_THREADS"] = "1"

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration
    from napari_vae_repair.vae.record import Model


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """No 16 bits on the CPU: their rounding depends on the shape of what is convolved, up to 0.2 % of the range."""
    monkeypatch.setattr("napari_vae_repair.vae.device._cpu_autocast", lambda: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow too (minutes)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--run-slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
    if any(item.get_closest_marker("gpu") for item in items):
        import torch  # only here: importing it takes seconds

        if not torch.cuda.is_available():
            for item in items:
                if item.get_closest_marker("gpu"):
                    item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    # without this Qt aborts the whole process
    if "gui" in item.keywords and sys.platform == "linux" and not (os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}):
        pytest.fail("This test needs a display: install Xvfb (`make test` does), or run `pytest -m 'not gui'`.", False)


@pytest.fixture(scope="session")
def tiny() -> Settings:
    """Settings with which a restoration takes a second or two."""
    return make_settings(
        epochs=3,
        samples=3,
        network={"widths": (12, 12), "latents": (4, 4)},
        training={"patches_per_epoch": 32, "patch_px": 32},
    )


@pytest.fixture(scope="session")
def photo() -> NDArray[np.float32]:
    """Part of a photo, 97 x 75 pixels, in units of 0 to 1000."""
    return camera()[100:197, 200:275].astype(np.float32) / 255 * 1000


@pytest.fixture(scope="session")
def noisy(photo: NDArray[np.float32]) -> NDArray[np.float32]:
    """`photo` with Gaussian noise of standard deviation 100."""
    return (photo + np.random.default_rng(0).normal(0, 100, photo.shape)).astype(np.float32)


@pytest.fixture(scope="session")
def restoration(noisy: NDArray[np.float32], photo: NDArray[np.float32], tiny: Settings) -> Restoration:
    """A restoration of `noisy`, with its samples, against `photo`."""
    from napari_vae_repair.pipeline import restore

    return restore(noisy, tiny, reference=photo, keep_samples=True)


@pytest.fixture(scope="session")
def model(restoration: Restoration) -> Model:
    """Trained on `noisy`."""
    return restoration.model
