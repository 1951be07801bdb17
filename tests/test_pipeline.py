"""`restore` from array to result: axes, units, damage, inversion, the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_vae_repair.errors import InputError, SettingsError
from napari_vae_repair.image.record import Image
from napari_vae_repair.pipeline import Progress, restore, restore_steps
from napari_vae_repair.preparation import as_image
from napari_vae_repair.restoration import Restoration
from napari_vae_repair.settings import Settings, make_settings
from napari_vae_repair.vae import adapt as adapting
from napari_vae_repair.vae.checkpoint import save_model
from napari_vae_repair.vae.record import Model


def mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a.astype(np.float64) - b) ** 2))


def test_restoring_brings_the_photo_nearer_to_the_truth(noisy: np.ndarray, photo: np.ndarray, tiny: Settings) -> None:
    result = restore(noisy, tiny, epochs=25, samples=8, reference=photo)
    assert mse(result.restored, photo) < 0.5 * mse(noisy, photo)
    against = result.report.against_reference
    assert against is not None
    assert against["restored"]["psnr"] > against["prepared"]["psnr"] + 3


def test_results_are_in_the_images_units_and_add_up(noisy: np.ndarray, restoration: Restoration) -> None:
    assert restoration.report.in_source_units
    assert restoration.report.inverted_to == "source"
    assert np.allclose(restoration.prepared, noisy, rtol=1e-5, atol=1e-2)
    assert np.array_equal(restoration.residual, restoration.prepared - restoration.restored)
    assert abs(restoration.restored.mean() - noisy.mean()) < 0.5 * noisy.std()  # after twelve steps
    assert restoration.std.min() > 0


def test_std_is_that_of_the_samples_in_the_images_units(restoration: Restoration) -> None:
    assert restoration.samples is not None
    assert np.allclose(restoration.samples.std(axis=0, ddof=1), restoration.std, rtol=1e-3, atol=1e-2)


def test_damage_is_told_in_the_images_axes(tiny: Settings) -> None:
    stack = np.random.default_rng(0).normal(100, 5, (40, 2, 48)).astype(np.float32)
    mask = np.zeros((40, 2, 48), dtype=bool)
    mask[3:9, 1, 5:7] = True
    result = restore(stack, tiny, axes="YCX", mask=mask, epochs=1)
    assert result.axes == "YCX"
    assert np.array_equal(result.damaged, mask)


def test_the_classic_chain_stops_where_it_cannot_be_undone(tiny: Settings) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    result = restore(rgb, tiny, preset="classic", epochs=1)
    assert result.axes == "YX"
    assert result.restored.shape == (40, 48)
    assert not result.report.in_source_units
    assert result.report.inverted_to == "noise_strength"
    assert result.segmentation is not None
    assert result.segmentation.shape == (40, 48)
    assert any("noise_strength" in note for note in result.report.notes)


@pytest.mark.parametrize(
    ("shape", "axes", "out_axes"),
    [
        ((40, 48), None, "YX"),
        ((3, 40, 48), None, "ZYX"),
        ((40, 48, 3), None, "YXS"),
        ((40, 48, 4), None, "YXS"),
        ((2, 3, 24, 16), "TCYX", "TCYX"),
        ((24, 2, 16), "YCX", "YCX"),
        ((2, 2, 2, 16, 24), "TCZYX", "TCZYX"),
    ],
)
def test_axes_come_back_as_they_were(shape: tuple[int, ...], axes: str | None, out_axes: str, tiny: Settings) -> None:
    image = np.random.default_rng(0).random(shape)
    result = restore(image, tiny, axes=axes, epochs=1, samples=2)
    expected = (*shape[:-1], 3) if shape[-1] == 4 else shape
    assert result.axes == out_axes
    assert result.restored.shape == result.residual.shape == result.std.shape == expected
    assert np.allclose(result.prepared, image[..., :3] if shape[-1] == 4 else image, atol=1e-5)


def test_each_channel_has_its_own_range_and_noise(tiny: Settings, photo: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    bright = photo * 50 + rng.normal(0, 2000, photo.shape)
    dim = photo[::-1] / 10 + rng.normal(0, 20, photo.shape)
    result = restore(np.stack([bright, dim]), tiny, axes="CYX", epochs=10)
    first, second = result.report.noise
    assert np.sqrt(first.variance(np.array(25_000.0))) == pytest.approx(2000, rel=0.3)
    assert np.sqrt(second.variance(np.array(50.0))) == pytest.approx(20, rel=0.3)
    assert abs(result.restored[1].mean() - dim.mean()) < 10


def test_damage_is_filled_and_does_not_reach_its_surroundings(photo: np.ndarray, model: Model) -> None:
    mask = np.zeros(photo.shape, dtype=bool)
    mask[40:48, 30:60] = True
    spoiled = photo.copy()
    spoiled[mask] = np.nan
    by_nan = restore(spoiled, model=model)
    spoiled[mask] = 1e7
    by_mask = restore(spoiled, model=model, mask=mask)
    assert np.isfinite(by_nan.restored).all()
    assert np.array_equal(by_nan.restored, by_mask.restored)
    assert mse(by_nan.restored[mask], photo[mask]) < 4 * photo.var()
    assert by_nan.report.damaged_share == pytest.approx(mask.mean())


def test_the_input_is_never_written_to(noisy: np.ndarray, model: Model) -> None:
    image, mask = noisy.copy(), np.zeros(noisy.shape, dtype=bool)
    image[3, 4] = np.inf
    image.setflags(write=False)
    mask.setflags(write=False)
    before = image.copy()
    restore(image, model=model, mask=mask, samples=1)
    assert np.array_equal(image, before)


def test_the_steps_come_in_order_and_the_model_before_the_prediction(noisy: np.ndarray, tiny: Settings) -> None:
    steps: list[Progress] = []
    result = restore(noisy, tiny, on_step=steps.append)
    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases == ["prepare", "train", "restore", "report"]
    for phase in phases:
        own = [step for step in steps if step.phase == phase]
        assert own[-1].done == own[-1].total
        assert [step.done for step in own] == sorted(step.done for step in own)
    assert [step for step in steps if step.phase == "train"][-1].model is result.model


def test_adapting_gives_the_starters_result_first(noisy: np.ndarray) -> None:
    starters, said, finish = restore(noisy), list[Progress](), False
    steps = restore_steps(as_image(noisy, None, None), make_settings(adapt_steps=50), should_finish=lambda: finish)
    while True:
        try:
            said.append(next(steps))
        except StopIteration as end:
            result: Restoration = end.value
            break
        finish = finish or said[-1].phase == "adapt"
    phases = list(dict.fromkeys(step.phase for step in said))
    assert [phase for phase in phases if phase != "restore"] == ["prepare", "first", "adapt", "report"]
    first = next(step.result for step in said if step.result is not None)
    np.testing.assert_array_equal(first.restored, starters.restored)
    assert not any(step.model for step in said if step.phase in ("prepare", "first", "adapt"))
    record = result.model.training["adapted"]
    assert 3 <= record["stopped_at"] < 50
    assert ("restore" in phases) is record["accepted"]
    assert np.array_equal(first.restored, result.restored) is not record["accepted"]
    assert not any("adapted" in note for note in first.report.notes)
    assert any(f"adapted in {record['stopped_at']} steps" in note for note in result.report.notes)


def test_what_adapting_shows_on_the_way_can_be_given_again(noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapting, "compare", lambda *_: (True, 0.5))
    steps = restore_steps(as_image(noisy, None, None), make_settings(adapt_steps=6, samples=2), look_every=0.0)
    shown = [step for step in steps if step.result is not None]
    assert [step.phase for step in shown] == ["first", "adapt", "adapt", "adapt"]  # of 6 steps three have a known pace
    on_the_way = shown[1].result
    assert on_the_way is not None
    assert (on_the_way.settings.adapt_steps, on_the_way.settings.adapt_stop) == (6, 3)
    np.testing.assert_array_equal(restore(noisy, on_the_way.settings).restored, on_the_way.restored)
    assert [note for note in on_the_way.report.notes if "adapted in" in note] == [
        "adapted in 3 steps (+0.50 dB on held-out blocks): kept"
    ]


def test_the_report_tells_when_more_than_noise_was_taken_away(noisy: np.ndarray, tiny: Settings) -> None:
    fair, unfair = (
        restore(noisy, tiny, epochs=15, noise={"kind": "given", "read_noise": read_noise}).report
        for read_noise in (100.0, 20.0)
    )
    assert fair.residual_over_noise == pytest.approx(1, abs=0.45)
    assert unfair.residual_over_noise is not None
    assert unfair.residual_over_noise > 3
    assert any("was taken away" in note for note in unfair.notes)
    assert not any("was taken away" in note for note in fair.notes)


def test_a_saved_models_own_chain_is_used_and_told(noisy: np.ndarray, model: Model) -> None:
    result = restore(noisy, model=model, preset="classic", samples=1)
    assert result.report.in_source_units
    assert any("own preprocessing" in note for note in result.report.notes)


def test_settings_that_have_no_effect_are_told(noisy: np.ndarray, model: Model, tiny: Settings) -> None:
    notes = restore(noisy, model="starter", epochs=20).report.notes
    assert any("not used without a training from scratch: epochs" in note for note in notes)
    notes = restore(noisy, model=model, samples=1).report.notes
    assert any("given as an object" in note for note in notes)
    correlated = {"kind": "given", "read_noise": 50, "correlation": (0.4, 0.4)}
    notes = restore(noisy, tiny, epochs=1, noise=correlated).report.notes
    assert any("takes the noise of neighbours for independent" in note for note in notes)
    assert not any("independent" in note for note in restore(noisy, noise=correlated).report.notes)


def test_a_path_names_a_model(noisy: np.ndarray, model: Model, tmp_path: Path) -> None:
    saved = save_model(model, tmp_path / "m.safetensors")
    assert restore(noisy, model=Path(saved), samples=1).settings.model == str(saved)


def test_noise_that_cannot_be_learned_without_training_is_told(noisy: np.ndarray, model: Model) -> None:
    asked, not_asked = (
        restore(noisy, model=model, samples=1, noise={"kind": kind}).report for kind in ("learned", "estimated")
    )
    assert any("only a training from scratch can learn it" in note for note in asked.notes)
    assert not any("only a training from scratch" in note for note in not_asked.notes)


def test_the_report_is_json_and_text(restoration: Restoration) -> None:
    again = json.loads(json.dumps(restoration.report.to_dict()))
    assert again["reconstruction"]["held_out"]["psnr"] > 0
    assert set(again["reconstruction"]["image"]) == {"mse", "psnr", "ssim"}
    assert set(again["seconds"]) == {"prepare", "train", "restore", "report"}
    for words in ("noise estimated", "held-out", "against the reference", "image's own units", "CPU"):
        assert words in restoration.report.text()


def test_stabilise_is_undone_without_bias(photo: np.ndarray, tiny: Settings) -> None:
    counts = np.random.default_rng(0).poisson(photo / 20).astype(np.uint16)
    result = restore(counts, tiny, chain="float32, stabilise, normalise", epochs=20, samples=8)
    assert result.report.in_source_units
    assert abs(result.restored.mean() - counts.mean()) < 0.05 * counts.mean()
    assert np.allclose(result.prepared, counts, atol=1e-2)


def test_noise_cannot_be_given_through_a_chain_that_bends_it(noisy: np.ndarray, tiny: Settings) -> None:
    with pytest.raises(SettingsError, match="float32 and normalise alone"):
        restore(noisy, tiny, chain="float32, square", noise={"kind": "given", "read_noise": 3.0})


def test_dask_and_other_array_likes_are_read(noisy: np.ndarray, model: Model) -> None:
    dask_array = pytest.importorskip("dask.array")
    lazy = dask_array.from_array(noisy, chunks=32)
    assert np.array_equal(restore(lazy, model=model).restored, restore(noisy, model=model).restored)


def test_the_default_axes_follow_napari() -> None:
    assert as_image(np.zeros((40, 40, 3))).axes == "YXS"
    assert as_image(np.zeros((10, 10, 3 * 3))).axes == "ZYX"


def test_a_mask_or_axes_given_beside_an_image_are_not_dropped(noisy: np.ndarray) -> None:
    image, mask = Image(noisy, "YX"), np.zeros(noisy.shape, dtype=bool)
    mask[3, 4] = True
    assert as_image(image).pixels is noisy
    assert as_image(image, mask=mask).damaged.sum() == 1
    assert as_image(image, axes="XY").axes == "XY"
    with pytest.raises(InputError, match="boolean"):
        as_image(image, mask=np.zeros(noisy.shape))


def test_other_layers_are_refused() -> None:
    class Points:
        data = np.zeros((3, 2))
        opacity = 1.0

    with pytest.raises(InputError, match="Points"):
        as_image(Points())


def test_progress_can_be_driven_by_hand(noisy: np.ndarray) -> None:
    steps = restore_steps(Image(noisy, "YX"), make_settings(epochs=1000))
    assert next(steps).phase == "prepare"
    steps.close()
