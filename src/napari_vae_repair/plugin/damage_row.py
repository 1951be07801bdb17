"""The row under "Damage": a new mask to paint, and damage found for the user to correct."""

from __future__ import annotations

from collections.abc import Callable, Generator
from threading import Event
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox, Container, PushButton
from magicgui.widgets.bases import Widget
from numpy.typing import NDArray

from napari_vae_repair.errors import VaeRepairError
from napari_vae_repair.plugin.damage_mask import damage_mask, type_of
from napari_vae_repair.plugin.desk import Chosen, Desk, Steps
from napari_vae_repair.plugin.forecast import Update
from napari_vae_repair.plugin.snapshot import chosen_part
from napari_vae_repair.plugin.storing import check_fits
from napari_vae_repair.plugin.worker import import_pipeline

BRUSH_SHARE = 0.01  # of the plane's larger side: the diameter of the brush at first
SMALLEST_BRUSH_PX = 3
MARK = 1
# the threshold of `find_damage`
TO_FIND = {"single pixels and rows": None, "scratches and stains, too": 0.99, "all that may be damage": 0.9}
Mask = NDArray[np.bool_]
Index = tuple[int | slice, ...]


class DamageRow(Container[Widget]):
    """Buttons that make and fill masks, and what to look for.

    Parameters
    ----------
    desk : Desk
    use : callable
        Takes a Labels layer: choose it as the damage.
    """

    def __init__(self, desk: Desk, use: Callable[[Any], None]) -> None:
        self._desk, self._use = desk, use
        self.new = PushButton(
            text="New mask", tooltip="A Labels layer over the image, with the brush ready. API: mask of restore."
        )
        self.find = PushButton(
            text="Find damage", tooltip="Marks what is likely damaged, for you to correct. API: find_damage(image)."
        )
        self.to_find = ComboBox(  # in a row of its own: three would be wider than the dock
            choices=list(TO_FIND),
            label="Find",
            tooltip="What to look for. Scratches, dust and stains are found in part, and some of what is no damage is "
            "taken for them: look at what is marked. API: threshold of find_damage (None, 0.99, 0.9).",
        )
        super().__init__(widgets=[self.new, self.find], layout="horizontal", labels=False, name="damage", label=" ")
        self.margins = (0, 0, 0, 0)
        self.new.changed.connect(lambda: self._do(self.new_mask))
        self.find.changed.connect(lambda: self._do(self.find_damage))

    def new_mask(self) -> Any:
        """An empty Labels layer "NAME damage" over the chosen layer, selected, with the brush picked.

        Raises
        ------
        InputError, SettingsError
            As `Desk.chosen`.
        """
        chosen, viewer = self._desk.chosen(), self._desk.viewer()
        labels = self._mask_layer(chosen, viewer)
        viewer.layers.selection.active = labels
        labels.selected_label = MARK
        labels.brush_size = max(SMALLEST_BRUSH_PX, round(BRUSH_SHARE * max(labels.data.shape[-2:])))
        labels.mode = "paint"
        self._desk.tell("Paint over the damage, then press Restore; Ctrl-Z takes a stroke back.")
        return labels

    def find_damage(self) -> bool:
        """Look for damage in a thread, and add what is found to the chosen Labels layer, or to a new one.

        A new one takes over what a Shapes layer, or Labels of one plane, mark as damage. With "Current plane only" the
        others are not looked at.

        Returns
        -------
        bool
            False when something else is under way.

        Raises
        ------
        InputError, SettingsError
            As `Desk.chosen` and `damage_mask`.
        """
        chosen, marked = self._desk.chosen(), None
        if not self._fits(chosen) and chosen.mask_layer is not None:
            marked = damage_mask(chosen.mask_layer, chosen.layer, chosen_part(chosen.layer, None)[1])
        steps = finding_steps(chosen, TO_FIND[self.to_find.value])
        return self._desk.work(steps, lambda found: self._mark(chosen, marked, *found), "Finding damage")

    def _fits(self, chosen: Chosen) -> bool:
        """Whether what is found can be added to the layer that marks the damage."""
        given = chosen.mask_layer
        return given is not None and type_of(given) == "labels" and given.data.shape == _shape_of(chosen.layer)

    def _mark(self, chosen: Chosen, marked: Mask | None, index: Index, found: Mask) -> None:
        viewer = self._desk.viewer()
        share = f"{100 * found.mean():.2g} % of the pixels"
        if not found.any():
            self._desk.tell("No damage was found. Look for more kinds of it (Find), or mark it by hand: New mask.")
            return
        fits = self._fits(chosen) and chosen.mask_layer in viewer.layers
        labels = chosen.mask_layer if fits else self._mask_layer(chosen, viewer)
        fresh = np.zeros(labels.data.shape, dtype=bool) if marked is None else marked.copy()
        fresh[index] |= found
        fresh &= np.asarray(labels.data) == 0
        labels.data_setitem(np.nonzero(fresh), MARK)  # goes into the layer's history: Ctrl-Z takes it back
        self._use(labels)
        viewer.layers.selection.active = labels
        beside = "" if marked is None else f", beside what {chosen.mask_layer.name!r} marks"
        self._desk.tell(
            f"Marked {share} as likely damaged{beside}: a proposal. Correct it with brush and eraser, then Restore."
        )

    def _mask_layer(self, chosen: Chosen, viewer: Any) -> Any:
        """The new layer of the source's shape and place; the same one again while it is empty."""
        layer = chosen.layer
        name, shape = f"{layer.name} damage", _shape_of(layer)
        for there in viewer.layers:
            if there.name == name and type_of(there) == "labels" and there.data.shape == shape and not there.data.any():
                self._use(there)
                return there
        space = {
            key: getattr(layer, key)
            for key in ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
        }
        labels = viewer.add_labels(np.zeros(shape, dtype=np.uint8), name=name, **space)
        self._use(labels)
        return labels

    def _do(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except VaeRepairError as error:
            self._desk.tell(error)


def _shape_of(layer: Any) -> tuple[int, ...]:
    """Of all that a mask of the layer covers."""
    return tuple((layer.data[0] if layer.multiscale else layer.data).shape[: layer.ndim])


def finding_steps(chosen: Chosen, threshold: float | None) -> Steps[tuple[Index, Mask]]:
    """Steps that find damage, plane by plane; where in the layer was looked, and what is damaged there.

    `threshold` is that of `find_damage`.
    """
    given = [Chosen(chosen.layer, chosen.settings, plane_at=chosen.plane_at).snapshot()]
    check_fits(given[0], chosen.settings, "Finding damage")
    device, index = chosen.settings.device, given[0].index

    def steps(stop: Event) -> Generator[Update, None, tuple[Index, Mask]]:
        yield Update(0.0, "Reading the layer")
        import_pipeline()
        from napari_vae_repair.damage import find_damage

        image = given.pop().read(stop.is_set)
        stack = "".join(axis for axis in image.axes if axis not in "YXS")
        order = [image.axes.index(axis) for axis in stack]
        pixels = np.moveaxis(image.pixels, order, range(len(stack)))
        inner = "".join(axis for axis in image.axes if axis in "YXS")
        found = np.zeros(pixels.shape[: len(stack) + 2], dtype=bool)
        places = list(np.ndindex(*pixels.shape[: len(stack)]))
        for done, place in enumerate(places):
            if stop.is_set():
                break
            yield Update(done / len(places), f"Finding damage: plane {done + 1} of {len(places)}")
            found[place] = find_damage(
                pixels[place], axes=inner, threshold=threshold, device=device, should_stop=stop.is_set
            )
        return index, np.moveaxis(found, range(len(stack)), order)

    return steps
