"""The dock widget: choose a layer, press Restore, get the restored layer, its residual and its uncertainty.

Nothing here imports PyTorch, scikit-image or napari; threads do, the first of them once the widget is docked.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from magicgui.widgets import Container
from magicgui.widgets.bases import Widget
from psygnal import Signal
from qtpy.QtWidgets import QTabWidget

from napari_vae_repair.errors import InputError, SettingsError, VaeRepairError
from napari_vae_repair.plugin.ahead import load_ahead
from napari_vae_repair.plugin.compare_tab import CompareTab
from napari_vae_repair.plugin.controls import Controls
from napari_vae_repair.plugin.copying import CopyRow, command_of, python_of, settings_of
from napari_vae_repair.plugin.damage_mask import type_of
from napari_vae_repair.plugin.damage_row import DamageRow
from napari_vae_repair.plugin.desk import Chosen, Placed, Steps
from napari_vae_repair.plugin.docking import Docking
from napari_vae_repair.plugin.focus_order import set_reading_order
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.layers import our_facts
from napari_vae_repair.plugin.models_tab import ModelsTab
from napari_vae_repair.plugin.notices import notify
from napari_vae_repair.plugin.preferences import read_preferences
from napari_vae_repair.plugin.restoring import Restoring
from napari_vae_repair.plugin.run_panel import RunPanel
from napari_vae_repair.plugin.runner import BAR_STEPS
from napari_vae_repair.plugin.tab_parts import file_to_save
from napari_vae_repair.plugin.trust_tab import TrustTab
from napari_vae_repair.plugin.uncertainty_tab import UncertaintyTab
from napari_vae_repair.plugin.view_tab import ViewTab
from napari_vae_repair.plugin.ways_row import WaysRow
from napari_vae_repair.scripting import repeatable
from napari_vae_repair.settings import Settings, make_settings

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration
    from napari_vae_repair.stored import Stored
    from napari_vae_repair.vae.record import Model

T = TypeVar("T")

MINIMUM_WIDTH_PX = 310


class VaeRepairWidget(Container[Widget]):
    """Restores the chosen layer of a viewer; to its tabs it is the `Desk`.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer whose layers are offered and to which the results are added.

    Attributes
    ----------
    finished : Signal
        Emitted when a restoration has ended, with its `Restoration`, of a large layer `Stored`, or None when it was
        cancelled or failed.
    placed_changed : SignalInstance
        Emitted with each `Placed`, when there is another restoration in the viewer.
    base_settings : Settings
        What the widget has no field for (noise, network, training, tile_px), to be replaced at will.
    """

    finished = Signal(object)

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(labels=False)
        # napari hands plugins a proxy; layers taken through it are proxies too and never the layers themselves
        self._viewer = weakref.ref(getattr(napari_viewer, "__wrapped__", napari_viewer))
        self.base_settings = Settings()
        self._alive = True
        self._restoring = Restoring(self.viewer)
        self._runner, self._waiting = self._restoring.runner, self._restoring.waiting
        self.placed_changed = self._restoring.placed_changed
        self.controls = Controls(lambda _: self.layers("image"), lambda _: self.layers("labels", "shapes"))
        self.layer, self.plane_only = self.controls.layer, self.controls.plane_only
        self.mask_layer, self.preset, self.chain = self.controls.mask_layer, self.controls.preset, self.controls.chain
        self.model_from, self.model_file = self.controls.model_from, self.controls.model_file
        self.epochs, self.adapt = self.controls.epochs, self.controls.adapt
        self.samples, self.seed = self.controls.samples, self.controls.seed
        self.device, self.device_text = self.controls.device, self.controls.device_text
        self._build()
        self._connect()
        self._show_preferences()
        self._follow_selection()

    def _build(self) -> None:
        self.copies = CopyRow(self.as_python, self.as_command, self.take_settings, self.tell)
        self.panel = RunPanel(self.copies)
        self.restore_button, self.finish_button = self.panel.restore_button, self.panel.finish_button
        self.cancel_button, self.save_button = self.panel.cancel_button, self.panel.save_button
        self.progress, self.status = self.panel.progress, self.panel.status
        self.append(self.panel)
        self.ways = WaysRow(self.current_settings, self.tell)
        self.damage = DamageRow(self, self._use_mask)
        self.controls.add_rows(self.ways, self.damage, self.damage.to_find)
        self.view = ViewTab(self)
        self.trust, self.uncertainty = TrustTab(self), UncertaintyTab(self)
        self.comparison, self.models = CompareTab(self), ModelsTab(self, self._use_model)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.controls.scroll_area(), "Restore")
        for tab in (self.view, self.trust, self.uncertainty, self.comparison, self.models):
            self.tabs.addTab(tab, tab.title)
        self.native.layout().insertWidget(0, self.tabs, 1)
        self.native.setMinimumWidth(MINIMUM_WIDTH_PX)
        set_reading_order(self.native)

    def _connect(self) -> None:
        self.restore_button.changed.connect(self._restore_pressed)
        self.finish_button.changed.connect(self.finish)
        self.cancel_button.changed.connect(self.cancel)
        self.save_button.changed.connect(self._save_pressed)
        self.layer.changed.connect(self._show_buttons)
        self.ways.chosen.connect(self.show_settings)
        for edited in (self.controls.form.changed, self.controls.chain.edited):
            edited.connect(self._edited)
        self._runner.started.connect(self._started)
        self._runner.updated.connect(self._updated)
        self._runner.ended.connect(self._ended)
        self._restoring.finished.connect(self._finished)
        self.native.destroyed.connect(self._destroyed)
        me = weakref.ref(self)  # the native widget must not keep this one
        self._docking = Docking(self.native, lambda: _call(me, "_docked"), lambda: _call(me, "_undocked"))
        viewer = self._viewer()
        if viewer is not None:
            for event in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.reordered):
                event.connect(self.reset_choices)
            viewer.layers.events.inserted.connect(self._watch_name)
            viewer.layers.selection.events.active.connect(self._follow_selection)
            for layer in viewer.layers:
                layer.events.name.connect(self.reset_choices)
        self.reset_choices()

    def _show_preferences(self) -> None:
        try:
            self.show_settings(read_preferences(self.base_settings))
        except SettingsError as error:
            self.show_settings(self.base_settings)
            self.status.value = f"Preferences were not used. {error}"

    # ---- what the tabs use

    def viewer(self) -> Any:
        """The napari viewer; None once it is gone."""
        return self._viewer() if self._alive else None

    def layers(self, *kinds: str) -> list[tuple[str, Any]]:
        """Name and layer of each layer of the kinds, such as "image" or "labels"."""
        viewer = self.viewer()
        return [] if viewer is None else [(layer.name, layer) for layer in viewer.layers if type_of(layer) in kinds]

    def chosen(self) -> Chosen:
        """The layer and the settings that the widget shows.

        Raises
        ------
        InputError
            Without a layer.
        SettingsError
            When a setting is missing or wrong.
        """
        layer, viewer = self.layer.value, self.viewer()
        if layer is None or viewer is None:
            raise InputError(
                "There is no image layer to restore.",
                "A layer of kind Image is needed.",
                "Open an image first (File ▸ Open, or File ▸ Open Sample ▸ VAE Repair).",
            )
        plane_at = tuple(viewer.dims.point) if self.plane_only.value else None
        return Chosen(layer, self.current_settings(), self.mask_layer.value, plane_at)

    def tell(self, news: str | Exception) -> None:
        """Show a sentence in the status line, or an error as a notification."""
        if isinstance(news, str):
            self.status.value = news
        else:
            notify(news)

    def work(self, steps: Steps[T], done: Callable[[T], None], doing: str) -> bool:
        """Run steps in a thread with the progress bar and the Cancel button; see `Desk.work`."""
        if self.running:
            self.tell("Something else is under way: wait for it, or press Cancel.")
            return False
        before = self.status.value, self.status.tooltip
        self.view.preview.pause()

        def end(result: T) -> None:
            self.status.value, self.status.tooltip = before
            if training := getattr(result, "training", None):  # a model, trained on several layers
                self.panel.loss_plot.end(_verdict(training))
            done(result)

        self._restoring.work(steps, end, self._work_failed, doing)
        return True

    # ---- layers

    def reset_choices(self, *_: Any) -> None:
        """Offer the viewer's layers as they are now."""
        if self._alive:
            self.controls.form.reset_choices()
            self.controls.layer_chosen()
            self._show_buttons()

    def _watch_name(self, event: Any) -> None:
        event.value.events.name.connect(self.reset_choices)

    def _follow_selection(self, _: Any = None) -> None:
        """Take the layer that the user made active, unless it is one of our results."""
        viewer = self.viewer()
        if viewer is None:
            return
        active = viewer.layers.selection.active
        if active is not None and type_of(active) == "image" and our_facts(active) is None:
            self.reset_choices()
            self.layer.value = active

    # ---- settings

    def current_settings(self) -> Settings:
        """The settings that the widget shows, on top of `base_settings`; see `Controls.settings`."""
        return self.controls.settings(self.base_settings)

    def show_settings(self, settings: Settings) -> None:
        """Show these settings; what the widget has no field for goes to `base_settings`."""
        self.base_settings = settings
        with self.controls.form.changed.blocked(), self.controls.chain.edited.blocked():
            self.controls.show(settings)
        self._edited()

    def _edited(self, _: Any = None) -> None:
        """A field has another value: tell the row of presets and the preview."""
        try:
            self.ways.follow(self.current_settings())
        except SettingsError:  # such as a model file that is still to be chosen
            return
        self.view.preview.request()

    def take_settings(self, layer: Any = None) -> str:
        """Show the settings that made a layer of ours, None = the selected one; gives back what the status says of it.

        Raises
        ------
        InputError, SettingsError
            As `settings_of`.
        """
        viewer = self.viewer()
        chosen = viewer.layers.selection.active if layer is None and viewer is not None else layer
        self.show_settings(settings_of(chosen))
        return f"The settings that made {chosen.name!r}."

    # ---- a run

    @property
    def placed(self) -> Placed | None:
        """The last restoration in the viewer."""
        return self._restoring.placed

    @property
    def model(self) -> Model | None:
        """The last trained or loaded model, kept even when the prediction after it fails."""
        return self._restoring.model

    @property
    def restoration(self) -> Restoration | None:
        """The last result; None also where it lies in files."""
        return None if self.placed is None else self.placed.restoration

    @property
    def running(self) -> bool:
        """Whether something is under way, or on its way to end after Cancel."""
        return self._runner.worker is not None

    def start(self) -> Any:
        """Restore the chosen layer, as the button Restore does.

        With seconds of adapting the result of the starter is in the viewer first, and the better one takes its place.

        Returns
        -------
        napari.qt.threading.GeneratorWorker
            The worker; the one that is running already, when there is one.

        Raises
        ------
        InputError
            Without a layer, or when layer and mask cannot be used.
        SettingsError
            When a setting is missing or wrong.
        """
        if self.running or self.viewer() is None:
            return self._runner.worker
        return self._start(self.chosen())

    def _start(self, chosen: Chosen) -> Any:
        self.view.preview.pause()
        return self._restoring.start(chosen)

    def start_later(self, layer: Any) -> None:
        """Restore a layer with the settings from Preferences as soon as nothing is under way.

        Raises
        ------
        SettingsError
            For Preferences that cannot be used.
        """
        settings = read_preferences(self.base_settings)
        if not self.running:
            self.show_settings(settings)
            self.layer.value = layer
        self._waiting.add(Chosen(layer, settings))
        self._restoring.start_waiting()
        self._show_buttons()

    def finish(self) -> None:
        """End adapting now; what it has led to is kept if it is better."""
        self._restoring.finish()
        self.finish_button.enabled = False

    def cancel(self) -> None:
        """Stop what is under way, with a restoration the layers that wait too.

        An earlier result is back in its place; without one the first result of a run that adapts stays.
        """
        if self.running:
            self._restoring.cancel()
            self._show_buttons()
            self.status.value = "Cancelling…"

    def as_python(self) -> str:
        """The call that restores the chosen layer with the present settings, for napari's console.

        Seconds of adapting become the steps of the last run, if that had the same settings: the same pixels again.

        Raises
        ------
        InputError, SettingsError
            As `start`.
        """
        return python_of(self._repeatable())

    def as_command(self) -> str:
        """The line for a shell that does it with the layer's file; errors and seconds as above."""
        return command_of(self._repeatable())

    def _repeatable(self) -> Chosen:
        chosen, last = self.chosen(), None if self.placed is None else self.placed.result
        if last is None or last.settings != chosen.settings or self._restoring.layer_of_placed() is not chosen.layer:
            return chosen
        return replace(chosen, settings=repeatable(chosen.settings, last.model.training))

    def save_model(self, path: str | Path) -> Path:
        """Save the last trained or loaded model as safetensors.

        Raises
        ------
        InputError
            When there is none yet.
        VaeRepairError
            When the file cannot be written.
        """
        if self.model is None:
            raise InputError("There is no model yet.", "A trained model can be saved.", "Restore a layer first.")
        from napari_vae_repair.vae.checkpoint import save_model

        return save_model(self.model, path)

    def _started(self, doing: str) -> None:
        self.panel.begin(doing)
        self.panel.show_running(True, stopping=False, queueable=False)

    def _updated(self, update: Update) -> None:
        self.save_button.enabled = self.model is not None
        if update.device:
            self.device_text.value = update.device
        if update.seconds_per_epoch is not None:
            self.controls.measured(update.seconds_per_epoch)
        self.panel.show_update(update, may_finish=self._restoring.may_finish, waiting=self._waiting.text())

    def _ended(self) -> None:
        self.progress.value = 0
        self._show_buttons()
        self.view.preview.request()

    def _finished(self, result: Restoration | Stored | None, sentence: str) -> None:
        if result is None:
            self.panel.end(sentence)
        else:
            self.save_button.enabled = True
            self.progress.value = BAR_STEPS
            verdict = _verdict(result.model.training) if result.settings.adapts else ""
            self.panel.end(sentence, details=result.report.text(), verdict=verdict)
        self.finished.emit(result)

    def _work_failed(self, error: Exception | None) -> None:
        self.status.value = "Cancelled." if error is None else "Stopped by an error."
        if error is not None:
            notify(error)

    def _show_buttons(self, _: Any = None) -> None:
        queueable = self._waiting.takes(self.layer.value)
        self.panel.show_running(self.running, stopping=self._runner.cancelled, queueable=queueable)

    def _docked(self) -> None:
        if self.viewer() is not None:
            self.view.take_key()
            load_ahead()

    def _undocked(self) -> None:
        """The dock is closed, and nobody is left to see or to cancel anything."""
        if self.viewer() is not None:
            self._waiting.clear()
            self.cancel()
            self.view.close_down()
            # napari takes widgets out of docks to destroy them; what was connected to Qt would keep this one for ever
            self.native.deleteLater()

    def _destroyed(self, *_: Any) -> None:
        self._alive = False
        self._runner.close()
        self.view.preview.close()

    def _use_mask(self, labels: Any) -> None:
        self.reset_choices()
        self.mask_layer.value = labels

    def _use_model(self, path: str) -> None:
        """Show a saved model as the chosen one."""
        try:
            present = self.current_settings()
        except SettingsError:  # no file chosen yet
            present = self.base_settings
        self.show_settings(make_settings(present, model=path))

    # ---- buttons

    def _restore_pressed(self) -> None:
        try:
            if self.running:
                self._waiting.add(self.chosen())
                self._show_buttons()
            else:
                self.start()
        except VaeRepairError as error:
            notify(error)

    def _save_pressed(self) -> None:
        if path := file_to_save(self.native, "Save model", "model.safetensors", "Models (*.safetensors)"):
            try:
                self.status.value = f"Saved {self.save_model(path)}"
            except (VaeRepairError, OSError) as error:
                notify(error)


def _call(reference: weakref.ref[VaeRepairWidget], method: str) -> None:
    widget = reference()
    if widget is not None:
        getattr(widget, method)()


def _verdict(training: dict[str, Any]) -> str:
    """What came of adapting, in a few words; "" without it."""
    record = training.get("adapted")
    if record is None:
        return ""
    return f"{'kept' if record['accepted'] else 'not kept'}: {record['gained_db']:+.2f} dB on held-out blocks"
