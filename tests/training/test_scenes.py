"""Scenes: drawn, read, held out."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from training import batches
from training.batches import DAMAGED, NOISY, RESTORING, Batch, BatchSource
from training.procedural import KINDS, colour_scene, procedural_scenes, scene, weave
from training.scenes import PROCEDURAL, Scenes, load_scenes, with_procedural


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MASKS", 8)
    monkeypatch.setattr(batches, "WEAVES", 8)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_fills_its_range(kind: str) -> None:
    for seed in range(3):
        drawn = scene(kind, np.random.default_rng(seed), 64)
        assert drawn.shape == (64, 64)
        assert drawn.dtype == np.float32
        assert (drawn.min(), drawn.max()) == pytest.approx((0, 1), abs=1e-6)


def test_colours_share_edges_not_values() -> None:
    drawn = colour_scene(np.random.default_rng(0), 96)
    assert drawn.shape == (3, 96, 96)
    edges = np.abs(np.diff(drawn, axis=2)) > 0.02
    assert np.corrcoef(edges[0].ravel(), edges[1].ravel())[0, 1] > 0.4
    assert abs(np.corrcoef(drawn[0].ravel(), drawn[1].ravel())[0, 1]) < 0.6


def test_a_scene_depends_on_its_own_seed_alone() -> None:
    np.testing.assert_array_equal(procedural_scenes(3, 64, 5)[:2], procedural_scenes(2, 64, 5))


def test_cloth_lies_within_its_bounds_over_a_part_of_the_scene() -> None:
    cloths = [weave(np.random.default_rng(seed), 64) for seed in range(20)]
    assert all(np.abs(cloth).max() <= 1 for cloth in cloths)
    covered = [float((cloth != 0).mean()) for cloth in cloths]
    assert 0.3 < np.mean(covered) < 0.95
    assert np.mean([cloth.std() for cloth in cloths]) > 0.2


def test_procedural_scenes_are_drawn_once(tmp_path: Path) -> None:
    given = Scenes(np.zeros((1, 64, 64), dtype=np.uint8), np.array(["photo/a"]))
    first = with_procedural(given, 2, 0, tmp_path)
    (kept,) = tmp_path.iterdir()
    before = kept.stat().st_mtime_ns
    second = with_procedural(given, 2, 0, tmp_path)
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_array_equal(first.patches, second.patches)
    assert second.source.tolist() == ["photo/a", PROCEDURAL, PROCEDURAL]


def test_a_folder_of_images_becomes_patches(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "cells").mkdir()
    iio.imwrite(tmp_path / "cells" / "a.png", rng.integers(0, 256, (130, 70), dtype=np.uint8))
    iio.imwrite(tmp_path / "b.tif", rng.integers(0, 60000, (64, 64, 3), dtype=np.uint16))
    scenes = load_scenes(tmp_path, side=64)
    assert scenes.patches.shape == (3, 64, 64)
    assert sorted(scenes.source.tolist()) == [".", "cells", "cells"]
    assert len(scenes.without(("cells",))) == 1
    assert len(scenes.only(("cells",))) == 2
    with pytest.raises(ValueError, match="no patch of"):
        scenes.only(("nuclei",))
    with pytest.raises(ValueError, match="no image of at least 200"):
        load_scenes(tmp_path, side=200)


def _scenes() -> Scenes:
    names = ["photo/a", "microscopy/b", PROCEDURAL]
    return Scenes(procedural_scenes(6, 96, 1), np.array(names * 2))


def _same(first: Batch, second: Batch) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True) for name in Batch.__slots__)


def test_the_same_seed_gives_the_same_batches() -> None:
    first, second, other = (BatchSource(_scenes(), 4, 64, RESTORING, seed) for seed in (7, 7, 8))
    for _ in range(2):
        batch = first.draw()
        assert _same(batch, second.draw())
        assert not _same(batch, other.draw())


@pytest.mark.parametrize("mix", [RESTORING, NOISY, DAMAGED], ids=["restoring", "noise", "damage"])
def test_a_batch_tells_the_truth_of_its_noise(mix: object) -> None:
    source = BatchSource(_scenes(), 16, 64, mix, 0)  # type: ignore[arg-type]
    scores, damaged = [], 0.0
    for _ in range(8):
        batch = source.draw()
        assert np.isfinite(batch.noisy).all()
        assert np.isfinite(batch.clean).all()
        assert not (batch.counted * np.maximum(batch.masked, batch.unmarked)).any()
        damaged += float(batch.masked.mean() + batch.unmarked.mean())
        for noisy, clean, std, counted in zip(batch.noisy, batch.clean, batch.std, batch.counted, strict=True):
            if counted.mean() > 0.9:
                scores.append(float((((noisy - clean) / std) ** 2)[counted > 0].mean()))
    assert 0.9 < np.median(scores) < 1.1
    assert damaged > 0


def test_a_magnified_scene_is_a_smoother_part_of_itself() -> None:
    rng = np.random.default_rng(0)
    for whole in procedural_scenes(8, 96, 3):
        magnified = batches._magnified(whole, rng)
        assert (magnified.shape, magnified.dtype) == (whole.shape, whole.dtype)
        steps = [np.abs(np.diff(each.astype(int), axis=0)).mean() / max(each.std(), 1) for each in (whole, magnified)]
        assert steps[1] < steps[0]


def test_patches_that_count_as_whole_images_fill_the_range() -> None:
    extremes = {}
    for mix in (RESTORING, DAMAGED):
        source = BatchSource(_scenes(), 16, 96, mix, 0)
        noisy = np.concatenate([source.draw().noisy for _ in range(4)])
        extremes[mix] = np.percentile(noisy, [0.5, 99.5], axis=(1, 2, 3))
    assert np.median(np.abs(extremes[DAMAGED] - [[-1], [1]])) < 0.1
    assert extremes[RESTORING][1].std() > 2 * extremes[DAMAGED][1].std()
