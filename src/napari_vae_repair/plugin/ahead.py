"""What the first restoration needs, loaded while its user still looks at the widget."""

from __future__ import annotations

import functools
import threading

from napari_vae_repair.errors import VaeRepairError
from napari_vae_repair.plugin.worker import give_way, import_pipeline, switching_often

AFTER_S = 0.5  # by when the dock is drawn


@functools.cache
def load_ahead() -> threading.Thread:
    """Load PyTorch, its optimisers and the starter in a thread of the lowest priority, once a process.

    Nothing waits for it. What fails here fails again, and is told, when it is needed.
    """
    loading = threading.Timer(AFTER_S, _load)
    loading.name = "vae-repair-ahead"
    loading.start()
    return loading


def _load() -> None:
    give_way()
    with switching_often():
        try:
            import_pipeline()
            import torch

            from napari_vae_repair.vae.starter import load_starter

            load_starter()
            torch.optim.Adam([torch.zeros(1)])  # the first one of a process loads PyTorch's compiler
        except VaeRepairError:
            pass
