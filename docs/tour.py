"""Drive the real widget through everything that it does, and write the pictures of the README and of the pages.

Run ``xvfb-run -a -s "-screen 0 2000x1300x24" python docs/tour.py`` (or without ``xvfb-run`` on a screen). A step that
does not lead where it should ends the tour with exit code 1. The user's Preferences and saved models are not touched.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from stage import Stage, expect, leave_the_user_alone, mend_vispy

IMAGES = Path(__file__).parent / "images"
# of the samples a part is shown, so that the tour takes minutes
MIDDLE = {"noisy_photo": (236, 276), "noisy_micrograph": (374, 400)}
SIDE_PX, QUICK_PX = 352, 96
TINY = {"network": {"widths": (8,), "latents": (2,)}, "training": {"patches_per_epoch": 16, "patch_px": 32}}


def main() -> None:
    """Write pictures to ``--to``, and to its folder ``files`` what the tour saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=IMAGES, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--files", type=Path, metavar="DIR", help="default: a temporary folder")
    parser.add_argument("--theme", choices=("dark", "light", "both"), default="both", help="default: %(default)s")
    parser.add_argument("--size", default="1280x800", help="of the window, in pixels")
    parser.add_argument("--quick", action="store_true", help="tiny images and trainings, for a test")
    options = parser.parse_args()
    home = leave_the_user_alone()
    mend_vispy()
    files = options.files or home
    for folder in (options.to, files):
        folder.mkdir(parents=True, exist_ok=True)
    width, height = (int(side) for side in options.size.split("x"))
    first, *others = ("dark", "light") if options.theme == "both" else (options.theme,)
    began = time.monotonic()
    stage = Stage(first, (width, height), options.to, quick=options.quick)
    take(stage, partial(tour, stage, files))
    for theme in others:
        again = Stage(theme, (width, height), options.to, quick=options.quick)
        take(again, partial(before_during_after, again))
    print(f"The tour took {time.monotonic() - began:.0f} s.")


def take(stage: Stage, chapters: Callable[[], None]) -> None:
    """Go through chapters and close the viewer."""
    try:
        chapters()
    except BaseException:
        stage.leave()
        raise
    stage.close()


def tour(stage: Stage, files: Path) -> None:
    """All chapters, each told as it begins."""
    chapters: tuple[tuple[Callable[..., None], tuple[Any, ...]], ...] = (
        (before_during_after, ()),
        (queue, ()),
        (before_and_after, ()),
        (trust, (files,)),
        (uncertainty, (files,)),
        (compare, (files,)),
        (save, (files,)),
        *([] if stage.quick else [(correlated, ()), (console, ())]),
        (preview, ()),
        (repair, ()),
        (copy, ()),
        (presets, ()),
        (models, ()),
    )
    for chapter, given in chapters:
        began = time.monotonic()
        chapter(stage, *given)
        print(f"{chapter.__name__}: {time.monotonic() - began:.1f} s", flush=True)


# ---- chapters


def before_during_after(stage: Stage) -> None:
    """The sample photo, restored by the preset Fast, then by Balanced: at once, then adapted, ended by Finish."""
    photo, widget = open_sample(stage, "noisy_photo", "noisy photo"), stage.widget
    stage.picture(f"before-{stage.theme}")
    choose_preset(stage, "Fast")
    result = stage.restore()
    expect(result.residual.std() > 5, "Fast took no noise away")
    restored = stage.viewer.layers["noisy photo restored"]
    choose_preset(stage, "Balanced")
    expect(widget.adapt.value == 15, "the preset Balanced shows no seconds of adapting")
    stage.viewer.layers.remove(restored)
    stage.press(widget.restore_button)
    stage.wait(lambda: "noisy photo restored" in stage.viewer.layers, "the instant result")
    expect(widget.running, "the instant result was the last one")
    stage.wait(lambda: len(widget.panel.loss_plot._loss) > (1 if stage.quick else 6), "the live plot")
    expect(widget.panel.loss_plot.isVisible(), "the live plot is hidden")
    stage.picture(f"during-{stage.theme}")
    seen = len(stage.outcomes)
    stage.press(widget.finish_button)
    stage.wait(lambda: len(stage.outcomes) > seen, "the end after Finish")
    expect(stage.outcomes[-1] is not None, "nothing was kept after Finish")
    expect(photo.data.dtype == np.uint8, "the source was changed")
    stage.picture(f"after-{stage.theme}")


