"""The row of presets: ways of working that set the fields of the widget and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from magicgui.widgets import ComboBox, Container, PushButton
from magicgui.widgets.bases import Widget
from psygnal import Signal

from napari_vae_repair.errors import SettingsError
from napari_vae_repair.plugin.preferences import delete_way, read_ways, save_way
from napari_vae_repair.presets import NO_WAY, WAYS, checked_name, same_way, way_of, with_way
from napari_vae_repair.settings import Settings

NARROWEST_COMBO = 8  # characters; longer names are cut at the end
MEANINGS = (
    "Fast: the starter, one pass.",
    "Balanced: adapts the starter to the layer for 15 s.",
    "Careful: adapts for 60 s, and gives an uncertainty.",
    "Classic: equalise, contrast and the other old steps, trained on the layer.",
    "Train my own: trained on the layer from scratch.",
    "Below them your own. custom: the fields show none of these.",
)


class WaysRow(Container[Widget]):
    """A choice of presets with buttons that save and delete the user's own.

    Parameters
    ----------
    present : callable
        Gives the settings that the widget shows, or raises a `SettingsError`.
    tell : callable
        Takes what was done, or the error.

    Attributes
    ----------
    chosen : Signal
        Emitted with the settings to show when the user has chosen: the present ones with what the preset decides.
    """

    chosen = Signal(object)

    def __init__(self, present: Callable[[], Settings], tell: Callable[[str | Exception], None]) -> None:
        self._present, self._tell = present, tell
        self._followed = Settings()
        self._own: dict[str, Settings] = {}
        self.combo = ComboBox(
            name="way",
            choices=self._names,  # magicgui asks again whenever the row gets another parent
            tooltip="API: presets.WAYS. Sets the fields below, nothing else.\n" + "\n".join(MEANINGS),
        )
        self.save = PushButton(
            text="Save as…",
            tooltip="API: preferences.save_way(name, settings). Keep what the fields show as a preset of your own.",
        )
        self.delete = PushButton(
            text="Delete",
            enabled=False,
            tooltip="API: preferences.delete_way(name). Forget the chosen preset, if it is your own.",
        )
        widgets = [self.combo, self.save, self.delete]
        super().__init__(widgets=widgets, layout="horizontal", labels=False, name="ways", label="Preset")
        self.margins = (0, 0, 0, 0)
        self._let_it_shrink()
        self.reload()
        self.combo.changed.connect(self._picked)
        self.save.changed.connect(self._save_pressed)
        self.delete.changed.connect(self._delete_pressed)

    def _let_it_shrink(self) -> None:
        from qtpy.QtWidgets import QComboBox, QSizePolicy

        for combo in self.native.findChildren(QComboBox):
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(NARROWEST_COMBO)
            combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            combo.setAccessibleName("Preset")

    def _names(self, _: Widget) -> list[str]:
        return [*WAYS, *self._own, NO_WAY]

    def reload(self) -> None:
        """Offer the user's presets as Preferences hold them now; says what is wrong with those that cannot be used."""
        self._own, problems = read_ways()
        shown = self.combo.value
        with self.combo.changed.blocked():
            self.combo.choices = ()  # else new ones would come last
            self.combo.choices = self._names
            self.combo.value = shown if shown in self.combo.choices else NO_WAY
        self.follow(self._followed)
        for problem in problems:
            self._tell(problem)

    def follow(self, settings: Settings) -> None:
        """Show which preset these settings are, without choosing it; they are what the next choice starts from."""
        self._followed = settings
        shown = (WAYS | self._own).get(self.combo.value)
        if shown is None or not same_way(
            shown, settings, own=self.combo.value in self._own
        ):  # of two that are alike, the chosen one stays
            with self.combo.changed.blocked():
                self.combo.value = way_of(settings, self._own) or NO_WAY
        self.delete.enabled = self.combo.value in self._own

    def save_as(self, name: str) -> None:
        """Keep what the widget shows as a preset of the user's own.

        Raises
        ------
        SettingsError
            For a name that is refused, or when the widget or Preferences cannot give or take the settings.
        """
        settings = self._present()
        save_way(name, settings)
        self._followed = settings
        self.reload()
        with self.combo.changed.blocked():
            self.combo.value = name.strip()
        self.follow(settings)
        self._tell(f"Saved the preset {name.strip()!r}.")

    def _picked(self, name: str) -> None:
        way = (WAYS | self._own).get(name)
        if way is None:
            self.follow(self._followed)
            return
        try:
            present = self._present()
        except SettingsError:  # a field lacks something, such as a model's file, which the preset may not need
            present = self._followed
        if way.samples == 0:  # there is nothing to keep
            present = present.model_copy(update={"keep_samples": False})
        try:
            settings = with_way(present, way, own=name in self._own)
        except SettingsError as error:
            self.follow(present)
            self._tell(error)
            return
        self.follow(settings)
        self.chosen.emit(settings)

    def _save_pressed(self) -> None:
        from qtpy.QtWidgets import QInputDialog, QMessageBox

        first = self.combo.value if self.combo.value in self._own else ""
        name, answered = QInputDialog.getText(self.native, "Save preset", "Name of the preset:", text=first)
        if not answered:
            return
        try:
            name = checked_name(name)
            if name in self._own:
                question = f"Replace your preset {name!r} by what the fields show?"
                if QMessageBox.question(self.native, "Save preset", question) != QMessageBox.StandardButton.Yes:
                    return
            self.save_as(name)
        except SettingsError as error:
            self._tell(error)

    def _delete_pressed(self) -> None:
        from qtpy.QtWidgets import QMessageBox

        name = str(self.combo.value)
        question = f"Delete your preset {name!r}? The fields keep what they show."
        if QMessageBox.question(self.native, "Delete preset", question) != QMessageBox.StandardButton.Yes:
            return
        try:
            delete_way(name)
        except SettingsError as error:
            self._tell(error)
            return
        self.reload()
        self._tell(f"Deleted the preset {name!r}.")
