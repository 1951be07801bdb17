"""The command `vae-repair`: restore a file, show a demo, describe a model file.

Only argparse is imported before a command runs: `vae-repair --help` answers at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vae_repair import __version__
from napari_vae_repair.errors import SettingsError, VaeRepairError
from napari_vae_repair.preflight import (
    UsageError,
    check_distinct,
    check_exists,
    check_formats,
    check_paths,
    check_report,
    float_dtype,
    output_dtype,
    read_mask,
    read_reference,
    settings_from,
)
from napari_vae_repair.terminal import PROGRAM, ProgressLine, tell, told_warnings

if TYPE_CHECKING:
    from napari_vae_repair.image.record import Image
    from napari_vae_repair.pipeline import Progress
    from napari_vae_repair.restoration import Restoration
    from napari_vae_repair.settings import Settings

EXIT_FAILED, EXIT_USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str or None
        Arguments after the program's name; None = those of the process.

    Returns
    -------
    int
        The exit code: 0, 1 = the run failed, 2 = bad usage.
    """
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:  # argparse has written its message; 0 after --help and --version
        return int(end.code or 0)
    try:
        with told_warnings():
            args.command(args)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        tell("error", "Stopped by Ctrl-C. Files named above are complete; no other file was written.")
        return EXIT_FAILED
    except MemoryError:
        tell("error", "The memory is full. Smaller tiles need less, as in --set tile_px=256; so does a smaller image.")
        return EXIT_FAILED
    except VaeRepairError as error:
        tell("error", str(error))
        return EXIT_USAGE if isinstance(error, UsageError | SettingsError) else EXIT_FAILED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(PROGRAM, description="Restore noisy and damaged images with a VAE.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)
    _add_restore(commands.add_parser("restore", help="restore an image file", description="Restore an image file."))
    _add_compare(
        commands.add_parser("compare", help="beside classical methods", description="Restore a plane by all methods.")
    )
    demo = commands.add_parser("demo", help="restore an example and show it in napari")
    demo.set_defaults(command=_demo)
    demo.add_argument("image", nargs="?", metavar="IMAGE", help="your own image instead of the noisy example")
    demo.add_argument(
        "--output-dir", default="demo-output", metavar="DIR", help="where files are written [%(default)s]"
    )
    demo.add_argument("--screenshot", action="store_true", help="write DIR/demo.png and close the viewer")
    demo.add_argument("--epochs", type=int, metavar="N", help="train on the image for so long instead")
    info = commands.add_parser("info", help="describe a model file")
    info.set_defaults(command=_info)
    info.add_argument("model", metavar="MODEL", help="a file by --save-model")
    return parser


def _add_restore(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_restore)
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


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_compare)
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


# ---- vae-repair restore -----------------------------------------------------------------------


def _restore(args: argparse.Namespace) -> None:
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

    restoration = _run(image, settings, reference, args.save_model)
    provenance = _provenance(restoration, image.name)
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
        _write_report(restoration, Path(args.report), image.name)
    print(restoration.report.text(), file=sys.stderr)


def _run(image: Image, settings: Settings, reference: Any = None, save_model_to: str | None = None) -> Restoration:
    """Restore with progress on stderr; the model is saved before prediction, so that its training is not lost."""
    from napari_vae_repair.pipeline import restore_steps

    line, saved = ProgressLine(), save_model_to is None
    steps: Generator[Progress, None, Restoration] = restore_steps(image, settings, reference=reference)
    try:
        while True:
            progress = next(steps)
            line.show(progress)
            if not saved and progress.model is not None:
                from napari_vae_repair.vae.checkpoint import save_model

                line.end()
                print(save_model(progress.model, str(save_model_to)), flush=True)
                saved = True
    except StopIteration as end:
        restoration: Restoration = end.value
        return restoration
    finally:
        line.end()


def _provenance(restoration: Restoration, source: str) -> dict[str, Any]:
    return {
        "source": source,
        "version": __version__,
        "settings": restoration.settings.model_dump(mode="json"),
        "report": restoration.report.to_dict(),
    }


def _write_report(restoration: Restoration, path: Path, source: str) -> None:
    if path.suffix.lower() == ".html":
        from napari_vae_repair.trust_page import write_trust_page

        write_trust_page(restoration, path, source=source)
    else:
        _write_json(restoration.report.to_dict() | {"trust": restoration.trust().to_dict()}, path)
    print(path, flush=True)


def _write_json(report: dict[str, Any], path: Path) -> None:
    from napari_vae_repair.image.atomic import replacing
    from napari_vae_repair.image.tiff import json_metadata

    # JSON has no NaN; strict readers would refuse the whole file
    text = json.dumps(json_metadata(report, path))
    plain = json.loads(text, parse_constant=lambda _: None)
    with replacing(path) as stream:
        stream.write(json.dumps(plain, indent=2).encode() + b"\n")


# ---- vae-repair compare -----------------------------------------------------------------------


def _compare(args: argparse.Namespace) -> None:
    settings = settings_from(args)
    outputs = check_distinct((args.input, args.reference), (args.csv, args.figure))
    from napari_vae_repair.comparison import compare
    from napari_vae_repair.contact_sheet import contact_sheet
    from napari_vae_repair.image.atomic import check_writable, replacing
    from napari_vae_repair.image.files import read_image

    for path in outputs:
        check_writable(path)
    image = read_image(args.input, args.axes)
    found = compare(
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


# ---- vae-repair demo, vae-repair info ---------------------------------------------------------


def _demo(args: argparse.Namespace) -> None:
    settings = settings_from(args)
    if args.image is not None:
        check_exists(args.image)
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
    restoration = _run(image, settings)
    provenance, sizes = _provenance(restoration, image.name), image.pixel_size_um
    for name, values, dtype in (
        ("restored.tif", restoration.restored, output_dtype(None, image, restoration.report.in_source_units)),
        ("residual.tif", restoration.residual, "float32"),
    ):
        path = folder / name
        write_image(path, values, restoration.axes, dtype=dtype, pixel_size_um=sizes, provenance=provenance)
        print(path, flush=True)
    _write_report(restoration, folder / "report.json", image.name)
    print(restoration.report.text(), file=sys.stderr, flush=True)
    show(image, restoration, folder / "demo.png" if args.screenshot else None)


def _info(args: argparse.Namespace) -> None:
    check_exists(args.model)
    from napari_vae_repair.vae.checkpoint import read_header

    print(json.dumps(read_header(args.model), indent=2))


if __name__ == "__main__":
    sys.exit(main())
