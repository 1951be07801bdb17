"""The tab of saved models, at a desk of its own: a real viewer, and work that is done at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox, QPushButton, QWidget

from napari_vae_repair.errors import InputError, ModelFileError, SettingsError, VaeRepairError
from napari_vae_repair.model_store import VARIABLE, Entry, ModelStore
from napari_vae_repair.pipeline import restore
from napari_vae_repair.plugin.damage_mask import type_of
from napari_vae_repair.plugin.desk import Chosen, Placed, Steps
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.joint_training import joint_steps, name_for
from napari_vae_repair.plugin.layers import add_results, result_layers
from napari_vae_repair.plugin.models_tab import ModelsTab
from napari_vae_repair.plugin.models_table import description
from napari_vae_repair.plugin.preferences import default_model, set_default_model
from napari_vae_repair.plugin.snapshot import take_snapshot
from napari_vae_repair.settings import Settings, make_settings
from napari_vae_repair.vae import adapt as adapting
from napari_vae_repair.vae.checkpoint import load_model
from napari_vae_repair.vae.record import Model

pytestmark = pytest.mark.gui

Noisy = Callable[..., np.ndarray]


class TestDesk:
    """A `Desk` over a real viewer; `work` runs the steps to their end before it gives back."""

    __test__ = False
    placed_changed = Signal(object)

    def __init__(self, viewer: Any, settings: Settings) -> None:
        self._viewer, self.settings = viewer, settings
        self.placed: Placed | None = None
        self.mask_layer: Any = None
        self.plane_at: Any = None
        self.told: list[str] = []
        self.updates: list[Update] = []

    def viewer(self) -> Any:
        return self._viewer

    def chosen(self) -> Chosen:
        return Chosen(self._viewer.layers[0], self.settings, self.mask_layer, self.plane_at)

    def layers(self, *kinds: str) -> list[tuple[str, Any]]:
        return [(layer.name, layer) for layer in self._viewer.layers if type_of(layer) in kinds]

    def tell(self, news: str | Exception) -> None:
        self.told.append(str(news))

    def work(self, steps: Steps[Any], done: Callable[[Any], None], doing: str) -> bool:
        self.told.append(doing)
        run = steps(Event())
        while True:
            try:
                self.updates.append(next(run))
            except StopIteration as end:
                done(end.value)
                return True


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def desk(viewer: Any, tiny: Settings) -> TestDesk:
    set_default_model("starter")
    return TestDesk(viewer, tiny)


@pytest.fixture
def used() -> list[str]:
    return []


@pytest.fixture
def tab(desk: TestDesk, used: list[str], store: ModelStore, qtbot: Any) -> ModelsTab:
    tab = ModelsTab(desk, used.append, store)
    qtbot.addWidget(tab)
    return tab


@pytest.fixture
def model(model_file: Path) -> Model:
    return load_model(model_file)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What the user will type and whether they say yes; gives the questions."""

    def will(text: str = "", *, accepted: bool = True, yes: bool = True) -> list[str]:
        asked: list[str] = []

        def get_text(*args: Any, **options: Any) -> tuple[str, bool]:
            asked.append(options["text"])
            return text, accepted

        def question(parent: Any, title: str, text: str) -> Any:
            asked.append(text)
            return QMessageBox.StandardButton.Yes if yes else QMessageBox.StandardButton.No

        monkeypatch.setattr(QInputDialog, "getText", get_text)
        monkeypatch.setattr(QMessageBox, "question", question)
        return asked

    return will


def cells(tab: ModelsTab) -> list[list[str]]:
    table = tab.table
    return [
        [table.item(row, column).text() for column in range(table.columnCount())] for row in range(table.rowCount())
    ]


def names(tab: ModelsTab) -> list[str]:
    return [row[0] for row in cells(tab)]


# ---- the list ----------------------------------------------------------------------------------


def test_the_starter_comes_first_and_can_be_neither_renamed_nor_deleted(tab: ModelsTab) -> None:
    assert names(tab) == ["starter\n(default)"]
    assert tab.use_button.isEnabled()
    assert not tab.rename_button.isEnabled()
    assert not tab.delete_button.isEnabled()
    assert "The starter" in tab.details.text()


def test_a_model_tells_what_it_was_trained_on(tab: ModelsTab, model: Model) -> None:
    told = [{"name": name, "date": "2025-03-04T12:00:00+00:00"} for name in ("cells", "nuclei")]
    tab.save(replace(model, training=model.training | {"trained_on": told}), "mine")
    assert cells(tab)[1][:2] == ["mine", "cells, nuclei"]
    assert cells(tab)[1][2].startswith("2025-03-04\n0.0 MB")
    assert tab.table.selected is not None
    for fact in ("trained from scratch, 1 epochs, for grey images", "cells, nuclei", "2025-03-04", "MB"):
        assert fact in tab.details.text()


