"""`vae-repair compare`: a plane restored by all methods, as a table and side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from napari_vae_repair.preflight import check_distinct, read_reference, settings_from
from napari_vae_repair.terminal import tell


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `vae-repair compare` its arguments."""
    parser.set_defaults(command=compare)
    add = parser.add_argument
    add("input", metavar="INPUT", help="one plane, grey or colour")
    add(
        "--methods",
        metavar="A,B",
        help="some of them, between commas; default: all but the autoencoder, which trains for minutes",
    )
    add("--reference", metavar="P", help="the true image, for PSNR and SSIM")
    add("--csv", metavar="P.csv", help="write the table")
    add("--figure", metavar="P.png", help="write the results side by side")
    add("--axes", metavar="AXES", help="names of the input's axes, as in YX; default: the file's own")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of ours, as in seed=4")


def compare(args: argparse.Namespace) -> None:
    """Restore a plane by all methods."""
    settings = settings_from(args)
    outputs = check_distinct((args.input, args.reference), (args.csv, args.figure))
    from napari_vae_repair import comparison
    from napari_vae_repair.contact_sheet import contact_sheet
    from napari_vae_repair.image.atomic import check_writable, replacing
    from napari_vae_repair.image.files import read_image

    for path in outputs:
        check_writable(path)
    image = read_image(args.input, args.axes)
    found = comparison.compare(
        image,
        only=args.methods.split(",") if args.methods else None,
        reference=None if args.reference is None else read_reference(args.reference, args.axes, image),
        settings=settings,
        on_step=lambda name, done, total: tell("comparing", f"{name} ({done + 1} of {total})"),
    )
    if args.csv is not None:
        with replacing(Path(args.csv)) as stream:
            stream.write(found.csv().encode())
        print(args.csv, flush=True)
    if args.figure is not None:
        with replacing(Path(args.figure)) as stream:
            contact_sheet(image.pixels, found).save(stream, format="PNG")
        print(args.figure, flush=True)
    print(found.text(), file=sys.stderr if args.csv else sys.stdout)
