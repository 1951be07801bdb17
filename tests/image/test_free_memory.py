"""What is free counts containers and the shell's limits."""

from __future__ import annotations

import sys
from pathlib import Path

from napari_vae_repair.image import free_memory as memory
from napari_vae_repair.image.free_memory import free_memory_bytes


def test_a_container_allows_what_its_groups_leave(tmp_path: Path) -> None:
    of_process, inner = tmp_path / "cgroup", tmp_path / "fs" / "outer" / "inner"
    of_process.write_text("0::/outer/inner\n")
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("100\n")
    (inner.parent / "memory.max").write_text("5000\n")
    (inner.parent / "memory.current").write_text("4000\n")
    (inner.parent / "memory.stat").write_text("anon 3000\ninactive_file 700\n")
    assert min(memory._left_in_containers(tmp_path / "fs", of_process)) == 1700
    assert min(memory._left_in_containers(tmp_path / "fs", tmp_path / "none")) == sys.maxsize


def test_the_limit_of_a_control_group_at_the_top_counts(tmp_path: Path) -> None:
    of_process, root = tmp_path / "cgroup", tmp_path / "fs"
    of_process.write_text("0::/\n")
    root.mkdir()
    for name, text in {"max": "3000000", "current": "1500000", "stat": "anon 5\ninactive_file 500000\n"}.items():
        (root / f"memory.{name}").write_text(text)
    assert min(memory._left_in_containers(root, of_process)) == 2_000_000
    (root / "memory.max").write_text("max\n")
    assert min(memory._left_in_containers(root, of_process)) == sys.maxsize


def test_something_is_free_here() -> None:
    assert 10**6 < free_memory_bytes() < sys.maxsize
