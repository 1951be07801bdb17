"""How the starter is shown an image: stabilised where its noise depends on the signal, told what noise is left."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.chain import Stabilise
from napari_vae_repair.grading import graded
from napari_vae_repair.image.measured import measured_sample
from napari_vae_repair.image.opponent import to_opponent
from napari_vae_repair.image.preprocess import FittedChain, extend_chain
from napari_vae_repair.image.zarr_levels import halved
from napari_vae_repair.noise.estimate import SHARED, estimate_noise
from napari_vae_repair.noise.record import NoiseModel
from napari_vae_repair.noise.stripes import stripes
from napari_vae_repair.preparation import characterise, led_through, told_noise
from napari_vae_repair.settings import EstimatedNoise, GivenNoise, Settings
from napari_vae_repair.vae.device import Device, on_device
from napari_vae_repair.vae.inspection import see_noise
from napari_vae_repair.vae.inspector import NoiseBranch
from napari_vae_repair.vae.record import ValueRange, View, most_scales

# Held-out scenes gain 0.4 dB in the mean where noise is at least so strong (network units, 5 % of the range) and
# neighbours among means of 2 x 2 pixels still share so much of it; elsewhere one pass leaves less of the slow noise
FAR_STRONG, FAR_SHARED = 0.1, 0.25
COARSER = 2  # scales
LEAST_SIDE_PX = 128  # of a plane that is restored at coarser scales too

Planes = NDArray[np.float32]
Damaged = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Conditioned:
    """An image as the starter is shown it.

    Attributes
    ----------
    chains : list of FittedChain
        One for each channel, with a last step `stabilise` where that was called for.
    prepared : ndarray of float32
        ``(N, C, Y, X)`` what the chains give.
    noise : tuple of NoiseModel
        One for each channel, in the units before that last step.
    domains : list of FittedChain
        One for each channel: the chains before that last step.
    views : list of View
        One for each plane and opponent colour, colours fastest.
    stabilised : list of bool
        For each channel whether its noise is stabilised in what is shown.
    """

    chains: list[FittedChain]
    prepared: Planes
    noise: tuple[NoiseModel, ...]
    domains: list[FittedChain]
    views: list[View]
    stabilised: list[bool]

    @property
    def notes(self) -> list[str]:
        """What the user should know."""
        scales = most_scales(self.views)
        return [f"the noise reaches far: restored at {scales} scales"] if scales > 1 else []

    def views_of(self, channel: int) -> list[View]:
        """One for each colour of any plane of that channel: they are alike in all of them."""
        start = channel * len(self.views) // len(self.chains)
        return self.views[start : start + self.prepared.shape[1]]


def condition(
    prepared: Planes,
    damaged: Damaged,
    domains: list[FittedChain],
    settings: Settings,
    branch: NoiseBranch,
    device: Device,
) -> Conditioned:
    """Look at the noise of each channel, stabilise it where it depends on the signal, and look again.

    Parameters
    ----------
    prepared : ndarray of float32
        ``(N, C, Y, X)``, finite, channels of the axis ``C`` slowest.
    damaged : ndarray of bool
        ``(N, Y, X)``.
    domains : list of FittedChain
        One for each channel.
    settings : Settings
        `noise` may give it, in the image's own units.
    branch : NoiseBranch
        Of the starter's inspector.
    device : Device
        Where to look.

    Raises
    ------
    SettingsError
        If noise is given that the chain cannot be led through.
    """
    branch = on_device(branch, device)
    given = isinstance(settings.noise, GivenNoise)
    joint = isinstance(settings.noise, EstimatedNoise) and settings.noise.joint and len(domains) > 1
    count = len(prepared) // len(domains)
    chains, planes, models, views, flat = [], [], [], [], []
    for index, (domain, noise) in enumerate(
        zip(domains, _noise_of(prepared, damaged, domains, settings, branch, device), strict=True)
    ):
        part = slice(index * count, (index + 1) * count)
        values, lost, chain = prepared[part], damaged[part], domain
        stabilised = any(isinstance(step.settings, Stabilise) for step in domain.steps)
        if noise.gain > 0 and not stabilised:
            step = Stabilise(gain=noise.gain, read_noise=noise.read_noise, offset=noise.offset)
            chain, values = extend_chain(domain, values, lost, step)
            stabilised = True
        colours = to_opponent(values)
        if given or colours.shape[1] == 1:
            shared = [noise.correlation] * colours.shape[1]
        else:  # cameras blur their colours more than their brightness
            looks = [see_noise(branch, colours[:, [colour]], lost, device) for colour in range(colours.shape[1])]
            shared = [noise.correlation if seen is None else seen.correlation for seen in looks]
        known = noise if given or (joint and not stabilised) else None
        colour_views = _views(colours, lost, shared, known, stabilised=stabilised)
        for colour, view in enumerate(colour_views):
            colour_views[colour] = replace(
                view, coarser=_coarser(view, colours[:, [colour]], lost, branch, device, given=given)
            )
        views += colour_views * count
        chains.append(chain)
        planes.append(values)
        models.append(noise)
        flat.append(stabilised)
    out = planes[0] if len(planes) == 1 else np.concatenate(planes)
    return Conditioned(chains, out, tuple(models), domains, views, flat)


def _noise_of(
    prepared: Planes,
    damaged: Damaged,
    domains: list[FittedChain],
    settings: Settings,
    branch: NoiseBranch,
    device: Device,
) -> list[NoiseModel]:
    """The noise of each channel in the units of its domain: given, told by all channels together, or by each."""
    if isinstance(settings.noise, GivenNoise):
        return list(characterise(prepared, damaged, domains, settings))
    parts = list(zip(np.split(prepared, len(domains)), np.split(damaged, len(domains)), strict=True))
    seen = [see_noise(branch, values, lost, device) for values, lost in parts]
    shared = [(0.0, 0.0) if each is None else each.correlation for each in seen]
    y, x = np.median(shared, axis=0)
    together = told_noise(prepared, damaged, domains, settings, (float(y), float(x)))
    out = []
    for (values, lost), domain, each, correlation in zip(parts, domains, seen, shared, strict=True):
        noise = estimate_noise(values, lost, correlation) if together is None else led_through(together, domain)
        out.append(graded(stripes(noise, values, lost), values, lost, each))
    return out


def _views(
    planes: Planes, damaged: Damaged, shared: list[tuple[float, float]], known: NoiseModel | None, *, stabilised: bool
) -> list[View]:
    """For each opponent colour; all planes of a colour are shown alike: a stack does not flicker then.

    `shared` is the correlation of the noise of neighbours in each opponent colour; noise that is `known` is not
    estimated again.
    """
    colours = []
    for colour, correlation in enumerate(shared):
        part = planes[:, colour : colour + 1]
        sample = measured_sample(part, damaged)
        value_range = ValueRange.of_sample(sample)
        found = known or estimate_noise(part, damaged, correlation)
        if found.source == "assumed":
            colours.append(View(value_range))  # better blind than told that there is no noise
            continue
        # where some dependence on the signal is left, what holds in the middle is told
        std = float(np.sqrt(found.variance(np.array(np.median(sample)))))
        if stabilised:
            # its variance is 1; more shows that the gain was too low, less only that dark parts are quieter than a
            # normal distribution lets them be
            std = max(std, 1.0) if known is None else 1.0
        colours.append(View(value_range, (std * value_range.scale, *correlation)))
    return colours


def _coarser(
    view: View, planes: Planes, damaged: Damaged, branch: NoiseBranch, device: Device, *, given: bool
) -> View | None:
    """How means over 2 x 2 and 4 x 4 pixels are shown, where the noise is strong and reaches that far.

    Noise that was `given` at full size is no stronger in them than its correlation lets it be.
    """
    if view.told is None or view.told[0] < FAR_STRONG or max(view.told[1:]) < SHARED:
        return None
    if min(planes.shape[2:]) < LEAST_SIDE_PX:
        return None
    coarser: list[View] = []
    for _ in range(COARSER):
        planes, damaged = halved(planes, (2, 3)), halved(damaged, (1, 2))
        seen = see_noise(branch, planes, damaged, device)
        if seen is None or (not coarser and max(seen.correlation) < FAR_SHARED):
            return None
        (found,) = _views(planes, damaged, [seen.correlation], None, stabilised=False)
        if found.told is None:
            return None
        coarser.append(_no_stronger(found, than=coarser[-1] if coarser else view) if given else found)
    first, second = coarser
    return replace(first, coarser=second)


def _no_stronger(found: View, *, than: View) -> View:
    """With at most the noise that means over 2 x 2 pixels keep of the finer scale's."""
    assert found.told is not None
    assert than.told is not None
    std, *shared = than.told
    most = std / than.value_range.scale * np.sqrt((1 + shared[0]) * (1 + shared[1])) / 2
    return replace(found, told=(min(found.told[0], float(most) * found.value_range.scale), *found.told[1:]))
