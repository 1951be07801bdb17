"""Errors as napari's notifications."""

from __future__ import annotations

import logging

from napari_vae_repair.plugin.worker import RestorationFailed


def notify(error: Exception) -> None:
    """Show an error as a napari notification; the traceback of one that nobody foresaw goes to the log."""
    from napari.utils.notifications import show_error

    if isinstance(error, RestorationFailed):
        logging.getLogger(__name__).error("\n".join(getattr(error, "__notes__", [])))
    show_error(str(error))
