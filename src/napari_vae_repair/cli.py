"""The command `vae-repair`: restore files, show a demo, describe a model file.

Only argparse is imported before a command runs: `vae-repair --help` answers at once.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from napari_vae_repair import __version__
from napari_vae_repair.commands.compare import add_compare
from napari_vae_repair.commands.demo import add_demo
from napari_vae_repair.commands.info import add_info
from napari_vae_repair.commands.restore import add_restore
from napari_vae_repair.commands.train import add_train
from napari_vae_repair.errors import SettingsError, VaeRepairError
from napari_vae_repair.preflight import UsageError
from napari_vae_repair.terminal import PROGRAM, Terminated, tell, terminable, told_warnings

EXIT_FAILED, EXIT_USAGE = 1, 2
EXIT_INTERRUPTED, EXIT_TERMINATED = 128 + 2, 128 + 15  # as shells tell of SIGINT and SIGTERM


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str or None
        Arguments after the program's name; None = those of the process.

    Returns
    -------
    int
        The exit code: 0, 1 = the run failed, 2 = bad usage, 130 = stopped by Ctrl-C, 143 = by SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        # not every path can be encoded: on Linux it may hold any bytes, and a console may know few letters
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:  # argparse has written its message; 0 after --help and --version
        return int(end.code or 0)
    try:
        with terminable(), told_warnings():
            args.command(args)
    except (KeyboardInterrupt, Terminated) as stop:
        print(file=sys.stderr)
        by = "SIGTERM" if isinstance(stop, Terminated) else "Ctrl-C"
        tell("error", f"Stopped by {by}. Files named above are complete; no other file was written.")
        return EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED
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
    add = parser.add_subparsers(title="commands", required=True).add_parser
    add_restore(add("restore", help="restore an image file, or many"))
    add_train(add("train", help="one model from many image files"))
    add_compare(add("compare", help="beside classical methods", description="Restore a plane by all methods."))
    add_demo(add("demo", help="restore an example and show it in napari"))
    add_info(add("info", help="describe a model file"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
