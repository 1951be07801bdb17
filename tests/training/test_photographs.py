"""Photographs of a package: those that are named, reduced, grey, in squares; nothing of another package."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut, coffee

from training import photographs
from training.photographs import Package

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is Debian's")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Of three pictures: one that is not taken, one that shows nothing, and one that is taken."""
    pictures = tmp_path / "content/usr/share/pictures"
    pictures.mkdir(parents=True)
    (tmp_path / "content/DEBIAN").mkdir()
    control = "Package: pictures\nVersion: 1\nArchitecture: all\nMaintainer: nobody <a@b.c>\nDescription: x\n"
    (tmp_path / "content/DEBIAN/control").write_text(control)
    for name, pixels in {"a_free": coffee(), "b_free": 0 * coffee(), "c_else": astronaut()}.items():
        Image.fromarray(pixels).save(pictures / f"{name}.jpg")
    command = ["dpkg-deb", "--root-owner-group", "--build", tmp_path / "content", tmp_path / "pictures.deb"]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setattr(photographs, "DEBIAN", f"file://{tmp_path}/")
    digest = hashlib.sha256((tmp_path / "pictures.deb").read_bytes()).hexdigest()
    return Package("pictures.deb", digest, "photo/free", r"/pictures/\w+_free\.jpg$", 2.0)


def test_squares_cover_what_is_taken(package: Package) -> None:
    scenes = photographs.photographs(package, 160)  # of 200 x 300 pixels
    assert scenes.patches.shape == (2, 160, 160)
    assert set(scenes.source) == {"photo/free"}
    grey = np.asarray(Image.fromarray(coffee()).convert("L"), float)
    reduced = grey.reshape(200, 2, 300, 2).mean(axis=(1, 3))
    for patch, left in zip(scenes.patches, (0, 140), strict=True):
        assert np.abs(patch - reduced[:160, left : left + 160]).mean() < 5


def test_another_package_of_that_name_is_refused(package: Package) -> None:
    with pytest.raises(ValueError, match="SHA-256 differs"):
        photographs.photographs(replace(package, sha256="0" * 64), 160)


def test_they_are_written_beside_the_pool(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(photographs, "PACKAGES", (package,))
    np.savez(tmp_path / "pool.npz", patches=np.ones((3, 160, 160), np.uint8), source=np.array(["a", "a", "b"]))
    photographs.main(["--clean", str(tmp_path / "pool.npz"), "--out", str(tmp_path / "new/all.npz")])
    with np.load(tmp_path / "new/all.npz") as written:
        assert written["source"].tolist() == ["a", "a", "b", "photo/free", "photo/free"]
        assert written["patches"].shape == (5, 160, 160)
        assert (written["patches"][:3] == 1).all()
    assert capsys.readouterr().out == "2 patches of photo/free\n"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["all.npz"]
