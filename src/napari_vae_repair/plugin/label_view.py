"""The table of labels: sortable, with the first rows of a long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QTableWidgetItem

from napari_vae_repair.plugin.tab_parts import SORT_KEY, SortableTable

if TYPE_CHECKING:
    from napari_vae_repair.label_means import LabelTable

MOST_ROWS = 1000  # more would keep Qt busy; the file has all
HEADINGS = {
    "label": ("Label", "Its number in the Labels layer."),
    "colour": ("Colour", "Which of the image's colours."),
    "area_px": ("Pixels", "Area in pixels. API: area_px."),
    "area_um2": ("µm²", "Area in square micrometres. API: area_um2."),
    "mean": ("Mean", "Of the restored values. API: mean."),
    "low_90": ("90 % from", "Lower end of the mean's 90 % interval. API: low_90."),
    "high_90": ("to", "Upper end of the mean's 90 % interval. API: high_90."),
    "pixel_std": ("Pixel ±", "Mean standard deviation of a single pixel. API: pixel_std."),
}
SHOWN_LAST = ("area_px", "area_um2", "pixel_std")  # the dock is narrow, and the interval is what one looks for
LEAST_HEIGHT_PX = 150


class LabelView(SortableTable):
    """Shows a `LabelTable`; a click on a heading, or a key, sorts by it."""

    def __init__(self) -> None:
        super().__init__()
        self.summary = ""
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setTabKeyNavigation(False)  # the tab key leads on to the next control
        self.setAccessibleName("Means of labels")
        self.setToolTip(
            f"<span>Click a heading, or press {SORT_KEY} in a column, to sort. "
            "API: label_table(restoration, labels).records().</span>"
        )
        self.setMinimumHeight(LEAST_HEIGHT_PX)
        vertical = self.verticalHeader()
        assert vertical is not None
        vertical.hide()
        self.setVisible(False)

    def clear_table(self) -> None:
        """Show nothing."""
        self.summary = ""
        self.setRowCount(0)
        self.setVisible(False)

    def show_table(self, table: LabelTable) -> None:
        """Show the rows, the first thousand of more; `summary` then says so."""
        records = table.records()[:MOST_ROWS]
        columns = sorted(table.columns, key=lambda name: name in SHOWN_LAST)
        self.setSortingEnabled(False)  # while it is filled, rows must not move
        self.setColumnCount(len(columns))
        self.setRowCount(len(records))
        for column, name in enumerate(columns):
            title, tip = HEADINGS.get(name, (name.upper(), f"Position along {name.upper()}."))
            heading = QTableWidgetItem(title)
            heading.setToolTip(tip)
            self.setHorizontalHeaderItem(column, heading)
            for row, record in enumerate(records):
                value = record[name]
                item = QTableWidgetItem()
                item.setData(Qt.ItemDataRole.DisplayRole, float(f"{value:.5g}") if isinstance(value, float) else value)
                self.setItem(row, column, item)
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.resizeColumnsToContents()
        self.setVisible(True)
        rows = len(table.rows)
        more = f"; the first {MOST_ROWS} are shown, the CSV has all" if rows > MOST_ROWS else ""
        self.summary = f"{rows} row{'' if rows == 1 else 's'}{more}"
