"""Soak, kills and fuzz, one after the other: `python -m stress`, which `make stress` calls. Ten minutes at most."""

from __future__ import annotations

import subprocess
import sys
import time

# Seconds are given to what has not ended by itself: together nine minutes, and one for what is then under way. Kills
# and fuzz fail when they did less than they were asked for by then.
PARTS = (
    ("soak", ["--restores", "60", "--seconds", "90"]),
    ("kills", ["--kills", "40", "--seconds", "360"]),
    ("fuzz", ["--count", "10000", "--seconds", "90"]),
)


def main() -> int:
    failed, began = [], time.perf_counter()
    for name, arguments in PARTS:
        print(f"---- {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"stress.{name}", *arguments], check=False).returncode:
            failed.append(name)
    told = "nothing lost, nothing half-written, nothing uncaught"
    if failed:
        told = f"failed, or NOT ENOUGH: {', '.join(failed)}"
    print(f"---- {told}; {time.perf_counter() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
