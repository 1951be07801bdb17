"""`Restoring`: layers restored one after the other in a worker's thread, and their results placed in the viewer."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from psygnal import Signal

from napari_vae_repair.errors import VaeRepairError
from napari_vae_repair.plugin.desk import Chosen, Placed, Steps
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.layers import add_results, layers_of_ours, remove_left_over, result_layers
from napari_vae_repair.plugin.notices import notify
from napari_vae_repair.plugin.placing import place_in_turn
from napari_vae_repair.plugin.preferences import read_store_preferences
from napari_vae_repair.plugin.result_folder import ResultFolders
from napari_vae_repair.plugin.runner import Runner
from napari_vae_repair.plugin.snapshot import LayerData, Snapshot
from napari_vae_repair.plugin.storing import StoredLayers, check_storable, goes_into_stores, storing_steps
from napari_vae_repair.plugin.waiting import Waiting
from napari_vae_repair.plugin.worker import restoration_steps, without_frames

if TYPE_CHECKING:
    from napari_vae_repair.restoration import Restoration
    from napari_vae_repair.settings import Settings
    from napari_vae_repair.stored import Stored
    from napari_vae_repair.vae.record import Model

T = TypeVar("T")


class Restoring:
    """What runs, what waits, and what lies in the viewer.

    Parameters
    ----------
    viewer : callable
        Gives the napari viewer; None once it is gone.

    Attributes
    ----------
    placed_changed : Signal
        Emitted with each `Placed`, when there is another restoration in the viewer.
    finished : Signal
        Emitted when a restoration has ended, with its `Restoration` or, of a large layer, `Stored`, or None when it was
        cancelled or failed; and with a sentence on what became of it.
    placed : Placed or None
        The last restoration in the viewer.
    model : Model or None
        The last trained or loaded model, kept even when the prediction after it fails.
    runner : Runner
        Of this and of other work.
    waiting : Waiting
        What is to be restored next.
    """

    placed_changed = Signal(object)
    finished = Signal(object, str)

    def __init__(self, viewer: Callable[[], Any]) -> None:
        self.placed: Placed | None = None
        self.model: Model | None = None
        self.runner, self.waiting = Runner(), Waiting()
        self._viewer, self._finish = viewer, Event()
        self._receipt: Snapshot | None = None
        self._source_crc32: int | None = None
        self._replaced: tuple[Placed | None, list[LayerData]] | None = None
        self._last_turn: Restoration | None = None
        self._folders = ResultFolders()
        self.runner.updated.connect(self._updated)

    @property
    def may_finish(self) -> bool:
        """Whether a restoration runs that was not told to finish."""
        return self._receipt is not None and not self._finish.is_set()

    def start(self, chosen: Chosen) -> Any:
        """Restore a choice, a large one block by block; nothing may be running. The worker.

        Raises
        ------
        InputError, SettingsError
            As `take_snapshot`, and for large layers as `check_storable` and `read_store_preferences`.
        """
        snapshot = chosen.snapshot()
        steps, done = self._way(snapshot, chosen.settings)
        # only what places the results is kept here: the pixels belong to the worker, which frees them
        self._receipt, self._source_crc32, self._replaced = snapshot.without_pixels(), None, None
        self.waiting.now = weakref.ref(chosen.layer)
        return self.runner.start(steps, done, self._not_restored, f"Restoring {snapshot.name}")

    def _way(self, snapshot: Snapshot, settings: Settings) -> tuple[Steps[Any], Callable[[Any], None]]:
        """The steps that restore a layer, and what takes their result."""
        if not goes_into_stores(snapshot, settings):
            self._finish.clear()
            return restoration_steps(snapshot, settings, self._finish), self._restored
        where = read_store_preferences()
        check_storable(snapshot, settings, where)
        self._finish.set()  # adapting to windows cannot be ended early
        return storing_steps(snapshot, settings, where), self._stored

    def start_waiting(self) -> None:
        """Restore what waits, if nothing is under way."""
        viewer = self._viewer()
        while self.runner.worker is None and viewer is not None and (chosen := self.waiting.next(viewer)) is not None:
            try:
                self.start(chosen)
            except VaeRepairError as error:
                notify(error)

    def finish(self) -> None:
        """End adapting now; what it has led to is kept if it is better."""
        self._finish.set()

    def cancel(self) -> None:
        """Stop what is under way, with a restoration what waits too; see `_not_restored` for what stays."""
        self.runner.cancel()
        if self._receipt is not None:
            self.waiting.clear()

    def work(
        self, steps: Steps[T], done: Callable[[T], None], failed: Callable[[Exception | None], None], doing: str
    ) -> None:
        """Run other steps; nothing may be running. `done` and `failed` as in `Runner.start`; what waits comes next."""

        def end(result: T) -> None:
            hand_over(done, result)
            self.start_waiting()

        def give_up(error: Exception | None) -> None:
            failed(error)
            self.start_waiting()

        self.runner.start(steps, end, give_up, doing)

    def layer_of_placed(self) -> Any:
        """The source of the last result; None once it is gone."""
        reference = None if self.placed is None else self.placed.layer
        return None if reference is None else reference()

    # ---- what a restoration tells

    def _updated(self, update: Update) -> None:
        if update.model is not None:
            self.model = update.model
        if update.source_crc32 is not None:
            self._source_crc32 = update.source_crc32
        if update.result is not None:
            hand_over(self._show_in_turn, update)

    def _restored(self, result: Restoration) -> None:
        self.model = result.model
        if self._last_turn is not result:  # it did not come in time
            hand_over(self._show, result)
        self._end(result, result.report.headline())

    def _stored(self, result: StoredLayers) -> None:
        self.model = result.stored.model
        hand_over(self._show_stored, result)
        self._end(result.stored, f"{result.stored.report.headline()} Written to {result.folder.path}.")

    def _not_restored(self, error: Exception | None) -> None:
        shown = self.placed is not None and self.placed.source is self._receipt
        kept = "the result so far is kept" if shown else "nothing was changed"
        if shown and self._replaced is not None:
            hand_over(self._put_back, self._replaced)
            kept = "the earlier result is back"
        if error is not None:
            notify(error)
        self._end(None, f"Cancelled; {kept}." if error is None else f"Stopped by an error; {kept}.")

    def _end(self, result: Restoration | Stored | None, sentence: str) -> None:
        self._receipt = self._replaced = self._last_turn = self.waiting.now = None
        self.finished.emit(result, sentence)
        self.start_waiting()

    # ---- results in the viewer

    def _show_in_turn(self, update: Update) -> None:
        """A result while the run waits for it to be shown; what the first takes the place of comes back on Cancel."""
        receipt, now, result = self._receipt, self.waiting.now, update.result
        assert receipt is not None
        if self.placed is None or self.placed.source is not receipt:
            earlier = layers_of_ours(self._viewer(), receipt.name)
            self._replaced = (self.placed, earlier) if earlier else None

        def done(added: list[Any] | None) -> None:
            self._last_turn = result
            if added is not None:
                hand_over(lambda placed: self._select(added, placed), Placed(result, receipt, now))
            update.taken.set()

        place_in_turn(self._viewer, result_layers(result, receipt, self._source_crc32), done)

    def _show(self, result: Restoration) -> None:
        viewer, receipt = self._viewer(), self._receipt
        assert receipt is not None
        added = add_results(viewer, result_layers(result, receipt, self._source_crc32))
        self._select(added, Placed(result, receipt, self.waiting.now))

    def _show_stored(self, result: StoredLayers) -> None:
        receipt, now = self._receipt, self.waiting.now
        assert receipt is not None
        with self._folders.replacing(None if now is None else now(), result.folder):
            added = add_results(self._viewer(), result.layers)
            self._select(added, Placed(None, receipt, now, result.stored))

    def _select(self, added: list[Any], placed: Placed) -> None:
        self._viewer().layers.selection.active = added[-1]
        self.placed = placed
        self.placed_changed.emit(placed)

    def _put_back(self, replaced: tuple[Placed | None, list[LayerData]]) -> None:
        self.placed, layers = replaced
        remove_left_over(self._viewer(), add_results(self._viewer(), layers), whole=True)
        self.placed_changed.emit(self.placed)


def hand_over(done: Callable[[T], None], result: T) -> None:
    """Call a function in Qt's thread; an exception raised in a slot would end the process."""
    try:
        done(result)
    except Exception as error:
        notify(without_frames(error))
