"""The preprocessing chain as a list: steps switched on and off, moved up and down, their parameters set in a form.

The rows are plain records and the Qt list only shows them; the form of a step is made from the fields of
its settings model.
"""

from __future__ import annotations

import ast
import inspect
import math
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from magicgui.widgets import ComboBox, Container, FloatSpinBox, Label, LineEdit, PushButton, SpinBox
from magicgui.widgets.bases import ValueWidget, Widget
from psygnal import Signal
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from napari_vae_repair.chain import STEP_TYPES, Step, format_chain

VISIBLE_ROWS = 6
STYLED_FONT = 1.4  # napari's font is at most this much wider than Qt's
LARGEST_SHOWN = 1e6


@dataclass(slots=True)
class Row:
    """One step in the list and whether it is in force."""

    step: Step
    on: bool


class ChainEditor(Container[Widget]):
    """Shows a chain and lets the user change it; `edited` is emitted after each change by the user."""

    edited = Signal()

    def __init__(self, chain: tuple[Step, ...]) -> None:
        super().__init__(labels=False, name="chain_editor")
        self.rows: list[Row] = []
        self._forms: dict[str, Container[ValueWidget[Any]]] = {}
        self._filling = False
        self.up = PushButton(text="▲", tooltip="API: chain. Do the selected step earlier.")
        self.down = PushButton(text="▼", tooltip="API: chain. Do the selected step later.")
        self.up.changed.connect(lambda: self.move_selected(-1))
        self.down.changed.connect(lambda: self.move_selected(1))
        self._meaning = Label(value="")
        self._complaint = Label(value="")
        self._complaint.visible = False
        self._form_place: Container[Container[ValueWidget[Any]]] = Container(labels=False)
        buttons = Container(widgets=[self.up, self.down], layout="horizontal", labels=False)
        self.extend([buttons, self._meaning, self._form_place, self._complaint])
        self._view = self._make_list()
        for part in (self, buttons, self._form_place):
            part.margins = (0, 0, 0, 0)
        for label in (self._meaning, self._complaint):
            label.native.setWordWrap(True)
        self.set_chain(chain)

    @property
    def chain(self) -> tuple[Step, ...]:
        """The steps in force, in their order."""
        return tuple(row.step for row in self.rows if row.on)

    def set_chain(self, chain: tuple[Step, ...]) -> None:
        """Show a chain; the other steps follow it, switched off and at their defaults."""
        present = {step.step for step in chain}
        self.rows = [Row(step, True) for step in chain]
        self.rows += [Row(kind(), False) for name, kind in STEP_TYPES.items() if name not in present]  # type: ignore[arg-type]
        self._fill(min(1, len(self.rows) - 1))

    def switch(self, index: int, on: bool) -> None:
        """Put a row's step in force or take it out; the first step, float32, always stays."""
        if index > 0 and self.rows[index].on != on:
            self.rows[index].on = on
            self._fill(index)
            self.edited.emit()

    def move_selected(self, by: int) -> None:
        """Move the selected row by -1 (earlier) or 1 (later); float32 stays first."""
        index = self._view.currentRow()
        target = index + by
        if index >= 1 and 1 <= target < len(self.rows):
            self.rows[index], self.rows[target] = self.rows[target], self.rows[index]
            self._fill(target)
            self.edited.emit()

    def select(self, index: int) -> None:
        """Select a row, as a click on it does."""
        self._view.setCurrentRow(index)

    def form(self, name: str) -> Container[ValueWidget[Any]]:
        """The form of a step, one widget a parameter, each under the parameter's own name."""
        if name not in self._forms:
            fields = {key: info for key, info in STEP_TYPES[name].model_fields.items() if key != "step"}
            form = Container(widgets=[_field_widget(name, key, info) for key, info in fields.items()], name=name)
            align_labels(form)
            form.margins = (0, 0, 0, 0)
            for widget in form:
                widget.changed.connect(lambda value, key=widget.name: self._set_parameter(key, value))
            self._forms[name] = form
            self._form_place.append(form)
            self._order_focus()
        return self._forms[name]

    def _order_focus(self) -> None:
        """Let Tab go from the list to the form that came last."""
        from napari_vae_repair.plugin.focus_order import set_reading_order

        set_reading_order(self.native)

    def _make_list(self) -> Any:
        from qtpy.QtWidgets import QListWidget

        view = QListWidget()
        view.setToolTip("API: chain. Ticked steps are done from top to bottom; select one to set its parameters.")
        view.setFixedHeight((view.fontMetrics().height() + 8) * VISIBLE_ROWS)
        view.itemChanged.connect(self._item_ticked)
        view.currentRowChanged.connect(self._show_form)
        self.native.layout().insertWidget(0, view)
        return view

    def _fill(self, selected: int) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtWidgets import QListWidgetItem

        self._filling = True
        self._view.clear()
        for index, row in enumerate(self.rows):
            item = QListWidgetItem(format_chain((row.step,)))
            item.setToolTip(_meaning(row.step))
            ticks = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
            item.setFlags(ticks | Qt.ItemFlag.ItemIsUserCheckable if index else ticks)
            item.setCheckState(Qt.CheckState.Checked if row.on else Qt.CheckState.Unchecked)
            self._view.addItem(item)
        self._filling = False
        self._view.setCurrentRow(selected)

    def _item_ticked(self, item: Any) -> None:
        if not self._filling:
            self.rows[self._view.row(item)].on = item.checkState() == type(item.checkState()).Checked
            self.edited.emit()

    def _show_form(self, index: int) -> None:
        if self._filling or index < 0:
            return
        step = self.rows[index].step
        form = self.form(step.step)
        self._filling = True
        for widget in form:
            value = getattr(step, widget.name)
            widget.value = value if not isinstance(widget, LineEdit) else _text(value)
        self._filling = False
        for name, other in self._forms.items():
            other.visible = name == step.step and len(other) > 0
        self._meaning.value = _meaning(step)
        self._complaint.visible = False
        self.up.enabled = index > 1
        self.down.enabled = 1 <= index < len(self.rows) - 1

    def _set_parameter(self, name: str, value: Any) -> None:
        if self._filling:
            return
        index = self._view.currentRow()
        row = self.rows[index]
        if isinstance(self.form(row.step.step)[name], LineEdit):
            value = _value(value)
        try:
            row.step = type(row.step).model_validate(row.step.model_dump() | {name: value})
        except ValidationError as error:
            self._complaint.value = error.errors()[0]["msg"].removeprefix("Value error, ")
            self._complaint.visible = True
            return
        self._complaint.visible = False
        self._filling = True
        self._view.item(index).setText(format_chain((row.step,)))
        self._filling = False
        self.edited.emit()


