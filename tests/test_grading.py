"""Grades follow what was seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_vae_repair.grading import graded
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.vae.inspection import SeenNoise

SEEN = SeenNoise((0.2, 0.1), spread=0.05, unsure=0.1, cells=1000)
RAMP = np.tile(np.linspace(0, 100, 64, dtype=np.float32), (64, 1))[None, None]
NOISE = NoiseModel(0.5, 2.0, 0.0, correlation=(0.2, 0.1))


def grades(noise: NoiseModel = NOISE, planes: np.ndarray = RAMP, seen: SeenNoise | None = SEEN) -> dict[str, str]:
    judged = graded(noise, planes, np.zeros((1, 64, 64), dtype=bool), seen)
    assert all(grade.reason for grade in judged.grades)
    assert replace(judged, grades=()) == noise
    return {grade.quantity: grade.grade for grade in judged.grades}


def test_all_is_good_where_all_is_clear() -> None:
    assert grades() == dict.fromkeys(("strength", "signal dependence", "correlation", "stripes"), "good")


@pytest.mark.parametrize(
    ("change", "quantity", "grade"),
    [
        ({"unsure": 0.4}, "strength", "doubtful"),
        ({"unsure": 0.9}, "strength", "bad"),
        ({"cells": 3}, "strength", "bad"),
        ({"cells": 3}, "correlation", "bad"),
        ({"spread": 0.5}, "correlation", "doubtful"),
    ],
)
def test_what_is_unclear_is_not_good(change: dict[str, float], quantity: str, grade: str) -> None:
    assert grades(seen=replace(SEEN, **change))[quantity] == grade  # type: ignore[arg-type]


def test_nothing_seen_is_bad() -> None:
    assert grades(seen=None)["strength"] == "bad"


def test_a_flat_image_cannot_show_a_dependence() -> None:
    assert grades(planes=RAMP / 50)["signal dependence"] == "doubtful"


def test_stripes_are_to_be_looked_at() -> None:
    assert grades(replace(NOISE, stripes=(1.0, 0.0)))["stripes"] == "doubtful"


def test_grades_survive_their_json() -> None:
    judged = graded(NOISE, RAMP, np.zeros((1, 64, 64), dtype=bool), SEEN)
    assert NoiseModel.from_dict(judged.to_dict()) == judged
