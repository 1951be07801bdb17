"""`Desk`: what the widget lends to its tabs, so that no tab knows the widget or another tab."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from napari_vae_repair.plugin.snapshot import Snapshot, take_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psygnal import SignalInstance

    from napari_vae_repair.plugin.forecast import Update
    from napari_vae_repair.restoration import Restoration
    from napari_vae_repair.settings import Settings
    from napari_vae_repair.stored import Stored

T = TypeVar("T")
Steps = Callable[[Event], "Generator[Update, None, T]"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the widget would restore, and how; the last two are arguments of `take_snapshot`."""

    layer: Any
    settings: Settings
    mask_layer: Any = None
    plane_at: Sequence[float] | None = None

    def snapshot(self) -> Snapshot:
        """The layer as it is now; see `take_snapshot` for the errors."""
        return take_snapshot(self.layer, mask_layer=self.mask_layer, plane_at=self.plane_at)


@dataclass(frozen=True, slots=True)
class Placed:
    """A restoration that lies in the viewer.

    Attributes
    ----------
    restoration : Restoration or None
        With all pixels in memory; None for a large layer.
    source : Snapshot
        Of the layer that was restored, without its pixels: names and places for layers that are derived from it.
    layer : weakref.ref or None
        That layer, under whatever name it has now.
    stored : Stored or None
        Of a large layer, whose result lies in files.
    """

    restoration: Restoration | None
    source: Snapshot
    layer: weakref.ref[Any] | None = None
    stored: Stored | None = None

    @property
    def result(self) -> Restoration | Stored:
        """What there is, for its report, model and settings."""
        result = self.restoration or self.stored
        assert result is not None
        return result


class Desk(Protocol):
    """What a tab may use.

    Attributes
    ----------
    placed_changed : SignalInstance
        Emitted with `placed` each time there is another.
    """

    placed_changed: SignalInstance

    @property
    def placed(self) -> Placed | None:
        """The last restoration in the viewer."""

    @property
    def running(self) -> bool:
        """Whether something is under way, so that `work` would be refused."""

    def viewer(self) -> Any:
        """The napari viewer; None once it is gone."""

    def chosen(self) -> Chosen:
        """The layer and the settings that the widget shows; raises `InputError` or `SettingsError`."""

    def layers(self, *kinds: str) -> list[tuple[str, Any]]:
        """Name and layer of each layer of the kinds, such as "image" or "labels"."""

    def tell(self, news: str | Exception) -> None:
        """Show a sentence in the status line, or an error as a notification."""

    def work(self, steps: Steps[T], done: Callable[[T], None], doing: str) -> bool:
        """Run the steps in a thread with the widget's progress bar and Cancel button.

        `steps` takes the event that is set on Cancel, yields each `Update`, and returns the result or raises a
        `VaeRepairError`; `Cancelled`, when the event is set, is no error. `done` is called with the result in Qt's
        thread, never after Cancel. False, with a sentence in the status line, when something else is under way.
        """


__all__ = ["Chosen", "Desk", "Placed", "Steps"]
