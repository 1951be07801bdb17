"""`Job`: one file to restore and everything that is to be written of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from napari_vae_repair.settings import Settings, make_settings


@dataclass(frozen=True, slots=True)
class Job:
    """What is read, what is made of it, and where it goes.

    Attributes
    ----------
    input, output : str
        Paths of the image and of the restored one.
    settings : Settings
        Of the restoration.
    axes : str or None
        Names of the input's axes; None = the file's own.
    mask, reference : str or None
        Files of the input's shape: damage, and the truth to measure against.
    residual, std, report, save_model : str or None
        Further files to write.
    dtype : str or None
        Of `output`, and of `residual` and `std` where it is a float; None = the input's.
    """

    input: str
    output: str
    settings: Settings
    axes: str | None = None
    mask: str | None = None
    reference: str | None = None
    residual: str | None = None
    std: str | None = None
    report: str | None = None
    save_model: str | None = None
    dtype: str | None = None

    @property
    def read(self) -> list[str]:
        """The files that are read, without the model."""
        return [path for path in (self.input, self.mask, self.reference) if path is not None]

    @property
    def written(self) -> list[str]:
        """The files that are written, `output` first."""
        paths = (self.output, self.residual, self.std, self.save_model, self.report)
        return [path for path in paths if path is not None]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        record = {name: getattr(self, name) for name in self.__slots__}
        return record | {"settings": self.settings.model_dump(mode="json")}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Job:
        """The job that `to_dict` gave."""
        return cls(**saved | {"settings": make_settings(None, **saved["settings"])})


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one file.

    Attributes
    ----------
    input, output : str
        As in its `Job`.
    status : str
        "waiting", "done", "skipped" (an earlier run had done it) or "failed".
    seconds : float
        From opening the input to the last file written.
    device : str
        Where it was computed.
    noise : tuple of dict
        For each channel ``gain``, ``read_noise``, ``offset``, ``correlation`` (along y, x), ``source`` and ``grade``,
        the worst of its grades or "".
    in_source_units : bool or None
        Whether noise and result are in the image's own units.
    residual_std, residual_over_noise : float or None
        As in `Report`.
    residual_correlation : tuple of float or None
        Along x and y.
    against_reference : dict or None
        As in `Report`.
    notes : tuple of str
        What the user should know.
    error : str
        Why it failed, or "".
    key : str
        Hash of everything that decides the result.
    files : dict of str to str
        SHA-256 of each file that was written, by its path.
    """

    input: str
    output: str
    status: str = "waiting"
    seconds: float = 0.0
    device: str = ""
    noise: tuple[dict[str, Any], ...] = ()
    in_source_units: bool | None = None
    residual_std: float | None = None
    residual_over_noise: float | None = None
    residual_correlation: tuple[float, float] | None = None
    against_reference: dict[str, dict[str, float]] | None = None
    notes: tuple[str, ...] = ()
    error: str = ""
    key: str = ""
    files: dict[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Row:
        """The row that `to_dict` gave, also by way of JSON."""
        pair = saved.get("residual_correlation")
        lists = {"noise": tuple(saved["noise"]), "notes": tuple(saved["notes"])}
        return cls(**saved | lists | {"residual_correlation": None if pair is None else (pair[0], pair[1])})
