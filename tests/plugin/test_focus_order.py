"""The Tab key goes through the widget as one reads it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QSlider,
    QTabBar,
    QTableView,
    QWidget,
)

pytestmark = pytest.mark.gui

ROW_PX = 12  # what lies beside each other differs by less in height


def stops(root: QWidget) -> Iterator[QWidget]:
    """What Tab stops at, in Qt's order, without the parts of spin boxes and of the bar of tabs."""
    stop = root.nextInFocusChain()
    while stop is not root:
        inside = root.isAncestorOf(stop) and not isinstance(stop.parent(), QAbstractSpinBox | QTabBar)
        if inside and stop.isVisible() and stop.focusPolicy() & Qt.FocusPolicy.TabFocus:
            yield stop
        stop = stop.nextInFocusChain()


def assert_reading_order(docked: Any) -> list[QWidget]:
    order = list(stops(docked.native))
    places = [stop.mapTo(docked.native, stop.rect().center()) for stop in order if stop.height() < 5 * ROW_PX]
    assert len(places) > 8
    for place, following in pairwise(places):
        beside = abs(place.y() - following.y()) < ROW_PX
        assert place.x() < following.x() if beside else place.y() < following.y()
    assert docked.panel.native.isAncestorOf(order[-1])
    return order


@pytest.mark.parametrize("tab", ["Restore", "View", "Trust", "Uncertainty", "Compare", "Models"])
def test_tab_goes_from_top_to_bottom(docked: Any, tab: str, qtbot: Any) -> None:
    docked.tabs.setCurrentIndex([docked.tabs.tabText(index) for index in range(docked.tabs.count())].index(tab))
    docked.native.window().show()
    qtbot.waitUntil(docked.restore_button.native.isVisible)
    assert_reading_order(docked)


def test_tab_goes_to_the_form_of_a_step_after_its_list(docked: Any, qtbot: Any) -> None:
    docked.native.window().show()
    qtbot.waitUntil(docked.restore_button.native.isVisible)
    docked.controls.edit_chain.value = True
    qtbot.waitUntil(docked.chain.native.isVisible)
    for name in ("denoise", "contrast", "denoise"):
        docked.chain.select([row.step.step for row in docked.chain.rows].index(name))
        qtbot.waitUntil(lambda name=name: docked.chain.form(name)[0].native.isVisible())
        order = assert_reading_order(docked)
        assert docked.chain.form(name)[0].native in order


def test_every_control_says_what_it_is_in_the_api(docked: Any) -> None:
    """Of all tabs, hidden ones included; steps of the chain tell it in their form."""
    kinds = QAbstractButton | QComboBox | QAbstractSpinBox | QSlider | QTableView | QLineEdit
    controls = [each for each in docked.native.findChildren(QWidget) if isinstance(each, kinds)]
    parts = QTabBar | QAbstractSpinBox | QComboBox | QTableView  # which have buttons and lines of their own
    controls = [each for each in controls if not isinstance(each.parent(), parts)]
    assert len(controls) > 40
    silent = [f"{each.objectName()} {getattr(each, 'text', str)()}" for each in controls if "API" not in _tip(each)]
    assert silent == []


def _tip(control: QWidget) -> str:
    """Its own, or that of the row that it is a part of, as Qt shows it."""
    parent = control.parent()
    return control.toolTip() or (_tip(parent) if isinstance(parent, QWidget) else "")
