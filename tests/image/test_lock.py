"""One run writes to a place at a time; what killed runs leave is no obstacle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.image.lock import only_writer, remove_leftovers

KILLED = """
import os, sys
from pathlib import Path
from napari_vae_repair.image.atomic import replacing
from napari_vae_repair.image.lock import only_writer
with only_writer(sys.argv[1]), replacing(sys.argv[1]) as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), 9)
"""


def test_the_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    (tmp_path / "link.tif").symlink_to(tmp_path / "a.tif")
    with only_writer(tmp_path / "a.tif"), only_writer(tmp_path / "b.tif"):
        for name in ("a.tif", "link.tif"):
            with pytest.raises(ImageFileError, match=rf"another run \(process {os.getpid()} on ") as caught:
                only_writer(tmp_path / name).__enter__()
            assert "Wait until it has ended" in str(caught.value)
    with only_writer(tmp_path / "a.tif"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["link.tif"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_writer_leaves_no_obstacle_and_what_it_left_is_cleared(tmp_path: Path) -> None:
    target = tmp_path / "a.tif"
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    with only_writer(target):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_parts_of_the_named_files_are_removed(tmp_path: Path) -> None:
    kept = [".b.tif.0123456789ab.part", ".a.tif.part", ".a.tif.0123456789ag.part", "a.tif"]
    for name in (*kept, ".a.tif.0123456789ab.part"):
        (tmp_path / name).touch()
    assert remove_leftovers(tmp_path, ["a.tif"]) == [tmp_path / ".a.tif.0123456789ab.part"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    assert remove_leftovers(tmp_path / "missing", ["a.tif"]) == []


def test_a_place_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageFileError, match="could not be written"):
        only_writer(tmp_path / "file" / "a.tif").__enter__()
