"""Where training looks: random patches, and blocks held out for validation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.image.measured import fill_damage

# share of the patches that lose blobs at the encoder, so that it learns to fill damage
BLOB_SHARE, BLOB_SHARE_DAMAGED = 0.1, 0.5
BLOB_MAX_PX = 12


@dataclass(frozen=True, slots=True)
class Batch:
    """Patches in the orientation in which they were drawn.

    Attributes
    ----------
    values : ndarray of float32
        ``(B, C, Y, X)`` prepared values, against which the likelihood is evaluated.
    seen : ndarray of float32
        The same as the encoder sees them: damaged and hidden pixels filled from their neighbours.
    damaged : ndarray of float32
        ``(B, 1, Y, X)``; 1 = what the encoder sees there was filled in.
    counted : ndarray of float32
        ``(B, 1, Y, X)``; 1 = the pixel is in the likelihood.
    channel : ndarray of int64
        ``(B,)``, index along ``C``.
    turned : ndarray of bool
        ``(B,)``: whether what lay along x now lies along y.
    """

    values: NDArray[np.float32]
    seen: NDArray[np.float32]
    damaged: NDArray[np.float32]
    counted: NDArray[np.float32]
    channel: NDArray[np.int64]
    turned: NDArray[np.bool_]


class Patches(Protocol):
    """Where a training draws from: what `PatchSource` and a source of many files have in common."""

    def training(self, size: int) -> Batch:
        """Random patches whose counted pixels may be learned from."""

    def validation(self, at_most: int) -> Batch:
        """Patches whose counted pixels are never in `training`; the same at each call."""

    def visible(self, at_most: int) -> Batch:
        """Patches at fixed places whose counted pixels may be in `training`, for the report."""

    def state(self) -> dict[str, Any]:
        """What `put_back` needs to go on with the patches that would come next, for JSON."""

    def put_back(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken."""


