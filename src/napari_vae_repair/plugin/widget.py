"""The dock widget: choose a layer, press Restore, get the restored layer, its residual and its uncertainty.

Nothing here imports PyTorch, scikit-image or napari; the worker's thread does.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, Label, ProgressBar, PushButton
from magicgui.widgets.bases import Widget
from psygnal import Signal

from napari_vae_repair.errors import InputError, SettingsError, VaeRepairError
from napari_vae_repair.plugin.controls import Controls, duration, wrap
from napari_vae_repair.plugin.copying import Chosen, CopyRow, command_of, python_of, settings_of
from napari_vae_repair.plugin.damage_mask import type_of
from napari_vae_repair.plugin.layers import add_results, our_facts, result_layers
from napari_vae_repair.plugin.preferences import read_preferences
from napari_vae_repair.plugin.snapshot import take_snapshot
from napari_vae_repair.plugin.worker import RestorationFailed, Update, start_worker, without_frames
from napari_vae_repair.scripting import repeatable
from napari_vae_repair.settings import Settings

if TYPE_CHECKING:
    from threading import Event

    from napari_vae_repair.restoration import Restoration
    from napari_vae_repair.vae.record import Model

PROGRESS_STEPS = 1000
MINIMUM_WIDTH_PX = 310


class VaeRepairWidget(Container[Widget]):
    """Restores the chosen layer of a viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer whose layers are offered and to which the results are added.

    Attributes
    ----------
    finished : Signal
        Emitted when a run has ended, with its `Restoration`, or None when it was cancelled or failed.
    restoration : Restoration or None
        The last result.
    model : Model or None
        The last trained or loaded model, kept even when the prediction after it fails.
    base_settings : Settings
        What the widget has no field for (noise, network, training, tile_px, keep_samples), to be replaced at will.
    """

    finished = Signal(object)

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(labels=False)
        # napari hands plugins a proxy; layers taken through it are proxies too and never the layers themselves
        self._viewer = weakref.ref(getattr(napari_viewer, "__wrapped__", napari_viewer))
        self.base_settings = Settings()
        self.restoration: Restoration | None = None
        self.model: Model | None = None
        self._worker: Any = None
        self._stop: Event | None = None
        self._alive = True
        self._source_crc32: int | None = None
        self._waiting: list[weakref.ref[Any]] = []
        self.controls = Controls(lambda _: self._layers("image"), lambda _: self._layers("labels", "shapes"))
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
        self.restore_button = PushButton(text="Restore", tooltip="API: w.start(). Start the restoration.")
        self.cancel_button = PushButton(text="Cancel", enabled=False, tooltip="API: w.cancel(). Stop it.")
        self.save_button = PushButton(
            text="Save model…",
            enabled=False,
            tooltip="API: w.save_model(path). The last trained model, to use on other layers.",
        )
        buttons = Container[Widget](
            widgets=[self.restore_button, self.cancel_button, self.save_button], layout="horizontal", labels=False
        )
        buttons.margins = (0, 0, 0, 0)
        self.copies = CopyRow(self.as_python, self.as_command, self.take_settings, self._tell)
        self.progress = ProgressBar(max=PROGRESS_STEPS, value=0)
        self.status = Label(value="")
        self.extend([buttons, self.copies, self.progress, self.status])
        wrap(self.status)
        self.native.layout().insertWidget(0, self.controls.scroll_area(), 1)
        self.native.setMinimumWidth(MINIMUM_WIDTH_PX)

    def _connect(self) -> None:
        self.restore_button.changed.connect(self._restore_pressed)
        self.cancel_button.changed.connect(self.cancel)
        self.save_button.changed.connect(self._save_pressed)
        self.finished.connect(self._start_waiting)
        self.native.destroyed.connect(self._destroyed)
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

    # ---- layers

    def reset_choices(self, *_: Any) -> None:
        """Offer the viewer's layers as they are now."""
        if self._alive:
            self.controls.form.reset_choices()
            self.controls.layer_chosen()

    def _layers(self, *kinds: str) -> list[tuple[str, Any]]:
        viewer = self._viewer()
        return [] if viewer is None else [(layer.name, layer) for layer in viewer.layers if type_of(layer) in kinds]

    def _watch_name(self, event: Any) -> None:
        event.value.events.name.connect(self.reset_choices)

    def _follow_selection(self, _: Any = None) -> None:
        """Take the layer that the user made active, unless it is one of our results."""
        viewer = self._viewer()
        if not self._alive or viewer is None or self.running:
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
        self.controls.show(settings)

    def take_settings(self, layer: Any = None) -> str:
        """Show the settings that made a layer of ours, None = the selected one; gives back what the status says of it.

        Raises
        ------
        InputError, SettingsError
            As `settings_of`.
        """
        viewer = self._viewer()
        chosen = viewer.layers.selection.active if layer is None and viewer is not None else layer
        self.show_settings(settings_of(chosen))
        return f"The settings that made {chosen.name!r}."

    # ---- a run

    @property
    def running(self) -> bool:
        """Whether a restoration is under way, or on its way to end after Cancel."""
        return self._worker is not None

    def start(self) -> Any:
        """Restore the chosen layer, as the button Restore does.

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
        viewer = self._viewer()
        if self.running or viewer is None:
            return self._worker
        chosen = self._chosen()
        snapshot = take_snapshot(chosen.layer, mask_layer=chosen.mask_layer, plane_at=chosen.plane_at)
        connect = {
            "yielded": _weakly(self._updated),
            # only what places the results is kept here: the pixels belong to the worker, which frees them
            "returned": _weakly(self._returned, snapshot.without_pixels()),
            "errored": _weakly(self._errored),
        }
        self._show_running(True)
        self._worker, self._stop = start_worker(snapshot, chosen.settings, connect, f"Restoring {snapshot.name}")
        return self._worker

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

    def _chosen(self) -> Chosen:
        layer, viewer = self.layer.value, self._viewer()
        if layer is None or viewer is None:
            raise InputError(
                "There is no image layer to restore.",
                "A layer of kind Image is needed.",
                "Open an image first (File ▸ Open, or File ▸ Open Sample ▸ VAE Repair).",
            )
        plane_at = tuple(viewer.dims.point) if self.plane_only.value else None
        return Chosen(layer, self.current_settings(), self.mask_layer.value, plane_at)

    def _repeatable(self) -> Chosen:
        chosen, last = self._chosen(), self.restoration
        if last is None or last.settings != chosen.settings:
            return chosen
        return replace(chosen, settings=repeatable(chosen.settings, last.model.training))

    def start_later(self, layer: Any) -> None:
        """Restore a layer with the settings from Preferences as soon as no run is under way."""
        self._waiting.append(weakref.ref(layer))
        self._start_waiting()

    def cancel(self) -> None:
        """Stop the run under way; the viewer stays as it was."""
        if self._stop is not None:
            self._stop.set()
            self.cancel_button.enabled = False
            self.status.value = "Cancelling…"

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

    def _start_waiting(self, _: Any = None) -> None:
        viewer = self._viewer()
        while self._waiting and not self.running and viewer is not None:
            layer = self._waiting.pop(0)()
            if layer is None or layer not in viewer.layers:
                continue
            try:
                self.show_settings(read_preferences(self.base_settings))
                self.layer.value = layer
                self.start()
            except VaeRepairError as error:
                notify(error)

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
        if self._stop is not None and self._stop.is_set():
            return
        left = "" if update.seconds_left is None else f" · {duration(update.seconds_left)} left"
        self.status.value = update.text + left
        done = round(update.fraction * PROGRESS_STEPS)
        self.progress.value = done
        bar = getattr(self._worker, "pbar", None)
        if bar is not None:
            if bar.total != PROGRESS_STEPS:
                bar.total = PROGRESS_STEPS
            bar.update(max(done - bar.n, 0))

    def _returned(self, result: Restoration | None, receipt: Any) -> None:
        self._end_run()
        viewer = self._viewer()
        if result is None or viewer is None:
            self.status.value = "Cancelled; nothing was changed."
            self.finished.emit(None)
            return
        self.restoration, self.model = result, result.model
        self.save_button.enabled = True
        try:
            added = add_results(viewer, result_layers(result, receipt, self._source_crc32))
        except Exception as error:  # raised in a slot, it would end the process
            self._errored(without_frames(error))
            return
        viewer.layers.selection.active = added[-1]
        self.progress.value = PROGRESS_STEPS
        self.status.value = result.report.text()
        self.finished.emit(result)

    def _errored(self, error: Exception) -> None:
        self._end_run()
        self.status.value = "Stopped by an error."
        notify(error)
        self.finished.emit(None)

    def _end_run(self) -> None:
        self._worker = self._stop = None
        self.progress.value = 0
        self._show_running(False)

    def _show_running(self, running: bool) -> None:
        self.restore_button.enabled = not running
        self.cancel_button.enabled = running
        if running:
            self.status.value = "Starting"
            self.progress.value = 0

    def _destroyed(self, *_: Any) -> None:
        self._alive = False
        if self._stop is not None:
            self._stop.set()

    # ---- buttons

    def _restore_pressed(self) -> None:
        try:
            self.start()
        except VaeRepairError as error:
            notify(error)

    def _tell(self, news: str | VaeRepairError) -> None:
        if isinstance(news, str):
            self.status.value = news
        else:
            notify(news)

    def _save_pressed(self) -> None:
        from qtpy.QtWidgets import QFileDialog

        path, _ = QFileDialog.getSaveFileName(self.native, "Save model", "model.safetensors", "Models (*.safetensors)")
        if path:
            try:
                self.status.value = f"Saved {self.save_model(path)}"
            except (VaeRepairError, OSError) as error:
                notify(error)


def notify(error: Exception) -> None:
    """Show an error as a napari notification; the traceback of one that nobody foresaw goes to the log."""
    from napari.utils.notifications import show_error

    if isinstance(error, RestorationFailed):
        logging.getLogger(__name__).error("\n".join(getattr(error, "__notes__", [])))
    show_error(str(error))


def _weakly(method: Callable[..., None], *more: Any) -> Callable[[Any], None]:
    """A callback that does nothing once the widget is gone; the worker, which napari keeps, must not keep it."""
    reference = weakref.WeakMethod(method)

    def call(value: Any) -> None:
        alive = reference()
        if alive is not None and alive.__self__._alive:  # type: ignore[attr-defined]
            alive(value, *more)

    return call
