"""The widget's fields: what each shows, and the one place where they become `Settings`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit, Label, SpinBox
from magicgui.widgets.bases import Widget

from napari_vae_repair.chain import PRESETS
from napari_vae_repair.errors import SettingsError
from napari_vae_repair.plugin.chain_editor import ChainEditor, align_labels
from napari_vae_repair.plugin.device_label import DEVICE_NAMES, device_label
from napari_vae_repair.plugin.noise_fields import NoiseFields
from napari_vae_repair.settings import DEFAULT_SAMPLES, SCRATCH, STARTER, Settings, make_settings

CUSTOM = "custom"
READY, TRAINED, FROM_FILE = "starter (ready at once)", "train on this layer", "load a file"
UNMEASURED = "measured during the first epoch"
NARROWEST_COMBO = 8  # characters; longer choices are cut at the end

Choices = Callable[[Any], list[tuple[str, Any]]]


class Controls:
    """The fields of the widget, magicgui widgets all of them.

    Parameters
    ----------
    images, masks : callable
        The layers that can be restored, and those that can mark damage, as (name, layer).
    """

    def __init__(self, images: Choices, masks: Choices) -> None:
        self._build_layer(images, masks)
        self._build_model()
        self.noise = NoiseFields()
        self._build_steps()
        fields: list[Widget] = [
            self.layer,
            self.plane_only,
            self.mask_layer,
            self.model_from,
            self.model_file,
            self.epochs,
            self.adapt,
            self.adapt_steps,
            self.samples,
            self.keep_samples,
            *self.noise.widgets,
            self.seed,
            self.device,
            self.device_text,
            self.estimate,
            self.preset,
            self.edit_chain,
        ]
        self.form = Container[Widget](widgets=fields)
        self.form.margins = (0, 0, 0, 0)
        align_labels(self.form)
        self._seconds_per_epoch: float | None = None
        self.layer.changed.connect(self.layer_chosen)
        self.preset.changed.connect(self._preset_chosen)
        self.edit_chain.changed.connect(self._show_what_applies)
        self.chain.edited.connect(self._chain_edited)
        self.model_from.changed.connect(self._model_chosen)
        for count in (self.samples, self.adapt_steps):
            count.changed.connect(self._show_what_applies)
        self.epochs.changed.connect(self._show_estimate)

    def _build_layer(self, images: Choices, masks: Choices) -> None:
        self.layer = ComboBox(
            name="layer", label="Layer", choices=images, tooltip="API: image. The Image layer to restore."
        )
        self.plane_only = CheckBox(
            name="plane_only",
            text="Current plane only",
            tooltip="Restores the plane in view instead of the whole stack. API: restore(layer.data[3]).",
        )
        self.mask_layer = ComboBox(
            name="mask_layer",
            label="Damage",
            nullable=True,
            choices=masks,
            tooltip="API: mask. A Labels layer (not zero) or Shapes layer (inside) that marks damaged pixels.",
        )

    def _build_model(self) -> None:
        self.model_from = ComboBox(
            name="model_from",
            label="Model",
            choices=[READY, TRAINED, FROM_FILE],
            tooltip='API: model. "starter", "scratch" or a path.',
        )
        self.model_file = FileEdit(
            name="model_file",
            label="File",
            mode=FileDialogMode.EXISTING_FILE,
            filter="*.safetensors",
            nullable=True,
            tooltip="API: model. A saved model; it brings the steps with which it was trained.",
        )
        self.epochs = SpinBox(
            name="epochs", label="Epochs", value=50, min=1, max=100_000, tooltip="API: epochs. Length of the training."
        )
        self.adapt = SpinBox(
            name="adapt",
            label="Adapt (s)",
            value=0,
            min=0,
            max=3600,
            tooltip="API: adapt_seconds. Trains the starter further on this layer first; kept only if it helps.",
        )
        self.adapt_steps = SpinBox(
            name="adapt_steps",
            label="Adapt (steps)",
            value=0,
            min=0,
            max=10**6,
            tooltip="API: adapt_steps. The same as a count, which gives the same pixels again; 0 = by the seconds.",
        )
        self.samples = SpinBox(
            name="samples",
            label="Samples",
            value=0,
            min=0,
            max=1000,
            tooltip="API: samples. Posterior samples; from 2 on there is an uncertainty.",
        )
        self.keep_samples = CheckBox(
            name="keep_samples",
            text="Keep the samples as a layer",
            tooltip="API: keep_samples. A layer to scrub through, and intervals of labels.",
        )
        self.seed = SpinBox(
            name="seed", label="Seed", value=0, min=0, max=2**32 - 1, tooltip="API: seed. Same seed, same result."
        )
        self.device = ComboBox(
            name="device",
            label="Device",
            choices=list(DEVICE_NAMES),
            tooltip="API: device. auto = CUDA, then MPS, then CPU.",
        )
        self.device_text = Label(name="device_text", label=" ", value=device_label())
        self.estimate = Label(name="estimate", label="Time", value=UNMEASURED)

    def _build_steps(self) -> None:
        self.preset = ComboBox(
            name="preset",
            label="Steps",
            choices=[*PRESETS, CUSTOM],
            tooltip="API: preset, chain. What is done to the values before the VAE sees them.",
        )
        self.edit_chain = CheckBox(name="edit_chain", text="Show and edit the steps", tooltip="API: chain.")
        self.chain = ChainEditor(PRESETS["standard"])
        self.chain.visible = False

    def add_rows(self, ways: Widget, *damage: Widget) -> None:
        """Put the row of presets first, and those of masks below the choice of the damage."""
        for row in reversed(damage):
            self.form.insert(1 + self.form.index(self.mask_layer), row)
        self.form.insert(0, ways)
        align_labels(self.form)

    def scroll_area(self) -> Any:
        """All fields in a Qt area that scrolls where the window is too low for them."""
        from qtpy.QtCore import Qt
        from qtpy.QtWidgets import QComboBox, QFrame, QScrollArea, QVBoxLayout, QWidget

        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 4, 0)
        column.addWidget(self.form.native)
        column.addWidget(self.chain.native)
        column.addStretch(1)
        for label in (self.device_text, self.estimate):
            wrap(label)
        for combo in inside.findChildren(QComboBox):  # long layer names must not widen the dock
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(NARROWEST_COMBO)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(inside)
        return area

    # ---- fields to settings, and back

    def settings(self, base: Settings) -> Settings:
        """The settings that the fields show, on top of `base`.

        Raises
        ------
        SettingsError
            When a model file is to be loaded and none is chosen.
        """
        custom, from_file = self.preset.value == CUSTOM, self.model_from.value == FROM_FILE
        chosen, trained, steps = self.model_file.value, self.model_from.value == TRAINED, self.adapt_steps.value or None
        if from_file and not (isinstance(chosen, Path) and chosen.name):
            raise SettingsError(
                "No model file is chosen.",
                "A model saved by VAE Repair (.safetensors) can be loaded.",
                f"Choose it under File, or choose {READY!r} under Model.",
            )
        return make_settings(
            base,
            preset=base.preset if custom else self.preset.value,
            chain=self.chain.chain if custom else None,
            model=str(chosen) if from_file else STARTER if self.model_from.value == READY else SCRATCH,
            epochs=self.epochs.value,
            adapt_seconds=0 if trained else self.adapt.value,
            adapt_steps=None if trained else steps,
            adapt_stop=None if trained or steps != base.adapt_steps else base.adapt_stop,
            samples=self.samples.value,
            keep_samples=self.keep_samples.value and self.samples.value > 0,
            noise=self.noise.noise(base.noise),
            device=self.device.value,
            seed=self.seed.value,
        )

    def show(self, settings: Settings) -> None:
        """Show these settings."""
        if settings.device not in DEVICE_NAMES:
            self.device.choices = [*DEVICE_NAMES, settings.device]
        self.preset.value = settings.preset if settings.chain is None else CUSTOM
        self.chain.set_chain(settings.steps)
        kinds = {STARTER: READY, SCRATCH: TRAINED}
        self.model_from.value = kinds.get(settings.model, FROM_FILE)
        self.model_file.value = None if settings.model in kinds else Path(settings.model)
        self.epochs.value, self.adapt.value = settings.epochs, round(settings.adapt_seconds)
        self.adapt_steps.value = settings.adapt_steps or 0
        usual = 0 if settings.model == STARTER else DEFAULT_SAMPLES
        self.samples.value = usual if settings.samples is None else settings.samples
        self.keep_samples.value = settings.keep_samples
        self.noise.show(settings.noise)
        self.device.value, self.seed.value = settings.device, settings.seed
        self._show_what_applies()

    def measured(self, seconds_per_epoch: float) -> None:
        """Take the pace of a running training for the time estimate."""
        self._seconds_per_epoch = seconds_per_epoch
        self._show_estimate()

    # ---- fields that depend on others

    def layer_chosen(self, _: Any = None) -> None:
        """Offer the current plane where the layer is a stack."""
        layer = self.layer.value
        self.plane_only.enabled = layer is not None and layer.ndim > 2
        if not self.plane_only.enabled:
            self.plane_only.value = False

    def _preset_chosen(self, name: str) -> None:
        if name in PRESETS:
            self.chain.set_chain(PRESETS[name])
            if name == "classic" and self.model_from.value == READY:
                self.model_from.value = TRAINED  # as in the API
        else:
            self.edit_chain.value = True

    def _chain_edited(self) -> None:
        same = [name for name, steps in PRESETS.items() if steps == self.chain.chain]
        with self.preset.changed.blocked():
            self.preset.value = same[0] if same else CUSTOM

    def _model_chosen(self, chosen: str) -> None:
        """The starter needs no samples for its result, a model of one image is better for having some."""
        if self.samples.value in (0, DEFAULT_SAMPLES):
            self.samples.value = 0 if chosen == READY else DEFAULT_SAMPLES
        self._show_what_applies()

    def _show_what_applies(self, _: Any = None) -> None:
        from_file, trained = self.model_from.value == FROM_FILE, self.model_from.value == TRAINED
        self.model_file.visible = from_file
        self.epochs.visible = self.estimate.visible = trained
        # seconds, or steps where a layer or a preset brought some
        self.adapt.visible = not trained and not self.adapt_steps.value
        self.adapt_steps.visible = not trained and self.adapt_steps.value > 0
        self.keep_samples.enabled = self.samples.value > 0
        # a saved model of one image brings its own steps
        self.preset.visible = self.edit_chain.visible = not from_file
        self.chain.visible = self.edit_chain.value and not from_file

    def _show_estimate(self, _: Any = None) -> None:
        pace = self._seconds_per_epoch
        self.estimate.value = UNMEASURED if pace is None else f"about {duration(pace * self.epochs.value)}"


def wrap(label: Label) -> None:
    """Let a label break its text into lines instead of widening the dock."""
    from qtpy.QtWidgets import QSizePolicy

    label.native.setWordWrap(True)
    label.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)


def duration(seconds: float) -> str:
    """A time span for people: seconds below two minutes, minutes below two hours, else hours."""
    if seconds < 120:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
