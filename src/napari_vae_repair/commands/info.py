"""`vae-repair info`: what a model file says of itself."""

from __future__ import annotations

import argparse
import json

from napari_vae_repair.preflight import check_exists


def add_info(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `vae-repair info` its arguments."""
    parser.set_defaults(command=info)
    parser.add_argument("model", metavar="MODEL", help="a file by --save-model")


def info(args: argparse.Namespace) -> None:
    """Print the header of a model file."""
    check_exists(args.model)
    from napari_vae_repair.vae.checkpoint import read_header

    print(json.dumps(read_header(args.model), indent=2))
