"""`Stage`: a real viewer with the docked widget, driven through its own buttons; Preferences are left alone."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COLOURS = 128  # of the palette that keeps the pictures small
ROUNDS = 40  # of Qt's events until everything is laid out and drawn; fewer leave the canvas black
SECONDS_BETWEEN = 0.02
PATIENCE_S = 300.0


def leave_the_user_alone() -> Path:
    """Point napari's settings, this plugin's and its saved models to a new folder; before napari is imported."""
    home = Path(tempfile.mkdtemp(prefix="vae-repair-tour-"))
    os.environ["NAPARI_CONFIG"] = str(home / "settings.yaml")
    os.environ["NAPARI_VAE_REPAIR_MODELS"] = str(home / "models")
    return home


def mend_vispy() -> None:
    """Let vispy (0.17) keep the shader programs of removed layers.

    Where it deletes them, Mesa's software renderer (22.3) crashes some redraws later, with napari alone too;
    https://github.com/vispy/vispy/issues/1611 describes the like on Windows.
    """
    from vispy.gloo.glir import GlirProgram

    GlirProgram.delete = lambda program: None


class Stage:
    """A viewer in one theme and size.

    Parameters
    ----------
    theme : str
        "dark" or "light".
    size : tuple of int
        Width and height of the window, in pixels.
    folder : Path
        Where pictures and files go.
    quick : bool
        Whether everything is to be tiny.
    """

    def __init__(self, theme: str, size: tuple[int, int], folder: Path, *, quick: bool) -> None:
        import napari
        from napari.settings import get_settings
        from napari.utils.notifications import notification_manager

        self.folder, self.quick, self.theme, self.size = folder, quick, theme, size
        get_settings().appearance.theme = theme
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*size)
        _, self.widget = self.viewer.window.add_plugin_dock_widget("napari-vae-repair", "VAE Repair")
        self.outcomes: list[Any] = []
        self.widget.finished.connect(self.outcomes.append)
        self.errors: list[str] = []
        notification_manager.notification_ready.connect(self._note)
        self.settle()

    def _note(self, notification: Any) -> None:
        if str(notification.severity.value) == "error":
            self.errors.append(notification.message)

    def leave(self) -> None:
        """End whatever is under way after a step that failed: Qt aborts where a worker outlives it."""
        self.widget.cancel()
        while self.widget.running:
            self.settle(1)

    def close(self) -> None:
        """End; what napari complained of on the way is a failure."""
        from napari.utils.notifications import notification_manager

        notification_manager.notification_ready.disconnect(self._note)
        self.viewer.close()
        self.settle()
        expect(not self.errors, f"errors were shown: {self.errors}")

    # ---- the event loop

    def settle(self, rounds: int = ROUNDS) -> None:
        """Let Qt lay out and the canvas draw."""
        from qtpy.QtWidgets import QApplication

        for _ in range(rounds):
            QApplication.processEvents()
            time.sleep(SECONDS_BETWEEN / 8)

    def wait(self, until: Callable[[], Any], what: str) -> None:
        """Handle events until something holds, leaving the processor to the worker in between."""
        from qtpy.QtWidgets import QApplication

        began = time.monotonic()
        while not until():
            QApplication.processEvents()
            time.sleep(SECONDS_BETWEEN)
            expect(time.monotonic() - began < PATIENCE_S, f"waited in vain for {what}; {self.widget.status.value!r}")
            expect(not self.errors, f"errors were shown: {self.errors}")
        self.settle(5)

    # ---- what a user does

    def show_tab(self, tab: Any = None) -> None:
        """Bring a tab to the front, None = Restore."""
        self.widget.tabs.setCurrentIndex(0 if tab is None else self.widget.tabs.indexOf(tab))
        self.settle(10)

    def press(self, button: Any, *, answer: str | None = None) -> None:
        """Press a button that can be seen and pressed; `answer` goes into the dialog that it opens."""
        native = getattr(button, "native", button)
        expect(native.isVisible() and native.isEnabled(), f"the button {native.text()!r} cannot be pressed")
        if answer is not None:
            self._answer(answer)
        native.click()
        self.settle(5)

    def _answer(self, text: str) -> None:
        """Fill in the next dialog that opens, as soon as it is open, and press its OK or Save."""
        from qtpy.QtCore import QTimer
        from qtpy.QtWidgets import QApplication, QDialogButtonBox, QFileDialog, QInputDialog, QLineEdit

        timer = QTimer()

        def fill() -> None:
            dialog = QApplication.activeModalWidget()
            if isinstance(dialog, QInputDialog):
                dialog.setTextValue(text)
            elif isinstance(dialog, QFileDialog):
                dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)
                # `selectFile` leaves the name as it is once the field has the focus
                dialog.findChild(QLineEdit, "fileNameEdit").setText(text)
            else:
                return
            timer.stop()
            box = dialog.findChild(QDialogButtonBox)
            accept = [each for each in box.buttons() if box.buttonRole(each) == box.ButtonRole.AcceptRole]
            accept[0].click()
            if dialog.isVisible():  # refused: leave it, so that the tour can tell
                dialog.reject()

        timer.timeout.connect(fill)
        timer.start(20)
        self._timer = timer

    def restore(self) -> Any:
        """Press Restore and wait for the result."""
        before = len(self.outcomes)
        self.press(self.widget.restore_button)
        self.wait(lambda: len(self.outcomes) > before and not self.widget.running, "the restoration")
        expect(self.outcomes[-1] is not None, f"the restoration ended without a result: {self.widget.status.value}")
        return self.outcomes[-1]

    def rest(self) -> None:
        """Wait until nothing is under way."""
        self.wait(lambda: not self.widget.running, "the end of the work")

    def only(self, *layers: Any) -> None:
        """Show these layers and hide all others."""
        for layer in self.viewer.layers:
            layer.visible = layer in layers
        self.viewer.reset_view()
        self.settle(10)

    # ---- what is kept

    def picture(self, name: str) -> Path:
        """The whole window as ``NAME.png``, with a palette."""
        import numpy as np
        from PIL import Image

        self.settle()
        pixels = np.asarray(self.viewer.screenshot(canvas_only=False, flash=False))[..., :3]
        path = self.folder / f"{name}.png"
        Image.fromarray(pixels).quantize(COLOURS).save(path, optimize=True)
        print(f"{path}  {path.stat().st_size} bytes", flush=True)
        return path


def expect(holds: Any, otherwise: str) -> None:
    """Fail with a sentence unless something holds."""
    if not holds:
        raise SystemExit(f"The tour failed: {otherwise}.")
