"""The row of presets: choosing sets fields, changing a field is followed, the user's own come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from qtpy.QtWidgets import QInputDialog, QMessageBox, QWidget

from napari_vae_repair.errors import SettingsError
from napari_vae_repair.plugin.preferences import read_ways, save_way
from napari_vae_repair.plugin.ways_row import WaysRow
from napari_vae_repair.presets import NO_WAY, WAYS, with_way
from napari_vae_repair.settings import Settings, make_settings

pytestmark = pytest.mark.gui


class Bench:
    """A row, what the "widget" around it shows, and what it was told."""

    def __init__(self) -> None:
        self.shown: Settings | SettingsError = Settings()
        self.told: list[str] = []
        self.row = WaysRow(self.present, lambda news: self.told.append(str(news)))
        self.row.chosen.connect(self.show)
        self.row.follow(self.present())

    def present(self) -> Settings:
        if isinstance(self.shown, SettingsError):
            raise self.shown
        return self.shown

    def show(self, settings: Settings) -> None:
        self.shown = settings


@pytest.fixture
def bench(qapp: Any, preferences: Any) -> Bench:
    return Bench()


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What the user will type and whether they say yes."""

    def will(text: str = "", *, accepted: bool = True, yes: bool = True) -> None:
        button = QMessageBox.StandardButton.Yes if yes else QMessageBox.StandardButton.No
        monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (text, accepted))
        monkeypatch.setattr(QMessageBox, "question", lambda *_, **__: button)

    return will


@pytest.mark.parametrize("name", list(WAYS)[1:])
def test_a_choice_gives_the_settings_to_show(bench: Bench, name: str) -> None:
    bench.shown = make_settings(model="starter", network={"blocks": 2}, device="cpu", seed=4)
    bench.row.combo.value = name
    assert bench.shown == with_way(make_settings(network={"blocks": 2}, device="cpu", seed=4), WAYS[name])
    assert bench.row.combo.value == name
    assert not bench.row.delete.enabled


def test_following_shows_the_preset_and_chooses_none(bench: Bench) -> None:
    given: list[Settings] = []
    bench.row.chosen.connect(given.append)
    bench.row.follow(WAYS["Careful"])
    assert bench.row.combo.value == "Careful"
    bench.row.follow(Settings(samples=7))
    assert bench.row.combo.value == NO_WAY
    assert given == []


def test_custom_cannot_be_chosen(bench: Bench) -> None:
    bench.row.combo.value = NO_WAY
    assert bench.row.combo.value == "Fast"
    assert bench.shown == Settings()


def test_a_preset_gets_the_widget_out_of_a_missing_file(bench: Bench) -> None:
    bench.row.follow(make_settings(seed=4, model="gone.safetensors"))
    bench.shown = SettingsError("No model file is chosen.", "", "")
    bench.row.combo.value = "Fast"
    assert bench.shown == make_settings(seed=4, samples=0)


def test_a_preset_without_samples_keeps_none(bench: Bench) -> None:
    bench.shown = Settings(keep_samples=True, samples=4)
    bench.row.follow(bench.shown)
    bench.row.combo.value = "Balanced"
    assert not bench.told
    assert bench.row.combo.value == "Balanced"
    assert bench.shown == Settings(keep_samples=False, samples=0, adapt_seconds=15)


def test_a_preset_with_samples_leaves_keeping_them_as_it_was(bench: Bench) -> None:
    bench.shown = Settings(keep_samples=True, samples=4)
    bench.row.follow(bench.shown)
    bench.row.combo.value = "Careful"
    assert bench.shown == Settings(keep_samples=True, samples=16, adapt_seconds=60)


def test_saving_makes_a_preset_that_another_widget_offers(bench: Bench, answer: Callable[..., None]) -> None:
    bench.shown = Settings(samples=7)
    answer(" seven ")
    bench.row.save.changed.emit(True)
    assert read_ways()[0] == {"seven": Settings(samples=7)}
    assert bench.row.combo.value == "seven"
    assert bench.row.delete.enabled
    assert "seven" in bench.told[-1]
    assert list(bench.row.combo.choices) == [*WAYS, "seven", NO_WAY]
    other = Bench()
    other.row.combo.value = "seven"
    assert other.shown == Settings(samples=7)


def test_one_that_is_like_a_shipped_one_can_still_be_chosen_and_deleted(
    bench: Bench, answer: Callable[..., None]
) -> None:
    bench.row.save_as("like Fast")
    assert bench.row.combo.value == "like Fast"
    bench.row.combo.value = "Fast"
    bench.row.combo.value = "like Fast"
    assert bench.row.combo.value == "like Fast"
    answer(yes=False)
    bench.row.delete.changed.emit(True)
    assert "like Fast" in read_ways()[0]
    answer(yes=True)
    bench.row.delete.changed.emit(True)
    assert read_ways()[0] == {}
    assert bench.row.combo.value == "Fast"
    assert list(bench.row.combo.choices) == [*WAYS, NO_WAY]


def test_replacing_asks(bench: Bench, answer: Callable[..., None]) -> None:
    bench.row.save_as("mine")
    bench.shown = Settings(samples=7)
    answer("mine", yes=False)
    bench.row.save.changed.emit(True)
    assert read_ways()[0] == {"mine": Settings()}
    answer("mine", yes=True)
    bench.row.save.changed.emit(True)
    assert read_ways()[0] == {"mine": Settings(samples=7)}


def test_a_refused_name_and_a_dismissed_question_save_nothing(bench: Bench, answer: Callable[..., None]) -> None:
    answer("Fast")
    bench.row.save.changed.emit(True)
    assert "Choose another name" in bench.told[-1]
    answer("mine", accepted=False)
    bench.row.save.changed.emit(True)
    assert read_ways()[0] == {}
    assert len(bench.told) == 1


def test_presets_of_another_version_are_told_at_once(preferences: Any, qapp: Any) -> None:
    save_way("good", Settings(samples=2))
    preferences.ways = preferences.ways[:-1] + ', "old": {"temperature": 1}}'
    bench = Bench()
    assert "good" in bench.row.combo.choices
    assert "old" not in bench.row.combo.choices
    assert "temperature" in bench.told[0]


def test_the_users_own_stay_when_the_row_is_put_into_a_window(preferences: Any, qtbot: Any) -> None:
    save_way("mine", Settings(samples=7))
    bench = Bench()
    bench.row.follow(Settings(samples=7))
    window = QWidget()
    qtbot.addWidget(window)
    bench.row.native.setParent(window)
    window.show()
    assert bench.row.combo.value == "mine"
    assert list(bench.row.combo.choices) == [*WAYS, "mine", NO_WAY]
    assert bench.row.native.minimumSizeHint().width() <= 310
