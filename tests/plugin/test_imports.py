"""What importing the plugin's modules may load."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "skimage", "scipy", "napari", "tifffile", "matplotlib")


@pytest.mark.parametrize("module", ["reader", "widget", "worker", "snapshot", "layers", "chain_editor"])
def test_module_leaves_torch_and_the_like_unloaded(module: str) -> None:
    code = f"import sys, napari_vae_repair.plugin.{module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
