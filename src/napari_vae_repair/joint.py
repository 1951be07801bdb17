"""One model for several images: the starter adapted to all of them at once, or a network trained on all their planes.

Each image keeps its own preprocessing, noise and range of values, as when it is restored alone. Images of different
sizes are cut into windows of one size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.conditioning import Conditioned
from napari_vae_repair.errors import InputError, SettingsError
from napari_vae_repair.image.axes import Layout
from napari_vae_repair.image.record import NAMELESS, Image
from napari_vae_repair.phases import (
    Damaged,
    Progress,
    ShouldStop,
    as_seen,
    fit,
    model_of,
    never,
    refine,
    show,
    steps_in_force,
    stop_if,
)
from napari_vae_repair.preparation import as_image, colour_planes, mask_planes, prepare
from napari_vae_repair.running import finished
from napari_vae_repair.settings import Settings, make_settings
from napari_vae_repair.vae.adapt import Seen, obstacle
from napari_vae_repair.vae.device import Device, choose_device
from napari_vae_repair.vae.memory import check_whole
from napari_vae_repair.vae.record import Model, trained_on
from napari_vae_repair.vae.train import Prepared

LONGEST_WINDOW_PX = 256
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class _Look:
    """One image, as the model is shown it."""

    shown: Conditioned
    damaged: Damaged

    @property
    def channel(self) -> NDArray[np.int64]:
        """Index along ``C`` of each plane."""
        channels = len(self.shown.chains)
        return np.repeat(np.arange(channels), len(self.damaged) // channels)


def train(
    images: Sequence[Any],
    settings: Settings | None = None,
    *,
    axes: str | None = None,
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
    on_step: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    **changes: Any,
) -> Model:
    """Train one model on several images of one kind, for ``restore(other, model=...)``.

    Parameters
    ----------
    images : sequence of arrays, dask arrays or napari Image layers
        As `restore` takes them; sizes, values and noise may differ, the number of colours not. Never written to.
    settings : Settings, optional
        With ``adapt_seconds`` or ``adapt_steps`` the starter is adapted to all of them, with ``model="scratch"`` a
        network is trained on nothing else.
    axes : str, optional
        Of all images, as `restore`.
    masks : sequence of ndarray of bool or None, optional
        One for each image, as `restore`: nothing is learned from what is damaged.
    on_step : callable, optional
        Called with each `Progress`.
    should_stop : callable, optional
        Polled before each image and after each step; True ends the training with `Cancelled`.
    **changes
        Single fields of `settings`, as in ``train([first, second], adapt_seconds=60)``; `model` may also be a `Model`
        to go on from.

    Returns
    -------
    Model
        `save_model` keeps it. Adapting keeps the starter as it was where held-out blocks do not say that it got surely
        better: ``training["adapted"]["accepted"]`` is False then.

    Raises
    ------
    VaeRepairError
        As `train_on`.
    """
    if hasattr(images, "dtype") or hasattr(images, "opacity"):
        raise InputError(
            f"One {type(images).__name__} was given.",
            "A sequence of images is trained on; whether a stack is one image or many cannot be told.",
            "Put it into a list, as in train([image], adapt_seconds=60), or list(stack).",
        )
    given, model = list(images), changes.pop("model") if isinstance(changes.get("model"), Model) else None
    chosen, should_stop = make_settings(settings, **changes), should_stop or never
    if masks is not None and len(masks) != len(given):
        raise InputError(
            f"{len(masks)} masks were given for {len(given)} images.",
            "There is one for each image, or None where nothing is damaged.",
            "Give as many masks as images, or leave masks out.",
        )
    read: list[Image] = []
    for index, image in enumerate(given):
        stop_if(should_stop, "prepare")
        read.append(as_image(image, axes, None if masks is None else masks[index]))
        if read[-1].name == NAMELESS:  # so that errors and the model's record tell which one is meant
            read[-1] = replace(read[-1], name=f"{NAMELESS} {index}")
    return finished(train_on(read, chosen, model=model, should_stop=should_stop), on_step)


def train_on(
    images: Sequence[Image], settings: Settings, *, model: Model | None = None, should_stop: ShouldStop = never
) -> Generator[Progress, None, Model]:
    """The steps of `train`, for callers with an event loop of their own.

    Parameters
    ----------
    images : sequence of Image
        Of one kind: with the same number of colours after the preprocessing. Sizes, values and noise may differ.
    settings : Settings
        With `model` "scratch" a network is trained on all planes; with the starter, or the path of what was adapted
        from it, that model is adapted to all of them for `adapt_seconds` or `adapt_steps`.
    model : Model, optional
        To be adapted, in place of the one that the settings name.
    should_stop : callable
        Polled before each image and after each step; True ends the run with `Cancelled`.

    Yields
    ------
    Progress
        Of the phases "prepare" and "train" or "adapt".

    Returns
    -------
    Model
        That tells the images under ``training["trained_on"]``. Adapting keeps the model as it was where held-out
        blocks of all images do not say that it got surely better: ``training["adapted"]["accepted"]`` is False then.

    Raises
    ------
    InputError
        Without an image, for images of different kinds, or for one whose noise forbids adapting (see `obstacle`).
    SettingsError
        If the model cannot be adapted, or nothing says for how long.
    DeviceMemoryError
        If the images do not fit into `memory_mb`.
    VaeRepairError
        As `restore`.
    """
    device, model = choose_device(settings.device), model or model_of(settings)
    if not images:
        raise InputError("No image was given.", "A model is trained on one or more.", "Choose at least one image.")
    check_trainable(model, settings)
    check_whole(sum(image.pixels.size for image in images), settings.memory_mb)
    looks: list[_Look] = []
    for done, image in enumerate(images):
        yield Progress("prepare", done, len(images))
        stop_if(should_stop, "prepare")
        looks.append(_look(image, model, settings, device))
        _check_kind(image, looks[-1], images[0], looks[0], model)
    looks = _of_one_size(looks, settings.training.patch_px)
    joint, damaged = _together(looks), np.concatenate([look.damaged for look in looks])
    yield Progress("prepare", len(images), len(images))
    if model is None:
        offsets = np.cumsum([0, *(len(look.shown.chains) for look in looks[:-1])])
        channel = np.concatenate([look.channel + offset for look, offset in zip(looks, offsets, strict=True)])
        training = Prepared(joint.prepared, damaged, channel, joint.noise)
        return (yield from fit(training, joint.chains, settings, device, should_stop, images))
    adapted, _ = yield from refine(model, joint, damaged, settings, device, should_stop, never)
    return trained_on(adapted, images)


def check_trainable(model: Model | None, settings: Settings) -> None:
    """Raise `SettingsError` unless the model is to be trained from scratch, or can be adapted and is told how long."""
    if model is None:
        return
    if not model.general:
        raise SettingsError(
            "The model was trained from scratch, and is to be trained on.",
            "The starter, and what was adapted from it, can be adapted; a new model can be trained from scratch.",
            "Choose model='starter' or model='scratch'.",
        )
    if not settings.adapts:
        raise SettingsError(
            "Nothing says how long the starter is to be adapted to the images.",
            "adapt_seconds or adapt_steps must be above 0.",
            "Set them (in the widget: Adapt, or the preset Careful), or train from scratch (model='scratch').",
        )


def _look(image: Image, model: Model | None, settings: Settings, device: Device) -> _Look:
    layout = Layout(image.axes, image.pixels.shape)
    planes, damaged = colour_planes(layout.to_planes(image.pixels)), mask_planes(image)
    chains, prepared = prepare(planes, damaged, layout.channels, steps_in_force(model, settings))
    return _Look(show(prepared, damaged, chains, model, settings, device), damaged)


def _check_kind(image: Image, look: _Look, first: Image, first_look: _Look, model: Model | None) -> None:
    check_colours(image.name, look.shown.prepared.shape[1], first.name, first_look.shown.prepared.shape[1])
    if model is not None:
        check_adaptable(image.name, Seen(*as_seen(look.shown, look.damaged, model)))


def check_colours(name: str, colours: int, first: str, wanted: int) -> None:
    """Raise `InputError` unless an image has as many colours as the first one."""
    if colours != wanted:
        raise InputError(
            f"{first!r} has {wanted} colour(s) after the preprocessing, {name!r} has {colours}.",
            "One model is trained on images of one kind, all grey or all in colour.",
            "Leave one kind out, or put the step grey into the chain.",
        )


def check_adaptable(name: str, seen: Seen) -> None:
    """Raise `InputError` where the noise of an image forbids adapting."""
    if reason := obstacle(seen):
        raise InputError(
            f"The starter cannot be adapted to {name!r}: {reason}.",
            "Adapting needs to know the noise of every image.",
            "Leave this image out, or train from scratch (model='scratch').",
        )


# ---- planes of one size ------------------------------------------------------------------------


def _of_one_size(looks: list[_Look], patch_px: int) -> list[_Look]:
    """Planes cut into windows that cover them; as they are where all have one size."""
    height, width = (_window_px([look.shown.prepared.shape[axis] for look in looks], patch_px) for axis in (2, 3))
    return [_cut(look, height, width) for look in looks]


def _window_px(lengths: list[int], patch_px: int) -> int:
    """The side that covers all the lengths with the least overlap: what lies in two windows counts twice."""
    if len(set(lengths)) == 1:
        return lengths[0]
    longest = min(*lengths, max(LONGEST_WINDOW_PX, 2 * patch_px))
    sides = range(longest, max(longest // 2, min(patch_px, longest)) - 1, -1)
    return min(sides, key=lambda side: sum(math.ceil(length / side) * side for length in lengths))


def _cut(look: _Look, height: int, width: int) -> _Look:
    """Windows of that size, those of a plane one after the other, each with the views of its plane."""
    _, colours, *shape = look.shown.prepared.shape
    windows = [
        np.s_[..., y : y + height, x : x + width] for y in _starts(shape[0], height) for x in _starts(shape[1], width)
    ]
    if len(windows) == 1:
        return look
    planes, damaged = _stacked(look.shown.prepared, windows), _stacked(look.damaged, windows)
    views = look.shown.views
    views = [
        view for at in range(0, len(views), colours) for view in views[at : at + colours] * len(windows)
    ]  # colours fastest, then windows
    return _Look(replace(look.shown, prepared=planes, views=views), damaged)


def _stacked(planes: NDArray[_Scalar], windows: list[tuple[Any, ...]]) -> NDArray[_Scalar]:
    cut = np.stack([planes[window] for window in windows], axis=1)  # (N, windows, ..., Y, X)
    return cut.reshape(-1, *cut.shape[2:])


def _starts(length: int, window: int) -> list[int]:
    return [round(float(at)) for at in np.linspace(0, length - window, math.ceil(length / window))]


def _together(looks: list[_Look]) -> Conditioned:
    """All images as one, each channel of each image a channel of its own."""
    shown = [look.shown for look in looks]
    return Conditioned(
        chains=[chain for each in shown for chain in each.chains],
        prepared=np.concatenate([each.prepared for each in shown]),
        noise=tuple(noise for each in shown for noise in each.noise),
        domains=[domain for each in shown for domain in each.domains],
        views=[view for each in shown for view in each.views],
        stabilised=[flat for each in shown for flat in each.stabilised],
    )
