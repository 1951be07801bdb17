"""What every table of the benchmark says of the machine that it was measured on."""

from __future__ import annotations

import csv
import functools
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


@functools.cache
def commit() -> str:
    """Short hash of what is checked out, with a plus where files differ from it."""
    found = _git("rev-parse", "--short", "HEAD") or "unknown"
    return found + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def processor() -> str:
    """Name, cores, and whether it has instructions for bfloat16, which the network then uses."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    from napari_vae_repair.vae.device import choose_device

    arithmetic = "float32" if choose_device("cpu").autocast is None else "bf16"
    return f"{name} ({os.cpu_count()} cores, {arithmetic})"


def provenance(command: str, packages: Sequence[str], threads: int) -> str:
    """A line for the head of a table."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"`{command}`, {time.strftime('%Y-%m-%d')}, commit {commit()}, {processor()}, {threads} threads, "
        f"Python {platform.python_version()}, {versions}."
    )


def peak_memory_mb(whose: int = resource.RUSAGE_SELF) -> int:
    """Of this process so far, or of `resource.RUSAGE_CHILDREN`."""
    return round(resource.getrusage(whose).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6)


def markdown(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """A table; missing values stay empty."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]


def write(name: str, lines: Sequence[str], rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """``results/NAME.md`` and ``results/NAME.csv``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
