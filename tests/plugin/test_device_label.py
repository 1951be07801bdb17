from __future__ import annotations

from importlib.metadata import version

import pytest

from napari_vae_repair.plugin.device_label import device_label, is_cpu_build


@pytest.mark.parametrize(
    ("build", "platform", "cpu_only"),
    [
        ("2.13.0+cpu", "linux", True),
        ("2.13.0+cu128", "win32", False),
        ("2.13.0", "linux", False),
        ("2.13.0", "win32", True),
        ("2.13.0", "darwin", True),
    ],
)
def test_which_builds_have_no_cuda(build: str, platform: str, cpu_only: bool) -> None:
    assert is_cpu_build(build, platform) is cpu_only


def test_label_names_the_installed_build() -> None:
    assert version("torch") in device_label().splitlines()[0]
