"""Which files a batch takes, and what it calls their results."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_vae_repair.batch.listing import find_inputs
from napari_vae_repair.batch.naming import FileOptions, make_jobs
from napari_vae_repair.image.files import write_image
from napari_vae_repair.preflight import UsageError
from napari_vae_repair.settings import make_settings

PIXELS = np.eye(16, dtype=np.uint8)
TREE = ("a.tif", "b.ome.tif", "c.png", "sub/a.TIFF", "sub/d.jpg", "sub/deep/e.bmp", ".hidden.tif", ".cache/f.tif",
        "notes.txt")  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of many types below ``data/``, of which only TIFFs have content, and a result of ours."""
    for name in TREE:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower().startswith(".tif"):
            tifffile.imwrite(path, PIXELS)
        else:
            path.touch()
    write_image(tmp_path / "data/ours.tif", PIXELS, "YX", provenance={"source": "a", "report": {}})
    write_image(tmp_path / "data/saved.tif", PIXELS, "YX")
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth/a.png").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("data", "a.tif b.ome.tif c.png saved.tif sub/a.TIFF sub/d.jpg sub/deep/e.bmp"),
        ("data/", "a.tif b.ome.tif c.png saved.tif sub/a.TIFF sub/d.jpg sub/deep/e.bmp"),
        ("data/**/*.tif", "a.tif b.ome.tif saved.tif"),
        ("data/*", "a.tif b.ome.tif c.png saved.tif"),
        ("data/sub/**", "a.TIFF d.jpg deep/e.bmp"),
        ("data/s*/*.[jb]*", "sub/d.jpg"),
        ("data/ours.tif", "ours.tif"),
        ("data/.hidden.tif", ".hidden.tif"),
        ("data/a.tif data/sub/d.jpg", "a.tif d.jpg"),
        ("data/a.tif data/../data/a.tif", "a.tif"),
    ],
)
def test_what_inputs_stand_for(tree: Path, given: str, names: str) -> None:
    found = find_inputs(given.split(), Path("out")).found
    assert [each.relative.as_posix() for each in found] == sorted(names.split())
    assert all(each.path.is_file() for each in found)


def test_results_are_left_out_and_counted(tree: Path) -> None:
    (tree / "data/out").mkdir()
    tifffile.imwrite(tree / "data/out/y.tif", PIXELS)
    listing = find_inputs(["data"], Path("data/out"))
    assert (listing.ours, listing.unknown) == ((Path("data/ours.tif"),), 1)
    assert "out/y.tif" not in {each.relative.as_posix() for each in listing.found}
    beside = find_inputs(["data/*.png", "data/*.tif"], Path("data"), {str((tree / "data/c.png").resolve())})
    assert [each.relative.name for each in beside.found] == ["a.tif", "b.ome.tif", "saved.tif"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("gone.tif", "gone.tif is not there"),
        ("data/*.czj", "no image file was found"),
        ("data/*.txt", "but 1 of other types"),
        ("data/ou*", "only results of earlier runs"),
    ],
)
def test_nothing_found_is_told(tree: Path, given: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("*", r"\*")):
        find_inputs([given], Path("out"))


def jobs_of(given: str, **options: str) -> list[str]:
    found = find_inputs(given.split(), Path("out")).found
    return [job.output for job in make_jobs(found, Path("out"), make_settings(), FileOptions(**options))]


def test_a_zarr_store_is_one_file(tree: Path) -> None:
    for name in ("data/z.ome.zarr", "data/sub/y.zarr", "data/sub/plain"):
        (tree / name / "0/c").mkdir(parents=True)
        (tree / name / "zarr.json").touch()
        (tree / name / "0/c/0.tif").touch()
    found = find_inputs(["data/**"], Path("out")).found
    stores = [each.relative.as_posix() for each in found if each.path.is_dir()]
    assert stores == ["sub/plain", "sub/y.zarr", "z.ome.zarr"]
    assert not any("0" in each.relative.parts for each in found)
    assert [each.relative.as_posix() for each in find_inputs(["data/sub/y.zarr"], Path("out")).found] == ["y.zarr"]
    assert jobs_of("data/sub/*[yn]*") == ["out/plain.ome.zarr", "out/y.ome.zarr"]
    assert jobs_of("data/z.ome.zarr", format="tif") == ["out/z.tif"]


