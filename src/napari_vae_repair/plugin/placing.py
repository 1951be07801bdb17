"""Results put into a viewer one after the other, so that it can deal with a click in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QTimer

from napari_vae_repair.plugin.layers import place_layer, remove_left_over
from napari_vae_repair.plugin.notices import notify
from napari_vae_repair.plugin.snapshot import LayerData
from napari_vae_repair.plugin.worker import without_frames

PAUSE_MS = 20  # napari's progress bar handles what is due at once within the same turn


def place_in_turn(
    viewer: Callable[[], Any], results: Sequence[LayerData], done: Callable[[list[Any] | None], None]
) -> None:
    """Add results as `add_results` does, but each in its own turn of Qt's event loop: one takes napari 0.1 s and more.

    Parameters
    ----------
    viewer : callable
        Gives the napari viewer; None once it is gone, and then nothing more is added.
    results : sequence of LayerData
        One at least.
    done : callable
        Called with the layers; with None where the viewer is gone or an error was told.
    """
    waiting, shown = list(results), list[Any]()

    def place_next() -> None:
        present = viewer()
        if present is None:
            done(None)
            return
        try:
            shown.append(place_layer(present, waiting.pop(0)))
            if not waiting:
                remove_left_over(present, shown)
        except Exception as error:  # raised in a slot it would end the process
            notify(without_frames(error))
            done(None)
            return
        if waiting:
            QTimer.singleShot(PAUSE_MS, place_next)
        else:
            done(shown)

    place_next()
