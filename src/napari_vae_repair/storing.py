"""Restoration from file to OME-Zarr, block by block: images larger than memory, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_vae_repair import __version__
from napari_vae_repair.blockwise import Plan, Source, restore_block
from napari_vae_repair.cluster import connect, restored_on_cluster
from napari_vae_repair.errors import ImageFileError, InputError
from napari_vae_repair.image.blocks import Block, Grid
from napari_vae_repair.image.files import to_dtype
from napari_vae_repair.image.lock import only_writer
from napari_vae_repair.image.opened import OpenedImage, open_image
from napari_vae_repair.image.zarr_store import StoreWriter
from napari_vae_repair.phases import Progress, ShouldStop, model_of, stop_if
from napari_vae_repair.planning import plan_steps
from napari_vae_repair.scaleout import BLOCK_PX
from napari_vae_repair.settings import Settings
from napari_vae_repair.store_setup import (
    NOT_THE_RESULT,
    Kept,
    check_apart,
    check_samples,
    check_unchanged,
    key_of,
    results_of,
    states_of,
    weights_sha256,
    writer_of,
)
from napari_vae_repair.stored import Stored, StoredReport
from napari_vae_repair.vae.device import Device, choose_device
from napari_vae_repair.vae.record import Model


@dataclass(frozen=True, slots=True)
class Job:
    """All that a process must know to restore blocks of one file into stores; can be sent to another machine.

    Attributes
    ----------
    plan : Plan
    source : Path or None
        The image file, under the same path on every machine; None = an array of this process.
    axes : str
        Its axes.
    mask : Path or None
        An image file, not zero = damaged.
    writers : dict of str to StoreWriter
        For "restored", and "residual" and "std" where they are asked for.
    """

    plan: Plan
    source: Path | None
    axes: str
    mask: Path | None
    writers: Mapping[str, StoreWriter]

    @contextlib.contextmanager
    def opened(self) -> Iterator[Source]:
        """The image and its mask."""
        assert self.source is not None  # workers are given files alone
        with contextlib.ExitStack() as files:
            image = files.enter_context(open_image(self.source, self.axes))
            mask = None if self.mask is None else files.enter_context(open_image(self.mask))
            yield Source(image.array, image.axes, None if mask is None else mask.array)

    def work(self, source: Source, block: Block, device: Device, should_stop: ShouldStop, notes: list[str]) -> None:
        """Restore one block, write it and note that it is done; what the user should know is added to `notes`."""
        found = restore_block(self.plan, source, block, device, should_stop, notes)
        grid = Grid(self.plan.layout, 1)
        window = grid.slices(block.index, block.window, self.plan.axes, self.plan.colours)
        for name, writer in self.writers.items():
            writer.write(window, to_dtype(getattr(found, name), writer.dtype))
        for writer in self.writers.values():
            writer.mark_done(block.number)


def restore_to_store(
    source: Path | OpenedImage,
    outputs: Mapping[str, Path],
    settings: Settings,
    *,
    axes: str | None = None,
    mask: Any = None,
    dtype: str | None = None,
    version: str = "0.5",
    scheduler: str | None = None,
    block_px: int = BLOCK_PX,
    model: Model | None = None,
    should_stop: ShouldStop = lambda: False,
) -> Generator[Progress, None, Stored]:
    """Restore an image into OME-Zarr stores, whatever its size; memory is needed for a few blocks alone.

    The stores appear complete or not at all. Of files, a run that was stopped or killed is gone on with by the next
    one with the same settings and outputs: what is done is not done again. The pixels are those of `restore_lazily`.

    Parameters
    ----------
    source : Path or OpenedImage
        Any file that `open_image` opens; or an image that this process reads, such as a dask array.
    outputs : mapping of str to Path
        Stores for "restored", and if wanted "residual" and "std" (which needs samples).
    settings : Settings
    axes : str or None
        Names that replace the file's.
    mask : Path, array-like or None
        An image file, or else an array, of the image's shape without ``S``; not zero = damaged.
    dtype : str or None
        Of "restored"; None = the image's where the values are in its units, else float32. The others are float32.
    version : str
        Of OME-Zarr, "0.4" or "0.5".
    scheduler : str or None
        Address of a dask scheduler whose workers restore the blocks; None = this process.
    block_px : int
        Side of a block along ``Y`` and ``X``, a multiple of 512.
    model : Model, optional
        Takes the place of `settings.model`.
    should_stop : callable

    Yields
    ------
    Progress
        Of the phases "prepare", "train" or "adapt" if there is one, "restore" and "write".

    Raises
    ------
    ClusterError
        The scheduler cannot be reached, or its workers fail.
    InputError
        A scheduler is given, and image or mask are no files.
    VaeRepairError
        As `restore_lazily`, and for files that cannot be read or written.
    """
    began, device = time.monotonic(), choose_device(settings.device)
    files = _files(source, mask, scheduler)
    states = states_of(files)
    with contextlib.ExitStack() as held:
        client = None if scheduler is None else held.enter_context(contextlib.closing(connect(scheduler)))
        for path in outputs.values():
            check_apart(path, files)
            held.enter_context(only_writer(path))
        image = source if isinstance(source, OpenedImage) else held.enter_context(open_image(source, axes))
        marked = held.enter_context(open_image(mask)).array if isinstance(mask, Path) else mask
        pixels = Source(image.array, image.axes, marked)
        known = model or model_of(settings)
        check_samples(outputs, known, settings)
        key = key_of(settings, model, states, block_px, axes)
        if any(given is not None and path is None for given, path in zip((source, mask), files, strict=True)):
            key = secrets.token_hex()  # an array cannot be told from another
        results = results_of(image, known, settings)
        writers = {name: writer_of(path, name, results, image, dtype, version, key) for name, path in outputs.items()}
        kept = Kept(next(iter(writers.values())))
        plan = yield from plan_steps(pixels, settings, block_px, device, should_stop, model, kept.found())
        assert (plan.shape, plan.axes) == (results.shape, results.axes)
        kept.keep(plan)
        job = Job(plan, files[0], image.axes, files[1], writers)
        done = set.intersection(*(writer.done for writer in writers.values()))
        blocks = [block for block in Grid(plan.layout, block_px) if block.number not in done]
        in_all, notes = len(done) + len(blocks), list(plan.notes)
        yield Progress("restore", len(done), in_all)
        if client is None:
            finished = _restored_here(job, pixels, blocks, device, should_stop, notes)
        else:
            finished = restored_on_cluster(client, job, blocks, should_stop, notes)
        for count, _ in enumerate(finished, 1):
            yield Progress("restore", len(done) + count, in_all)
        try:
            check_unchanged(files, states)
        except ImageFileError:
            for writer in writers.values():
                writer.discard()  # nobody knows which blocks are of which image
            raise
        facts = _provenance(plan, image)
        yield Progress("write", 0, len(writers))
        for count, writer in enumerate(writers.values(), 1):
            writer.build(facts, should_stop)
            yield Progress("write", count, len(writers))
        # not before all are built: a stop in between would leave one in its place and its blocks forgotten
        paths = tuple(writer.appear() for writer in writers.values())
    report = StoredReport(
        noise=plan.noise,
        noise_in_source_units=plan.led_back,
        in_source_units=plan.in_source_units,
        blocks=in_all,
        resumed=len(done),
        seconds=time.monotonic() - began,
        device=scheduler or device.label,
        notes=tuple(dict.fromkeys(notes)),
        samples=plan.samples,
    )
    return Stored(paths, report, plan.model, settings)


def _files(source: Any, mask: Any, scheduler: str | None) -> tuple[Path | None, Path | None]:
    """Paths of image and mask, None for what is no file."""
    if scheduler is not None and not (isinstance(source, Path) and isinstance(mask, Path | None)):
        raise InputError(
            f"A scheduler was given, and the {'mask' if isinstance(source, Path) else 'image'} is an array.",
            "Workers read files themselves.",
            "Save it as a file that all of them see and give its path, or give no scheduler.",
        )
    paths = (path.absolute() if isinstance(path, Path) else None for path in (source, mask))
    return next(paths), next(paths)


def _restored_here(
    job: Job, source: Source, blocks: list[Block], device: Device, should_stop: ShouldStop, notes: list[str]
) -> Iterator[Block]:
    for block in blocks:
        stop_if(should_stop, "restore")
        job.work(source, block, device, should_stop, notes)
        yield block


def _provenance(plan: Plan, image: OpenedImage) -> dict[str, Any]:
    """How a store came to be; the same for the same image and settings on one machine."""
    return {
        "source": image.name,
        "version": __version__,
        "settings": plan.settings.model_dump(mode="json", exclude=NOT_THE_RESULT),
        "weights_sha256": weights_sha256(plan.model),
        "report": {
            "noise": [noise.to_dict() for noise in plan.noise],
            "noise_in_source_units": plan.led_back,
            "in_source_units": plan.in_source_units,
            "samples": plan.samples,
            "notes": list(plan.notes),
        },
    }
