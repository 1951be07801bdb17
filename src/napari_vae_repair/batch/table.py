"""The table of a batch's results, as CSV for people and as JSON with everything."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vae_repair import __version__
from napari_vae_repair.batch.job import Row

if TYPE_CHECKING:
    from napari_vae_repair.report import Report
    from napari_vae_repair.stored import StoredReport

_WORST_FIRST = ("bad", "doubtful", "good")
CSV_NAME, JSON_NAME = "results.csv", "results.json"
COLUMNS = (
    "input", "output", "status", "seconds", "gain", "read_noise", "noise_correlation_x", "noise_correlation_y",
    "noise_grade", "in_source_units", "residual_std", "residual_over_noise", "residual_correlation_x",
    "residual_correlation_y", "psnr_before", "psnr", "ssim_before", "ssim", "device", "notes", "error",
)  # fmt: skip
_OF_OTHERS = ("input", "output", "device", "notes", "error")  # text with names of files and messages in it
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of a formula


def measured(row: dict[str, Any], report: Report | StoredReport) -> dict[str, Any]:
    """A row's fields with what a restoration measured."""
    return row | {
        "device": report.device,
        "noise": tuple(_noise(each.to_dict()) for each in report.noise),
        "in_source_units": report.noise_in_source_units,
        "residual_std": report.residual_std,
        "residual_over_noise": report.residual_over_noise,
        "residual_correlation": None if report.residual_correlation is None else tuple(report.residual_correlation),
        "against_reference": report.against_reference,
        "notes": (*row.get("notes", ()), *report.notes),
    }


def write_table(rows: Sequence[Row], folder: Path) -> None:
    r"""Write both files, each whole or not at all.

    In the CSV, numbers of several channels stand in one cell with "; " between them, and so do notes; text that a
    spreadsheet would take for a formula has an apostrophe before it; bytes of a file's name that are no UTF-8 read as
    in ``\udcff``, and returns as ``\r``.

    Raises
    ------
    ImageFileError
        If one cannot be written.
    """
    from napari_vae_repair.batch.one import write_json
    from napari_vae_repair.image.atomic import replacing

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_cells(row) for row in rows)
    with replacing(folder / CSV_NAME) as stream:
        stream.write(text.getvalue().encode(errors="backslashreplace"))
    counts = Counter(row.status for row in rows)
    content = {"version": __version__, "counts": dict(counts), "rows": [row.to_dict() for row in rows]}
    write_json(content, folder / JSON_NAME)


def _noise(model: dict[str, Any]) -> dict[str, Any]:
    grades = [each["grade"] for each in model.get("grades", ())]
    kept = {name: model[name] for name in ("gain", "read_noise", "offset", "correlation", "source")}
    return kept | {"grade": min(grades, key=_WORST_FIRST.index, default="")}


def _cells(row: Row) -> dict[str, Any]:
    cells: dict[str, Any] = {name: getattr(row, name) for name in ("input", "output", "status", "device", "error")}
    cells |= {
        "seconds": f"{row.seconds:.3f}",
        "gain": _joined(each["gain"] for each in row.noise),
        "read_noise": _joined(each["read_noise"] for each in row.noise),
        "noise_correlation_y": _joined(each["correlation"][0] for each in row.noise),
        "noise_correlation_x": _joined(each["correlation"][1] for each in row.noise),
        "noise_grade": _joined(each["grade"] for each in row.noise),
        "in_source_units": "" if row.in_source_units is None else row.in_source_units,
        "notes": _joined(row.notes),
    }
    for name in ("residual_std", "residual_over_noise"):
        cells[name] = _number(getattr(row, name))
    if row.residual_correlation is not None:
        cells["residual_correlation_x"], cells["residual_correlation_y"] = map(_number, row.residual_correlation)
    if row.against_reference is not None:
        for name in ("psnr", "ssim"):
            cells[f"{name}_before"] = _number(row.against_reference["prepared"][name])
            cells[name] = _number(row.against_reference["restored"][name])
    return cells | {name: _plain(cells[name]) for name in _OF_OTHERS}


def _plain(text: str) -> str:
    """The text so that spreadsheets show it, and that it ends no row: Python 3.11 writes a return without quotes."""
    return ("'" * text.startswith(_FORMULA) + text).replace("\r", "\\r")


def _joined(values: Any) -> str:
    return "; ".join(value if isinstance(value, str) else _number(value) for value in values)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