def queue(stage: Stage) -> None:
    """A second layer waits while the first adapts."""
    from skimage.data import coins

    widget, photo = stage.widget, stage.viewer.layers["noisy photo"]
    noisy = coins() + np.random.default_rng(0).normal(0, 20, coins().shape)
    second = stage.viewer.add_image(noisy[: len(photo.data)].astype(np.float32), name="noisy coins")
    stage.viewer.layers.selection.active = photo
    stage.press(widget.restore_button)
    stage.wait(lambda: widget.finish_button.enabled, "the start of adapting")
    stage.viewer.layers.selection.active = second
    expect(widget.layer.value is second, "the widget does not follow the selected layer")
    choose_preset(stage, "Fast")
    seen = len(stage.outcomes)
    stage.press(widget.restore_button)
    stage.wait(lambda: "1 waiting" in widget.status.value, "the queue")
    stage.only(second)
    stage.picture("queue")
    stage.press(widget.finish_button)
    stage.wait(lambda: len(stage.outcomes) == seen + 2, "both results")
    stage.rest()
    expect("noisy coins restored" in stage.viewer.layers, "the layer that waited was not restored")


def before_and_after(stage: Stage) -> None:
    """Split view with its line moved, then flipped."""
    view, viewer = stage.widget.view, stage.viewer
    stage.only(viewer.layers["noisy photo"], viewer.layers["noisy photo restored"])
    viewer.layers.selection.active = viewer.layers["noisy photo"]
    stage.restore()
    stage.only(viewer.layers["noisy photo"], viewer.layers["noisy photo restored"])
    stage.show_tab(view)
    stage.press(view.splits)
    before = viewer.layers["noisy photo before"]
    view.line.setValue(400)
    stage.settle()
    expect(before.data.shape[1] == round(0.4 * viewer.layers["noisy photo"].data.shape[1]), "the line stays")
    stage.picture("split")
    stage.press(view.flip_button)
    expect(not viewer.layers["noisy photo restored"].visible, "Flip does not hide the restored layer")
    expect("noisy photo before" not in viewer.layers, "Flip leaves the split behind")
    stage.press(view.flip_button)
    expect(viewer.layers["noisy photo restored"].visible, "Flip does not show the restored layer again")