def test_many_images_are_named_in_a_line() -> None:
    entry = Entry("m", Path("m"), 1, ModelStore, "scratch", tuple("abcdef"), 2, 3, 3)  # type: ignore[arg-type]
    from napari_vae_repair.plugin.models_table import images_of

    assert images_of(entry) == "a, b, c, d and 2 more"


def test_broken_files_are_listed_as_such_and_can_only_be_deleted(
    tab: ModelsTab, store: ModelStore, answer: Callable[..., list[str]]
) -> None:
    store.folder.mkdir()
    (store.folder / "half.safetensors").write_bytes(b"half")
    tab.reload()
    tab.table.select("half")
    assert cells(tab)[1][:2] == ["half", "broken"]
    assert "damaged" in tab.details.text()
    assert not tab.use_button.isEnabled()
    assert not tab.default_button.isEnabled()
    with pytest.raises(InputError, match="'half' is broken"):
        tab.use_selected()
    answer(yes=True)
    tab.delete_button.click()
    assert names(tab) == ["starter\n(default)"]


def test_what_another_widget_added_is_listed_when_the_tab_is_shown(
    tab: ModelsTab, store: ModelStore, model: Model
) -> None:
    store.add(model, "theirs")
    assert names(tab) == ["starter\n(default)"]
    tab.show()
    assert names(tab)[1:] == ["theirs"]


def test_a_folder_that_cannot_be_read_is_told_in_the_tab(desk: TestDesk, tmp_path: Path, qtbot: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    tab = ModelsTab(desk, print, ModelStore(tmp_path / "file"))
    qtbot.addWidget(tab)
    assert "cannot be read" in tab.details.text()


def test_the_users_own_store_is_the_default(
    desk: TestDesk, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    tab = ModelsTab(desk, print)
    qtbot.addWidget(tab)
    assert tab.store.folder == tmp_path / "mine"


# ---- use, default, rename, delete --------------------------------------------------------------


def test_use_gives_the_path_or_the_starter(tab: ModelsTab, model: Model, used: list[str]) -> None:
    path = tab.save(model, "mine")
    tab.use_button.click()
    tab.table.select("starter")
    QTest.keyClick(tab.table, Qt.Key.Key_Return)
    assert used == [str(path), "starter"]


def test_the_default_is_marked_by_a_word_and_follows_its_file(
    tab: ModelsTab, model: Model, answer: Callable[..., list[str]]
) -> None:
    path = tab.save(model, "mine")
    tab.default_button.click()
    assert default_model() == str(path)
    assert names(tab) == ["starter", "mine\n(default)"]
    assert tab.details.text().endswith("Default.")
    answer("new name")
    tab.rename_button.click()
    assert default_model() == str(path.with_stem("new name"))
    assert names(tab) == ["starter", "new name\n(default)"]
    questions = answer(yes=False)
    tab.delete_button.click()
    assert "It is the default model" in questions[0]
    assert path.with_stem("new name").exists()
    answer(yes=True)
    tab.delete_button.click()
    assert default_model() == "starter"
    assert names(tab) == ["starter\n(default)"]


def test_deleting_another_leaves_the_default(tab: ModelsTab, model: Model, answer: Callable[..., list[str]]) -> None:
    path = tab.save(model, "a")
    tab.make_default()
    tab.save(model, "b")
    questions = answer(yes=True)
    tab.delete_button.click()
    assert "default" not in questions[0]
    assert default_model() == str(path)
    assert names(tab) == ["starter", "a\n(default)"]


def test_the_starter_can_be_made_the_default_again(tab: ModelsTab, model: Model) -> None:
    tab.save(model, "a")
    tab.make_default()
    tab.table.select("starter")
    tab.default_button.click()
    assert default_model() == "starter"


def test_a_refused_name_is_told_and_a_dismissed_question_does_nothing(
    tab: ModelsTab, model: Model, desk: TestDesk, answer: Callable[..., list[str]]
) -> None:
    tab.save(model, "mine")
    questions = answer("../out")
    tab.rename_button.click()
    assert questions == ["mine"]
    assert "A model cannot be called '../out'" in desk.told[-1]
    answer("other", accepted=False)
    tab.rename_button.click()
    assert names(tab)[1:] == ["mine"]


# ---- adding ------------------------------------------------------------------------------------


def test_a_file_is_copied_in(
    tab: ModelsTab, model_file: Path, desk: TestDesk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(model_file), ""))
    tab.add_button.click()
    assert tab.table.selected is not None
    assert tab.table.selected.name == model_file.stem
    assert tab.table.selected.path.read_bytes() == model_file.read_bytes()
    tab.add_button.click()
    assert "already" in desk.told[-1]
    text = tmp_path / "no model.safetensors"
    text.write_text("no model at all")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(text), ""))
    tab.add_button.click()
    assert "no model of this package" in desk.told[-1]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    tab.add_button.click()
    assert names(tab)[1:] == [model_file.stem]


