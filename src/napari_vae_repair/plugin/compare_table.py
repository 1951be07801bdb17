"""`CompareTable`: methods with thumbnails and numbers, sorted by any column."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QTableWidgetItem

from napari_vae_repair.plugin.tab_parts import SORT_KEY, SortableTable

if TYPE_CHECKING:
    from napari_vae_repair.ranking import Compared

COLUMNS = ("", "method", "loss", "PSNR", "SSIM", "s", "note")
TIPS = (
    "API: Compared.restored. The middle of the result.",
    "API: Compared.method.",
    "API: Compared.loss. Mean squared error of predicting pixels from the others; less is better.",
    "API: Compared.psnr. In dB, against the reference; more is better.",
    "API: Compared.ssim. Against the reference; 1 is best.",
    "API: Compared.seconds. Seconds that the result took, tuning included.",
    "API: Compared.note and Compared.parameters.",
)
THUMBNAIL_PX, SHOWN_PX = 48, 96
LIMITS = (0.5, 99.5)  # percentiles of the image that become black and white
_LOSS, _INDEX = 2, int(Qt.ItemDataRole.UserRole) + 1


class CompareTable(SortableTable):
    """A row for each method; the one with the smallest loss first until another column's head is clicked."""

    def __init__(self) -> None:
        super().__init__(0, len(COLUMNS))
        self.setHorizontalHeaderLabels(list(COLUMNS))
        for column, tip in enumerate(TIPS):
            _existing(self.horizontalHeaderItem(column)).setToolTip(tip)
        self.setToolTip(
            "API: compare(...).rows. Double-click a row, or press Enter, to add it as a layer.\n"
            f"Click a heading, or press {SORT_KEY} in a column, to sort."
        )
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)  # Tab leaves the table
        self.setIconSize(QSize(THUMBNAIL_PX, THUMBNAIL_PX))
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        vertical = _existing(self.verticalHeader())
        vertical.setVisible(False)
        vertical.setDefaultSectionSize(THUMBNAIL_PX + 6)
        self.setSortingEnabled(True)
        self._limits = (0.0, 1.0)
        self.compared: list[Compared] = []

    def begin(self, pixels: NDArray[np.generic]) -> None:
        """Empty the table for results of these pixels."""
        self.compared = []
        self.setRowCount(0)
        self.sortByColumn(_LOSS, Qt.SortOrder.AscendingOrder)
        low, high = np.percentile(np.asarray(pixels[..., :3] if pixels.ndim == 3 else pixels, np.float32), LIMITS)
        self._limits = float(low), float(high)

    def add(self, row: Compared) -> None:
        """Show another method where the sorting puts it."""
        self.compared.append(row)
        picture = _Cell("", 0.0)
        shown, icon = thumbnail(row.restored, *self._limits), QIcon()
        for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):  # else Qt tints the selected one
            icon.addPixmap(shown, mode)
        picture.setIcon(icon)
        cells = [
            picture,
            _Cell(row.method, row.method.lower()),
            _Cell(f"{row.loss:.4g}", row.loss),
            _Cell("" if row.psnr is None else f"{row.psnr:.2f}", -math.inf if row.psnr is None else row.psnr),
            _Cell("" if row.ssim is None else f"{row.ssim:.3f}", -math.inf if row.ssim is None else row.ssim),
            _Cell(f"{row.seconds:.2f}", row.seconds),
            _Cell(_note(row), _note(row)),
        ]
        self.setSortingEnabled(False)  # a row that is sorted while it is filled would be torn apart
        last = self.rowCount()
        self.insertRow(last)
        for column, cell in enumerate(cells):
            cell.setData(_INDEX, len(self.compared) - 1)
            if 2 <= column <= 5:
                cell.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.setItem(last, column, cell)
        self.setSortingEnabled(True)
        self.resizeColumnsToContents()

    def chosen(self) -> Compared | None:
        """The method of the selected row."""
        selected = self.selectedItems()
        return self.compared[selected[0].data(_INDEX)] if selected else None

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        """Enter does what a double click does."""
        item = self.currentItem()
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and item is not None:
            self.itemDoubleClicked.emit(item)
        else:
            super().keyPressEvent(event)


class _Cell(QTableWidgetItem):
    """Sorted by a key, not by its text."""

    def __init__(self, text: str, key: float | str) -> None:
        super().__init__(text)
        self.setToolTip(text)
        self.key = key

    def __lt__(self, other: QTableWidgetItem) -> bool:
        return bool(self.key < other.key)  # type: ignore[attr-defined]


def thumbnail(pixels: NDArray[np.generic], low: float, high: float) -> QPixmap:
    """The middle of an image, `SHOWN_PX` across at most, in `THUMBNAIL_PX` across; `low` becomes black."""
    starts = [max(0, (side - SHOWN_PX) // 2) for side in pixels.shape[:2]]
    part = np.asarray(pixels, np.float32)[tuple(slice(start, start + SHOWN_PX) for start in starts)]
    grey = np.round(255 * np.clip((part - low) / max(high - low, 1e-30), 0, 1)).astype(np.uint8)
    colour = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=-1) if grey.ndim == 2 else grey[..., :3])
    height, width = colour.shape[:2]
    image = QImage(colour.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image).scaled(
        THUMBNAIL_PX,
        THUMBNAIL_PX,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )


def _note(row: Compared) -> str:
    found = ", ".join(f"{name} {value:.3g}" for name, value in row.parameters.items())
    return "; ".join(part for part in (row.note, found) if part)


def _existing(item: Any) -> Any:
    assert item is not None  # it was made by the constructor
    return item
