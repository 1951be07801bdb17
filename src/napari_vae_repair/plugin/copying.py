"""The present choice of the widget as Python for napari's console, and as a command for the shell."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from magicgui.widgets import Container, PushButton
from magicgui.widgets.bases import Widget

from napari_vae_repair.errors import InputError, VaeRepairError
from napari_vae_repair.plugin.desk import Chosen
from napari_vae_repair.plugin.layers import our_facts
from napari_vae_repair.plugin.preferences import PLUGIN_NAME
from napari_vae_repair.plugin.snapshot import chosen_part
from napari_vae_repair.plugin.storing import needs_blocks
from napari_vae_repair.scripting import INPUT, MASK, OUTPUT, as_command, as_python, repeatable
from napari_vae_repair.settings import Settings, make_settings


class CopyRow(Container[Widget]):
    """Buttons that carry settings: two to the clipboard, one from a restored layer.

    Parameters
    ----------
    python, command : callable
        What to copy; may raise a `VaeRepairError`.
    take : callable
        Takes the settings of the selected layer and says of which; may raise one, too.
    tell : callable
        Takes what was done, or the error.
    """

    def __init__(
        self,
        python: Callable[[], str],
        command: Callable[[], str],
        take: Callable[[], str],
        tell: Callable[[str | VaeRepairError], None],
    ) -> None:
        self.python = PushButton(
            text="Copy Python", tooltip="API: w.as_python(). The call that does it, for napari's console."
        )
        self.command = PushButton(
            text="Copy command", tooltip="API: w.as_command(). The same for a shell and the layer's file."
        )
        self.take = PushButton(
            text="From layer",
            tooltip="API: w.take_settings(layer). What made the selected restored layer.",
        )
        super().__init__(widgets=[self.python, self.command, self.take], layout="horizontal", labels=False)
        self.margins = (0, 0, 0, 0)
        self._tell = tell
        self.python.changed.connect(lambda: self._do(lambda: _to_clipboard(python())))
        self.command.changed.connect(lambda: self._do(lambda: _to_clipboard(command())))
        self.take.changed.connect(lambda: self._do(take))

    def _do(self, action: Callable[[], str]) -> None:
        try:
            self._tell(action())
        except VaeRepairError as error:
            self._tell(error)


def settings_of(layer: Any) -> Settings:
    """Those that made a layer of ours, a budget in seconds as the steps that it became.

    Raises
    ------
    InputError
        Without a layer, or for one that is none of ours.
    SettingsError
        For settings that this version does not know.
    """
    facts = None if layer is None else our_facts(layer)
    if facts is None or "settings" not in facts:  # a method's result, from the tab Compare
        raise InputError(
            "No layer is selected." if layer is None else f"The layer {layer.name!r} was not made by {_maker(facts)}.",
            "A restored layer, its residual or its uncertainty tell the settings that made them.",
            "Select such a layer in the layer list.",
        )
    return repeatable(make_settings(None, **facts["settings"]), facts["report"]["training"])


def _maker(facts: dict[str, Any] | None) -> str:
    return "VAE Repair" if facts is None else "Restore"


def _to_clipboard(text: str) -> str:
    from qtpy.QtGui import QGuiApplication

    clipboard = QGuiApplication.clipboard()
    assert clipboard is not None  # a widget has an application
    clipboard.setText(text)
    return f"Copied:\n{text}"


def python_of(chosen: Chosen) -> str:
    """Lines that restore the layer of `viewer` as the widget does; lazily where it goes block by block."""
    layer, mask_layer = chosen.layer, chosen.mask_layer
    data = layer.data[0] if layer.multiscale else layer.data
    lazily = chosen.plane_at is None and needs_blocks(data, math.prod(data.shape), chosen.settings)
    index, axes = chosen_part(layer, chosen.plane_at)
    letters, image, part = None, f"viewer.layers[{layer.name!r}]", ""
    if chosen.plane_at is not None:
        part = "[" + ", ".join(":" if isinstance(item, slice) else str(item) for item in index) + "]"
        letters = "".join(axis for axis, item in zip(axes, index, strict=False) if isinstance(item, slice))
        letters += "S" if layer.rgb else ""
    if lazily:
        letters = axes
    source = image + (".data[0]" if layer.multiscale else ".data") + part if part or lazily else image
    if mask_layer is None:
        return as_python(chosen.settings, source, axes=letters, lazily=lazily)
    mask = f"damage_mask(viewer.layers[{mask_layer.name!r}], {image}, {axes.removesuffix('S')!r}){part}"
    first = "from napari_vae_repair.plugin.damage_mask import damage_mask\n"
    return as_python(chosen.settings, source, axes=letters, mask=mask, lazily=lazily).replace("\n", f"\n{first}", 1)


def command_of(chosen: Chosen) -> str:
    """The command for the layer's file, a stack as a whole; a layer without one, and a mask, get a name to replace."""
    if chosen.plane_at is not None:
        raise InputError(
            "Current plane only is ticked.",
            "The command restores whole files.",
            "Untick it, or copy the call as Python.",
        )
    layer, letters = chosen.layer, None
    # a stack that another reader opened: its file may tell the axes otherwise than the layer that is restored here
    if layer.ndim > 2 and layer.source.reader_plugin != PLUGIN_NAME:
        letters = chosen_part(layer, None)[1]
    path = layer.source.path
    given = INPUT if path is None else str(path)
    to = OUTPUT if path is None else str(Path(path).with_name(f"{Path(path).stem}.{OUTPUT}"))
    return as_command(chosen.settings, given, to, axes=letters, mask=None if chosen.mask_layer is None else MASK)