def test_the_last_model_is_saved_under_a_name(
    tab: ModelsTab, desk: TestDesk, viewer: Any, noisy: Noisy, tiny: Settings, answer: Callable[..., list[str]]
) -> None:
    assert not tab.save_button.isEnabled()
    layer = viewer.add_image(noisy(24, 32), name="cells")
    desk.placed = Placed(restore(layer, tiny), take_snapshot(layer).without_pixels())
    desk.placed_changed.emit(desk.placed)
    assert tab.save_button.isEnabled()
    assert answer("from cells") == []
    tab.save_button.click()
    assert names(tab)[1:] == ["from cells"]
    again = restore(layer, model=tab.store.path_of("from cells"), samples=2).restored
    np.testing.assert_array_equal(again, desk.placed.restoration.restored)


# ---- training on several layers ----------------------------------------------------------------


@pytest.fixture
def two_layers(viewer: Any, noisy: Noisy) -> list[Any]:
    layers = [viewer.add_image(noisy(24, 32), name="a"), viewer.add_image(noisy(2, 40, 24), name="b")]
    viewer.layers.selection = set(layers)
    return layers


def test_one_model_is_trained_on_the_selected_layers_stored_and_used(
    tab: ModelsTab, desk: TestDesk, two_layers: list[Any], used: list[str], answer: Callable[..., list[str]]
) -> None:
    questions = answer("both")
    tab.train_button.click()
    assert questions == ["a and 1 more"]
    path = tab.store.path_of("both")
    assert used == [str(path)]
    assert cells(tab)[1][:2] == ["both", "a, b"]
    assert "Training on a, b" in desk.told
    assert "Trained and saved 'both'" in desk.told[-1]
    assert desk.updates[-1].fraction > 0.5
    assert restore(two_layers[1], model=path).restored.shape == (2, 40, 24)


def test_the_starter_is_adapted_where_the_fields_say_so(
    tab: ModelsTab, desk: TestDesk, two_layers: list[Any], used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.settings = Settings(adapt_steps=3)
    monkeypatch.setattr(adapting, "compare", lambda *_: (True, 0.5))
    assert tab.train("adapted")
    model = load_model(used[0])
    assert model.general
    assert [entry["name"] for entry in model.training["trained_on"]] == ["a", "b"]
    assert "adapted from the starter, 3 steps" in tab.details.text()


def test_a_model_that_could_not_be_saved_is_kept_for_the_button(
    tab: ModelsTab, desk: TestDesk, two_layers: list[Any], used: list[str], answer: Callable[..., list[str]]
) -> None:
    def full(model: Model, name: str) -> Path:
        raise ModelFileError("The disk is full.", "There must be room.", "Delete something.")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tab.store, "add", full)
        tab.train("both")
    assert used == []
    assert "The disk is full" in desk.told[-2]
    assert "'both' is trained but not saved" in desk.told[-1]
    questions = answer("rescued")
    tab.save_button.click()
    assert questions == ["both"]
    assert restore(two_layers[1], model=tab.store.path_of("rescued")).restored.shape == (2, 40, 24)
    assert not tab.save_button.isEnabled()


def test_nothing_is_trained_for_a_folder_that_cannot_be_written(
    tab: ModelsTab, desk: TestDesk, two_layers: list[Any], tmp_path: Path
) -> None:
    tab.store.folder = tmp_path / "file/models"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelFileError):
        tab.train("both")
    assert desk.told == []