def align_labels(form: Container[Any]) -> None:
    """Give the labels of a form one width; magicgui measures them before napari's style sheet has set the font."""
    from qtpy.QtWidgets import QLabel

    rows = [widget.native.parentWidget() for widget in form]
    labels = [row.layout().itemAt(0).widget() for row in rows if row is not form.native]
    widths = [label.fontMetrics().horizontalAdvance(label.text()) for label in labels if isinstance(label, QLabel)]
    for label in labels:
        label.setFixedWidth(int(max(widths) * STYLED_FONT))


def _field_widget(step: str, name: str, info: FieldInfo) -> ValueWidget[Any]:
    """A widget for one parameter, by its type and limits."""
    tooltip = f"API: chain, {step}({name}=…). {(info.description or '').capitalize()}".strip()
    default, kind = info.default, info.annotation
    low, high = _limits(info)
    if get_origin(kind) is Literal:
        return ComboBox(name=name, choices=get_args(kind), value=default, tooltip=tooltip)
    if get_origin(kind) in (Union, UnionType):
        return LineEdit(name=name, value=_text(default), tooltip=tooltip)
    if kind is int:
        return SpinBox(name=name, value=default, min=int(low), max=int(high), step=1, tooltip=tooltip)
    # one digit finer than the default, so that small values can be told apart
    step_size = min(10.0 ** (math.floor(math.log10(default)) - 1), 0.1) if default else 0.01
    return FloatSpinBox(name=name, value=default, min=low, max=high, step=step_size, tooltip=tooltip)


def _limits(info: FieldInfo) -> tuple[float, float]:
    limits = {"low": 0.0, "high": LARGEST_SHOWN}
    for rule in info.metadata:  # annotated_types' Ge, Gt, Le and Lt
        for name, side in (("ge", "low"), ("gt", "low"), ("le", "high"), ("lt", "high")):
            limits[side] = float(getattr(rule, name, limits[side]))
    return limits["low"], limits["high"]


def _meaning(step: Step) -> str:
    return " ".join((inspect.getdoc(type(step)) or "").split("\n\n")[0].split())


def _text(value: Any) -> str:
    return "automatic" if value is None else str(value)


def _value(text: str) -> Any:
    if text.strip().lower() in ("", "automatic", "none"):
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text.strip()
