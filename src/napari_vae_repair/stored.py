"""What came of a restoration that went block by block into stores: where they lie, and what was found on the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.report import described
from napari_vae_repair.settings import Settings
from napari_vae_repair.vae.record import Model


@dataclass(frozen=True, slots=True)
class StoredReport:
    """What was found on the way; what only a look at all pixels could tell is None.

    Attributes
    ----------
    noise : tuple of NoiseModel
        One for each channel of ``C``; in the image's units where `noise_in_source_units`.
    noise_in_source_units, in_source_units : bool
        Whether the noise, and whether the result, is in the image's own units.
    blocks, resumed : int
        In all, and how many of them an earlier run had done.
    seconds : float
        Of this run.
    device : str
        Where it was computed, or the address of the scheduler.
    notes : tuple of str
        What the user should know.
    samples : int
        How many posterior samples were drawn.
    residual_std, residual_over_noise, residual_correlation, against_reference : None
        As in `Report`; not measured.
    """

    noise: tuple[NoiseModel, ...]
    noise_in_source_units: bool
    in_source_units: bool
    blocks: int
    resumed: int
    seconds: float
    device: str
    notes: tuple[str, ...]
    samples: int = 0
    residual_std: None = None
    residual_over_noise: None = None
    residual_correlation: None = None
    against_reference: None = None

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON."""
        return asdict(self) | {"noise": [noise.to_dict() for noise in self.noise], "notes": list(self.notes)}

    def headline(self) -> str:
        """A sentence or two: how long it took, and the notes."""
        done = f"Restored {self.blocks} block{'s' * (self.blocks != 1)} in {self.seconds:.1f} s on {self.device}."
        return " ".join([done, *(f"{note[0].upper()}{note[1:]}." for note in self.notes)])

    def text(self) -> str:
        """A summary of a few lines."""
        units = "in the image's units" if self.noise_in_source_units else "in prepared units"
        lines = [line for noise in self.noise for line in described(noise, units)]
        lines.append("result in the image's own units" if self.in_source_units else "result in prepared units")
        before = f", {self.resumed} of them done before" if self.resumed else ""
        lines.append(f"{self.blocks} block{'s' * (self.blocks != 1)}{before}, in {self.seconds:.1f} s on {self.device}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True, slots=True)
class Stored:
    """What came of `storing.restore_to_store`.

    Attributes
    ----------
    paths : tuple of Path
        The stores.
    report : StoredReport
    model : Model
        What restored it; may be saved and used again.
    settings : Settings
        With which it was made.
    """

    paths: tuple[Path, ...]
    report: StoredReport
    model: Model
    settings: Settings
