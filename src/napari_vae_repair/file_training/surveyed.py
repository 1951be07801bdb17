"""Image files as training sees them: looked at once, then read window by window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.blockwise import Source
from napari_vae_repair.errors import InputError
from napari_vae_repair.image.axes import Layout, spatial_shape
from napari_vae_repair.image.opened import OpenedImage, open_image
from napari_vae_repair.image.opponent import to_opponent
from napari_vae_repair.image.preprocess import FittedChain
from napari_vae_repair.image.record import MIN_SIDE_PX
from napari_vae_repair.image.survey import Region, Survey, needs_survey, take_survey
from napari_vae_repair.joint import check_adaptable
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.settings import Settings
from napari_vae_repair.survey import characterised
from napari_vae_repair.vae.adapt import Seen
from napari_vae_repair.vae.device import Device
from napari_vae_repair.vae.record import Model, View

MARGIN_PX = 16  # read around a window where steps of the chain look at neighbours
_LOOK_AT_NEIGHBOURS = ("contrast", "denoise", "equalise")


@dataclass(frozen=True, slots=True)
class Place:
    """A window of one plane of one file; it may reach beyond the plane's end, where the plane is mirrored.

    Attributes
    ----------
    file : int
        Number of the file.
    plane : int
        Number of the plane as `Layout.to_planes` counts them, channels slowest.
    y, x : int
        First row and column, in pixels.
    """

    file: int
    plane: int
    y: int
    x: int


@dataclass(frozen=True, slots=True)
class Window:
    """What was read at a place, as the network is shown it.

    Attributes
    ----------
    planes : ndarray of float32
        ``(K, C, Y, X)``: K = 1, or the opponent colours for a model that knows grey planes alone.
    damaged : ndarray of bool
        ``(Y, X)``; what was mirrored counts as damaged.
    """

    planes: NDArray[np.float32]
    damaged: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A file that was looked at.

    Attributes
    ----------
    path : Path
    axes : str or None
        That replace the file's own.
    name : str
    layout : Layout
    dtype : str
    chains : tuple of FittedChain
        One for each channel, as are `noise` and `views`.
    noise : tuple of NoiseModel
    views : tuple of tuple of View
        One for each opponent colour; empty without a model that is told of noise.
    colours : int
        Of the prepared planes.
    damaged : bool
        Whether anything was not measured, as far as the survey saw.
    """

    path: Path
    axes: str | None
    name: str
    layout: Layout
    dtype: str
    chains: tuple[FittedChain, ...]
    noise: tuple[NoiseModel, ...]
    views: tuple[tuple[View, ...], ...]
    colours: int
    damaged: bool

    @property
    def planes(self) -> int:
        """Number of planes, those of all channels."""
        return int(np.prod([length for letter, length in _sizes(self.layout) if letter not in "YXS"]))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return spatial_shape(self.layout.shape, self.layout.axes)

    def windows(self, places: Iterable[Place], side: tuple[int, int]) -> Iterator[Window]:
        """What is at the places, all of one size; the file is opened once, and one window is held at a time.

        Raises
        ------
        ImageFileError
            If the file cannot be read any more.
        InputError
            If it is another image by now.
        """
        with open_image(self.path, self.axes) as opened:
            if (tuple(opened.array.shape), opened.axes) != (self.layout.shape, self.layout.axes):
                raise InputError(
                    f"{self.path} has shape {tuple(opened.array.shape)} now, and had {self.layout.shape}.",
                    "The files must stay as they are while a model is trained on them.",
                    "Start again with --restart (resume=False).",
                )
            for place in places:
                yield self._window(opened.array, place, side)

    def _window(self, array: Any, place: Place, side: tuple[int, int]) -> Window:
        channel = place.plane // (self.planes // self.layout.channels)
        chain, height_width = self.chains[channel], self.shape
        margin = MARGIN_PX if any(step.settings.step in _LOOK_AT_NEIGHBOURS for step in chain.steps) else 0
        inner = [slice(at, min(at + n, end)) for at, n, end in zip((place.y, place.x), side, height_width, strict=True)]
        outer = [
            slice(max(0, part.start - margin), min(end, part.stop + margin))
            for part, end in zip(inner, height_width, strict=True)
        ]
        values, damaged = read_plane(array, self.layout, place.plane, outer[0], outer[1])
        cut = tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
        if damaged.all():
            prepared = np.zeros((1, self.colours, *damaged.shape), dtype=np.float32)
        else:
            prepared = chain.apply(values[None], damaged[None])
        prepared, damaged = prepared[:, :, *cut], damaged[cut]
        if self.views:
            prepared = to_opponent(prepared).reshape(-1, 1, *damaged.shape)
        missing = [(0, n - length) for n, length in zip(side, damaged.shape, strict=True)]
        if any(after for _, after in missing):
            prepared = np.pad(prepared, [(0, 0), (0, 0), *missing], mode="symmetric")
            damaged = np.pad(damaged, missing, constant_values=True)
        return Window(prepared, damaged)


