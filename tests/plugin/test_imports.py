"""What importing the plugin's modules may load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_vae_repair.errors import DeviceError
from napari_vae_repair.plugin import ahead

HEAVY = ("torch", "skimage", "scipy", "napari", "tifffile", "matplotlib")


@pytest.mark.parametrize("module", ["reader", "widget", "worker", "snapshot", "layers", "chain_editor"])
def test_module_leaves_torch_and_the_like_unloaded(module: str) -> None:
    code = f"import sys, napari_vae_repair.plugin.{module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_the_first_restoration_needs_is_loaded_ahead_in_a_thread() -> None:
    code = (
        "import sys; from napari_vae_repair.plugin.ahead import load_ahead\n"
        "loading = load_ahead(); assert loading is load_ahead() and 'torch' not in sys.modules; loading.join()\n"
        "from napari_vae_repair.vae.starter import load_starter\n"
        "print(load_starter.cache_info().currsize, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("1 True", "")


def test_without_pytorch_loading_ahead_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise DeviceError("PyTorch could not be loaded.", "It must be.", "Install it.")

    monkeypatch.setattr(ahead, "import_pipeline", fails)
    monkeypatch.setattr(ahead, "AFTER_S", 0)
    loading = ahead.load_ahead.__wrapped__()
    loading.join()  # an exception in a thread would be a warning, and so an error of the test
