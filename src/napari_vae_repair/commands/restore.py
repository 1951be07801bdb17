"""`vae-repair restore`: one image file restored."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from napari_vae_repair.commands.results import provenance_of, run_restoration, write_report
from napari_vae_repair.preflight import (
    check_formats,
    check_paths,
    check_report,
    float_dtype,
    output_dtype,
    read_mask,
    read_reference,
    settings_from,
)


def add_restore(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `vae-repair restore` its arguments."""
    parser.set_defaults(command=restore)
    add = parser.add_argument
    add("input", metavar="INPUT", help="TIFF, OME-TIFF, ImageJ, PNG, JPEG or BMP")
    add("output", metavar="OUTPUT", help="the restored image: .tif, .ome.tif, .png or .jpg")
    add("--residual", metavar="P", help="also write input minus restored, as floats (.tif, .ome.tif)")
    add("--std", metavar="P", help="also write the standard deviation of each pixel, as floats (.tif, .ome.tif)")
    add("--epochs", type=int, metavar="N", help="train on the image for so long instead of using the starter")
    add("--adapt", dest="adapt_seconds", type=float, metavar="SECONDS", help="adapt the starter to the image first")
    add("--samples", type=int, metavar="N", help="posterior samples; 16 with --std if left out")
    add("--preset", metavar="NAME", help="preprocessing: standard or classic")
    add(
        "--chain", metavar="TEXT", help="preprocessing steps, as in 'float32, normalise(low=1), denoise(method=median)'"
    )
    add("--axes", metavar="AXES", help="names of the input's axes, as in ZYX; default: the file's own")
    add("--mask", metavar="P", help="image file of the input's shape; nonzero = damaged")
    add("--model", metavar="P", help="starter (the default), scratch (train on the image), or a saved model")
    add("--save-model", metavar="P", help="write the trained model, as soon as training ends")
    add("--device", metavar="D", help="auto, cpu, cuda, cuda:1 or mps")
    add("--seed", type=int, metavar="N", help="the same seed gives the same result")
    add("--dtype", metavar="D", help="dtype of OUTPUT, and of the others where it is a float; default: the input's")
    add("--reference", metavar="P", help="the true image, to measure against")
    add("--report", metavar="P", help="write how far it can be trusted: a page (.html) or numbers (.json)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="any setting, as in training.batch_size=4")


def restore(args: argparse.Namespace) -> None:
    """Restore one file."""
    settings = settings_from(args)
    check_report(args.report)
    outputs = check_paths(args, settings)
    from napari_vae_repair.image.atomic import check_writable
    from napari_vae_repair.image.files import read_image, write_image

    image = read_image(args.input, args.axes)
    check_formats(args, image, settings)
    for path in outputs:
        check_writable(path)
    if args.mask is not None:
        image = dataclasses.replace(image, mask=read_mask(args.mask, args.axes))
    reference = None if args.reference is None else read_reference(args.reference, args.axes, image)

    restoration = run_restoration(image, settings, reference, args.save_model)
    provenance = provenance_of(restoration, image.name)
    for path, values, dtype in (
        (args.output, restoration.restored, output_dtype(args.dtype, image, restoration.report.in_source_units)),
        (args.residual, restoration.residual, float_dtype(args)),
        (args.std, restoration.std, float_dtype(args)),
    ):
        if path is not None:
            write_image(
                path,
                values,
                restoration.axes,
                dtype=dtype,
                pixel_size_um=image.pixel_size_um,
                channel_names=image.channel_names if "C" in restoration.axes else (),
                provenance=provenance,
            )
            print(path, flush=True)
    if args.report is not None:
        write_report(restoration, Path(args.report), image.name)
    print(restoration.report.text(), file=sys.stderr)
