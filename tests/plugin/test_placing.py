"""Layers that are added one after the other: all of them, in their order, and none to a viewer that is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_vae_repair.plugin.layers import METADATA_KEY
from napari_vae_repair.plugin.placing import place_in_turn

pytestmark = pytest.mark.gui


def results(*roles: str, kind: str = "image") -> list[Any]:
    facts = [{METADATA_KEY: {"source": "image", "role": role}} for role in roles]
    return [
        (np.zeros((8, 9)), {"name": f"image {role}", "metadata": meta}, kind)
        for role, meta in zip(roles, facts, strict=True)
    ]


def test_a_click_is_heard_between_two_layers(viewer: Any, qtbot: Any) -> None:
    seen: list[int] = []
    outcomes: list[Any] = []
    place_in_turn(lambda: viewer, results("residual", "restored"), outcomes.append)
    assert [layer.name for layer in viewer.layers] == ["image residual"]
    assert not outcomes
    qtbot.waitUntil(lambda: seen.append(len(viewer.layers)) or bool(outcomes))
    assert seen[0] == 1
    assert [layer.name for layer in outcomes[0]] == ["image residual", "image restored"]
    place_in_turn(lambda: viewer, results("restored"), outcomes.append)
    assert [layer.name for layer in viewer.layers] == ["image restored"]  # what is left over of the first goes


def test_a_viewer_that_is_gone_gets_nothing_more(viewer: Any, qtbot: Any) -> None:
    present: list[Callable[[], Any]] = [lambda: viewer]
    outcomes: list[Any] = []
    place_in_turn(lambda: present[0](), results("residual", "restored"), outcomes.append)
    present[0] = lambda: None
    qtbot.waitUntil(lambda: bool(outcomes))
    assert outcomes == [None]
    assert len(viewer.layers) == 1


def test_an_error_is_told_and_ends_it(viewer: Any, told: list[str]) -> None:
    outcomes: list[Any] = []
    place_in_turn(lambda: viewer, results("restored", "residual", kind="nothing"), outcomes.append)
    assert outcomes == [None]
    assert "add_nothing" in told[-1]
