"""Restoration of dask arrays, block by block and only where it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.blockwise import ONE_AT_A_TIME, Plan, Restored, Source, restore_read
from napari_vae_repair.image.axes import default_axes
from napari_vae_repair.image.blocks import Block, Grid
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.phases import Progress, never
from napari_vae_repair.planning import plan_steps
from napari_vae_repair.running import finished
from napari_vae_repair.settings import Settings, make_settings
from napari_vae_repair.vae.device import choose_device
from napari_vae_repair.vae.record import Model

BLOCK_PX = 1024


@dataclass(frozen=True, slots=True)
class LazyRestoration:
    """What `restore_lazily` promises: dask arrays of float32 whose blocks are restored when they are computed.

    Attributes
    ----------
    restored, residual, std : dask array
        As in `Restoration`; computed together, each block is restored once.
    samples : dask array or None
        ``(samples, *restored.shape)`` with ``keep_samples=True``.
    axes : str
        Letters of the dimensions of `restored`.
    noise : tuple of NoiseModel
        One for each channel of ``C``; in the image's units where `Plan.led_back`.
    model : Model
        What restores; adapted or trained already where the settings say so.
    settings : Settings
    notes : tuple of str
        What the user should know.
    """

    restored: Any
    residual: Any
    std: Any
    samples: Any
    axes: str
    noise: tuple[NoiseModel, ...]
    model: Model
    settings: Settings
    notes: tuple[str, ...]


def restore_lazily(
    image: Any,
    settings: Settings | None = None,
    *,
    axes: str | None = None,
    mask: Any = None,
    block_px: int = BLOCK_PX,
    on_step: Callable[[Progress], None] | None = None,
    **changes: Any,
) -> LazyRestoration:
    """Restore an image of any size block by block.

    Only a few windows, up to 4 million pixels of each channel, are read now: range and noise are told from them, and
    a model is trained or adapted on them where the settings ask for that. The pixels are those of `restore` within
    1e-3 of the range, whatever the chunks, except within damage that is wider than the halo of a block.

    Parameters
    ----------
    image : dask array or anything with ``shape``, ``dtype`` and slicing
        As in `restore`.
    settings : Settings, optional
        As in `restore`; the preprocessing must take each pixel by itself.
    axes : str, optional
        As in `restore`.
    mask : array-like of bool, optional
        As in `restore`; may be a dask array.
    block_px : int
        Side of the blocks along ``Y`` and ``X``; along other axes there is one plane a block.
    on_step : callable, optional
        Called with each `Progress` of a training.
    **changes
        Single fields of `settings`; `model` may also be a `Model`.

    Raises
    ------
    VaeRepairError
        As `restore`, here or when blocks are computed.
    SettingsError
        For a chain with steps that look at whole planes.
    """
    model = changes.pop("model") if isinstance(changes.get("model"), Model) else None
    chosen = make_settings(settings, **changes)
    source = Source(_lazy(image), axes or default_axes(tuple(image.shape)), None if mask is None else _lazy(mask))
    plan = finished(plan_steps(source, chosen, block_px, choose_device(chosen.device), never, model), on_step)
    restored, residual, std, samples = _arrays(plan, source, block_px)
    return LazyRestoration(restored, residual, std, samples, plan.axes, plan.noise, plan.model, chosen, plan.notes)


def _arrays(plan: Plan, source: Source, block_px: int) -> list[Any]:
    """Restored, residual, std and samples as dask arrays; the plan is one node of their graph."""
    import dask.array as da
    from dask.delayed import delayed

    grid, shared = Grid(plan.layout, block_px), delayed(plan, traverse=False)
    kept = plan.samples if plan.settings.keep_samples else 0
    counts = dict(zip(grid.stack + "YX", grid.shape, strict=True)) | {"S": 1}
    cells = {
        name: np.empty([counts[letter] for letter in plan.axes], dtype=object)
        for name in ("restored", "residual", "std", *(["samples"] * bool(kept)))
    }
    for block in grid:
        read = plan.read_window(block.window)
        values = source.array[grid.slices(block.index, read)]
        flat = plan.layout.axes.replace("S", "")
        marked = None if source.mask is None else source.mask[grid.slices(block.index, read, flat)]
        piece = delayed(_restored, pure=False)(shared, values, marked, block)
        shape = tuple(
            part.stop - part.start for part in grid.slices(block.index, block.window, plan.axes, plan.colours)
        )
        starts = dict(zip(grid.stack, block.index, strict=True)) | {"S": 0}
        starts |= {"Y": block.window[0].start // block_px, "X": block.window[1].start // block_px}
        for name, cell in cells.items():
            size = (kept, *shape) if name == "samples" else shape
            cell[tuple(starts[letter] for letter in plan.axes)] = da.from_delayed(
                getattr(piece, name), size, np.float32
            )
    arrays = [da.block(cell.tolist()) for cell in cells.values()]
    return arrays + [None] * (4 - len(arrays))


def _restored(plan: Plan, values: NDArray[np.generic], marked: NDArray[np.bool_] | None, block: Block) -> Restored:
    source = Source(values, plan.layout.axes, marked)
    read = source.read((slice(None),) * values.ndim)
    with ONE_AT_A_TIME:
        return restore_read(plan, block, *read, choose_device(plan.settings.device), never, [])


def _lazy(array: Any) -> Any:
    """A dask array as it is, anything else as one."""
    import dask.array as da

    chunks = getattr(array, "chunks", None) or "auto"  # h5py has None for what is in one piece
    return array if isinstance(array, da.Array) else da.from_array(array, chunks=chunks)
