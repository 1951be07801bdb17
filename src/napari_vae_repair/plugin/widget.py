"""The dock widget: choose a layer, press Restore, get the restored layer, its residual and its uncertainty.

Nothing here imports PyTorch, scikit-image or napari; the worker's thread does.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from magicgui.widgets import Container
from magicgui.widgets.bases import Widget
from psygnal import Signal
from qtpy.QtWidgets import QFileDialog, QTabWidget

from napari_vae_repair.errors import InputError, SettingsError, VaeRepairError
from napari_vae_repair.plugin.compare_tab import CompareTab
from napari_vae_repair.plugin.controls import Controls
from napari_vae_repair.plugin.copying import CopyRow, command_of, python_of, settings_of
from napari_vae_repair.plugin.damage_mask import type_of
from napari_vae_repair.plugin.damage_row import DamageRow
from napari_vae_repair.plugin.desk import Chosen, Placed, Steps
from napari_vae_repair.plugin.docking import Docking
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.layers import add_results, layers_of_ours, our_facts, result_layers
from napari_vae_repair.plugin.models_tab import ModelsTab
from napari_vae_repair.plugin.preferences import read_preferences
from napari_vae_repair.plugin.run_panel import PROGRESS_STEPS, RunPanel
from napari_vae_repair.plugin.runner import Runner
from napari_vae_repair.plugin.snapshot import LayerData, Snapshot
from napari_vae_repair.plugin.trust_tab import TrustTab
from napari_vae_repair.plugin.uncertainty_tab import UncertaintyTab
from napari_vae_repair.plugin.view_tab import ViewTab
from napari_vae_repair.plugin.waiting import Waiting
from napari_vae_repair.plugin.ways_row import WaysRow
from napari_vae_repair.plugin.worker import RestorationFailed, restoration_steps, without_frames
from napari_vae_repair.scripting import repeatable
from napari_vae_repair.settings import Settings, make_settings

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration
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
        Emitted when a restoration has ended, with its `Restoration`, or None when it was cancelled or failed.
    placed_changed : Signal
        Emitted with each `Placed`, when there is another restoration in the viewer.
    placed : Placed or None
        The last one.
    model : Model or None
        The last trained or loaded model, kept even when the prediction after it fails.
    base_settings : Settings
        What the widget has no field for (noise, network, training, tile_px), to be replaced at will.
    """

    finished = Signal(object)
    placed_changed = Signal(object)

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(labels=False)
        # napari hands plugins a proxy; layers taken through it are proxies too and never the layers themselves
        self._viewer = weakref.ref(getattr(napari_viewer, "__wrapped__", napari_viewer))
        self.base_settings = Settings()
        self.placed: Placed | None = None
        self.model: Model | None = None
        self._runner = Runner()
        self._finish = Event()
        self._receipt: Snapshot | None = None
        self._replaced: tuple[Placed | None, list[LayerData]] | None = None
        self._alive = True
        self._source_crc32: int | None = None
        self._waiting = Waiting()
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
        self.controls.add_rows(self.ways, self.damage)
        self.view = ViewTab(self)
        self.trust, self.uncertainty = TrustTab(self), UncertaintyTab(self)
        self.comparison, self.models = CompareTab(self), ModelsTab(self, self._use_model)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.controls.scroll_area(), "Restore")
        for tab in (self.view, self.trust, self.uncertainty, self.comparison, self.models):
            self.tabs.addTab(tab, tab.title)
        self.native.layout().insertWidget(0, self.tabs, 1)
        self.native.setMinimumWidth(MINIMUM_WIDTH_PX)

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
            self._place(done, result)
            self._start_waiting()

        self._runner.start(steps, end, self._work_failed, doing)
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
    def restoration(self) -> Restoration | None:
        """The last result."""
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
        snapshot = chosen.snapshot()
        # only what places the results is kept here: the pixels belong to the worker, which frees them
        self._receipt, self._source_crc32, self._replaced = snapshot.without_pixels(), None, None
        self.view.preview.pause()
        self._finish.clear()
        self._waiting.now = weakref.ref(chosen.layer)
        steps = restoration_steps(snapshot, chosen.settings, self._finish)
        return self._runner.start(steps, self._restored, self._not_restored, f"Restoring {snapshot.name}")

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
        self._start_waiting()

    def finish(self) -> None:
        """End adapting now; what it has led to is kept if it is better."""
        self._finish.set()
        self.finish_button.enabled = False

    def cancel(self) -> None:
        """Stop what is under way, with a restoration the layers that wait too; the viewer stays as it was."""
        if self.running:
            self._runner.cancel()
            if self._receipt is not None:
                self._waiting.clear()
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
        chosen, last = self.chosen(), self.restoration
        if last is None or last.settings != chosen.settings or self._layer_of_placed() is not chosen.layer:
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

    def _start_waiting(self) -> None:
        viewer = self.viewer()
        while not self.running and viewer is not None and (chosen := self._waiting.next(viewer)) is not None:
            try:
                self._start(chosen)
            except VaeRepairError as error:
                notify(error)
        self._show_buttons()

    def _started(self, doing: str) -> None:
        self.panel.begin(doing)
        self.panel.show_running(True, stopping=False, queueable=False)

    def _updated(self, update: Update) -> None:
        if update.model is not None:
            self.model = update.model
            self.save_button.enabled = True
        if update.device:
            self.device_text.value = update.device
        if update.source_crc32 is not None:
            self._source_crc32 = update.source_crc32
        if update.seconds_per_epoch is not None:
            self.controls.measured(update.seconds_per_epoch)
        if update.result is not None:
            self._place(self._show_first, update.result)
        may_finish = self._receipt is not None and not self._finish.is_set()
        self.panel.show_update(update, may_finish=may_finish, waiting=self._waiting.text())

    def _ended(self) -> None:
        self.progress.value = 0
        self._show_buttons()
        self.view.preview.request()

    def _restored(self, result: Restoration) -> None:
        self.model = result.model
        self.save_button.enabled = True
        self._place(self._show_result, result)
        self.progress.value = PROGRESS_STEPS
        self.panel.end(result.report.headline(), details=result.report.text(), verdict=_verdict(result))
        self._end_restoration(result)

    def _not_restored(self, error: Exception | None) -> None:
        shown = self.placed is not None and self.placed.source is self._receipt
        kept = "the starter's result is kept" if shown else "nothing was changed"
        if shown and self._replaced is not None:
            self._place(self._put_back, self._replaced)
            kept = "the earlier result is back"
        self.panel.end(f"Cancelled; {kept}." if error is None else f"Stopped by an error; {kept}.")
        if error is not None:
            notify(error)
        self._end_restoration(None)

    def _end_restoration(self, result: Restoration | None) -> None:
        self._receipt = self._replaced = self._waiting.now = None
        self.finished.emit(result)
        self._start_waiting()

    def _show_first(self, result: Restoration) -> None:
        """The starter's result; what it takes the place of comes back if the run is cancelled."""
        receipt = self._receipt
        assert receipt is not None
        earlier = layers_of_ours(self.viewer(), receipt.name)
        self._replaced = (self.placed, earlier) if earlier else None
        self._show_result(result)

    def _put_back(self, replaced: tuple[Placed | None, list[LayerData]]) -> None:
        self.placed, layers = replaced
        add_results(self.viewer(), layers)
        self.placed_changed.emit(self.placed)

    def _layer_of_placed(self) -> Any:
        """The source of the last result; None once it is gone."""
        reference = None if self.placed is None else self.placed.layer
        return None if reference is None else reference()

    def _show_result(self, result: Restoration) -> None:
        viewer, receipt = self.viewer(), self._receipt
        assert receipt is not None
        added = add_results(viewer, result_layers(result, receipt, self._source_crc32))
        viewer.layers.selection.active = added[-1]
        self.placed = Placed(result, receipt, self._waiting.now)
        self.placed_changed.emit(self.placed)

    def _place(self, done: Callable[[T], None], result: T) -> None:
        """Hand a result over; an exception raised in a slot would end the process."""
        try:
            done(result)
        except Exception as error:
            notify(without_frames(error))

    def _work_failed(self, error: Exception | None) -> None:
        self.status.value = "Cancelled." if error is None else "Stopped by an error."
        if error is not None:
            notify(error)
        self._start_waiting()

    def _show_buttons(self, _: Any = None) -> None:
        queueable = self._waiting.takes(self.layer.value)
        self.panel.show_running(self.running, stopping=self._runner.cancelled, queueable=queueable)

    def _docked(self) -> None:
        if self.viewer() is not None:
            self.view.open()

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
        path, _ = QFileDialog.getSaveFileName(self.native, "Save model", "model.safetensors", "Models (*.safetensors)")
        if path:
            try:
                self.status.value = f"Saved {self.save_model(path)}"
            except (VaeRepairError, OSError) as error:
                notify(error)


def _call(reference: weakref.ref[VaeRepairWidget], method: str) -> None:
    widget = reference()
    if widget is not None:
        getattr(widget, method)()


def _verdict(result: Restoration) -> str:
    """What came of adapting, in a few words; "" without it."""
    record = result.model.training.get("adapted") if result.settings.adapts else None
    if record is None:
        return ""
    return f"{'kept' if record['accepted'] else 'not kept'}: {record['gained_db']:+.2f} dB on held-out blocks"


def notify(error: Exception) -> None:
    """Show an error as a napari notification; the traceback of one that nobody foresaw goes to the log."""
    from napari.utils.notifications import show_error

    if isinstance(error, RestorationFailed):
        logging.getLogger(__name__).error("\n".join(getattr(error, "__notes__", [])))
    show_error(str(error))
