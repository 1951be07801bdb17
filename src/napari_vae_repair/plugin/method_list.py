"""`MethodList`: the methods that can be compared, with their ticks."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from napari_vae_repair.contenders import NOTES, methods, usual_methods

TICK_PX = 34  # of a check box and its margins
SLACK_PX = 8  # of the frame, the style's padding and rounding: without it the last column would wrap


class MethodList(QListWidget):
    """All methods in as many columns as fit; those that take minutes are not ticked at first."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip("API: compare(only=...). Methods that run; Space ticks. Each is tuned on the image.")
        self.setFlow(QListWidget.Flow.LeftToRight)
        self.setWrapping(True)
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)  # it is as high as it needs
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        usual = usual_methods()
        for name in methods():
            item = QListWidgetItem(name)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(Qt.CheckState.Checked if name in usual else Qt.CheckState.Unchecked)
            item.setToolTip(f"API: only={name!r}. {NOTES.get(name, 'Tuned by how well it predicts pixels')}.")
            self.addItem(item)

    @property
    def ticked(self) -> tuple[str, ...]:
        """The methods that run."""
        return tuple(item.text() for item in self._items() if item.checkState() == Qt.CheckState.Checked)

    def tick(self, *names: str) -> None:
        """Tick these methods and no other."""
        for item in self._items():
            item.setCheckState(Qt.CheckState.Checked if item.text() in names else Qt.CheckState.Unchecked)

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        """As many columns as the widest name allows, and as high as they need."""
        metrics, items = self.fontMetrics(), self._items()
        widest = max(metrics.horizontalAdvance(item.text()) for item in items) + TICK_PX
        frame = 2 * self.frameWidth() + SLACK_PX
        columns = max(1, (self.width() - frame) // widest)
        height = metrics.height() + 6
        self.setGridSize(QSize((self.width() - frame) // columns, height))
        self.setFixedHeight(-(-len(items) // columns) * height + frame)
        super().resizeEvent(event)

    def _items(self) -> list[QListWidgetItem]:
        items = (self.item(index) for index in range(self.count()))
        return [item for item in items if item is not None]
