"""Blocks restored by the workers of a dask scheduler, on this machine or on others."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from napari_vae_repair.blockwise import ONE_AT_A_TIME, Source
from napari_vae_repair.errors import Cancelled, ClusterError
from napari_vae_repair.image.blocks import Block
from napari_vae_repair.vae.device import Device, choose_device

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from napari_vae_repair.phases import ShouldStop

CONNECT_S, WORKERS_S, LOOK_EVERY_S = 10, 30, 0.5
AHEAD = 2  # blocks in flight for each thread of a worker: one is computed while the next is on its way


class ClusterJob(Protocol):
    """What workers are sent once; see `storing.Job`."""

    @property
    def plan(self) -> Any:
        """What holds for all blocks."""

    def opened(self) -> AbstractContextManager[Source]:
        """Where pixels are read."""

    def work(self, source: Source, block: Block, device: Device, should_stop: ShouldStop, notes: list[str]) -> None:
        """Restore and write one block."""


def connect(scheduler: str) -> Any:
    """A client of the scheduler, which has at least one worker.

    Raises
    ------
    ClusterError
        dask.distributed is missing, nothing answers there, or no worker comes.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ClusterError(
            "The scheduler was given, but dask.distributed is not installed.",
            "It is needed here and on every worker.",
            "Install it with: pip install 'napari-vae-repair[cluster]'",
        ) from error
    try:
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise ClusterError(
            f"No scheduler answers at {scheduler}: {error}.",
            "The address of a running dask scheduler is needed, as in tcp://192.168.1.5:8786.",
            "Start one with `dask scheduler`, which prints its address, or correct the address.",
        ) from error
    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except TimeoutError as error:
        client.close()
        raise ClusterError(
            f"The scheduler at {scheduler} has no workers.",
            "At least one is needed.",
            f"Start some with `dask worker {scheduler}` on machines that see the same files.",
        ) from error
    return client


def restored_on_cluster(
    client: Any, job: ClusterJob, blocks: list[Block], should_stop: ShouldStop, notes: list[str]
) -> Iterator[Block]:
    """Have the blocks restored and written by the workers; they come in the order in which they are done.

    The job, with its model, is sent to each worker once. Blocks of a worker that dies go to the others.

    Parameters
    ----------
    client : distributed.Client
        As `connect` gives it.
    job : ClusterJob
        Whose files all workers reach under the same paths.
    blocks : list of Block
    should_stop : callable
        Asked twice a second.
    notes : list of str
        What the user should know of a block is added to it.

    Raises
    ------
    Cancelled
        `should_stop` said so; what is done stays done.
    ClusterError
        The connection breaks, or a block ends several workers.
    VaeRepairError
        Of a block.
    """
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    if not blocks:
        return
    shared = client.scatter(job, broadcast=True, hash=False)
    waiting, threads = iter(blocks), max(1, sum(client.nthreads().values()))
    running: dict[Any, Block] = {}

    def send(count: int) -> None:
        for block in itertools.islice(waiting, count):
            running[client.submit(_work, shared, block, pure=False)] = block

    try:
        send(AHEAD * threads)
        while running:
            for done in _finished(client, list(running), should_stop):
                notes.extend(done.result())
                yield running.pop(done)
                send(1)
    except KilledWorker as error:
        raise ClusterError(
            f"A block ended {error.allowed_failures + 1} workers, one after the other: {error}.",
            "Workers that have memory enough, and are not killed, are needed.",
            "Give them more memory or use smaller tiles (--set tile_px=256), then run the same again: it goes on.",
        ) from error
    except (FutureCancelledError, OSError, TimeoutError) as error:
        raise ClusterError(
            f"The connection to the scheduler was lost: {error}.",
            "It must run until the last block is done.",
            "Start it again, then run the same again: what is done is not done again.",
        ) from error
    finally:
        client.cancel(list(running), force=True)


def _finished(client: Any, running: list[Any], should_stop: ShouldStop) -> list[Any]:
    """The futures that are done, one at least, while looking for a wish to stop."""
    from distributed import wait

    while True:
        if should_stop():
            raise Cancelled("restore")
        with client.as_current(), contextlib.suppress(TimeoutError):
            return list(wait(running, timeout=LOOK_EVERY_S, return_when="FIRST_COMPLETED").done)


def _work(job: ClusterJob, block: Block) -> list[str]:
    """On a worker; its threads take turns, since memory was measured for one block at a time."""
    notes: list[str] = []
    with ONE_AT_A_TIME, job.opened() as source:
        job.work(source, block, choose_device(job.plan.settings.device), lambda: False, notes)
    return notes
