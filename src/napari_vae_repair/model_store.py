"""The user's saved models: a folder of model files that is listed, added to, renamed and deleted from."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_path

from napari_vae_repair.errors import ImageFileError, ModelFileError
from napari_vae_repair.image.atomic import check_writable, replacing
from napari_vae_repair.vae.checkpoint import read_header, save_model

if TYPE_CHECKING:
    from napari_vae_repair.vae.record import Model

SUFFIX = ".safetensors"
VARIABLE = "NAPARI_VAE_REPAIR_MODELS"
LONGEST_NAME = 80  # characters
_NAME = re.compile(r'[^<>:"/\\|?*\x00-\x1f.][^<>:"/\\|?*\x00-\x1f]*')


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the store, as far as its header tells.

    Attributes
    ----------
    name : str
        The file's name without ``.safetensors``.
    path : Path
    size_bytes : int
    date : datetime
        Of the last training where the header tells it, else of the file; in UTC.
    kind : str
        "starter", "adapted" (from the starter) or "scratch"; "" for a broken file.
    trained_on : tuple of str
        Names of the images; empty where the header does not tell.
    epochs, steps : int or None
        Epochs of a training from scratch; its steps, or those of all adapting.
    colours : int or None
        Colours a pixel that it restores; None = any, as the starter.
    problem : str
        Why the file cannot be used; "" if it can.
    """

    name: str
    path: Path
    size_bytes: int
    date: datetime
    kind: str = ""
    trained_on: tuple[str, ...] = ()
    epochs: int | None = None
    steps: int | None = None
    colours: int | None = None
    problem: str = ""


