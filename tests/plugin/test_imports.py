"""What importing the plugin's modules may load."""

from __future__ import annotations

import os
import subprocess
import sys
from threading import Event

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


@pytest.mark.parametrize("error", [DeviceError("No PyTorch.", "It must be there.", "Install it."), AttributeError("x")])
def test_what_fails_while_loading_ahead_disturbs_nobody(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(ahead, "import_pipeline", fails)
    monkeypatch.setattr(ahead, "AFTER_S", 0)
    ahead.load_ahead.__wrapped__().join()  # an exception in a thread would be a warning, and so an error of the test


def test_loading_ahead_stops_between_two_things(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, loaded = Event(), []
    monkeypatch.setattr(ahead, "import_pipeline", stop.set)
    monkeypatch.setattr(ahead, "_load_starter", lambda: loaded.append("starter"))
    ahead._load(stop)
    assert loaded == []


def test_napari_that_is_left_while_it_loads_ahead_ends_quietly() -> None:
    code = (
        "import time; from qtpy.QtCore import QTimer; from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([]); from napari_vae_repair.plugin.ahead import load_ahead\n"
        "loading = load_ahead(); QTimer.singleShot({after}, app.quit); app.exec()"
    )
    for after in (100, 700):
        command = [sys.executable, "-W", "ignore", "-c", code.format(after=after)]
        environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=True)
        assert done.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is the process's own")
def test_a_priority_that_is_lower_already_stays() -> None:
    code = (
        "import os; from napari_vae_repair.plugin.worker import give_way\n"
        "os.nice(15); os.setgid(65534); os.setuid(65534) if os.getuid() == 0 else None\n"
        "before = os.getpriority(os.PRIO_PROCESS, 0); give_way(); print(os.getpriority(os.PRIO_PROCESS, 0) == before)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
