"""When an image is restored block by block."""

from __future__ import annotations

import psutil
import pytest

from napari_vae_repair import large
from napari_vae_repair.large import is_large, room_bytes

GB = 10**9


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "free_memory_bytes", lambda: 8 * GB)


def test_one_piece_may_take_half_of_what_is_free() -> None:
    assert not is_large(8000 * 7000)
    assert is_large(8000 * 8000)
    assert is_large(8000 * 7000, kept_samples=16)


def test_the_memory_of_the_settings_counts_with_what_the_process_has_already() -> None:
    used = psutil.Process().memory_info().rss
    assert room_bytes(used // 10**6 + 1000) == pytest.approx(0.5 * GB, rel=0.05)
    assert room_bytes(10**6) == 4 * GB
    assert room_bytes(256) == 0
    assert is_large(1, 256)
