"""`Report`: what was measured during a restoration, for people and for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from napari_vae_repair.noise.record import NoiseModel


@dataclass(frozen=True, slots=True)
class Report:
    """What a restoration measured and how it was made.

    Attributes
    ----------
    inverted_to : str
        The domain of the results: "source" = the image's own units, else the step at which inversion stopped.
    in_source_units : bool
        Whether the results are in the image's own units.
    noise : tuple of NoiseModel
        One for each channel of ``C``; in the image's own units where `noise_in_source_units`, else in prepared units.
    noise_in_source_units : bool
        Whether the chain is affine, so that the noise could be led back.
    reconstruction : dict
        For ``training`` and ``held_out`` pixels: ``mse`` (prepared units squared), ``psnr`` (dB), ``elbo`` (nats per
        value), measured against the noisy pixels; for ``image`` MSE, PSNR, SSIM of restored against prepared.
    against_reference : dict or None
        ``mse``, ``psnr``, ``ssim`` of ``restored`` and of ``prepared`` against the reference.
    kl : tuple of float
        KL of each level in nats per value, finest first.
    collapsed : bool
        Whether the posterior collapsed.
    residual_correlation : tuple of float
        Of neighbouring residuals along x and y; 0 = white.
    residual_std : float
        Standard deviation of the residual, in the results' units.
    residual_over_noise : float or None
        Mean square of the residual over the variance of the noise. Below 1 by the posterior's own variance when all
        is right; further below, noise was left in; above 1, detail went too, or the noise was underestimated. None
        without `noise_in_source_units`.
    samples : int
        How many posterior samples were drawn.
    damaged_share : float
        Share of pixels that were filled.
    seconds : dict
        For each phase.
    device : str
        Where it was computed.
    notes : tuple of str
        What the user should know.
    """

    inverted_to: str
    in_source_units: bool
    noise: tuple[NoiseModel, ...]
    noise_in_source_units: bool
    reconstruction: dict[str, dict[str, float]]
    against_reference: dict[str, dict[str, float]] | None
    kl: tuple[float, ...]
    collapsed: bool
    residual_correlation: tuple[float, float]
    residual_std: float
    residual_over_noise: float | None
    samples: int
    damaged_share: float
    seconds: dict[str, float]
    device: str
    notes: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON."""
        out = asdict(self)
        out["noise"] = [noise.to_dict() for noise in self.noise]
        for name in ("kl", "residual_correlation", "notes"):
            out[name] = list(out[name])
        return out

    def headline(self) -> str:
        """A sentence or two: how long it took, how much was taken away, and the notes."""
        over = self.residual_over_noise
        taken = "" if over is None else f"; {over:.2f} times the noise's variance was taken away"
        done = f"Restored in {sum(self.seconds.values()):.1f} s on {self.device}{taken}."
        return " ".join([done, *(f"{note[0].upper()}{note[1:]}." for note in self.notes)])

    def text(self) -> str:
        """A summary of a few lines."""
        units = "in the image's units" if self.noise_in_source_units else "in prepared units"
        lines = [line for noise in self.noise for line in described(noise, units)]
        if "held_out" in self.reconstruction:
            held, seen = self.reconstruction["held_out"], self.reconstruction["training"]
            lines.append(
                f"reconstruction PSNR {seen['psnr']:.2f} dB on training pixels, {held['psnr']:.2f} dB on held-out ones"
            )
        if self.against_reference is not None:
            restored, prepared = self.against_reference["restored"], self.against_reference["prepared"]
            lines.append(
                f"against the reference: PSNR {prepared['psnr']:.2f} -> {restored['psnr']:.2f} dB, "
                f"SSIM {prepared['ssim']:.3f} -> {restored['ssim']:.3f}"
            )
        along_x, along_y = self.residual_correlation
        over = (
            "" if self.residual_over_noise is None else f" ({self.residual_over_noise:.2f} times the noise's variance)"
        )
        lines.append(
            f"residual: std {self.residual_std:.4g}{over}, correlation {along_x:+.2f} along x, {along_y:+.2f} along y"
        )
        lines.append(
            "result in the image's own units"
            if self.in_source_units
            else f"result in the units after '{self.inverted_to}'"
        )
        lines.append(
            ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in self.seconds.items()) + f" on {self.device}"
        )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def described(noise: NoiseModel, units: str) -> list[str]:
    """Its numbers, and how far each can be trusted."""
    lines = [
        f"noise {noise.source}: gain {noise.gain:.4g}, "
        f"read noise {noise.read_noise:.4g} at {noise.offset:.4g} ({units})"
    ]
    if any((*noise.correlation, *noise.stripes)):
        (along_y, along_x), (rows, columns) = noise.correlation, noise.stripes
        lines.append(
            f"  its neighbours' correlation {along_x:.2f} along x, {along_y:.2f} along y; "
            f"offsets of rows {rows:.4g}, of columns {columns:.4g}"
        )
    return lines + [f"  {grade.quantity}: {grade.grade} ({grade.reason})" for grade in noise.grades]
