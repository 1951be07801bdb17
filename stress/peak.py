"""The largest memory of this process since a moment."""

from __future__ import annotations

import contextlib
from pathlib import Path


def forget_peak() -> int:
    """Begin to look for the peak, where the system allows it (Linux); returns what is resident now, in bytes."""
    import psutil

    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """The largest resident memory since `forget_peak`; elsewhere than on Linux since the process began."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
