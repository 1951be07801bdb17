"""At 125 and 150 % scaling nothing of the widget is cut off, in a window of 1280 x 800 pixels of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gui

CODE = """
import napari
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QLabel, QAbstractSpinBox
viewer = napari.Viewer(show=True)
viewer.window.resize(1280, 800)
from napari_vae_repair.plugin.widget import VaeRepairWidget
widget = VaeRepairWidget(viewer)
viewer.window.add_dock_widget(widget, name="VAE Repair")
cut, seen = [], 0
for tab in range(widget.tabs.count()):
    widget.tabs.setCurrentIndex(tab)
    for _ in range(40):
        QApplication.processEvents()
    for kind in (QAbstractButton, QComboBox, QLabel, QAbstractSpinBox):
        for part in widget.native.findChildren(kind):
            if not part.isVisible() or isinstance(part.parent(), (QComboBox, QAbstractSpinBox)):
                continue
            seen += 1
            right = part.mapTo(widget.native, part.rect().topRight()).x()
            inside = part.visibleRegion().boundingRect().width() == part.width()
            if part.width() < part.minimumSizeHint().width() or right > widget.native.width() or not inside:
                cut.append((widget.tabs.tabText(tab), type(part).__name__, getattr(part, "text", str)()))
print(widget.native.devicePixelRatioF(), seen > 60, cut)
viewer.close()
"""


@pytest.mark.parametrize("scaling", ["1.25", "1.5"])
def test_nothing_is_cut_off(scaling: str, tmp_path: Path) -> None:
    own = {"QT_SCALE_FACTOR": scaling, "NAPARI_CONFIG": str(tmp_path / "settings.yaml")}
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | own, check=True)
    assert done.stdout.splitlines()[-1] == f"{float(scaling)} True []"