def test_names_and_types_of_results(tree: Path) -> None:
    assert jobs_of("data/sub") == ["out/a.TIFF", "out/d.png", "out/deep/e.png"]
    assert jobs_of("data/[ab].*", suffix="_clean") == ["out/a_clean.tif", "out/b_clean.ome.tif"]
    assert jobs_of("data/[bc].*", format="ome.tif", suffix=".r") == ["out/b.r.ome.tif", "out/c.r.ome.tif"]


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        ("data/a.tif data/sub/a.TIFF", {"format": "tif"}, "would be the result of"),
        ("data/a.tif", {"residual": ".tif"}, "would be the result of data/a.tif, twice"),
        ("data/a.tif", {"format": "gif"}, "no file type that can be written"),
        ("data/a.tif", {"residual": "x/y.tif"}, "names a place"),
        ("data/a.tif", {"std": ""}, "names a place"),
        ("data/a.tif", {"report": ".pdf"}, "does not name a kind of report"),
        ("data/a.tif", {"reference": "gone"}, "gone is not there"),
        ("data/a.tif data/c.png", {"reference": "truth"}, r"has no file for data/c.png \(1 of 2 inputs\)"),
    ],
)
def test_names_that_cannot_be_used(tree: Path, given: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        jobs_of(given, **options)


def test_no_result_is_written_over_a_file_that_is_read(tree: Path) -> None:
    found = find_inputs(["data/a.tif"], Path("out")).found
    for output, options in ((Path("data"), {}), (Path("data/sub"), {"mask": "data/sub/a.TIFF", "format": "tif"})):
        if options:
            (tree / "data/sub/a.tif").symlink_to(tree / "data/sub/a.TIFF")
        with pytest.raises(UsageError, match="would be written over a file that is read"):
            make_jobs(found, output, make_settings(), FileOptions(**options))


@pytest.mark.parametrize(
    ("given", "output", "options", "said"),
    [
        ("data/a.ome.zarr", "truth", {"mask": "truth/a.ome.zarr/labels/m"}, "labels/m, which is read, lies inside"),
        ("data/a.ome.zarr", "data/a.ome.zarr", {}, "would be written inside data/a.ome.zarr"),
        ("data/a.tif", "data/a.ome.zarr/labels", {"mask": "data/a.ome.zarr"}, "inside data/a.ome.zarr, an input"),
        ("data/a.ome.zarr", "truth", {"mask": "data/c.png"}, None),
    ],
)
def test_no_store_is_replaced_around_what_is_read_nor_written_into(
    tree: Path, given: str, output: str, options: dict[str, str], said: str | None
) -> None:
    for name in ("data/a.ome.zarr", "truth/a.ome.zarr", "truth/a.ome.zarr/labels/m"):
        (tree / name).mkdir(parents=True)
        (tree / name / "zarr.json").touch()
    found = find_inputs([given], Path(output)).found
    with nullcontext() if said is None else pytest.raises(UsageError, match=said):
        make_jobs(found, Path(output), make_settings(), FileOptions(**{"format": "ome.zarr"} | options))


def test_companions_lie_at_the_same_place_or_are_one_file(tree: Path) -> None:
    (tree / "truth/sub").mkdir()
    (tree / "truth/sub/d.jpg").touch()
    found = find_inputs(["data/a.tif", "data"], Path("out")).found
    found = tuple(each for each in found if each.relative.as_posix() in ("a.tif", "sub/d.jpg"))
    options = FileOptions(reference="truth", mask="data/c.png")
    jobs = make_jobs(found, Path("out"), make_settings(), options)
    assert [job.reference for job in jobs] == ["truth/a.png", "truth/sub/d.jpg"]
    assert {job.mask for job in jobs} == {"data/c.png"}
