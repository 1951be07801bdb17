"""Which images are restored block by block, since one piece would take too much of the memory. No torch."""

from __future__ import annotations

from napari_vae_repair.image.limits import free_memory_bytes

# as `vae.memory.whole_image_bytes`, which a test holds it to; there PyTorch comes with it
FIXED_BYTES, REPORT_BYTES, REPORT_VALUES, VALUE_BYTES, SAMPLE_BYTES = 60 * 10**6, 100, 2048**2, 60, 8
SHARE = 0.5  # of what is free: the viewer, tiles and other programs need some, too


def needed_bytes(values: int, kept_samples: int = 0) -> int:
    """What restoring an array in one piece takes at its peak, beside the array and the tiles.

    Parameters
    ----------
    values : int
        Pixels times colours.
    kept_samples : int
        Samples that are kept.
    """
    report = REPORT_BYTES * min(values, REPORT_VALUES)
    return FIXED_BYTES + report + (VALUE_BYTES + SAMPLE_BYTES * kept_samples) * values


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
    return needed_bytes(values, kept_samples) > room_bytes(memory_mb)
