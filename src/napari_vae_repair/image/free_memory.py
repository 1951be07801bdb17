"""The memory that is free, and what an image takes of it. No PyTorch, so that viewers and readers can ask."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

MB = 10**6
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def free_memory_bytes() -> int:
    """What the system, the container and the shell's limits leave to this process."""
    import psutil

    return max(0, min(int(psutil.virtual_memory().available), *_left_in_containers(), *_left_by_limits()))


def _left_in_containers(
    root: Path = Path("/sys/fs/cgroup"), of_process: Path = Path("/proc/self/cgroup")
) -> Iterable[int]:
    """Bytes left in each control group of Linux (version 2, or 1) that holds this process and has a limit."""
    yield sys.maxsize
    try:
        groups = [line.split(":", 2) for line in of_process.read_text().splitlines()]
    except OSError:  # no Linux
        return
    for _, controllers, path in groups:
        if controllers not in ("", "memory"):
            continue
        group = root / controllers / path.lstrip("/")
        names = ("memory.max", "memory.current") if not controllers else _VERSION_1
        for folder in (group, *group.parents):
            if folder == root.parent:
                break
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None:
                yield limit - used + _reclaimable(folder)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None


def _reclaimable(group: Path) -> int:
    """The group's cache of files that have not been used lately: given back before anything is refused."""
    try:
        stat = dict(line.split(maxsplit=1) for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(stat.get("inactive_file", 0))


def _left_by_limits() -> Iterable[int]:
    """Bytes left under ``ulimit -v``."""
    yield sys.maxsize
    try:
        import resource

        import psutil
    except ImportError:  # Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms


def whole_image_bytes(values: int, kept_samples: int = 0) -> int:
    """Upper bound of what restoring an array takes at its peak, beside the array, the tiles and the loaded libraries.

    Measured on grey and RGB images of 0.3 to 67 million values (`benchmarks/cost.py`): 50 to 90 bytes for each; the
    report's structural similarity, on four million pixels at most, takes another 100.

    Parameters
    ----------
    values : int
        Pixels times colours.
    kept_samples : int
        With `Settings.keep_samples`.
    """
    return 60 * MB + 100 * min(values, 2048**2) + (60 + 8 * kept_samples) * values
