"""What a killed run noted is found again; what it was writing is ignored; others' files stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_vae_repair.batch.job import Job, Row
from napari_vae_repair.batch.journal import Journal, check_place
from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.preflight import UsageError
from napari_vae_repair.settings import make_settings


def job_of(output: Path, **more: str) -> Job:
    return Job(str(output.parent / "in.tif"), str(output), make_settings(seed=3), **more)


def row_of(job: Job) -> Row:
    files = dict.fromkeys(job.written, "0" * 64)
    noise = ({"gain": 0.5, "correlation": [0.1, 0.2]},)
    return Row(job.input, job.output, "done", 1.5, "CPU", noise, residual_correlation=(0.1, -0.2), key="k", files=files)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for results."""
    (tmp_path / "out/.vae-repair").mkdir(parents=True)
    return tmp_path / "out"


def test_jobs_and_rows_survive_json(folder: Path) -> None:
    job = job_of(folder / "a.tif", residual="r.tif")
    assert Job.from_dict(job.to_dict()) == job
    row = row_of(job)
    assert Row.from_dict(row.to_dict()).residual_correlation == (0.1, -0.2)


def test_a_torn_line_costs_only_itself(folder: Path) -> None:
    first, second, third = (job_of(folder / f"{name}.tif") for name in "abc")
    journal = Journal(folder)
    journal.begin(first)
    journal.end(row_of(first))
    journal.begin(second)
    whole = journal.path.read_bytes()
    journal.end(row_of(second))
    for cut in (1, 40, len(journal.path.read_bytes()) - len(whole) - 1):
        journal.path.write_bytes(whole + b'{"row": {"input": "in.tif", "output": "b.tif", "status": "done"'[:cut])
        again = Journal(folder)
        assert again.earlier(first) is not None
        assert again.earlier(second) is None
        assert again.begun == {"a.tif", "b.tif"}
        again.begin(third)
        again.end(row_of(third))
        assert Journal(folder).earlier(third) is not None


def test_a_journal_that_is_none_is_told(folder: Path) -> None:
    path = Journal(folder).path
    path.write_bytes(b'[1]\n{"row": 3}\n{"row": {"colour": 1}}\n{"begun": 5}\nnull\n\xff\n')
    assert Journal(folder).begun == set()
    path.unlink()
    path.mkdir()
    with pytest.raises(ImageFileError, match=r"journal.jsonl cannot be read: Is a directory"):
        Journal(folder)


def test_a_moved_folder_keeps_its_journal(folder: Path) -> None:
    job = job_of(folder / "sub/a.tif")
    Journal(folder).end(row_of(job))
    moved = folder.rename(folder.with_name("moved"))
    row = Journal(moved).earlier(job_of(moved / "sub/a.tif"))
    assert row is not None
    assert Journal(moved).digests(row) == {str(moved / "sub/a.tif"): "0" * 64}
    assert Journal(moved).earlier(job_of(moved / "sub/a.tif", residual=str(moved / "r.tif"))) is None


def test_what_is_there_is_not_replaced_unasked(folder: Path) -> None:
    job = job_of(folder / "a.tif")
    check_place(folder, [job], Journal(folder), resume=False, overwrite=False)
    (folder / "a.tif").touch()
    for resume in (False, True):
        with pytest.raises(UsageError, match=r"a.tif would be written over \(1 of 1"):
            check_place(folder, [job], Journal(folder), resume=resume, overwrite=False)
    check_place(folder, [job], Journal(folder), resume=False, overwrite=True)
    journal = Journal(folder)
    journal.begin(job)
    check_place(folder, [job], Journal(folder), resume=True, overwrite=False)
    with pytest.raises(UsageError, match="holds results of an earlier run"):
        check_place(folder, [job], Journal(folder), resume=False, overwrite=False)
    journal.forget()
    assert Journal(folder).begun == set()
