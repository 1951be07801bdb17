"""Many files: `restore_files` and the records that it gives; nothing heavy is imported before it runs."""

from napari_vae_repair.batch.job import Row
from napari_vae_repair.batch.naming import FileOptions
from napari_vae_repair.batch.run import BatchProgress, restore_files

__all__ = ["BatchProgress", "FileOptions", "Row", "restore_files"]
