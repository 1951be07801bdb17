"""Image files whose pixels are read on demand, for images that are larger than the memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from napari_vae_repair.image.arranged import ArrangedArray
from napari_vae_repair.image.axes import check_axes
from napari_vae_repair.image.bio import open_vendor_file
from napari_vae_repair.image.formats import check_readable
from napari_vae_repair.image.limits import check_filled, check_size
from napari_vae_repair.image.ometiff import stored_order
from napari_vae_repair.image.omezarr import open_store
from napari_vae_repair.image.record import Colours, Image, Known
from napari_vae_repair.image.tiff import decoding, known_from, tidy_dimensions
from napari_vae_repair.image.tiff_notes import first_record
from napari_vae_repair.image.tiff_windows import ReadWholeError, TiffWindows


def _nothing() -> None:
    """There is nothing to close."""


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An image whose pixels stay in their file; a context manager that closes it.

    Attributes
    ----------
    array : array-like
        With ``shape``, ``dtype`` and indexing by a tuple of slices, which reads that window into an ndarray.
    axes : str
        One letter for each dimension; see `Image`.
    chunks : tuple of int
        What is read at a time along each axis; windows of whole chunks are read without waste.
    name : str
    pixel_size_um : dict of str to float
        Micrometres per step along an axis letter, where known.
    channel_names : tuple of str
    channel_colours : tuple of (int, int, int)
        Red, green and blue, 0 to 255, for each entry of ``C``, or empty.
    levels : tuple of array-like
        Of a pyramid all levels, `array` first.
    """

    array: Any
    axes: str
    chunks: tuple[int, ...]
    name: str = "image"
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    channel_colours: Colours = ()
    levels: tuple[Any, ...] = ()
    closing: Callable[[], None] = _nothing

    def __post_init__(self) -> None:
        check_axes(self.axes, tuple(self.array.shape))

    def read(self) -> Image:
        """The whole image in memory; raises what `Image` raises, and `ImageFileError` for more than there is room."""
        check_size(self.name, self.array.shape, self.array.dtype)
        source: Any = getattr(self.array, "source", None)
        if hasattr(source, "store_path"):  # a zarr array
            files = math.prod(-(-n // c) for n, c in zip(source.shape, source.shards or source.chunks, strict=True))
            check_filled(Path(str(source.store_path).removeprefix("file://")), files)
        return Image(
            self.array[...],
            self.axes,
            name=self.name,
            pixel_size_um=self.pixel_size_um,
            channel_names=self.channel_names,
            channel_colours=self.channel_colours,
        )

    def close(self) -> None:
        """Close the file; its pixels cannot be read any more."""
        self.closing()

    def __enter__(self) -> OpenedImage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_image(path: str | Path, axes: str | None = None) -> OpenedImage:
    """An image file, opened; only its header is read.

    Pixels are read where they are asked for from OME-Zarr, from plain zarr arrays with named axes, from TIFF in
    tiles, strips or mapped into memory, and from vendors' files as far as their library can. PNG, JPEG and BMP, and
    TIFF that cannot be read in parts, are read whole.

    Parameters
    ----------
    path : str or Path
    axes : str or None
        Names that replace the file's; see `Image`.

    Raises
    ------
    ImageFileError
        The file is missing, of an unknown kind, damaged or incomplete.
    InputError
        `axes` do not fit, or are needed because the file does not name them.
    """
    path = Path(path)
    kind = check_readable(path)
    if kind == "store":
        return _from_store(path, axes)
    if kind == "vendor":
        array, letters, chunks, known = open_vendor_file(path, axes)
        return _opened(path, array, letters, chunks, known)
    if kind == "tiff":
        with suppress(ReadWholeError):
            return _from_tiff(path, axes)
    from napari_vae_repair.image.files import read_image

    return in_memory(read_image(path, axes))


def in_memory(image: Image) -> OpenedImage:
    """An image that is there already, as an `OpenedImage`."""
    return OpenedImage(
        image.pixels, image.axes, image.pixels.shape, image.name, image.pixel_size_um, image.channel_names,
        image.channel_colours, (image.pixels,),
    )  # fmt: skip


def _from_store(path: Path, axes: str | None) -> OpenedImage:
    store = open_store(path, axes)
    return OpenedImage(
        store.levels[0], store.axes, store.chunks, path.name.split(".")[0], store.pixel_size_um, store.channel_names,
        store.channel_colours, store.levels,
    )  # fmt: skip


def _from_tiff(path: Path, axes: str | None) -> OpenedImage:
    """A TIFF in windows; `ReadWholeError` where it must be read whole."""
    windows = TiffWindows(path)
    with decoding(path):
        own = first_record(path)
        if own is None:
            dims, letters = tidy_dimensions(windows.shape, list(windows.axes), axes)
            array, known = ArrangedArray(windows, dims), windows.known
        else:
            dims, letters = _own_dimensions(windows, own, axes)
            array, known = ArrangedArray(windows, dims, own["dtype"]), known_from(own)
    return _opened(path, array, letters, tuple(windows.chunks[d] for d in dims), known, windows.close)


def _own_dimensions(windows: TiffWindows, own: dict[str, Any], axes: str | None) -> tuple[list[int], str]:
    """Where the axes of an image lie in the OME-TIFF that we wrote of it."""
    stored = [(a, own["shape"][own["axes"].index(a)]) for a in stored_order(own["axes"])]
    long_axes = [a for a, n in stored if n > 1]
    places = [d for d, n in enumerate(windows.shape) if n > 1]
    if [n for _, n in stored if n > 1] != [windows.shape[d] for d in places]:
        raise ReadWholeError(f"windows of {windows.path}: another program has changed it")
    kept, letters = tidy_dimensions(own["shape"], list(own["axes"]), axes)
    try:
        return [places[long_axes.index(own["axes"][k])] for k in kept], letters
    except ValueError as error:  # Y or X of one pixel
        raise ReadWholeError(f"windows of {windows.path}: {error}") from error


def _opened(
    path: Path,
    array: ArrangedArray,
    axes: str,
    chunks: tuple[int, ...],
    known: Known,
    closing: Callable[[], None] = _nothing,
) -> OpenedImage:
    about = known.fitting(axes, array.shape)
    return OpenedImage(array, axes, chunks, path.name.split(".")[0], **about, levels=(array,), closing=closing)
