"""The windows of a large image: spread, bounded, on measured ground."""

from __future__ import annotations

import numpy as np
import pytest

from napari_vae_repair.image.survey import SURVEY_PX, Region, Survey, needs_survey, take_survey


def survey_of(planes: np.ndarray, damaged: np.ndarray, channels: int = 1) -> Survey:
    count = len(planes) // channels

    def read(region: Region) -> tuple[np.ndarray, np.ndarray]:
        return planes[region.plane :: count, :, *region.window], damaged[region.plane :: count, *region.window]

    return take_survey(read, count, *planes.shape[2:])


@pytest.mark.parametrize("shape", [(1, 1, 3000, 2500), (7, 1, 1100, 900), (300, 3, 130, 140), (1, 1, 40, 200_000)])
def test_windows_reach_over_all_of_the_image_and_hold_no_more_than_the_limit(shape: tuple[int, ...]) -> None:
    planes = np.broadcast_to(np.uint8(0), shape)
    assert needs_survey(shape[0], *shape[2:]) == (shape[0] * shape[2] * shape[3] > SURVEY_PX)
    found = survey_of(planes, np.broadcast_to(False, (shape[0], *shape[2:])))
    assert SURVEY_PX / 2 < found.damaged.size <= SURVEY_PX
    seen = np.zeros((shape[0], 4, 4), dtype=bool)
    for region in found.regions:
        rows, columns = (
            slice(4 * part.start // side, -(-4 * part.stop // side))
            for part, side in zip(region.window, shape[2:], strict=True)
        )
        seen[region.plane, rows, columns] = True
    assert seen.any(axis=0).all()
    assert seen.any(axis=(1, 2)).mean() > 0.5


def test_windows_are_those_of_the_channels_one_after_the_other() -> None:
    planes = np.arange(6, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 1024, 1024), np.float32)
    found = survey_of(planes, np.zeros((6, 1024, 1024), bool), channels=2)
    half = len(found.regions)
    assert len(found.planes) == 2 * half
    expected = [region.plane for region in found.regions]
    assert found.planes[:half, 0, 0, 0].tolist() == expected
    assert found.planes[half:, 0, 0, 0].tolist() == [3 + plane for plane in expected]


def test_of_many_channels_less_of_each_is_looked_at() -> None:
    planes = np.broadcast_to(np.uint8(0), (16, 1, 1500, 1500))
    assert needs_survey(1, 1500, 1500, channels=16)
    assert not needs_survey(1, 1500, 1500, channels=4)

    def read(region: Region) -> tuple[np.ndarray, np.ndarray]:
        window = planes[:, :, *region.window]
        return window, np.zeros((16, *window.shape[2:]), bool)

    assert take_survey(read, 1, 1500, 1500, channels=16).planes.size <= 4 * SURVEY_PX


def test_empty_parts_of_a_mosaic_are_passed_over() -> None:
    damaged = np.ones((1, 4096, 4096), dtype=bool)
    damaged[:, :, 2600:] = False
    found = survey_of(np.zeros((1, 1, 4096, 4096), np.uint8), damaged)
    assert len(found.regions) == SURVEY_PX // 512**2
    assert found.damaged.mean(axis=(1, 2)).max() <= 0.5


def test_an_image_with_hardly_any_measurement_is_still_looked_at() -> None:
    damaged = np.ones((1, 3000, 3000), dtype=bool)
    damaged[:, 1400:1500] = False
    assert not survey_of(np.zeros((1, 1, 3000, 3000), np.uint8), damaged).damaged.all(axis=(1, 2)).any()
