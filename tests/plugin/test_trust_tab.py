"""The tab that judges, at a desk of its own: a real viewer, and work that is done at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QLabel, QMessageBox, QWidget

from napari_vae_repair.errors import VaeRepairError
from napari_vae_repair.pipeline import restore
from napari_vae_repair.plugin.desk import Placed, Steps
from napari_vae_repair.plugin.focus_order import in_reading_order
from napari_vae_repair.plugin.snapshot import take_snapshot
from napari_vae_repair.plugin.trust_tab import EMPTY, WAITING, TrustTab
from napari_vae_repair.settings import Settings
from napari_vae_repair.trust import SIGNS

pytestmark = pytest.mark.gui

Noisy = Callable[..., np.ndarray]


class TestDesk:
    """A `Desk` over a real viewer; `work` runs the steps to their end before it gives back, or refuses when busy."""

    __test__ = False
    placed_changed = Signal(object)

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self.placed: Placed | None = None
        self.busy = False
        self.told: list[str] = []
        self.done: list[str] = []

    @property
    def running(self) -> bool:
        return self.busy

    def viewer(self) -> Any:
        return self._viewer

    def chosen(self) -> Any:
        raise NotImplementedError

    def layers(self, *kinds: str) -> list[tuple[str, Any]]:
        return [(layer.name, layer) for layer in self._viewer.layers]

    def tell(self, news: str | Exception) -> None:
        self.told.append(str(news))

    def work(self, steps: Steps[Any], done: Callable[[Any], None], doing: str) -> bool:
        if self.busy:
            self.told.append("something else is under way")
            return False
        run = steps(Event())
        try:
            while True:
                next(run)
        except StopIteration as end:
            self.done.append(doing)
            done(end.value)
        except VaeRepairError as error:
            self.tell(error)
        return True

    def place(self, placed: Placed | None) -> None:
        self.placed = placed
        self.placed_changed.emit(placed)


@pytest.fixture(scope="module")
def placed_restoration(noisy: Noisy, tiny: Settings, one_thread: None) -> Any:
    return restore(noisy(64, 96), tiny)


@pytest.fixture
def desk(viewer: Any) -> TestDesk:
    return TestDesk(viewer)


@pytest.fixture
def tab(desk: TestDesk) -> TrustTab:
    made = TrustTab(desk)
    desk.viewer().window.add_dock_widget(made, name="Trust", area="right")
    made.setFixedWidth(310)
    return made


@pytest.fixture
def placed(viewer: Any, noisy: Noisy, placed_restoration: Any) -> Placed:
    layer = viewer.add_image(noisy(64, 96), name="cells")
    return Placed(placed_restoration, take_snapshot(layer).without_pixels())


def process() -> None:
    for _ in range(60):  # each part of the list takes a turn of its own
        QApplication.processEvents()


def show(tab: TrustTab) -> None:
    tab.window().show()
    process()
    assert tab.isVisible()


def shown(tab: TrustTab) -> list[QLabel]:
    return [label for label in tab.list_area.widget().findChildren(QLabel) if label.text()]


def test_an_empty_tab_says_what_to_do(tab: TrustTab, desk: TestDesk) -> None:
    assert tab.summary.text() == EMPTY
    assert not tab.judge_button.isEnabled()
    assert not tab.save_button.isEnabled()
    assert tab.judge() is False
    assert desk.told == [EMPTY]
    tab.save("nowhere.html")
    assert desk.done == []


def test_a_visible_tab_judges_each_new_result_and_shows_every_finding(
    tab: TrustTab, desk: TestDesk, placed: Placed
) -> None:
    show(tab)
    desk.place(placed)
    process()
    assert desk.done == ["judging"]
    assert tab.trust is not None
    assert tab.trust.findings == placed.restoration.trust().findings
    assert tab.summary.text() == f"cells: {tab.trust.summary()}"
    labels = shown(tab)
    assert len(labels) == len(tab.trust.findings)
    for label, finding in zip(labels, tab.trust.findings, strict=True):
        assert f"{SIGNS[finding.grade]} {finding.grade}: {finding.name}" in label.text()
        assert finding.text in unescape(label.text())
        assert finding.grade in ("good", "not valid here") or f"→ {finding.advice}" in unescape(label.text())
        assert label.wordWrap()
        assert label.textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByKeyboard
    desk.place(replace(placed))
    process()
    assert desk.done == ["judging"] * 2
    assert len(shown(tab)) == len(tab.trust.findings)


def test_a_hidden_tab_judges_only_once_it_is_looked_at(tab: TrustTab, desk: TestDesk, placed: Placed) -> None:
    tab.window().hide()
    process()
    desk.place(placed)
    process()
    assert desk.done == []
    assert tab.summary.text() == WAITING
    show(tab)
    assert desk.done == ["judging"]
    tab.hide()
    tab.show()
    process()
    assert desk.done == ["judging"]


def test_while_other_work_is_under_way_judging_waits_for_the_button(
    tab: TrustTab, desk: TestDesk, placed: Placed
) -> None:
    show(tab)
    desk.busy = True
    desk.place(placed)
    process()
    assert tab.trust is None
    assert tab.summary.text() == WAITING
    assert tab.judge_button.isEnabled()
    desk.busy = False
    tab.judge_button.click()
    assert tab.trust is not None
    assert not tab.judge_button.isEnabled()


def test_a_verdict_on_an_earlier_result_is_not_shown(tab: TrustTab, desk: TestDesk, placed: Placed) -> None:
    later = replace(placed)
    desk.placed = placed
    waiting: list[Any] = []
    desk.work = lambda steps, done, doing: waiting.append(done) or True  # type: ignore[method-assign]
    assert tab.judge()
    desk.place(later)
    waiting[0](placed.restoration.trust())
    assert tab.trust is None
    desk.place(None)
    assert tab.summary.text() == EMPTY


def test_plots_are_drawn_in_the_colours_of_the_theme(tab: TrustTab, desk: TestDesk, placed: Placed) -> None:
    show(tab)
    desk.place(placed)
    process()
    inks = {}
    for theme in ("dark", "light"):
        desk.viewer().theme = theme
        process()
        canvases = [each for each in tab.list_area.widget().children() if hasattr(each, "figure")]
        assert len(canvases) == 3
        inks[theme] = canvases[0].figure.axes[0].xaxis.label.get_color()
        assert inks[theme] == tab.palette().windowText().color().name()
        assert "lag" in canvases[1].figure.axes[0].get_xlabel()
    assert inks["dark"] != inks["light"]


def test_tab_comes_to_the_findings_before_the_buttons_below_them(tab: TrustTab, desk: TestDesk, placed: Placed) -> None:
    show(tab)
    for _ in range(2):
        desk.place(replace(placed))
        process()
        stops = list(in_reading_order(tab))
        assert len(stops) == len(tab.trust.findings) + 3  # type: ignore[union-attr]  # and the list, and two buttons
        chain, at = [], stops[0]
        for _ in range(200):
            chain.append(at)
            at = at.nextInFocusChain()
        assert [each for each in chain if each in stops][: len(stops)] == stops


def test_advice_is_shown_wherever_something_is_to_be_done(tab: TrustTab, desk: TestDesk, placed: Placed) -> None:
    desk.place(placed)
    assert tab.judge()
    process()
    texts = {label.text() for label in tab.list_area.widget().findChildren(QLabel)}
    for finding in tab.trust.findings:  # type: ignore[union-attr]
        shown = any(escape(finding.advice) in text for text in texts if escape(finding.name) in text)
        assert shown == (finding.grade != "good")


def test_nothing_is_cut_off_at_310_px(tab: TrustTab, desk: TestDesk, placed: Placed) -> None:
    show(tab)
    desk.place(placed)
    process()
    inside = tab.list_area.viewport().width()
    parts = [child for child in tab.list_area.widget().children() if isinstance(child, QWidget)]
    assert len(parts) == len(tab.trust.findings) + 3  # type: ignore[union-attr]
    for part in parts:
        assert part.isVisible()
        assert part.geometry().right() <= inside
        assert part.minimumSizeHint().width() <= inside
    for button in (tab.judge_button, tab.save_button):
        assert button.width() >= button.sizeHint().width()
        assert "API: " in button.toolTip()
        assert button.focusPolicy() & Qt.FocusPolicy.TabFocus


def test_the_report_is_saved_as_a_page(
    tab: TrustTab, desk: TestDesk, placed: Placed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.place(placed)
    assert tab.judge()
    path = tmp_path / "report"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (str(path), ""))
    tab.save_button.click()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Trust report of cells" in page
    assert all(finding.name in page for finding in tab.trust.findings)  # type: ignore[union-attr]
    assert str(tmp_path / "report.html") in desk.told[-1]
    (tmp_path / "report.html").write_text("something else")
    monkeypatch.setattr(QMessageBox, "question", lambda *args: QMessageBox.StandardButton.No)
    tab.save_button.click()  # the dialog asked about "report", not about "report.html"
    assert (tmp_path / "report.html").read_text() == "something else"
    monkeypatch.setattr(QMessageBox, "question", lambda *args: QMessageBox.StandardButton.Yes)
    tab.save_button.click()
    assert "Trust report" in (tmp_path / "report.html").read_text(encoding="utf-8")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (str(tmp_path / "none" / "r.html"), ""))
    tab.save_button.click()
    assert "could not be written" in desk.told[-1]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: ("", ""))
    told = list(desk.told)
    tab.save_button.click()
    assert desk.told == told


def test_a_result_that_comes_after_the_tab_is_gone_is_nobodys(
    tab: TrustTab, desk: TestDesk, placed: Placed, qtbot: Any
) -> None:
    waiting: list[Any] = []
    desk.placed = placed
    desk.work = lambda steps, done, doing: waiting.append(done) or True  # type: ignore[method-assign]
    assert tab.judge()
    with qtbot.waitSignal(tab.destroyed):
        desk.viewer().window.remove_dock_widget(tab)
        tab.deleteLater()
    waiting[0](placed.restoration.trust())
    desk.place(placed)
    assert tab.trust is None


def test_importing_the_tab_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, napari_vae_repair.plugin.trust_tab;"
        "print({'torch', 'skimage', 'scipy', 'napari', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
