"""The page for a supplement: whole, self-contained, readable without colours."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from napari_vae_repair import __version__
from napari_vae_repair.errors import ImageFileError
from napari_vae_repair.pipeline import restore
from napari_vae_repair.restoration import Restoration
from napari_vae_repair.settings import Settings
from napari_vae_repair.trust import SIGNS, Finding, Trust
from napari_vae_repair.trust_figures import draw_correlation, draw_plane, draw_scatter, draw_structure
from napari_vae_repair.trust_page import trust_page, write_trust_page

VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """Checks that tags are balanced, and collects texts, pictures and references to elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: list[str] = []
        self.pictures: list[bytes] = []
        self.outside: list[str] = []
        self.captions: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            source = given["src"] or ""
            assert source.startswith("data:image/png;base64,")
            self.pictures.append(base64.b64decode(source.partition(",")[2]))
            self.captions.append(given["alt"] or "")
        self.outside += [value for name, value in given.items() if name in ("href", "src") and value[:5] != "data:"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


@pytest.fixture(scope="module")
def page(restoration: Restoration) -> Page:
    return Page(trust_page(restoration, source="a <b> & c.tif"))


def test_each_finding_is_there_with_word_sign_meaning_and_advice(restoration: Restoration, page: Page) -> None:
    trust = restoration.trust()
    for each in trust.findings:
        assert f"{SIGNS[each.grade]} {each.grade}" in page.text
        for part in (each.name, each.text, each.reason, each.meaning, each.advice):
            assert " ".join(part.split()) in page.text
    assert trust.summary() in page.text


def test_every_grade_is_told_by_a_word(restoration: Restoration) -> None:
    grades = [Finding(f"n{i}", 1.0, "1 px", grade, "why", "what", "do") for i, grade in enumerate(SIGNS)]
    made = Page(trust_page(restoration, trust=Trust(tuple(grades), restoration.trust().plots)))
    for grade, sign in SIGNS.items():
        assert f"{sign} {grade}" in made.text


def test_settings_versions_seconds_and_notes_are_there(restoration: Restoration, page: Page) -> None:
    assert f"napari-vae-repair {__version__}" in page.text
    assert '"epochs": 3' in page.text
    assert "result = restore(" in page.text
    assert f"{restoration.report.seconds['train']:.2f} s" in page.text
    assert all(note in page.text for note in restoration.report.notes)
    assert "a <b> & c.tif" in page.text  # escaped in the source
    for name in ("numpy", "torch", "Python"):
        assert name in page.text


def test_the_page_needs_nothing_from_elsewhere_and_its_pictures_are_pictures(page: Page) -> None:
    assert page.outside == []
    (picture,) = page.pictures
    with Image.open(io.BytesIO(picture)) as image:
        pixels = np.asarray(image.convert("L"))
    assert min(pixels.shape) > 500
    assert pixels.std() > 20
    assert "autocorrelation" in page.captions[0]


@pytest.mark.parametrize(("shape", "axes", "figures"), [((2, 3, 40, 48), "CZYX", 2), ((40, 48, 3), "YXS", 1)])
def test_channels_have_a_figure_each_and_colours_one(
    shape: tuple[int, ...], axes: str, figures: int, tiny: Settings
) -> None:
    noisy = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    made = Page(trust_page(restore(noisy, tiny, axes=axes, epochs=1)))
    assert len(made.pictures) == figures
    assert ("channel 2" in made.text) is (figures == 2)
    assert ("plane 2 of 3" in made.text) is (figures == 2)


def test_the_file_is_written_whole_or_not_at_all(
    restoration: Restoration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    write_trust_page(restoration, path)
    before = path.read_text(encoding="utf-8")
    assert before.startswith("<!DOCTYPE html>")
    assert before.rstrip().endswith("</html>")
    with pytest.raises(ImageFileError, match="could not be written"):
        write_trust_page(restoration, tmp_path / "none" / "page.html")
    monkeypatch.setattr("os.fsync", _full)
    with pytest.raises(ImageFileError, match="No space"):
        write_trust_page(restoration, path)
    assert path.read_text(encoding="utf-8") == before
    assert list(tmp_path.iterdir()) == [path]


def _full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


# ---- the drawings -----------------------------------------------------------------------------


def test_the_line_of_the_noise_model_is_drawn_through_its_values(restoration: Restoration) -> None:
    (plots,) = restoration.trust().plots
    axes = Figure().subplots()
    draw_scatter(axes, plots, "#123456")
    points, line = axes.get_lines()
    assert np.array_equal(points.get_xdata(), plots.scatter.mean)
    assert np.array_equal(points.get_ydata(), plots.scatter.variance)
    assert plots.noise is not None
    assert np.allclose(line.get_ydata(), plots.noise.variance(np.asarray(line.get_xdata())))
    assert line.get_color() == axes.xaxis.label.get_color() == "#123456"
    without = Figure().subplots()
    draw_scatter(without, replace(plots, noise=None), "black")
    assert len(without.get_lines()) == 1


def test_maps_show_what_they_are_given(restoration: Restoration) -> None:
    (plots,) = restoration.trust().plots
    correlation, structure = Figure().subplots(), Figure().subplots()
    draw_correlation(correlation, plots, "black")
    draw_structure(structure, plots, "black")
    shown = np.array(correlation.get_images()[0].get_array())
    expected = plots.correlation - plots.expected
    expected[8, 8] = 0
    assert np.allclose(shown, expected)
    assert np.allclose(structure.get_images()[0].get_array(), plots.structure, equal_nan=True)


def test_nothing_measured_is_drawn_without_a_warning(restoration: Restoration) -> None:
    (plots,) = restoration.trust().plots
    empty = replace(
        plots,
        scatter=replace(plots.scatter, mean=np.zeros(0), variance=np.zeros(0)),
        correlation=np.full((17, 17), np.nan),
        structure=np.zeros((0, 3)),
    )
    figure = Figure(layout="constrained")
    first, second, third, fourth = figure.subplots(2, 2).ravel()
    draw_scatter(first, empty, "black")
    draw_correlation(second, empty, "black")
    draw_structure(third, empty, "black")
    draw_plane(fourth, np.full((4, 5), 3, dtype=np.float32), "flat", "black")
    figure.savefig(io.BytesIO(), format="png")
