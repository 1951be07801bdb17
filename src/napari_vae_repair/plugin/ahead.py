"""What the first restoration needs, loaded while its user still looks at the widget."""

from __future__ import annotations

import functools
import logging
import threading

from qtpy.QtWidgets import QApplication

from napari_vae_repair.plugin.worker import give_way, import_pipeline, switching_often

AFTER_S = 0.5  # by when the dock is drawn


@functools.cache
def load_ahead() -> threading.Thread:
    """Load PyTorch, its optimisers and the starter in a thread that lets the viewer's go first, once a process.

    Nothing waits for it. What fails here fails again, and is told, when it is needed. Closing napari ends it after what
    it is loading just then.
    """
    stop = threading.Event()
    loading = threading.Timer(AFTER_S, _load, [stop])
    loading.name = "vae-repair-ahead"
    application = QApplication.instance()
    if application is not None:
        application.aboutToQuit.connect(stop.set)
        application.aboutToQuit.connect(loading.cancel)
    loading.start()
    return loading


def _load(stop: threading.Event) -> None:
    try:
        give_way()
        with switching_often():
            for load in (import_pipeline, _load_starter, _load_optimisers):
                if stop.is_set():
                    return
                load()
    except Exception:  # whatever it is, who has pressed no button yet need not see it
        logging.getLogger(__name__).debug("what the first restoration needs was not loaded ahead", exc_info=True)


def _load_starter() -> None:
    from napari_vae_repair.vae.starter import load_starter

    load_starter()


def _load_optimisers() -> None:
    import torch

    torch.optim.Adam([torch.zeros(1)])  # the first one of a process loads PyTorch's compiler