def trust(stage: Stage, files: Path) -> None:
    """The tab judges what is in the viewer; its report is saved."""
    tab = stage.widget.trust
    open_sample(stage, "noisy_micrograph", "noisy micrograph")
    stage.restore()
    stage.show_tab(tab)
    stage.wait(lambda: tab.trust is not None and not stage.widget.running, "the judgement")
    stage.picture("trust")
    stage.press(tab.save_button, answer=str(files / "trust.html"))
    stage.wait(lambda: (files / "trust.html").exists() and not stage.widget.running, "the report")
    tab.list_area.verticalScrollBar().setValue(tab.list_area.verticalScrollBar().maximum() * 3 // 4)
    stage.picture("trust-plots")


def uncertainty(stage: Stage, files: Path) -> None:
    """Samples kept; a probability and its slider; the means of labels in a table and a file; the source's dtype."""
    widget, viewer, tab = stage.widget, stage.viewer, stage.widget.uncertainty
    source = viewer.layers["noisy micrograph"]
    stage.show_tab()
    widget.samples.value, widget.controls.keep_samples.value = 16, True
    stage.restore()
    samples = viewer.layers["noisy micrograph samples"]
    expect(samples.data.shape[0] == 16 and samples.axis_labels[0] == "sample", "the samples have no axis to scrub")
    expect("noisy micrograph uncertainty" in viewer.layers, "there is no uncertainty")
    stage.show_tab(tab)
    low, high = source.contrast_limits
    tab.probability.slider.setValue(low + 0.5 * (high - low))
    stage.wait(lambda: "noisy micrograph probability" in viewer.layers, "the probability")
    tab.probability.slider.setValue(low + 0.4 * (high - low))
    stage.wait(lambda: not tab.probability.live.busy, "the other threshold")
    truth = viewer.layers["micrograph truth"].data
    cells = (truth > (truth.min() + truth.max()) / 2).astype(np.uint8)
    edge = len(cells) // 6
    cells[:edge, :edge], cells[-edge:, :edge] = 2, 3  # of the background
    labels = viewer.add_labels(cells, name="cells", scale=source.scale, units=source.units, opacity=0.4)
    tab.labels.labels.setCurrentIndex(tab.labels.labels.findText("cells"))
    stage.press(tab.labels.measure_button)
    stage.wait(lambda: tab.labels.table is not None and not widget.running, "the table")
    stage.press(tab.labels.save_button, answer=str(files / "cells.csv"))
    stage.only(viewer.layers["noisy micrograph probability"], labels)
    stage.picture("uncertainty")
    stage.press(tab.cast_button)
    stage.wait(lambda: "noisy micrograph restored uint16" in viewer.layers, "the copy in the source's dtype")
    stage.rest()
    expect(viewer.layers["noisy micrograph restored uint16"].data.dtype == np.uint16, "the copy has another dtype")


def compare(stage: Stage, files: Path) -> None:
    """Three methods on a rectangle against the truth; one row becomes a layer."""
    viewer, tab = stage.viewer, stage.widget.comparison
    source = viewer.layers["noisy micrograph"]
    side = 64 if stage.quick else 192
    rectangle(stage, source, "part", source.data.shape[0] // 8, source.data.shape[1] // 8, side)
    stage.only(source, viewer.layers["part"])
    viewer.layers.selection.active = source
    stage.show_tab(tab)
    tab.methods.tick("VAE Repair", "median", "TV")
    tab.region.setCurrentIndex(tab.region.findText("Rectangle in part"))
    tab.reference.setCurrentIndex(tab.reference.findText("micrograph truth"))
    stage.press(tab.compare_button)
    stage.wait(lambda: len(tab.table.compared) == 3 and not stage.widget.running, "three rows")
    tab.table.selectRow(0)
    stage.press(tab.add_button)
    best = tab.comparison.rows[0]
    added = viewer.layers[f"noisy micrograph {best.method}"]
    expect(added.data.shape == (side, side), "the row's layer is not the rectangle")
    expect(best.psnr is not None, "the reference was not used")
    stage.picture("compare")
    stage.press(tab.figure_button, answer=str(files / "compare.png"))


def correlated(stage: Stage) -> None:
    """Noise that neighbours share, as in widefield images: what nothing can judge is said to be not valid."""
    from scipy.ndimage import gaussian_filter

    truth = open_sample(stage, "noisy_micrograph", "micrograph truth").data
    noise = gaussian_filter(np.random.default_rng(2).normal(0, 60, truth.shape), 0.8)
    stage.viewer.layers.clear()
    image = stage.viewer.add_image((truth + noise).astype(np.float32), name="widefield")
    stage.show_tab()
    choose_preset(stage, "Fast")
    result = stage.restore()
    expect(max(result.noise[0].correlation) > 0.3, "the correlation of the noise was not seen")
    tab = stage.widget.trust
    stage.show_tab(tab)
    stage.wait(lambda: tab.trust is not None and not stage.widget.running, "the judgement")
    expect(tab.trust.count()["not valid here"] > 0, "everything is judged, though nothing can be held out")
    stage.only(image, stage.viewer.layers["widefield restored"])
    stage.picture("trust-widefield")


def preview(stage: Stage) -> None:
    """The part in view, then a rectangle, restored again after each change of a setting."""
    viewer, view = stage.viewer, stage.widget.view
    photo = open_sample(stage, "noisy_photo", "noisy photo")
    stage.show_tab(view)
    stage.press(view.live)
    stage.wait(lambda: "noisy photo preview" in viewer.layers, "the preview")
    rows, columns = photo.data.shape
    expect(viewer.layers["noisy photo preview"].data.shape[0] <= rows, "the preview is larger than the image")
    side = rows // 2
    marked = rectangle(stage, photo, "look here", rows // 5, columns // 3, side)
    view.where.setCurrentIndex(view.where.findText("look here"))
    stage.wait(lambda: viewer.layers["noisy photo preview"].data.shape == (side, side), "the preview of the rectangle")
    before = viewer.layers["noisy photo preview"].data.copy()
    stage.widget.preset.value = "classic"
    stage.wait(lambda: not np.array_equal(before, viewer.layers["noisy photo preview"].data), "another preview")
    choose_preset(stage, "Fast")
    stage.wait(lambda: np.array_equal(before, viewer.layers["noisy photo preview"].data), "the first preview again")
    marked.visible = True
    stage.picture("preview")
    stage.press(view.live)
    expect("noisy photo preview" not in viewer.layers, "the preview stays behind")
    viewer.layers.remove(marked)


def repair(stage: Stage) -> None:
    """Scratches painted over by hand, and more found; then filled."""
    viewer, widget = stage.viewer, stage.widget
    photo = viewer.layers["noisy photo"]
    scratched = photo.data.copy()
    strokes = scratches(scratched.shape)
    for row, column in strokes:
        scratched[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = 250
    rng = np.random.default_rng(0)
    hot = tuple(rng.integers(0, side, max(4, scratched.size // 8000)) for side in scratched.shape)
    scratched[hot] = 255
    layer = viewer.add_image(scratched, name="scratched photo")
    stage.only(layer)
    stage.show_tab()
    stage.press(widget.damage.new)
    mask = viewer.layers["scratched photo damage"]
    expect(widget.mask_layer.value is mask and mask.mode == "paint", "New mask does not pick the brush")
    mask.brush_size = 5
    for row, column in strokes:
        mask.paint((row, column), 1)
    painted = int(np.count_nonzero(mask.data))
    viewer.layers.selection.active = layer
    widget.mask_layer.value = mask
    stage.press(widget.damage.find)
    stage.rest()
    expect(np.count_nonzero(mask.data) > painted, "Find damage found none of the hot pixels")
    stage.picture("damage")
    widget.samples.value = 0
    result = stage.restore()
    expect(np.array_equal(result.damaged, mask.data != 0), "what was marked is not what was filled")
    filled = viewer.layers["scratched photo filled"]
    viewer.layers.move(viewer.layers.index(filled), len(viewer.layers))
    stage.only(viewer.layers["scratched photo restored"], filled)
    stage.picture("repaired")


def copy(stage: Stage) -> None:
    """The call and the command on the clipboard; settings back from a layer."""
    from qtpy.QtGui import QGuiApplication

    widget, clipboard = stage.widget, QGuiApplication.clipboard()
    stage.press(widget.copies.python)
    expect("restore(" in clipboard.text() and "damage_mask" in clipboard.text(), "Copy Python copied something else")
    stage.press(widget.copies.command)
    expect(clipboard.text().startswith("vae-repair restore"), "Copy command copied something else")
    widget.samples.value = 3
    stage.viewer.layers.selection.active = stage.viewer.layers["scratched photo restored"]
    stage.press(widget.copies.take)
    expect(widget.samples.value == 0, "From layer shows other settings than those that made it")


def presets(stage: Stage) -> None:
    """The settings that are shown become a preset of the user's own."""
    widget = stage.widget
    widget.mask_layer.value = None
    widget.samples.value, widget.adapt.value = 8, 5
    stage.press(widget.ways.save, answer="my confocal")
    expect(widget.ways.combo.value == "my confocal", "the preset was not saved")
    choose_preset(stage, "Fast")
    expect((widget.samples.value, widget.adapt.value) == (0, 0), "Fast leaves fields as they were")
    choose_preset(stage, "my confocal")
    expect((widget.samples.value, widget.adapt.value) == (8, 5), "the preset shows other settings")


def models(stage: Stage) -> None:
    """The last model saved and made the default; one trained on two layers."""
    from napari_vae_repair.plugin.preferences import default_model
    from napari_vae_repair.settings import make_settings

    widget, viewer, tab = stage.widget, stage.viewer, stage.widget.models
    choose_preset(stage, "Fast")
    stage.show_tab(tab)
    stage.press(tab.save_button, answer="photo model")
    stage.press(tab.default_button)
    expect(Path(default_model()).stem == "photo model", "the default is another model")
    choose_preset(stage, "Train my own")
    widget.base_settings = make_settings(widget.current_settings(), **TINY)
    widget.epochs.value = 1 if stage.quick else 20
    viewer.layers.selection = {viewer.layers["noisy photo"], viewer.layers["scratched photo"]}
    stage.press(tab.train_button, answer="two photos")
    stage.wait(lambda: not widget.running and "two photos" in [entry.name for entry in tab.store.entries()], "training")
    expect("two photos" in str(widget.model_file.value), "the new model is not the chosen one")
    stage.picture("models")


def console(stage: Stage) -> None:
    """Lines of docs/console.md, typed into napari's console."""
    _, widget = open_sample(stage, "noisy_photo", "noisy photo"), stage.widget
    choose_preset(stage, "Fast")
    shell = stage.viewer.window._qt_viewer  # napari has no public name for its console
    shell.toggle_console_visibility()
    stage.settle()
    opened = '_, w = viewer.window.add_plugin_dock_widget("napari-vae-repair", "VAE Repair")'
    for line in (opened, "w.samples.value = 8", "worker = w.start()"):
        shell.console.execute(line)
        stage.settle(5)
    stage.wait(lambda: widget.restoration is not None and not widget.running, "the run from the console")
    for line in ("[layer.name for layer in viewer.layers]", "w.as_command()"):
        shell.console.execute(line)
        stage.settle(5)
    stage.settle()
    stage.picture("console")
    shell.toggle_console_visibility()


def save(stage: Stage, files: Path) -> None:
    """The restoration that lies in the viewer, as a file."""
    viewer, path = stage.viewer, files / "micrograph.restored.ome.tif"
    viewer.layers.selection = {viewer.layers["noisy micrograph"]}
    written = viewer.layers.save(str(path), selected=True)
    expect([Path(each) for each in written] == [path], f"written: {written}")


# ---- what the chapters share


def open_sample(stage: Stage, key: str, name: str) -> Any:
    """A sample of the plugin, opened alone, a part of it. Gives the layer of that name."""
    viewer = stage.viewer
    viewer.layers.clear()
    side = QUICK_PX if stage.quick else SIDE_PX
    opened = [layer.as_layer_data_tuple() for layer in viewer.open_sample("napari-vae-repair", key)]
    viewer.layers.clear()
    part = tuple(slice(middle - side // 2, middle + side // 2) for middle in MIDDLE[key])
    for data, meta, _ in opened:
        viewer.add_image(data[part], **meta)
    stage.settle()
    noisy = viewer.layers[name]
    viewer.layers.selection.active = noisy
    stage.show_tab()
    viewer.reset_view()
    stage.settle()
    expect(stage.widget.layer.value is noisy, "the widget does not follow the layer that was opened")
    return noisy


def choose_preset(stage: Stage, name: str) -> None:
    """Choose from the row of presets."""
    stage.widget.ways.combo.value = name
    stage.settle(5)
    expect(stage.widget.ways.combo.value == name, f"the preset {name} was not taken")


def rectangle(stage: Stage, layer: Any, name: str, row: int, column: int, side: int) -> Any:
    """A Shapes layer with a square of so many pixels over an image."""
    corners = np.array([[row, column], [row + side, column + side]]) - 0.5
    look = {"face_color": "transparent", "edge_color": "orange", "edge_width": 2}
    place = {"scale": layer.scale, "units": layer.units, "axis_labels": layer.axis_labels}
    return stage.viewer.add_shapes([corners], shape_type="rectangle", name=name, **look, **place)


def scratches(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pixels of two bent lines across an image."""
    rows, columns = shape
    steps = np.linspace(0, 1, 2 * max(shape))
    first = np.stack([rows * (0.1 + 0.75 * steps), columns * (0.2 + 0.5 * steps + 0.05 * np.sin(6 * steps))])
    second = np.stack([rows * (0.7 - 0.3 * steps), columns * (0.05 + 0.85 * steps)])
    there = np.round(np.concatenate([first, second], axis=1)).astype(int).T
    return sorted({(int(row), int(column)) for row, column in there})


if __name__ == "__main__":
    main()
