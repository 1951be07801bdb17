"""One file restored: read, checked, restored, and everything that was asked for written, each file whole or not."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vae_repair import __version__
from napari_vae_repair.batch.job import Job
from napari_vae_repair.preflight import check_formats, float_dtype, output_dtype, read_mask, read_reference
from napari_vae_repair.running import finished
from napari_vae_repair.settings import SCRATCH, STARTER, Settings

if TYPE_CHECKING:
    from napari_vae_repair.image.record import Image
    from napari_vae_repair.pipeline import Progress
    from napari_vae_repair.restoration import Restoration
    from napari_vae_repair.stored import Stored

STARTER_FILE = "weights/starter.safetensors"  # `vae.starter` knows it too, but loads PyTorch: skipping needs none
IN_ONE_PIECE_PX = 2**24  # up to here an image, and all that is made of it, is held in memory
_OF_THE_RUN = ("seconds", "device")  # another run of the same on the same machine has others


def restore_one(
    job: Job,
    on_step: Callable[[Progress], None],
    on_written: Callable[[str], None],
    scheduler: str | None = None,
) -> Restoration | Stored:
    """Restore one file and write what the job asks for; all outputs are locked meanwhile.

    Stores are written block by block where the image has more than `IN_ONE_PIECE_PX` pixels, where one piece does not
    fit into `Settings.memory_mb`, or on a cluster.

    Parameters
    ----------
    job : Job
    on_step : callable
        Called with each step of the restoration.
    on_written : callable
        Called with the path of each file as soon as it is complete.
    scheduler : str or None
        Address of a dask scheduler that works for this process.

    Returns
    -------
    Restoration or Stored

    Raises
    ------
    VaeRepairError
        As `read_image`, `restore` and `write_image`; `UsageError` where a file type cannot hold its results.
    """
    from napari_vae_repair.image.atomic import check_writable
    from napari_vae_repair.image.files import read_image
    from napari_vae_repair.image.lock import only_writer

    if scheduler is not None or _is_large(job):
        return _restore_by_blocks(job, on_step, on_written, scheduler)
    image = read_image(job.input, job.axes)
    check_formats(job, image, job.settings)
    with ExitStack() as locks:
        for path in job.written:
            check_writable(path)
            locks.enter_context(only_writer(path))
        if job.mask is not None:
            image = dataclasses.replace(image, mask=read_mask(job.mask, job.axes))
        reference = None if job.reference is None else read_reference(job.reference, job.axes, image)
        restoration = run(image, job.settings, on_step, on_written, reference, job.save_model)
        _write_images(job, image, restoration, on_written)
        if job.report is not None:
            write_report(restoration, Path(job.report), image.name)
            on_written(job.report)
    return restoration


def _is_large(job: Job) -> bool:
    """Whether the job is one for `storing`: a large image into stores alone."""
    if not all(path.lower().endswith(".zarr") for path in job.written) or job.reference is not None:
        return False
    from napari_vae_repair.image.opened import open_image

    with open_image(job.input, job.axes) as image:
        size, itemsize = math.prod(image.array.shape), int(image.array.dtype.itemsize)
    # without memory_mb what is free at the moment must not decide, for the bytes would not be the same again
    if size > IN_ONE_PIECE_PX or job.settings.memory_mb is None:
        return bool(size > IN_ONE_PIECE_PX)
    read_bytes = size * (itemsize + (job.mask is not None))
    return not _fits(size, read_bytes, job.settings)


def _fits(values: int, read_bytes: int, settings: Settings) -> bool:
    """Whether one piece will be within `memory_mb`, once image and mask are read: as `check_whole` will find."""
    import psutil

    import napari_vae_repair.pipeline  # noqa: F401 - its libraries count, too
    from napari_vae_repair.image.free_memory import MB, whole_image_bytes

    assert settings.memory_mb is not None
    needed = (
        whole_image_bytes(values, settings.most_kept_samples) + read_bytes + int(psutil.Process().memory_info().rss)
    )
    return needed <= settings.memory_mb * MB


def _restore_by_blocks(
    job: Job, on_step: Callable[[Progress], None], on_written: Callable[[str], None], scheduler: str | None
) -> Stored:
    from napari_vae_repair.storing import restore_to_store

    named = {"restored": job.output, "residual": job.residual, "std": job.std}
    steps = restore_to_store(
        Path(job.input),
        {name: Path(path) for name, path in named.items() if path is not None},
        job.settings,
        axes=job.axes,
        mask=None if job.mask is None else Path(job.mask),
        dtype=job.dtype,
        scheduler=scheduler,
    )
    stored = finished(steps, on_step)
    for path in stored.paths:
        on_written(str(path))
    return stored


def run(
    image: Image,
    settings: Settings,
    on_step: Callable[[Progress], None],
    on_written: Callable[[str], None],
    reference: Any = None,
    save_model_to: str | None = None,
) -> Restoration:
    """Restore an image; the model is saved before prediction, so that its training is not lost."""
    from napari_vae_repair.pipeline import restore_steps

    saved = save_model_to is None

    def tell_and_save(progress: Progress) -> None:
        nonlocal saved
        on_step(progress)
        if not saved and progress.model is not None:
            from napari_vae_repair.vae.checkpoint import save_model

            on_written(str(save_model(progress.model, str(save_model_to))))
            saved = True

    return finished(restore_steps(image, settings, reference=reference), tell_and_save)


def _write_images(job: Job, image: Image, restoration: Restoration, on_written: Callable[[str], None]) -> None:
    from napari_vae_repair.image.files import write_image

    provenance = provenance_of(restoration, image.name)
    in_source_units = restoration.report.in_source_units
    for path, values, dtype in (
        (job.output, restoration.restored, output_dtype(job.dtype, image, in_source_units)),
        (job.residual, restoration.residual, float_dtype(job.dtype)),
        (job.std, restoration.std, float_dtype(job.dtype)),
    ):
        if path is not None:
            write_image(
                path,
                values,
                restoration.axes,
                dtype=dtype,
                pixel_size_um=image.pixel_size_um,
                channel_names=image.channel_names if "C" in restoration.axes else (),
                channel_colours=image.channel_colours if "C" in restoration.axes else (),
                provenance=provenance,
            )
            on_written(path)


def provenance_of(restoration: Restoration, source: str) -> dict[str, Any]:
    """How it came to be, for the files that it is written to.

    Nothing in it tells when or how fast it was made: the same restoration gives the same bytes again.

    Parameters
    ----------
    restoration : Restoration
    source : str
        Name of the image.

    Returns
    -------
    dict
        ``source``, ``version``, ``settings``, ``model_sha256`` (of the model's file; None where it was trained on the
        image) and ``report``.
    """
    return {
        "source": source,
        "version": __version__,
        "settings": restoration.settings.model_dump(mode="json"),
        "model_sha256": model_sha256(restoration.settings),
        "report": _repeatable(restoration.report.to_dict()),
    }


def _repeatable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _repeatable(inner) for name, inner in value.items() if name not in _OF_THE_RUN}
    return value


def model_sha256(settings: Settings) -> str | None:
    """SHA-256 of the file of the model that the settings name; None for a training from scratch, or a missing file."""
    if settings.model == SCRATCH:
        return None
    path = Path(__file__).parents[1] / STARTER_FILE if settings.model == STARTER else Path(settings.model)
    try:
        state = path.stat()
        return _file_sha256(path, state.st_mtime_ns, state.st_size)
    except OSError:
        return None


@functools.lru_cache(maxsize=8)
def _file_sha256(path: Path, mtime_ns: int, size: int) -> str:
    from napari_vae_repair.batch.hashes import sha256_of

    return sha256_of(path)


def write_report(restoration: Restoration, path: Path, source: str) -> None:
    """Write how far it can be trusted: a page (.html) or numbers (.json)."""
    if path.suffix.lower() == ".html":
        from napari_vae_repair.trust_page import write_trust_page

        # a page is UTF-8, and not all names of files are
        write_trust_page(restoration, path, source=source.encode(errors="backslashreplace").decode())
    else:
        write_json(restoration.report.to_dict() | {"trust": restoration.trust().to_dict()}, path)


def write_json(content: Any, path: Path) -> None:
    """Write JSON values, whole or not at all; NaN and infinities become null."""
    from napari_vae_repair.image.atomic import replacing
    from napari_vae_repair.image.tiff import json_metadata

    # JSON has no NaN; strict readers would refuse the whole file
    text = json.dumps(json_metadata(content, path))
    plain = json.loads(text, parse_constant=lambda _: None)
    with replacing(path) as stream:
        stream.write(json.dumps(plain, indent=2).encode() + b"\n")
