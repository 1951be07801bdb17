"""`vae-repair demo`: an example restored, written and shown in napari."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from napari_vae_repair.preflight import UsageError, check_exists, output_dtype, settings_from
from napari_vae_repair.terminal import PROGRAM, ProgressLine


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `vae-repair demo` its arguments."""
    parser.set_defaults(command=demo)
    add = parser.add_argument
    add("image", nargs="?", metavar="IMAGE", help="your own image instead of the noisy example")
    add("--output-dir", default="demo-output", metavar="DIR", help="where files are written [%(default)s]")
    add("--screenshot", action="store_true", help="write DIR/demo.png and close the viewer")
    add("--epochs", type=int, metavar="N", help="train on the image for so long instead")


def demo(args: argparse.Namespace) -> None:
    """Restore an image and show it in napari."""
    settings = settings_from(args)
    if args.image is not None:
        check_exists(args.image)
    from napari_vae_repair.batch.one import provenance_of, run, write_report
    from napari_vae_repair.image.files import read_image, write_image
    from napari_vae_repair.plugin.demo import check_viewer, example_image, show

    check_viewer()
    image = example_image() if args.image is None else read_image(args.image)
    folder = Path(args.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The folder {folder} cannot be made: {error.strerror}.",
            "A folder is needed.",
            "Choose another --output-dir.",
        ) from error
    what = "the photo 'camera' with noise of sigma 25, seed 0" if args.image is None else args.image
    print(f"{PROGRAM}: restoring {what}", file=sys.stderr)
    line = ProgressLine()
    try:
        restoration = run(image, settings, line.show, print)
    finally:
        line.end()
    provenance, sizes = provenance_of(restoration, image.name), image.pixel_size_um
    for name, values, dtype in (
        ("restored.tif", restoration.restored, output_dtype(None, image, restoration.report.in_source_units)),
        ("residual.tif", restoration.residual, "float32"),
    ):
        path = folder / name
        write_image(path, values, restoration.axes, dtype=dtype, pixel_size_um=sizes, provenance=provenance)
        print(path, flush=True)
    write_report(restoration, folder / "report.json", image.name)
    print(restoration.report.text(), file=sys.stderr, flush=True)
    show(image, restoration, folder / "demo.png" if args.screenshot else None)
