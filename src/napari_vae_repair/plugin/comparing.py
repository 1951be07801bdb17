"""A comparison in the worker's thread, row by row, and its rows as layers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.image.record import Image
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.layers import METADATA_KEY
from napari_vae_repair.plugin.region import Region, cropped, cut, moved
from napari_vae_repair.plugin.snapshot import LayerData, Snapshot, in_memory
from napari_vae_repair.plugin.storing import check_fits
from napari_vae_repair.plugin.worker import import_pipeline

if TYPE_CHECKING:
    from napari_vae_repair.plugin.desk import Steps
    from napari_vae_repair.ranking import Compared, Comparison
    from napari_vae_repair.settings import Settings


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be compared.

    Attributes
    ----------
    source : Snapshot
        One plane.
    reference : Snapshot or None
        The same plane of the truth.
    region : tuple of slice or None
        Of the plane; None = all of it.
    methods : tuple of str
        Of `contenders.methods`.
    settings : Settings
        Of ours and of the autoencoder.
    """

    source: Snapshot
    reference: Snapshot | None
    region: Region | None
    methods: tuple[str, ...]
    settings: Settings


@dataclass(frozen=True, slots=True)
class Compares:
    """What is compared: told before the first row.

    Attributes
    ----------
    pixels : ndarray
        Of the region, as they were measured.
    source : Snapshot
        Of the plane, without its pixels.
    region : tuple of slice or None
    """

    pixels: NDArray[np.generic]
    source: Snapshot
    region: Region | None


def comparison_steps(question: Question, tell: Callable[[Compares | Compared], None]) -> Steps[Comparison]:
    """Steps for `Desk.work`; `tell` is called in the worker's thread, with what is compared and then with each row."""
    given = [question]

    def steps(stop: Event) -> Generator[Update, None, Comparison]:
        yield Update(0.0, "Starting PyTorch" if "torch" not in sys.modules else "Reading the layer")
        import_pipeline()
        from napari_vae_repair.comparison import compare_steps

        asked = given.pop()
        image, reference = _read(asked, stop)
        run = compare_steps(
            image, only=asked.methods, reference=reference, settings=asked.settings, should_stop=stop.is_set
        )
        tell(Compares(image.pixels, asked.source.without_pixels(), asked.region))
        while True:
            try:
                progress = next(run)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if progress.row is not None and not stop.is_set():
                tell(progress.row)
            under_way = min(progress.done + 1, progress.total)
            yield Update(
                (progress.done + progress.share) / progress.total,
                f"Comparing: {progress.method} ({under_way} of {progress.total})",
            )

    return steps


def _read(asked: Question, stop: Event) -> tuple[Image, NDArray[np.generic] | None]:
    """The region of the image and of the reference."""
    from napari_vae_repair.preparation import check_reference

    source, truth, region = asked.source, asked.reference, asked.region
    if region is not None and not in_memory(source.data) and (truth is None or truth.shape == source.shape):
        source, truth, region = cut(source, region), None if truth is None else cut(truth, region), None
    check_fits(source, asked.settings, "Comparing")
    image = source.read(stop.is_set)
    reference = None if truth is None else truth.pixels(stop.is_set)
    if reference is not None:
        check_reference(reference, image)
    if region is None:
        return image, reference
    return cropped(image, region), None if reference is None else reference[region]


def row_layer(row: Compared, compares: Compares) -> LayerData:
    """A row's result as a layer where its pixels lie, looking as the source did; marked as ours."""
    source, region = compares.source, compares.region
    facts: dict[str, Any] = {
        "source": source.name,
        "role": row.method,
        "axes": source.axes,
        "in_source_units": True,
        "loss": row.loss,
        "parameters": dict(row.parameters),
        "region": None if region is None else [[part.start, part.stop] for part in region],
    }
    look = source.look | {"rgb": source.axes.endswith("S"), "name": f"{source.name} {row.method}"}
    space = source.space if region is None else moved(source.space, region)
    return row.restored, {**space, **look, "metadata": {METADATA_KEY: facts}}, "image"
