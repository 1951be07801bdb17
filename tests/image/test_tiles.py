"""The plan covers each pixel with weights that add up to one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_vae_repair.image.tiles import plan_tiles

sides = st.integers(1, 40)


@settings(max_examples=150, deadline=None)
@given(
    rows=sides,
    columns=sides,
    stride=st.sampled_from([2, 8, 16]),
    tile=st.integers(16, 100),
    halo=st.integers(0, 40),
    blend=st.integers(0, 16),
)
def test_weights_add_up_to_one_and_windows_fit(
    rows: int, columns: int, stride: int, tile: int, halo: int, blend: int
) -> None:
    height, width = rows * stride, columns * stride
    total = np.zeros((height, width))
    for one in plan_tiles(height, width, tile_px=tile, halo_px=halo, blend_px=blend, stride=stride):
        for read, write, crop, side in zip(one.read, one.write, one.crop, (height, width), strict=True):
            assert 0 <= read.start <= write.start < write.stop <= read.stop <= side
            assert read.start % stride == 0
            assert (read.stop - read.start) % stride == 0
            assert (crop.start, crop.stop) == (write.start - read.start, write.stop - read.start)
            assert write.start - read.start >= halo or read.start == 0
            assert read.stop - write.stop >= halo or read.stop == side
        total[one.write] += one.weight
    assert np.allclose(total, 1, atol=1e-5)


def test_an_image_within_one_tile_is_read_whole() -> None:
    (tile,) = plan_tiles(64, 48, tile_px=64, halo_px=80, blend_px=16, stride=8)
    assert tile.read == tile.write == (slice(0, 64), slice(0, 48))
    assert (tile.weight == 1).all()
