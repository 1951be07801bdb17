"""Which images are restored block by block, since one piece would take too much of the memory. No torch."""

from __future__ import annotations

from napari_vae_repair.image.free_memory import free_memory_bytes, whole_image_bytes

SHARE = 0.5  # of what is free: the viewer, tiles and other programs need some, too


def room_bytes(memory_mb: int | None = None) -> int:
    """What one piece may take: half of the memory that this process can still get.

    Parameters
    ----------
    memory_mb : int or None
        As `Settings.memory_mb`: with it, half of what is left of that, if it is less.
    """
    room = free_memory_bytes()
    if memory_mb is not None:
        import psutil

        room = min(room, memory_mb * 10**6 - int(psutil.Process().memory_info().rss))
    return max(0, int(SHARE * room))


def is_large(values: int, memory_mb: int | None = None, kept_samples: int = 0) -> bool:
    """Whether an image of so many values that need not lie in memory is to be restored block by block.

    Parameters
    ----------
    values : int
        Pixels times colours.
    memory_mb : int or None
        As `Settings.memory_mb`.
    kept_samples : int
        Samples that are kept.
    """
    return whole_image_bytes(values, kept_samples) > room_bytes(memory_mb)
