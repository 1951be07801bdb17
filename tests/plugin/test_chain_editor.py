from __future__ import annotations

from typing import Any

import pytest
from magicgui.widgets import ComboBox, FloatSpinBox, LineEdit, SpinBox

from napari_vae_repair.chain import PRESETS, STEP_TYPES, Denoise, Float32, Normalise, format_chain, parse_chain
from napari_vae_repair.plugin.chain_editor import ChainEditor

pytestmark = pytest.mark.gui


@pytest.fixture
def editor(qtbot: Any) -> ChainEditor:
    return ChainEditor(PRESETS["standard"])


def index_of(editor: ChainEditor, name: str) -> int:
    return next(index for index, row in enumerate(editor.rows) if row.step.step == name)


@pytest.mark.parametrize("chain", PRESETS.values(), ids=PRESETS)
def test_a_chain_comes_back_unchanged_and_every_step_is_listed(editor: ChainEditor, chain: Any) -> None:
    editor.set_chain(chain)
    assert editor.chain == chain
    assert {row.step.step for row in editor.rows} == set(STEP_TYPES)


def test_a_step_that_stands_twice_stays_twice(editor: ChainEditor) -> None:
    chain = (Float32(), Denoise(), Normalise(), Denoise(method="median"))
    editor.set_chain(chain)
    assert editor.chain == chain


def test_switching_a_step_on_puts_it_where_it_stands(editor: ChainEditor) -> None:
    seen = []
    editor.edited.connect(lambda: seen.append(format_chain(editor.chain)))
    editor.switch(index_of(editor, "grey"), True)
    editor.switch(index_of(editor, "normalise"), False)
    assert seen == ["float32, normalise, grey", "float32, grey"]


def test_a_click_on_a_tick_switches_the_step(editor: ChainEditor) -> None:
    from qtpy.QtCore import Qt

    seen = []
    editor.edited.connect(lambda: seen.append(format_chain(editor.chain)))
    editor._view.item(index_of(editor, "normalise")).setCheckState(Qt.CheckState.Unchecked)
    assert seen == ["float32"]


def test_moving_up_and_down_stops_at_float32_and_at_the_end(editor: ChainEditor) -> None:
    editor.set_chain(parse_chain("float32, normalise, square"))
    editor.select(2)
    editor.up.changed.emit(True)
    assert format_chain(editor.chain) == "float32, square, normalise"
    editor.move_selected(-1)
    assert format_chain(editor.chain) == "float32, square, normalise"
    editor.down.changed.emit(True)
    assert format_chain(editor.chain) == "float32, normalise, square"
    editor.select(len(editor.rows) - 1)
    editor.move_selected(1)
    assert format_chain(editor.chain) == "float32, normalise, square"


def test_float32_cannot_be_switched_off_or_moved(editor: ChainEditor) -> None:
    editor.switch(0, False)
    editor.select(0)
    editor.move_selected(1)
    assert format_chain(editor.chain) == "float32, normalise"
    assert not editor.up.enabled
    assert not editor.down.enabled


@pytest.mark.parametrize(
    ("step", "name", "kind", "value", "text"),
    [
        ("normalise", "low", FloatSpinBox, 2.5, "normalise(low=2.5)"),
        ("equalise", "method", ComboBox, "adaptive", "equalise(method=adaptive)"),
        ("equalise", "bins", SpinBox, 64, "equalise(bins=64)"),
        ("denoise", "strength", FloatSpinBox, 0.005, "denoise(strength=0.005)"),
        ("noise_strength", "seed", SpinBox, 2**32 - 1, "noise_strength(seed=4294967295)"),
        ("segment", "threshold", LineEdit, "otsu", "segment(threshold=otsu)"),
        ("segment", "threshold", LineEdit, "0.25", "segment(threshold=0.25)"),
    ],
)
def test_a_parameter_set_in_the_form_is_in_the_chain(
    editor: ChainEditor, step: str, name: str, kind: type, value: Any, text: str
) -> None:
    editor.set_chain(parse_chain(f"float32, {step}" if step != "float32" else step))
    editor.select(1)
    widget = editor.form(step)[name]
    assert isinstance(widget, kind)
    widget.value = value
    assert format_chain(editor.chain) == f"float32, {text}"
    assert editor._view.item(1).text() == text


@pytest.mark.parametrize(
    ("step", "name", "value"),
    [("normalise", "low", 99.9), ("segment", "threshold", "otsuu"), ("stabilise", "gain", "2.0")],
)
def test_a_value_that_cannot_be_is_told_and_not_taken(editor: ChainEditor, step: str, name: str, value: Any) -> None:
    editor.set_chain(parse_chain(f"float32, {step}"))
    editor.select(1)
    before = editor.chain
    editor.form(step)[name].value = value
    assert editor.chain == before
    assert editor._complaint.value


def test_every_parameter_of_every_step_has_a_field_with_its_api_name(editor: ChainEditor) -> None:
    for name, kind in STEP_TYPES.items():
        form = editor.form(name)
        assert [widget.name for widget in form] == [field for field in kind.model_fields if field != "step"]
        assert all(f"{name}({widget.name}=" in widget.tooltip for widget in form)
        for widget in form:  # the form shows exactly the default
            default = kind.model_fields[widget.name].default
            assert widget.value == ("automatic" if default is None else default) or widget.value == str(default)
