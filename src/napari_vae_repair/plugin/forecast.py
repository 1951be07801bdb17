"""Where running work stands: `Update` for people and the widget, `Forecast` for the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from napari_vae_repair.settings import SCRATCH

if TYPE_CHECKING:
    from napari_vae_repair.pipeline import Progress
    from napari_vae_repair.settings import Settings
    from napari_vae_repair.vae.record import Losses, Model

# share of the whole run that each phase takes, before it has been measured
SHARES_SCRATCH = {"prepare": 0.02, "train": 0.83, "restore": 0.12, "report": 0.03}
SHARES_ADAPTED = {"prepare": 0.05, "first": 0.08, "adapt": 0.77, "restore": 0.08, "report": 0.02}
SHARES_LOADED = {"prepare": 0.2, "restore": 0.7, "report": 0.10}
# block by block: a training sees a few windows alone
SHARES_BLOCKS = {"prepare": 0.03, "restore": 0.92, "write": 0.05}
SHARES_BLOCKS_TRAINED = {"prepare": 0.03, "train": 0.4, "adapt": 0.4, "restore": 0.52, "write": 0.05}
# seconds a pixel and pass of the last run without training, whole or by blocks: known before a pace is measured
_EARLIER: dict[bool, float] = {}


@dataclass(frozen=True, slots=True)
class Update:
    """Where running work stands; what follows `seconds_left` comes from a restoration alone.

    Attributes
    ----------
    fraction : float
        Share of the whole that is done, 0 to 1.
    text : str
        What it is doing, for people.
    seconds_left : float or None
        None until it can be told.
    seconds_per_epoch : float or None
        As measured in this run, once an epoch is over.
    model : Model or None
        The trained or loaded model, from the end of its training on.
    device : str
        The device's label and, after a line break, its hint; "" until it is chosen.
    source_crc32 : int or None
        Of the pixels that are restored, once they are read.
    phase : str
        As in `Progress`; "" before the first.
    losses : tuple of Losses
        Of the training steps since the last update.
    result : object or None
        A `Restoration` to show: the starter's before it is adapted, and the last one.
    taken : Event
        Set once the viewer shows the result.
    """

    fraction: float
    text: str
    seconds_left: float | None = None
    seconds_per_epoch: float | None = None
    model: Model | None = None
    device: str = ""
    source_crc32: int | None = None
    phase: str = ""
    losses: tuple[Losses, ...] = ()
    result: Any = None
    taken: Event = field(default_factory=Event, compare=False)


@dataclass(slots=True)
class Forecast:
    """Turns `Progress` into fractions and times left, from the pace measured so far.

    Attributes
    ----------
    epochs : int
        Epochs of the training.
    from_scratch : bool
        False with the starter or a loaded model, which are not trained.
    adapts : bool
        Whether the starter is adapted to the image.
    blocks : bool
        Whether it is restored block by block into stores.
    passes : int
        Pixels times passes; 0 = unknown, and then nothing is told before a pace is measured.
    budget_s : float
        Seconds of adapting, if they are given: they tell the time left before a pace is measured.
    clock : callable
        Seconds, growing.
    """

    epochs: int
    from_scratch: bool
    adapts: bool = False
    blocks: bool = False
    passes: int = 0
    budget_s: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _phase: str = ""
    _started: float | None = None
    _began: float = 0.0
    _done_at_start: int = 0
    _seconds_per_epoch: float | None = None
    _pace: float | None = field(default=None)  # seconds for a share of 1, from the phase that told most

    def update(self, progress: Progress, device: str = "") -> Update:
        """The fraction done, the time left and a sentence for this progress."""
        if self._started is None:
            self._started = self.clock()
        if progress.phase != self._phase:
            self._phase, self._began, self._done_at_start = progress.phase, self.clock(), progress.done
        shares = self._shares()
        total = max(progress.total, 1)
        part = min(progress.done / total, 1.0)
        before = sum(list(shares.values())[: list(shares).index(progress.phase)])
        after = 1.0 - before - shares[progress.phase]
        seconds_left = self._seconds_left(progress.done, total, shares[progress.phase], max(after, 0.0))
        if progress.phase == "train" and progress.done > self._done_at_start:
            per_step = (self.clock() - self._began) / (progress.done - self._done_at_start)
            if progress.done * self.epochs >= total:
                self._seconds_per_epoch = per_step * total / self.epochs
        return Update(
            fraction=min(before + shares[progress.phase] * part, 1.0),
            text=self._text(progress, total),
            seconds_left=seconds_left,
            seconds_per_epoch=self._seconds_per_epoch,
            model=progress.model,
            device=device,
            phase=progress.phase,
            result=progress.result,
        )

    def _shares(self) -> dict[str, float]:
        if self.blocks and (self.from_scratch or self.adapts):
            unused = "adapt" if self.from_scratch else "train"
            return {phase: share for phase, share in SHARES_BLOCKS_TRAINED.items() if phase != unused}
        if self.blocks:
            return SHARES_BLOCKS
        return SHARES_SCRATCH if self.from_scratch else SHARES_ADAPTED if self.adapts else SHARES_LOADED

    def _seconds_left(self, done: int, total: int, share: float, after: float) -> float | None:
        steps = done - self._done_at_start
        if steps > 0 and self._phase in ("train", "first", "adapt", "restore"):
            per_step = (self.clock() - self._began) / steps
            self._pace = per_step * total / share
            return per_step * (total - done) + after * (self._pace or 0.0)
        pace = self._pace
        if pace is None and self.budget_s > 0:
            pace = self.budget_s / self._shares()["adapt"]
        return self._as_earlier() if pace is None else pace * (share * (1 - done / total) + after)

    def _as_earlier(self) -> float | None:
        """What an image of this size takes if it goes as the last one did; a training has no pace of its own yet."""
        earlier = _EARLIER.get(self.blocks)
        if earlier is None or not self._tells_pace or self._started is None:
            return None
        return max(earlier * self.passes - (self.clock() - self._started), 0.0)

    @property
    def _tells_pace(self) -> bool:
        return self.passes > 0 and not self.from_scratch and not self.adapts

    def ended(self) -> None:
        """The run is over: its pace is what the next one begins with."""
        if self._tells_pace and self._started is not None:
            _EARLIER[self.blocks] = (self.clock() - self._started) / self.passes

    def _text(self, progress: Progress, total: int) -> str:
        if progress.phase == "train":
            epoch = min(progress.done * self.epochs // total + 1, self.epochs)
            loss = "" if progress.losses is None else f", loss {progress.losses.loss:.4g}"
            return f"Training: epoch {epoch} of {self.epochs}{loss}"
        names = {
            "prepare": "Preparing",
            "first": "Restoring",
            "adapt": "Adapting to the image",
            "restore": "Restoring",
            "report": "Measuring the result",
            "write": "Writing the levels and metadata",
        }
        if self.blocks and progress.phase == "restore":
            return f"Restoring: {progress.done} of {total} blocks"
        share = f" {100 * progress.done // total} %" if total > 1 else ""
        return names[progress.phase] + share


def forecast_of(settings: Settings, *, blocks: bool = False, passes: int = 0) -> Forecast:
    """Of a run with these settings; `blocks` and `passes` as there."""
    budget_s = settings.adapt_seconds if settings.adapts else 0.0
    return Forecast(settings.epochs, settings.model == SCRATCH, settings.adapts, blocks, passes, budget_s)
