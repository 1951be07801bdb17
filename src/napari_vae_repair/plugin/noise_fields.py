"""`NoiseFields`: how the noise is known, and its numbers where the user gives them."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import ComboBox, LineEdit
from magicgui.widgets.bases import Widget

from napari_vae_repair.settings import GivenNoise, LearnedNoise, Noise

EACH, JOINT, GIVEN, LEARNED = "estimated", "one for all channels", "given", "learned in the training"


class NoiseFields:
    """A choice, and gain, read noise and offset below it where the noise is given; magicgui widgets all of them."""

    def __init__(self) -> None:
        self.kind = ComboBox(
            name="noise",
            label="Noise",
            choices=[EACH, JOINT, GIVEN, LEARNED],
            tooltip="API: noise. Estimated for each channel or for all together, as of one camera; or given.",
        )
        # spin boxes would round: gains are 3 or 0.00002, as the image's units have it
        self.gain = LineEdit(
            name="gain",
            label="Gain",
            value="0",
            tooltip="API: noise.gain. Layer units for each detected photon; 0 = Gaussian noise.",
        )
        self.read_noise = LineEdit(
            name="read_noise",
            label="Read noise",
            value="1",
            tooltip="API: noise.read_noise. Standard deviation without light, in layer units.",
        )
        self.offset = LineEdit(
            name="offset", label="Offset", value="0", tooltip="API: noise.offset. Value without light, in layer units."
        )
        self.kind.changed.connect(self._show_what_applies)
        self._show_what_applies()

    @property
    def widgets(self) -> list[Widget]:
        """In their order."""
        return [self.kind, self.gain, self.read_noise, self.offset]

    def noise(self, base: Noise) -> dict[str, Any]:
        """What the fields show, as `make_settings` takes it; the correlation, which has no field, is that of `base`."""
        if self.kind.value == GIVEN:
            correlation = base.correlation if isinstance(base, GivenNoise) else (0.0, 0.0)
            numbers = {field.name: field.value for field in (self.gain, self.read_noise, self.offset)}
            return {"kind": "given", "correlation": correlation} | numbers
        if self.kind.value == LEARNED:
            return {"kind": "learned"}
        return {"kind": "estimated", "joint": self.kind.value == JOINT}

    def show(self, noise: Noise) -> None:
        """Show this noise."""
        if isinstance(noise, GivenNoise):
            for field in (self.gain, self.read_noise, self.offset):
                field.value = f"{getattr(noise, field.name)!r}".removesuffix(".0")
            self.kind.value = GIVEN
        elif isinstance(noise, LearnedNoise):
            self.kind.value = LEARNED
        else:
            self.kind.value = JOINT if noise.joint else EACH

    def _show_what_applies(self, _: object = None) -> None:
        for field in (self.gain, self.read_noise, self.offset):
            field.visible = self.kind.value == GIVEN