class PatchSource:
    """Seeded patches of a stack of planes.

    Parameters
    ----------
    planes : ndarray of float32
        ``(N, C, Y, X)``; Y and X at least `stride`.
    damaged : ndarray of bool
        ``(N, Y, X)``.
    channel : ndarray of int64
        ``(N,)``: index along ``C`` of each plane.
    patch_px, stride : int
        Wanted side of a patch, rounded down to a multiple of `stride` that fits.
    held_out : float or ndarray of bool
        Share of the area that is never counted in `training`, only in `validation`, as blocks that the seed chooses; or
        ``(N, Y, X)``, which pixels that holds for.
    seed : int
        Of the held-out blocks and of all patches.
    blob_share : float or None
        Of the patches that lose blobs at the encoder; None = as is good for these planes.
    turning : bool
        Whether patches for training are flipped and turned.

    Notes
    -----
    The arrays are looked at anew for each patch: whoever owns them may put other planes into them.
    """

    def __init__(
        self,
        planes: NDArray[np.float32],
        damaged: NDArray[np.bool_],
        channel: NDArray[np.int64],
        *,
        patch_px: int,
        stride: int,
        held_out: float | NDArray[np.bool_],
        seed: int,
        blob_share: float | None = None,
        turning: bool = True,
    ) -> None:
        self._planes, self._damaged, self._channel, self._turning = planes, damaged, channel, turning
        self._size = (min(patch_px, *planes.shape[2:]) // stride) * stride
        self._rng = np.random.default_rng(seed)
        usual = BLOB_SHARE_DAMAGED if damaged.any() else BLOB_SHARE
        self._blob_share = usual if blob_share is None else blob_share
        self.block_px = block_px(self._size)
        self._held = held_out if isinstance(held_out, np.ndarray) else None
        self._blocks = {} if isinstance(held_out, np.ndarray) else self._choose_blocks(held_out)

    def _choose_blocks(self, share: float) -> dict[tuple[int, int, int], None]:
        """Grid cells (plane, row, column) of the held-out blocks; at least one, never all."""
        count, _, height, width = self._planes.shape
        grid = (count, max(1, height // self.block_px), max(1, width // self.block_px))
        cells = int(np.prod(grid))
        wanted = int(np.clip(round(share * cells), 1, max(1, cells - 1)))
        chosen = (
            self._rng.choice(cells, wanted, replace=False) if cells < 10**7 else self._rng.integers(0, cells, wanted)
        )
        return {(int(p), int(y), int(x)): None for p, y, x in zip(*np.unravel_index(chosen, grid), strict=True)}

    def held_out_mask(self, plane: int, y: int, x: int) -> NDArray[np.bool_]:
        """Held-out pixels of the patch at that corner, ``(Y, X)``."""
        if self._held is not None:
            return np.asarray(self._held[plane, y : y + self._size, x : x + self._size])
        mask = np.zeros((self._size, self._size), dtype=bool)
        block = self.block_px
        for row in range(y // block, (y + self._size - 1) // block + 1):
            for column in range(x // block, (x + self._size - 1) // block + 1):
                if (plane, row, column) in self._blocks:
                    top, left = row * block - y, column * block - x
                    mask[max(top, 0) : max(top + block, 0), max(left, 0) : max(left + block, 0)] = True
        return mask

    def training(self, size: int) -> Batch:
        """Random patches, flipped and turned if that was wished, with held-out pixels left out of the likelihood."""
        count, _, height, width = self._planes.shape
        corners = [
            (
                int(self._rng.integers(count)),
                int(self._rng.integers(height - self._size + 1)),
                int(self._rng.integers(width - self._size + 1)),
            )
            for _ in range(size)
        ]
        return self._batch(corners, validation=False, turned=True)

    def validation(self, at_most: int) -> Batch:
        """Patches around held-out blocks, or one of each plane with held-out pixels; only those pixels are counted."""
        _, _, height, width = self._planes.shape
        corners = []
        for plane, row, column in self._held_out_places(at_most):
            y, x = ((cell * self.block_px + self.block_px // 2 - self._size // 2) for cell in (row, column))
            corners.append((plane, int(np.clip(y, 0, height - self._size)), int(np.clip(x, 0, width - self._size))))
        return self._batch(corners, validation=True, turned=False)

    def _held_out_places(self, at_most: int) -> list[tuple[int, int, int]]:
        """Plane, row and column of grid cells."""
        if self._held is None:
            return list(self._blocks)[:at_most]
        places = []
        for n, held in enumerate(self._held[:at_most]):
            y, x = divmod(int(held.argmax()), held.shape[1])
            places.append((n, y // self.block_px, x // self.block_px))
        return places

    def visible(self, at_most: int) -> Batch:
        """Patches at fixed places whose training pixels are counted, for the report."""
        batch = self.validation(at_most)
        return replace(batch, counted=(1 - batch.damaged) * (1 - batch.counted))

    def state(self) -> dict[str, Any]:
        """Where the random numbers are."""
        return {"random": self._rng.bit_generator.state}

    def put_back(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken of a source of the same planes, seed and sizes."""
        self._rng.bit_generator.state = state["random"]

    def _batch(self, corners: list[tuple[int, int, int]], *, validation: bool, turned: bool) -> Batch:
        drawn: list[list[NDArray[np.generic]]] = []
        quarter_turns: list[bool] = []
        for plane, y, x in corners:
            window = (slice(y, y + self._size), slice(x, x + self._size))
            patch, lost = self._planes[plane][:, *window], self._damaged[plane][window]
            held = self.held_out_mask(plane, y, x)
            hidden = lost | self._blobs() if turned else lost
            seen = patch if hidden is lost or hidden.all() else _filled(patch, hidden)
            parts = [patch, seen, hidden[None], ((held if validation else ~held) & ~lost)[None]]
            turns = 0
            if turned and self._turning:
                turns, flip = int(self._rng.integers(4)), bool(self._rng.integers(2))
                parts = [np.rot90(part[..., ::-1] if flip else part, turns, axes=(-2, -1)) for part in parts]
            drawn.append(parts)
            quarter_turns.append(turns % 2 == 1)
        values, seen, damaged, counted = (
            np.ascontiguousarray(np.stack(parts), dtype=np.float32) for parts in zip(*drawn, strict=True)
        )
        channel = self._channel[[plane for plane, _, _ in corners]]
        return Batch(values, seen, damaged, counted, channel, np.array(quarter_turns))

    def _blobs(self) -> NDArray[np.bool_]:
        """Rectangles of up to `BLOB_MAX_PX` pixels in some patches, none in the others."""
        hidden = np.zeros((self._size, self._size), dtype=bool)
        if self._rng.random() < self._blob_share:
            for _ in range(int(self._rng.integers(1, 6))):
                y, x = self._rng.integers(self._size, size=2)
                height, width = self._rng.integers(1, BLOB_MAX_PX + 1, size=2)
                hidden[y : y + height, x : x + width] = True
        return hidden


def block_px(patch_px: int) -> int:
    """Side of a held-out block, for patches of that side."""
    return max(4, patch_px // 4)


def _filled(patch: NDArray[np.float32], hidden: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A copy whose hidden pixels are filled from the others."""
    out = patch.copy()
    fill_damage(out[None], hidden[None])
    return out
