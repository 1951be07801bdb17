"""The live plot: what it draws, and when it is out of the way."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtGui import QColor, QPalette

from napari_vae_repair.plugin.loss_plot import LossPlot
from napari_vae_repair.vae.record import Losses

pytestmark = pytest.mark.gui


@pytest.fixture
def plot(qtbot: Any) -> LossPlot:
    made = LossPlot()
    qtbot.addWidget(made)
    made.begin()
    made.add([Losses(loss=float(step), nll=0.0, kl=(0.1, 0.2)) for step in range(3)])
    made.end("kept")
    return made


def test_a_run_that_trained_is_shown_with_its_verdict(plot: LossPlot) -> None:
    assert not plot.isHidden()
    assert plot._canvas.figure.get_suptitle() == "kept"


def test_what_is_drawn_takes_the_colour_of_a_new_theme(plot: LossPlot, qtbot: Any) -> None:
    for name in ("white", "black"):
        palette = plot.palette()
        palette.setColor(QPalette.ColorRole.WindowText, QColor(name))
        plot.setPalette(palette)
        ink = QColor(name).name()
        qtbot.waitUntil(lambda ink=ink: plot._canvas.figure.axes[0].title.get_color() == ink)


def test_a_run_that_trained_nothing_takes_the_earlier_plot_away(plot: LossPlot) -> None:
    plot.begin()
    assert not plot.isHidden()  # nothing jumps before there is a result
    plot.end("")
    assert plot.isHidden()
