"""One model from many image files that need not fit into memory together, resumable after any interruption."""

from __future__ import annotations

from napari_vae_repair.file_training.keeping import checkpoint_of
from napari_vae_repair.file_training.run import train_files

__all__ = ["checkpoint_of", "train_files"]
