"""The runs that are killed: what each needs, does and leaves behind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_vae_repair.image.files import write_image


def picture(side: tuple[int, ...], seed: int) -> np.ndarray:
    """Waves with noise, uint16."""
    y, x = np.mgrid[: side[-2], : side[-1]]
    clean = 1000 + 500 * np.sin(x / (4 + seed)) * np.cos(y / 7)
    return (clean + np.random.default_rng(seed).normal(0, 60, side)).clip(0, 65535).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class Run:
    """One kind of run.

    Attributes
    ----------
    name : str
    prepare : callable
        Writes its inputs into a folder.
    start : callable
        Does it, in a process of its own; returns the exit code.
    outputs : tuple of str
        What it writes, relative to the folder, with the same bytes each time.
    tables : tuple of str
        What it writes besides, which tells of seconds.
    digest : callable
        Of an output: what must be the same each time.
    """

    name: str
    prepare: Callable[[Path], None]
    start: Callable[[Path], int]
    outputs: tuple[str, ...]
    tables: tuple[str, ...] = ()
    digest: Callable[[Path], str] | None = None


def of_bytes(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    found = hashlib.sha256()
    for each in files:
        found.update(each.relative_to(path).as_posix().encode() + b"\0" + each.read_bytes())
    return found.hexdigest()


def of_model(path: Path) -> str:
    """SHA-256 of a model's weights and settings; its header also tells dates and seconds."""
    from napari_vae_repair.vae.checkpoint import load_model

    model, found = load_model(path), hashlib.sha256()
    for name, tensor in sorted(model.network.state_dict().items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    found.update(repr((model.settings, model.value_range, model.noise, model.training["steps"])).encode())
    return found.hexdigest()


def _main(*arguments: str | Path) -> int:
    from napari_vae_repair.cli import main

    return main([str(each) for each in arguments])


def _one_image(folder: Path) -> None:
    write_image(folder / "in.tif", picture((160, 144), 1), "YX")


def _one(folder: Path) -> int:
    return _main("restore", folder / "in.tif", folder / "out.ome.tif", "--std", folder / "std.tif", "--samples", 2)


_TREE = ("a.tif", "day 1/b.ome.tif", "day 1/c.png", "day 2/d.tif", "day 2/e.ome.tif", "f.tif")


def _tree(folder: Path) -> None:
    for number, name in enumerate(_TREE):
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, picture((96, 80 + 8 * number), number), "YX")


def _batch(folder: Path) -> int:
    return _main("restore", f"{folder}/in/**/*", f"{folder}/out/", "--jobs", 2, "--resume", "--samples", 2)


def _stack(folder: Path) -> None:
    write_image(folder / "in.tif", picture((8, 96, 96), 2), "ZYX")


def _store(folder: Path) -> int:
    from napari_vae_repair.settings import make_settings
    from napari_vae_repair.storing import restore_to_store

    outputs = {"restored": folder / "out.ome.zarr", "std": folder / "std.ome.zarr"}
    for _ in restore_to_store(folder / "in.tif", outputs, make_settings(samples=2, tile_px=512)):
        pass
    return 0


def _training(folder: Path) -> int:
    small = ("network.widths=[4,4]", "network.latents=[2,2]", "training.patches_per_epoch=32", "training.patch_px=32")
    settings = [word for each in small for word in ("--set", each)]
    return _main(
        "train", f"{folder}/in/**/*.tif", "--epochs", 12, "--save-model", folder / "model.safetensors",
        "--checkpoint-every", 0.1, *settings,
    )  # fmt: skip


RUNS = (
    Run("one file", _one_image, _one, ("out.ome.tif", "std.tif")),
    Run("batch", _tree, _batch, tuple(f"out/{n}" for n in _TREE), ("out/results.csv", "out/results.json")),
    Run("store", _stack, _store, ("out.ome.zarr", "std.ome.zarr")),
    Run("training", _tree, _training, ("model.safetensors",), (), of_model),
)
