"""The trust report as one self-contained HTML page, for the supplement of a paper."""

from __future__ import annotations

import base64
import io
import json
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair import __version__
from napari_vae_repair.image.atomic import replacing
from napari_vae_repair.image.axes import Layout
from napari_vae_repair.scripting import as_python, repeatable
from napari_vae_repair.trust import SIGNS, Finding, Plots, Trust
from napari_vae_repair.trust_figures import draw_correlation, draw_plane, draw_scatter, draw_structure

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration

SHOWN_PX = 512  # side of a picture, at most
PACKAGES = ("numpy", "scipy", "scikit-image", "torch", "matplotlib")
INK, DPI = "black", 110
CAPTION = (
    "the restored image; what was taken away; the scatter of the image's flat parts beside the noise model; the "
    "autocorrelation of the residual less that of the noise; where the residual holds structure (of planes larger than "
    "2048 pixels the middle); and the uncertainty, where there is one."
)
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #111;
  background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #bbb; }
td.grade { white-space: nowrap; font-weight: 600; border-left: .35rem solid #999; }
tr.good td.grade { border-left-color: #1b7837; } tr.doubtful td.grade { border-left-color: #d9a400; }
tr.bad td.grade { border-left-color: #b2182b; }
.small { font-size: .85em; color: #444; }
figure { margin: 1rem 0; } img { max-width: 100%; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .6rem; font-size: .85em; }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } tr, figure, pre { break-inside: avoid; } }
"""


def write_trust_page(
    restoration: Restoration, path: str | os.PathLike[str], *, source: str = "", trust: Trust | None = None
) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    restoration : Restoration
        To be judged.
    path : str or path
        Of the HTML file; one that is there is replaced.
    source : str
        Name of the image, for the heading.
    trust : Trust, optional
        Of the restoration, if it is known already.

    Raises
    ------
    ImageFileError
        If it cannot be written.
    """
    page = trust_page(restoration, source=source, trust=trust).encode()
    with replacing(path) as stream:
        stream.write(page)


def trust_page(restoration: Restoration, *, source: str = "", trust: Trust | None = None) -> str:
    """The page as text; see `write_trust_page` for the arguments."""
    judged = restoration.trust() if trust is None else trust
    report, settings = restoration.report, repeatable(restoration.settings, restoration.model.training)
    title = f"Trust report{f' of {source}' if source else ''}"
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    shape = " x ".join(
        f"{length} {axis}" for length, axis in zip(restoration.restored.shape, restoration.axes, strict=True)
    )
    versions = {"napari-vae-repair": __version__, "Python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES} | {"system": platform.platform(), "device": report.device}
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes) or "<li>none</li>"
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(shape)} pixels, restored with napari-vae-repair {__version__}; page made {made}.</p>",
        f"<h2>Findings: {escape(judged.summary())}</h2>",
        _findings(judged.findings),
        "<h2>Figures</h2>",
        *_figures(restoration, judged.plots),
        f"<h2>Notes</h2><ul>{notes}</ul>",
        f"<h2>What was measured</h2><pre>{escape(report.text())}</pre>",
        f"<h2>The call</h2><pre>{escape(as_python(settings, axes=restoration.axes))}</pre>",
        f"<h2>All settings</h2><pre>{escape(json.dumps(settings.model_dump(mode='json'), indent=2))}</pre>",
        "<h2>Seconds</h2>" + _pairs((phase, f"{seconds:.2f} s") for phase, seconds in report.seconds.items()),
        "<h2>Versions</h2>" + _pairs(versions.items()),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return "\n".join(["<!DOCTYPE html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>", ""])


def _findings(findings: tuple[Finding, ...]) -> str:
    rows = []
    for each in findings:
        cells = (
            f'<td class="grade">{SIGNS[each.grade]} {escape(each.grade)}</td>',
            f"<td>{escape(each.name)}<br><b>{escape(each.text)}</b></td>",
            f'<td>{escape(each.meaning)}<br><span class="small">Why: {escape(each.reason)}.</span></td>',
            f"<td>{escape(each.advice)}</td>",
        )
        rows.append(f'<tr class="{each.grade.split()[0]}">{"".join(cells)}</tr>')
    head = "".join(f"<th>{name}</th>" for name in ("Grade", "Number", "What it says", "What to do"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _pairs(entries: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in entries)
    return f"<table><tbody>{rows}</tbody></table>"


def _figures(restoration: Restoration, plots: tuple[Plots, ...]) -> list[str]:
    """For each channel its pictures and its plots, as data in the page."""
    from matplotlib.figure import Figure

    layout = Layout(restoration.axes, restoration.restored.shape)
    images = (restoration.restored, restoration.residual, restoration.std)
    restored, residual, std = (layout.to_planes(each) for each in images)
    count = len(restored) // len(plots)
    out = []
    for index, plot in enumerate(plots):
        middle = index * count + count // 2
        figure = Figure(figsize=(9, 10.5), dpi=DPI, layout="constrained")
        axes = figure.subplots(3, 2)
        draw_plane(axes[0, 0], _shown(restored[middle]), "Restored", INK)
        draw_plane(axes[0, 1], _shown(residual[middle].mean(axis=0)[None]), "Residual", INK, signed=True)
        draw_scatter(axes[1, 0], plot, INK)
        draw_correlation(axes[1, 1], plot, INK)
        draw_structure(axes[2, 0], plot, INK)
        if restoration.report.samples > 1:
            draw_plane(axes[2, 1], _shown(std[middle].mean(axis=0)[None]), "Uncertainty (std)", INK)
        else:
            axes[2, 1].set_axis_off()
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        data = base64.b64encode(stream.getvalue()).decode()
        which = f"{plot.label}, " if plot.label else ""
        plane = f"plane {count // 2 + 1} of {count}" if count > 1 else "the whole plane"
        caption = escape(f"{which}{plane}: {CAPTION}")
        picture = f'<img src="data:image/png;base64,{data}" alt="{caption}">'
        out.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    return out


def _shown(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(C, Y, X)`` as ``(Y, X)`` or ``(Y, X, 3)``, every k-th pixel of large planes."""
    step = max(1, -(-max(plane.shape[1:]) // SHOWN_PX))
    small = plane[:, ::step, ::step]
    return small[0] if len(small) != 3 else np.moveaxis(small, 0, -1)