def test_the_plot_ends_with_what_came_of_the_training(
    docked: Any, viewer: Any, two_layers: list[Any], monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    monkeypatch.setattr(adapting, "compare", lambda *_: (True, 0.5))
    docked.show_settings(Settings(adapt_steps=4))
    viewer.layers.selection = set(two_layers)
    assert docked.models.train("adapted")
    qtbot.waitUntil(lambda: not docked.running, timeout=60_000)
    assert docked.panel.loss_plot._verdict == "kept: +0.50 dB on held-out blocks"
    assert docked.panel.loss_plot._steps == [1, 2, 3, 4]


def test_a_model_that_is_not_better_is_not_saved(
    tab: ModelsTab, desk: TestDesk, two_layers: list[Any], used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.settings = Settings(adapt_steps=3)
    monkeypatch.setattr(adapting, "compare", lambda *_: (False, -0.1))
    tab.train("adapted")
    assert "Not saved: after 3 steps the model is not surely better" in desk.told[-1]
    assert used == []
    assert tab.store.entries() == ()


def test_the_mask_of_the_chosen_layer_counts_and_so_does_current_plane_only(
    tab: ModelsTab, desk: TestDesk, two_layers: list[Any], viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def kept(snapshots: Any, settings: Settings) -> Any:
        given.extend(snapshots)
        return joint_steps(snapshots, settings)

    monkeypatch.setattr("napari_vae_repair.plugin.models_tab.joint_steps", kept)
    labels = np.zeros((24, 32), int)
    labels[:5] = 1
    desk.mask_layer = viewer.add_labels(labels)
    viewer.layers.selection = set(two_layers)
    desk.plane_at = (1, 0, 0)
    tab.train("masked")
    assert [snapshot.axes for snapshot in given] == ["YX", "YX"]
    np.testing.assert_array_equal(given[0].mask, labels > 0)
    assert given[1].mask is None


def test_what_cannot_be_trained_on_is_told_before_anything_starts(
    tab: ModelsTab, desk: TestDesk, two_layers: list[Any], viewer: Any, tiny: Settings, model: Model
) -> None:
    tab.save(model, "taken")
    with pytest.raises(ModelFileError, match="There is a model 'taken' already"):
        tab.train("taken")
    add_results(viewer, result_layers(restore(two_layers[0], tiny), take_snapshot(two_layers[0]).without_pixels()))
    viewer.layers.selection = {two_layers[0], viewer.layers[-1]}
    with pytest.raises(InputError, match=r"came from VAE Repair"):
        tab.train("new")
    viewer.layers.selection = {viewer.add_labels(np.zeros((24, 32), int))}
    tab.train_button.click()
    assert "No Image layer is selected" in desk.told[-1]
    assert desk.updates == []


def test_what_training_refuses_comes_out_of_the_work(
    tab: ModelsTab, desk: TestDesk, two_layers: list[Any], viewer: Any, noisy_rgb: np.ndarray
) -> None:
    desk.settings = Settings()
    with pytest.raises(SettingsError, match="Nothing says how long"):
        tab.train("new")
    desk.settings = make_settings(model="scratch", epochs=1)
    viewer.layers.selection = {two_layers[0], viewer.add_image(noisy_rgb, name="photo", rgb=True)}
    with pytest.raises(InputError, match=r"'a' has 1 colour.*'photo' has 3"):
        tab.train("new")


def test_cancel_ends_the_training(two_layers: list[Any], endless: Settings) -> None:
    stop = Event()
    run = joint_steps([take_snapshot(layer) for layer in two_layers], endless)(stop)
    with pytest.raises(VaeRepairError, match="cancelled in its phase 'train'"):
        for update in run:
            if update.phase == "train":
                stop.set()


def test_proposed_names() -> None:
    assert name_for(["cells"]) == "cells"
    assert name_for(["cells", "nuclei", "dust"]) == "cells and 2 more"


# ---- how it looks ------------------------------------------------------------------------------


def test_every_button_names_its_api_and_fits_the_dock(tab: ModelsTab, model: Model) -> None:
    tab.save(model, "a name that is far too long for the narrow dock of a viewer")
    buttons = tab.findChildren(QPushButton)
    assert len(buttons) == 7
    for widget in (*buttons, tab.table):
        assert "API: " in widget.toolTip()
    assert tab.minimumSizeHint().width() <= 310
    assert tab.minimumSizeHint().height() <= 250  # beside the live plot, a window of 800 pixels must not grow
    tab.resize(310, 500)
    tab.show()
    for button in buttons:
        assert button.width() >= button.sizeHint().width()


def test_the_keyboard_reaches_table_and_buttons_in_order(tab: ModelsTab, model: Model) -> None:
    tab.save(model, "mine")
    order: list[QWidget] = [tab.table]
    while len(order) < 8:
        following = order[-1].nextInFocusChain()
        while not following.focusPolicy().value & Qt.FocusPolicy.TabFocus.value or not tab.isAncestorOf(following):
            following = following.nextInFocusChain()
        order.append(following)
    assert order[1:] == tab.findChildren(QPushButton)


def test_the_starters_description_tells_whether_it_is_the_default() -> None:
    assert description(None, is_default=True).endswith("at once. Default.")
    assert not description(None, is_default=False).endswith("Default.")
