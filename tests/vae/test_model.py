"""The ladder's shapes, its reach, and what it does not depend on."""

from __future__ import annotations

import pytest
import torch

from napari_vae_repair.settings import Network
from napari_vae_repair.vae.latent import Gaussian
from napari_vae_repair.vae.model import HierarchicalVAE

SMALL = Network(widths=(6, 5), latents=(2, 3))
NETWORKS = [
    SMALL,
    Network(widths=(4,), latents=(2,)),
    Network(widths=(4, 4, 4, 4), latents=(1, 2, 1, 2), blocks=2),
    Network(widths=(4, 4), latents=(1, 2), deeper=3),
]


def trained_looking(network: HierarchicalVAE) -> HierarchicalVAE:
    """Every weight random, since residual blocks start as the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("settings", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(settings: Network, channels: int) -> None:
    network = HierarchicalVAE(channels, settings)
    height, width = 2 * network.stride, 3 * network.stride
    x = torch.randn(2, channels, height, width)
    decoded = network.decode(
        network.encode(x, torch.zeros(2, 1, height, width)), lambda level, q: torch.randn_like(q.mean)
    )
    assert decoded.clean.shape == x.shape
    for level, (kl, mean) in enumerate(zip(decoded.kl, decoded.means, strict=True)):
        scale = 2 ** (level + 1)
        assert kl.shape == mean.shape == (2, settings.latents[level], height // scale, width // scale)
        assert (kl >= -1e-5).all()


@pytest.mark.parametrize("settings", NETWORKS)
def test_no_output_depends_on_pixels_beyond_the_stated_reach(settings: Network) -> None:
    network = trained_looking(HierarchicalVAE(1, settings))
    reach, stride = network.receptive_px, network.stride
    side = -(-(2 * reach + 24) // stride) * stride
    x = torch.randn(1, 1, side, 2 * stride)
    changed = x.clone()
    changed[:, :, side // 2] += 5

    def clean(values: torch.Tensor) -> torch.Tensor:
        return network.decode(network.encode(values, torch.zeros_like(values)), lambda level, q: None).clean

    difference = (clean(x) - clean(changed)).abs().amax(dim=(0, 1, 3))
    rows = (difference > 1e-6 * difference.max()).nonzero().ravel()
    assert len(rows) > 0
    assert side // 2 - rows.min() <= reach
    assert rows.max() - side // 2 <= reach


@pytest.mark.parametrize("settings", NETWORKS)
@pytest.mark.parametrize("rows", [slice(0, 7), slice(71, 90), slice(150, 160)])
def test_a_part_decoded_alone_equals_it_in_the_whole(settings: Network, rows: slice) -> None:
    network = trained_looking(HierarchicalVAE(1, settings))
    height, width, columns = 160, 48, slice(17, 24)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 1, height, width, generator=generator)
    noise = [torch.randn(1, 8, height, width, generator=generator) for _ in settings.widths]
    windows = network.windows((rows, columns), height, width)
    whole = [(slice(0, height), slice(0, width))] * len(windows)

    def decoded(parts: list[tuple[slice, slice]] | None) -> torch.Tensor:
        def drawn(level: int, q: Gaussian) -> torch.Tensor:
            ys, xs = (parts or whole)[level]
            corner = noise[level][:, : q.mean.shape[1], ys.start :, xs.start :]
            return corner[..., : q.mean.shape[2], : q.mean.shape[3]]

        return network.decode(network.encode(x, torch.zeros_like(x)), drawn, windows=parts).clean

    top, left = (2 * part.start for part in windows[0])
    part = decoded(list(windows))[..., rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    torch.testing.assert_close(part, decoded(None)[..., rows, columns], rtol=1e-4, atol=1e-4)


def test_output_is_float32_under_bfloat16_autocast() -> None:
    network = trained_looking(HierarchicalVAE(1, SMALL))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = torch.randn(1, 1, 16, 16)
        decoded = network.decode(network.encode(x, torch.zeros_like(x)), lambda level, q: torch.randn_like(q.mean))
    assert decoded.clean.dtype == torch.float32
    assert len(torch.unique(decoded.clean)) > 0.9 * decoded.clean.numel()


def test_no_tensor_is_made_on_a_default_device() -> None:
    network = trained_looking(HierarchicalVAE(1, SMALL))
    x = torch.randn(1, 1, 16, 16)
    with torch.device("meta"):  # any factory call without a device now gives a tensor that nothing can be added to
        decoded = network.decode(network.encode(x, torch.zeros_like(x, device="cpu")), lambda level, q: None)
    assert decoded.clean.device.type == "cpu"
    assert torch.isfinite(decoded.clean).all()