class ModelStore:
    """A folder of saved models.

    Parameters
    ----------
    folder : path, optional
        None = what the environment variable ``NAPARI_VAE_REPAIR_MODELS`` names, else the user's own folder for data.
        It is made when the first model is added.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        default = os.environ.get(VARIABLE) or user_data_path("napari-vae-repair", appauthor=False) / "models"
        self.folder = Path(folder if folder is not None else default).expanduser().absolute()

    def entries(self) -> tuple[Entry, ...]:
        """Every model file by name, broken ones with the reason; empty without the folder.

        Raises
        ------
        ModelFileError
            If there is a folder that cannot be read.
        """
        if not self.folder.exists():
            return ()
        with _told(f"The folder {self.folder} cannot be read"):
            paths = [path for path in self.folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith(".")]
        return tuple(_entry(path) for path in sorted(paths, key=lambda path: path.name.casefold()))

    def path_of(self, name: str) -> Path:
        """Where the model of that name lies.

        Raises
        ------
        ModelFileError
            If the name is refused, or there is no such model.
        """
        path = self._path(name)
        if not path.is_file() and not path.is_symlink():
            names = ", ".join(entry.name for entry in self.entries()) or "none"
            raise ModelFileError(
                f"There is no model {name!r}.", f"In {self.folder} there are: {names}.", "Choose one of them."
            )
        return path

    def free_path(self, name: str) -> Path:
        """Where a new model of that name would lie.

        Raises
        ------
        ModelFileError
            If the name is refused or taken.
        """
        path = self._path(name)
        if path.exists() or path.is_symlink():
            raise ModelFileError(
                f"There is a model {path.stem!r} already.",
                "A model is never overwritten.",
                "Choose another name, or delete or rename the other model first.",
            )
        return path

    def writable_path(self, name: str) -> Path:
        """As `free_path`, once a file was written beside it: so that no training is lost for want of a place.

        Raises
        ------
        ModelFileError
            If the name is refused or taken, or nothing can be written there.
        """
        path = self.free_path(name)
        self._make_folder()
        try:
            check_writable(path)
        except ImageFileError as error:
            raise ModelFileError(
                error.received,
                error.allowed,
                f"Change it, or name another folder in the environment variable {VARIABLE}.",
            ) from error
        return path

    def add(self, model: Model, name: str) -> Path:
        """Save a model under a name that is free.

        Raises
        ------
        ModelFileError
            If the name is refused or taken, or the file cannot be written.
        """
        path = self.free_path(name)
        self._make_folder()
        return save_model(model, path)

    def add_file(self, file: str | os.PathLike[str], name: str | None = None) -> Path:
        """Copy a model file into the store once its header has been read; None = under the name that it has.

        Raises
        ------
        ModelFileError
            If it is no model of this package, the name is refused or taken, or the copy cannot be written.
        """
        source = Path(file)
        _checked_header(source)
        path = self.free_path(source.stem if name is None else name)
        self._make_folder()
        try:
            with source.open("rb") as content, replacing(path) as stream:
                shutil.copyfileobj(content, stream)
        except ImageFileError as error:
            raise ModelFileError(error.received, error.allowed, error.remedy) from error
        return path

    def rename(self, name: str, to: str) -> Path:
        """Give a model another name that is free.

        Raises
        ------
        ModelFileError
            If there is no such model, the new name is refused or taken, or the folder cannot be written to.
        """
        source = self.path_of(name)
        if self._path(to) == source:
            return source
        target = self.free_path(to)
        with _told(f"The model {name!r} cannot be renamed"):
            return source.rename(target)

    def delete(self, name: str) -> None:
        """Remove a model file, a broken one too; of a link the link alone. It cannot be brought back.

        Raises
        ------
        ModelFileError
            If there is no such model, or the folder cannot be written to.
        """
        path = self.path_of(name)
        with _told(f"The model {name!r} cannot be deleted"):
            path.unlink()

    def _path(self, name: str) -> Path:
        name = name.strip()
        if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
            raise ModelFileError(
                f"A model cannot be called {name!r}.",
                f"A name has 1 to {LONGEST_NAME} characters, does not begin with a dot, and holds none of "
                '/ \\ : * ? " < > |.',
                "Choose another name.",
            )
        return self.folder / f"{name}{SUFFIX}"

    def _make_folder(self) -> None:
        with _told(f"The folder {self.folder} cannot be made"):
            self.folder.mkdir(parents=True, exist_ok=True)


def _entry(path: Path) -> Entry:
    try:
        found = path.stat()
    except OSError as error:  # a link to nothing
        return Entry(path.stem, path, 0, datetime.fromtimestamp(0, UTC), problem=f"cannot be read: {error.strerror}")
    entry = Entry(path.stem, path, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
    try:
        return _described(entry, _checked_header(path))
    except ModelFileError as error:
        reason = str(error)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        reason = "Its header does not tell what a model of this package tells."
    return Entry(entry.name, path, entry.size_bytes, entry.date, problem=reason)


def _checked_header(path: Path) -> dict[str, Any]:
    """The header, of a file that holds all the weights that it tells of; without PyTorch."""
    header = read_header(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return header
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is damaged: {error}.", "A model file must be complete.", "Copy or train it anew."
        ) from error


def _described(entry: Entry, header: dict[str, Any]) -> Entry:
    training: dict[str, Any] = header["training"]
    general = header["value_range"] is None
    adapting = _steps(training.get("adapted"))
    images: list[dict[str, Any]] = training.get("trained_on", [])
    return Entry(
        name=entry.name,
        path=entry.path,
        size_bytes=entry.size_bytes,
        date=datetime.fromisoformat(images[-1]["date"]) if images else entry.date,
        kind=("adapted" if adapting else "starter") if general else "scratch",
        trained_on=tuple(str(image["name"]) for image in images),
        epochs=None if general else int(training["epochs"]),
        steps=(adapting or None) if general else int(training["steps"]),
        colours=None if general else int(header["channels"]),
    )


def _steps(adapted: dict[str, Any] | None) -> int:
    """Of the adapting that was kept, this time and before."""
    if adapted is None:
        return 0
    own = int(adapted.get("stopped_at") or adapted["steps"]) if adapted["accepted"] else 0
    return own + _steps(adapted.get("before"))


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelFileError(
            f"{what}: {error.strerror or error}.",
            "The folder of the models must be one that you may read and write.",
            f"Change its permissions, or name another in the environment variable {VARIABLE}.",
        ) from error
