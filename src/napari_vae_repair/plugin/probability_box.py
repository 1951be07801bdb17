"""The box "Probability above a threshold" of the tab Uncertainty: a slider, a number, and what they lead to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QDoubleSpinBox, QGroupBox, QHBoxLayout, QVBoxLayout
from superqt import QDoubleSlider

from napari_vae_repair.errors import InputError, VaeRepairError
from napari_vae_repair.plugin.layers import percentile_limits
from napari_vae_repair.plugin.live_probability import LiveProbability
from napari_vae_repair.plugin.tab_parts import HOW, PART, button, in_lines, wrapped

if TYPE_CHECKING:
    from napari_vae_repair.plugin.desk import Desk, Placed

STEPS_OF_RANGE = 200
TIP = "API: probability_above(restoration, threshold). The probability that the true value lies above it."


class ProbabilityBox(QGroupBox):
    """Shows the layer "NAME probability" of the last restoration, live while the threshold is dragged.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__("Probability above a threshold")
        self._desk = desk
        self.live = LiveProbability(desk, self)
        self.slider = QDoubleSlider(Qt.Orientation.Horizontal)  # type: ignore[no-untyped-call]
        self.threshold = QDoubleSpinBox()
        self.threshold.setRange(-1e12, 1e12)
        for widget in (self.slider, self.threshold):
            widget.setAccessibleName("Threshold")
            widget.setToolTip(in_lines(TIP))
        self.show_button = button("Show", self._show_pressed, f"Adds the layer NAME probability. {TIP}")
        self.summary = wrapped("")
        row = QHBoxLayout()
        row.addWidget(self.threshold, 1)
        row.addWidget(self.show_button)
        column = QVBoxLayout(self)
        column.addWidget(self.slider)
        column.addLayout(row)
        column.addWidget(self.summary)
        self.slider.valueChanged.connect(self.threshold.setValue)
        self.threshold.valueChanged.connect(self._threshold_changed)
        self.live.shown.connect(self._show_summary)

    def show_placed(self, placed: Placed | None) -> None:
        """Follow another restoration; a probability that was shown of the last one is shown of this one."""
        was_shown = self.live.active
        self.live.stop()
        restoration = None if placed is None else placed.restoration
        sure = restoration is not None and restoration.report.samples > 1
        self.setEnabled(sure)
        self.summary.setText("Move the slider: a layer shows how surely each value lies above." if sure else "")
        if placed is not None and restoration is not None and sure:
            self._set_range(*percentile_limits(restoration.restored))
            if was_shown:
                self.live.show(placed, self.threshold.value())

    def show_probability(self, threshold: float) -> None:
        """Show the layer "NAME probability" of lying above a threshold.

        Raises
        ------
        InputError
            Nothing is restored yet, or without samples.
        """
        placed = self._desk.placed
        if placed is not None and placed.restoration is None:
            raise InputError("The last result lies in files.", "Probabilities are told of one in memory.", PART)
        if placed is None or placed.restoration is None or placed.restoration.report.samples < 2:
            raise InputError("There is no result with an uncertainty.", "It takes two samples at least.", HOW)
        with QSignalBlocker(self.slider), QSignalBlocker(self.threshold):
            self.threshold.setValue(threshold)
            self.slider.setValue(threshold)
        self.live.show(placed, threshold)

    def _threshold_changed(self, value: float) -> None:
        try:
            self.show_probability(value)
        except VaeRepairError as error:
            self._desk.tell(error)

    def _show_pressed(self) -> None:
        self._threshold_changed(self.threshold.value())

    def _show_summary(self, threshold: float, above: float, undecided: float) -> None:
        self.summary.setText(
            f"In view, {100 * above:.1f} % of the values lie above {threshold:.5g} with probability over 0.95; "
            f"{100 * undecided:.1f} % are undecided (0.05 to 0.95)."
        )

    def _set_range(self, low: float, high: float) -> None:
        """Of the slider; a threshold inside stays."""
        step = (high - low) / STEPS_OF_RANGE
        kept = self.threshold.value()
        with QSignalBlocker(self.slider), QSignalBlocker(self.threshold):
            self.threshold.setDecimals(max(0, 1 - math.floor(math.log10(step))))
            self.threshold.setSingleStep(step)
            self.slider.setRange(low, high)
            self.slider.setSingleStep(step)
            self.slider.setPageStep(10 * step)
            self.threshold.setValue(kept if low < kept < high else (low + high) / 2)
            self.slider.setValue(self.threshold.value())
