"""The tab "Models": the user's saved models, to use, rename, delete, add to, and train on several layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QGridLayout,
    QInputDialog,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_vae_repair.errors import InputError, VaeRepairError
from napari_vae_repair.model_store import Entry, ModelStore
from napari_vae_repair.plugin.joint_training import joint_steps, layers_to_train_on, name_for
from napari_vae_repair.plugin.models_table import ModelsTable, description, same_model
from napari_vae_repair.plugin.preferences import default_model, set_default_model
from napari_vae_repair.plugin.snapshot import take_snapshot
from napari_vae_repair.plugin.tab_parts import button, wrapped
from napari_vae_repair.settings import STARTER

if TYPE_CHECKING:
    from napari_vae_repair.plugin.desk import Desk
    from napari_vae_repair.vae.record import Model


class ModelsTab(QWidget):
    """Lists the models of a store, the starter first.

    Parameters
    ----------
    desk : Desk
    use : callable
        Takes the path of the model that the widget is to restore with, or "starter".
    store : ModelStore, optional
        None = the user's own.
    """

    title = "Models"

    def __init__(self, desk: Desk, use: Callable[[str], None], store: ModelStore | None = None) -> None:
        super().__init__()
        self._desk, self._use = desk, use
        self.store = store or ModelStore()
        self._unsaved: tuple[Model, str] | None = None  # trained on several layers, and its name
        self.table = ModelsTable()
        self.details = wrapped("")  # plain text: names are anything
        self.details.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 4, 0, 0)
        column.addWidget(self.table, 1)
        column.addWidget(self.details)
        column.addLayout(self._make_buttons())
        area = QScrollArea()  # else a low window would have to grow
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        area.setWidget(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.table.itemSelectionChanged.connect(self._show_what_applies)
        self.table.itemActivated.connect(lambda _: self._do(self.use_selected))
        desk.placed_changed.connect(self._show_what_applies)
        self.reload()

    def _make_buttons(self) -> QGridLayout:
        self.use_button = self._button(
            "Use", self.use_selected, "API: model. Restore with the selected model from now on."
        )
        self.default_button = self._button(
            "Use as default",
            self.make_default,
            "API: preferences.set_default_model(path). New widgets begin with the selected model.",
        )
        self.rename_button = self._button(
            "Rename…", self._ask_to_rename, "API: ModelStore().rename(name, to). Another name for the selected model."
        )
        self.delete_button = self._button(
            "Delete…", self._ask_to_delete, "API: ModelStore().delete(name). Remove the selected model's file."
        )
        self.add_button = self._button(
            "Add file…", self._ask_for_file, "API: ModelStore().add_file(file). Copy a model file into this list."
        )
        self.save_button = self._button(
            "Save last model…",
            self._ask_to_save,
            "API: ModelStore().add(model, name). Keep the model of the last restoration, or what was trained and could "
            "not be saved.",
        )
        self.train_button = self._button(
            "Train on selected layers…",
            self._ask_to_train,
            "API: train(images, settings). One model for all the selected Image layers: the starter adapted "
            "to them, or trained from scratch, as the fields say.",
        )
        grid = QGridLayout()
        buttons = (self.use_button, self.default_button, self.rename_button, self.delete_button)
        for number, each in enumerate((*buttons, self.add_button, self.save_button)):
            grid.addWidget(each, number // 2, number % 2)
        grid.addWidget(self.train_button, 3, 0, 1, 2)
        return grid

    def _button(self, text: str, action: Callable[[], None], tooltip: str) -> QPushButton:
        return button(text, lambda: self._do(action), tooltip)

    def _do(self, action: Callable[[], None]) -> None:
        try:
            action()
        except VaeRepairError as error:
            self._desk.tell(error)

    # ---- what is shown

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """List what lies in the folder now; another widget may have changed it."""
        super().showEvent(event)
        self._do(self.reload)

    def reload(self) -> None:
        """List the store's models as they are now; what was selected stays so."""
        entries: tuple[Entry, ...] = ()
        problem = None
        try:
            entries = self.store.entries()
        except VaeRepairError as error:
            problem = error
        self.table.show_entries(entries, default_model())
        self._show_what_applies()
        if problem is not None:
            self.details.setText(str(problem))

    def _show_what_applies(self, _: Any = None) -> None:
        entry = self.table.selected
        usable = entry is None or not entry.problem
        self.use_button.setEnabled(usable)
        self.default_button.setEnabled(usable)
        self.rename_button.setEnabled(entry is not None)
        self.delete_button.setEnabled(entry is not None)
        self.save_button.setEnabled(self._desk.placed is not None or self._unsaved is not None)
        self.details.setText(description(entry, is_default=same_model(self._model, default_model())))

    @property
    def _model(self) -> str:
        """What `Settings.model` is to be for the selected row."""
        return STARTER if self.table.selected is None else str(self.table.selected.path)

    # ---- what the buttons do

    def use_selected(self) -> None:
        """Let the widget restore with the selected model."""
        entry = self.table.selected
        if entry is not None and entry.problem:
            raise InputError(f"{entry.name!r} is broken.", entry.problem, "Choose another model.")
        self._use(self._model)
        self._desk.tell(f"The model is now {STARTER if entry is None else entry.name!r}.")

    def make_default(self) -> None:
        """Let new widgets begin with the selected model."""
        set_default_model(self._model)
        self.reload()

    def rename(self, name: str, to: str) -> None:
        """Give a model another name; if it is the default, it stays so."""
        was = self.store.path_of(name)
        path = self.store.rename(name, to)
        if same_model(str(was), default_model()):
            set_default_model(str(path))
        self.reload()
        self.table.select(path.stem)

    def delete(self, name: str) -> None:
        """Remove a model; if it was the default, the starter is it again."""
        was = self.store.path_of(name)
        self.store.delete(name)
        if same_model(str(was), default_model()):
            set_default_model(STARTER)
        self.reload()

    def save(self, model: Model, name: str) -> Path:
        """Keep a model under a name that is free, and select it."""
        path = self.store.add(model, name)
        self.reload()
        self.table.select(path.stem)
        return path

    def train(self, name: str) -> bool:
        """Train on the selected layers with the widget's settings; the model is stored under the name, and used.

        False when something else is under way.

        Raises
        ------
        InputError, SettingsError, ModelFileError
            Before anything starts, when a layer, a setting or the name cannot be used.
        """
        chosen, path = self._desk.chosen(), self.store.writable_path(name)
        layers = layers_to_train_on(self._desk.viewer())
        snapshots = [
            take_snapshot(
                layer, mask_layer=chosen.mask_layer if layer is chosen.layer else None, plane_at=chosen.plane_at
            )
            for layer in layers
        ]
        doing = f"Training on {', '.join(layer.name for layer in layers)}"
        return self._desk.work(joint_steps(snapshots, chosen.settings), lambda model: self._trained(model, path), doing)

    def _trained(self, model: Model, path: Path) -> None:
        record = model.training.get("adapted")
        if record is not None and not record["accepted"]:
            self._desk.tell(
                f"Not saved: after {record['steps']} steps the model is not surely better on these layers "
                f"({record['gained_db']:+.2f} dB). Adapt for longer, or train from scratch."
            )
            return
        try:
            self._use(str(self.save(model, path.stem)))
        except VaeRepairError as error:  # raised in a slot, it would end the process
            self._unsaved = model, path.stem
            self._show_what_applies()
            self._desk.tell(error)
            self._desk.tell(f"{path.stem!r} is trained but not saved: press {self.save_button.text()}")
            return
        self._desk.tell(f"Trained and saved {path.stem!r}; the widget restores with it now.")

    # ---- questions

    def _ask_to_rename(self) -> None:
        entry = self.table.selected
        if entry is not None and (name := self._ask_for_name("Rename model", entry.name)) is not None:
            self.rename(entry.name, name)

    def _ask_to_delete(self) -> None:
        entry = self.table.selected
        if entry is None:
            return
        question = f"Delete the model {entry.name!r}? It cannot be brought back."
        if same_model(str(entry.path), default_model()):
            question += " It is the default model; new widgets will begin with the starter."
        if QMessageBox.question(self, "Delete model", question) == QMessageBox.StandardButton.Yes:
            self.delete(entry.name)

    def _ask_for_file(self) -> None:
        file, _ = QFileDialog.getOpenFileName(self, "Add model", "", "Models (*.safetensors)")
        if file:
            path = self.store.add_file(file)
            self.reload()
            self.table.select(path.stem)

    def _ask_to_save(self) -> None:
        placed = self._desk.placed
        if self._unsaved is not None:
            model, first = self._unsaved
        elif placed is not None:
            model, first = placed.result.model, placed.source.name
        else:
            return
        if (name := self._ask_for_name("Save model", first)) is not None:
            self.save(model, name)
            self._unsaved = None
            self._show_what_applies()

    def _ask_to_train(self) -> None:
        first = name_for([layer.name for layer in layers_to_train_on(self._desk.viewer())])
        if (name := self._ask_for_name("Train a model", first)) is not None:
            self.train(name)

    def _ask_for_name(self, title: str, first: str) -> str | None:
        name, answered = QInputDialog.getText(self, title, "Name of the model:", text=first)
        return name if answered else None