def survey(path: Path, axes: str | None, model: Model | None, settings: Settings, device: Device) -> Surveyed:
    """Look at a file as at an image that is restored alone: what is found in it holds for all its windows.

    Raises
    ------
    ImageFileError
        If it cannot be read.
    InputError
        If it is no image that can be restored, or the model cannot be adapted to it.
    SettingsError
        As `prepare`.
    """
    with open_image(path, axes) as opened:
        layout = Layout(opened.axes, tuple(opened.array.shape))
        looked = _look(opened.array, layout)
        _check(path, opened, looked)
        found = characterised(looked, layout.channels, model, settings, device)
        if model is not None:
            check_adaptable(str(path), Seen(found.prepared, looked.damaged, found.views))
        views = tuple(tuple(found.views_of(channel)) for channel in range(layout.channels)) if found.views else ()
        return Surveyed(
            path,
            axes,
            opened.name,
            layout,
            str(opened.array.dtype),
            tuple(found.chains),
            found.noise,
            views,
            found.prepared.shape[1],
            bool(looked.damaged.any()),
        )


def _look(array: Any, layout: Layout) -> Survey:
    height, width = spatial_shape(layout.shape, layout.axes)
    planes = int(np.prod([length for letter, length in _sizes(layout) if letter not in "YXS"]))
    count = planes // layout.channels

    def read(region: Region) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        parts = [
            read_plane(array, layout, channel * count + region.plane, *region.window)
            for channel in range(layout.channels)
        ]
        return np.stack([values for values, _ in parts]), np.stack([damaged for _, damaged in parts])

    if needs_survey(count, height, width):
        return take_survey(read, count, height, width)
    return Survey((), *Source(array, layout.axes).read(tuple(slice(None) for _ in layout.shape)))


def _check(path: Path, opened: OpenedImage, looked: Survey) -> None:
    """What `Image` would say, with the file's path."""
    kind, shape = np.dtype(opened.array.dtype).kind, looked.planes.shape[2:]
    if kind not in "buif" or min(spatial_shape(tuple(opened.array.shape), opened.axes)) < MIN_SIDE_PX:
        raise InputError(
            f"{path} holds {opened.array.dtype} in planes of {shape[0]} x {shape[1]} pixels.",
            f"Real numbers in planes of at least {MIN_SIDE_PX} x {MIN_SIDE_PX} can be learned from.",
            "Leave this file out, or name its axes.",
        )
    if looked.damaged.all():
        raise InputError(f"{path} holds no finite value.", "Something must have been measured.", "Leave this file out.")


# ---- pixels ------------------------------------------------------------------------------------


def read_plane(
    array: Any, layout: Layout, plane: int, rows: slice, columns: slice
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Values ``(C, Y, X)`` without alpha and damage ``(Y, X)`` of a window of one plane, channels slowest."""
    stack = sorted((entry for entry in _sizes(layout) if entry[0] not in "YXS"), key=lambda entry: entry[0] != "C")
    at = np.unravel_index(plane, [length for _, length in stack]) if stack else ()
    parts = {letter: slice(int(index), int(index) + 1) for (letter, _), index in zip(stack, at, strict=True)}
    parts |= {"Y": rows, "X": columns, "S": slice(None)}
    planes, damaged = Source(array, layout.axes).read(tuple(parts[letter] for letter in layout.axes))
    return planes[0], damaged[0]


def _sizes(layout: Layout) -> list[tuple[str, int]]:
    return list(zip(layout.axes, layout.shape, strict=True))
