"""What damage hides in a restored image: one pass of the network that learned to fill."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_vae_repair.image.tiles import Window
from napari_vae_repair.vae.model import FAR_PX, HierarchicalVAE

QUIET = (0.004, 0.0, 0.0)  # what the network is told: as little noise, in network units, as where it learned


def filled(network: HierarchicalVAE, restored: Tensor, damaged: Tensor, wanted: Window) -> Tensor:
    """The restored image with the damaged pixels of its part `wanted` filled from what lies around them.

    Parameters
    ----------
    network : HierarchicalVAE
        The starter's `filling`, on the device of the image; never changed.
    restored : Tensor
        ``(1, 1, Y, X)`` in network units, sides multiples of the network's stride; a first guess where it is damaged.
    damaged : Tensor
        ``(1, 1, Y, X)`` float, 1 = damaged.
    wanted : tuple of slice
        Rows and columns, with at least one damaged pixel.
    """
    sides = zip((1, 0), wanted, damaged.shape[2:], strict=True)
    rows, columns = (
        _around(damaged[0, 0, *wanted].amax(dim=along), part.start, side, network.stride) for along, part, side in sides
    )
    seen, hidden = restored[..., rows, columns], damaged[..., rows, columns]
    told = torch.tensor([QUIET], device=restored.device)
    clean = network.decode(network.encode(seen, hidden, told), lambda level, posterior: None, divergence=False).clean
    out = restored.clone()
    out[..., rows, columns] = torch.where(hidden > 0, clean, seen)
    return out


def _around(hit: Tensor, start: int, side: int, stride: int) -> slice:
    """Of a side all of ``(N,)`` from `start` on that is not 0, and as far around as the network looks."""
    where = torch.nonzero(hit)[:, 0] + start
    first, last = int(where[0]) - FAR_PX, int(where[-1]) + FAR_PX
    return slice(max(first, 0) // stride * stride, min(-(-(last + 1) // stride) * stride, side))
