"""Training one model on several layers: which ones, and the steps for the worker's thread."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from threading import Event
from typing import TYPE_CHECKING, Any

from napari_vae_repair.errors import InputError
from napari_vae_repair.plugin.damage_mask import type_of
from napari_vae_repair.plugin.forecast import Update, forecast_of
from napari_vae_repair.plugin.layers import our_facts
from napari_vae_repair.plugin.storing import check_fits
from napari_vae_repair.plugin.worker import import_pipeline, told
from napari_vae_repair.settings import Settings

if TYPE_CHECKING:
    from napari_vae_repair.plugin.desk import Steps
    from napari_vae_repair.plugin.snapshot import Snapshot
    from napari_vae_repair.vae.record import Model


def layers_to_train_on(viewer: Any) -> list[Any]:
    """The selected Image layers, in the order of the layer list.

    Raises
    ------
    InputError
        If none is selected, or one of them is a result of ours.
    """
    layers = [layer for layer in viewer.layers if layer in viewer.layers.selection and type_of(layer) == "image"]
    if not layers:
        raise InputError(
            "No Image layer is selected.",
            "A model is trained on one or more of them.",
            "Select them in the layer list, with Ctrl (Cmd on a Mac) for more than one.",
        )
    ours = [layer.name for layer in layers if our_facts(layer) is not None]
    if ours:
        raise InputError(
            f"{', '.join(map(repr, ours))} came from VAE Repair.",
            "A model learns from measured images, not from restored ones.",
            "Take these layers out of the selection.",
        )
    return layers


def name_for(names: Sequence[str]) -> str:
    """A first proposal for the name of a model that was trained on layers of these names."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def joint_steps(snapshots: Sequence[Snapshot], settings: Settings) -> Steps[Model]:
    """Steps that train on all the snapshots, which are given away; errors as of `joint.train_on` and `check_fits`."""
    given = list(snapshots)
    for snapshot in given:
        check_fits(snapshot, settings, "Training")

    def steps(stop: Event) -> Generator[Update, None, Model]:
        if "torch" not in sys.modules:
            yield Update(0.0, "Starting PyTorch")
        import_pipeline()
        from napari_vae_repair.joint import train_on

        images = []
        while given:
            yield Update(0.0, f"Reading {given[0].name}")
            images.append(given.pop(0).read(stop.is_set))
        run = train_on(images, settings, should_stop=stop.is_set)
        del images  # held by the run alone, and freed with it
        return (yield from told(run, forecast_of(settings)))

    return steps
