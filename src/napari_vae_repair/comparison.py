"""`compare`: ours beside classical denoisers on one image, ranked without a truth by how well each predicts pixels."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.contenders import LEARNED, NOTES, methods, usual_methods
from napari_vae_repair.contest import Contest, Entry
from napari_vae_repair.errors import Cancelled, InputError, SettingsError
from napari_vae_repair.image.compare import compare_planes
from napari_vae_repair.image.record import Image
from napari_vae_repair.preparation import as_image, check_reference
from napari_vae_repair.ranking import Compared, Comparison
from napari_vae_repair.running import finished
from napari_vae_repair.settings import Settings

__all__ = ["Compared", "Comparison", "ComparisonProgress", "compare", "compare_steps"]

SMALLEST_PX = 32
LOOK_S = 0.1  # between two looks at `should_stop`

Array = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ComparisonProgress:
    """Where a comparison stands.

    Attributes
    ----------
    method : str
        The one that is under way, or that is done with this step.
    done, total : int
        Methods.
    share : float
        Of the method under way that is done, 0 to 1.
    row : Compared or None
        What the method made of the image, with the step that ends it.
    """

    method: str
    done: int
    total: int
    share: float = 0.0
    row: Compared | None = None


def compare(
    image: Any,
    *,
    only: Sequence[str] | None = None,
    reference: NDArray[Any] | None = None,
    axes: str | None = None,
    settings: Settings | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Comparison:
    """Restore a plane by several methods, each tuned on it, and rank them without a truth.

    Parameters
    ----------
    image : array or napari Image layer
        One plane ``(Y, X)``, or a colour one; see `restore`. Nothing is written to it.
    only : sequence of str, optional
        Some of `contenders.methods`; None = all but the plain autoencoder, whose training takes minutes.
    reference : array, optional
        The truth, for PSNR and SSIM; the ranking does not look at it.
    axes : str, optional
        As `restore`.
    settings : Settings, optional
        Of ours; `epochs`, `training` and `seed` are those of the autoencoder too.
    on_step : callable, optional
        Called with the method that is under way, how many are done, and how many there are.
    should_stop : callable, optional
        Polled ten times a second; True ends the run with `Cancelled`.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        The image is no single plane, too small, damaged, or of another shape than the reference.
    SettingsError
        A method is unknown, or the chain cannot be undone.
    Cancelled
        `should_stop` said so.

    Notes
    -----
    The loss is that of Batson & Royer 2019 (arXiv:1901.11365): pixels on a grid are replaced by the mean of their
    neighbours, and what a method makes of them is compared with what was measured. It follows the true error where
    the noise of a pixel says nothing of its neighbours'.
    """
    steps = compare_steps(
        as_image(image, axes), only=only, reference=reference, settings=settings, should_stop=should_stop
    )
    told = ""

    def tell(progress: ComparisonProgress) -> None:
        nonlocal told
        if on_step is not None and progress.method != told:
            told = progress.method
            on_step(told, progress.done, progress.total)

    return finished(steps, tell)


def compare_steps(
    image: Image,
    *,
    only: Sequence[str] | None = None,
    reference: NDArray[Any] | None = None,
    settings: Settings | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Generator[ComparisonProgress, None, Comparison]:
    """The steps of `compare`, one at a time, for callers with an event loop of their own.

    Parameters
    ----------
    image : Image
        One plane.
    only, reference, settings, should_stop
        As `compare`.

    Yields
    ------
    ComparisonProgress
        Before each method, ten times a second while it is under way, and with its row when it is done.

    Raises
    ------
    VaeRepairError
        As `compare`.

    Notes
    -----
    One call of a classical denoiser can take many seconds and cannot be stopped. So each method runs in a thread; on
    a wish to stop this generator ends within `LOOK_S`, and the thread ends by itself after that call, its result
    thrown away.
    """
    pixels, names = _plane(image, reference), _names(only)
    truth = None if reference is None else _as_planes(reference)
    wish, left = should_stop or (lambda: False), Event()
    contest = Contest(pixels, settings or Settings(), lambda: left.is_set() or wish())
    rows: list[Compared] = []
    try:
        for done, name in enumerate(names):
            yield ComparisonProgress(name, done, len(names))
            entry = yield from _in_thread(
                partial(contest.enter, name), partial(_under_way, contest, name, done, len(names)), wish
            )
            rows.append(_row(name, entry, truth))
            yield ComparisonProgress(name, done + 1, len(names), row=rows[-1])
        last = ComparisonProgress(names[-1], len(names), len(names))
        doubt = yield from _in_thread(contest.doubt, lambda: last, wish)
    finally:
        left.set()
    return Comparison(tuple(sorted(rows, key=lambda row: row.loss)), doubt)


def _in_thread(
    work: Callable[[], T], now: Callable[[], ComparisonProgress], wish: Callable[[], bool]
) -> Generator[ComparisonProgress, None, T]:
    """What `work` returns; tells where it stands until then."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)  # the thread ends with the work, whether or not anybody waits for it
    while not wait([future], LOOK_S).done:
        if wish():
            raise Cancelled("compare")
        yield now()
    return future.result()


def _under_way(contest: Contest, name: str, done: int, total: int) -> ComparisonProgress:
    return ComparisonProgress(name, done, total, min(contest.share, 1.0))


def _row(name: str, entry: Entry, truth: Array | None) -> Compared:
    scores = {} if truth is None else compare_planes(_as_planes(entry.restored), truth)
    return Compared(
        name,
        entry.restored,
        entry.loss,
        scores.get("psnr"),
        scores.get("ssim"),
        entry.seconds,
        entry.parameters,
        "; ".join(filter(None, (NOTES.get(name), LEARNED if entry.learned else None))),
    )


def _names(only: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(usual_methods() if only is None else only))
    unknown = [name for name in names if name not in methods()]
    if unknown or not names:
        raise SettingsError(
            f"There is no method {unknown[0]!r}." if unknown else "No method was chosen.",
            f"Methods are {', '.join(methods())}.",
            "Correct the name." if unknown else "Choose one or more.",
        )
    return names


def _plane(image: Image, reference: NDArray[Any] | None) -> Array:
    """Its colours ``(Y, X)`` or ``(Y, X, 3)``, if it can be compared."""
    if set(image.axes) - set("YXS") or min(image.pixels.shape[:2]) < SMALLEST_PX:
        raise InputError(
            f"An image of shape {image.pixels.shape} with axes {image.axes} was given.",
            f"One plane of at least {SMALLEST_PX} x {SMALLEST_PX} pixels can be compared.",
            "Choose a plane, as in image[3].",
        )
    if image.damaged.any():
        raise InputError(
            f"{int(image.damaged.sum())} pixels are damaged (NaN, infinite or masked).",
            "Classical denoisers need every pixel.",
            "Fill them first: restore(image, mask=...).restored.",
        )
    if reference is not None:
        check_reference(reference, image)
    return np.asarray(image.pixels[..., :3] if image.is_colour else image.pixels, np.float32)


def _as_planes(image: NDArray[Any]) -> Array:
    """``(1, C, Y, X)``."""
    values = np.asarray(image, np.float32)
    return values[None, None] if values.ndim == 2 else np.moveaxis(values[..., :3], -1, 0)[None]
