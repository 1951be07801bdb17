"""What can be told about the device before PyTorch is loaded: its build, and an NVIDIA driver that it cannot use."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DEVICE_NAMES = ("auto", "cpu", "cuda", "mps")


def device_label() -> str:
    """A line on the installed PyTorch and, after a line break, a hint where one is due; torch is not imported."""
    try:
        build = version("torch")
    except PackageNotFoundError:
        return "PyTorch is not installed\nRun 'pip install torch' in this environment."
    cpu_only = is_cpu_build(build, sys.platform)
    label = f"PyTorch {build}" + (" (CPU build)" if cpu_only and "+cpu" not in build else "")
    if cpu_only and has_nvidia_driver():
        return label + "\nAn NVIDIA driver is here, but this PyTorch cannot use it: install a CUDA build (pytorch.org)."
    return label


def is_cpu_build(build: str, platform: str) -> bool:
    """Whether a torch of this version has no CUDA: Windows wheels of PyPI have none, Linux ones do."""
    local = build.partition("+")[2]
    if local:
        return local.startswith("cpu")
    return platform != "linux"


def has_nvidia_driver() -> bool:
    """Whether an NVIDIA driver is installed, by its files alone."""
    windows = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll"
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists() or windows.exists()
