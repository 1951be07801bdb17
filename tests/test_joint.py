"""One model for several images: of one image it is that image's own, of several each counts."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest
import torch

from napari_vae_repair import joint
from napari_vae_repair.errors import Cancelled, DeviceMemoryError, InputError, SettingsError
from napari_vae_repair.image.record import Image
from napari_vae_repair.joint import train, train_on
from napari_vae_repair.phases import Progress
from napari_vae_repair.pipeline import restore
from napari_vae_repair.settings import Settings, make_settings
from napari_vae_repair.vae import adapt as adapting
from napari_vae_repair.vae.adapt import Seen
from napari_vae_repair.vae.checkpoint import save_model
from napari_vae_repair.vae.patches import PatchSource
from napari_vae_repair.vae.record import Model


def run(steps: Generator[Progress, None, Model]) -> tuple[Model, list[Progress]]:
    told: list[Progress] = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return end.value, told


def same_weights(first: Model, second: Model) -> bool:
    pairs = zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture
def always_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps hardly help; whether they do is `adapt`'s affair and tested there."""
    monkeypatch.setattr(adapting, "compare", lambda *_: (True, 0.5))


# ---- one image is a special case ---------------------------------------------------------------


@pytest.mark.parametrize("shape", [(97, 75), (2, 40, 75)])
def test_trained_on_one_image_it_is_the_model_of_restoring_it(
    noisy: np.ndarray, tiny: Settings, shape: tuple[int, ...]
) -> None:
    axes, pixels = "CYX"[-len(shape) :], np.resize(noisy, shape)
    model, _ = run(train_on([Image(pixels, axes)], tiny))
    alone = restore(pixels, tiny, axes=axes).model
    assert same_weights(model, alone)
    assert (model.noise, model.chains, model.value_range) == (alone.noise, alone.chains, alone.value_range)


def test_adapted_to_one_image_it_is_the_model_of_restoring_it(noisy: np.ndarray, always_kept: None) -> None:
    settings = make_settings(adapt_steps=3)
    model, _ = run(train_on([Image(noisy, "YX")], settings))
    assert same_weights(model, restore(noisy, settings).model)


# ---- several images ----------------------------------------------------------------------------


def test_each_image_keeps_its_own_noise_and_preprocessing(noisy: np.ndarray, tiny: Settings) -> None:
    stronger = noisy + np.random.default_rng(1).normal(0, 300, noisy.shape)
    channels = np.stack([noisy, noisy / 7])
    model, told = run(
        train_on([Image(noisy, "YX", name="a"), Image(stronger, "YX", name="b"), Image(channels, "CYX")], tiny)
    )
    alone = [restore(image, tiny, axes="CYX"[-image.ndim :], epochs=1).model for image in (noisy, stronger, channels)]
    expected = [noise for each in alone for noise in each.noise]
    assert [noise.read_noise for noise in model.noise] == pytest.approx([noise.read_noise for noise in expected])
    assert model.chains == tuple(chain for each in alone for chain in each.chains)
    assert [entry["name"] for entry in model.training["trained_on"]] == ["a", "b", "image"]
    assert [each.done for each in told if each.phase == "prepare"] == [0, 1, 2, 3]
    assert [each.done for each in told if each.phase == "train" and each.losses] == list(range(1, 13))
    assert told[-1].model is not None


def test_every_image_teaches(noisy: np.ndarray, tiny: Settings) -> None:
    """Another second image gives another model."""
    models = [run(train_on([Image(noisy, "YX"), Image(other, "YX")], tiny))[0] for other in (noisy, noisy[::-1])]
    assert not same_weights(*models)


@pytest.mark.parametrize("model", ["scratch", "starter"])
def test_images_of_different_sizes_and_a_loaded_joint_model(
    noisy: np.ndarray, tiny: Settings, model: str, tmp_path: object, always_kept: None
) -> None:
    settings = tiny if model == "scratch" else make_settings(adapt_steps=3)
    images = [Image(noisy, "YX"), Image(np.stack([noisy[:50, :40]] * 2), "ZYX")]
    trained, _ = run(train_on(images, settings))
    path = save_model(trained, f"{tmp_path}/joint.safetensors")
    for image in images:
        assert np.isfinite(restore(image, model=path, samples=0).restored).all()


def test_the_starter_is_adapted_to_all_of_them_and_judged_on_all(
    noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources: list[PatchSource] = []

    class Watched(PatchSource):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]
            sources.append(self)

    monkeypatch.setattr(adapting, "PatchSource", Watched)
    rgb = np.moveaxis(np.stack([noisy] * 3), 0, -1)
    model, told = run(
        train_on([Image(rgb, "YXS", name="a"), Image(rgb[::-1], "YXS", name="b")], Settings(adapt_steps=3))
    )
    assert model.general
    assert model.training["adapted"]["steps"] == 3
    assert len(sources[0]._planes) == 6  # two images of three colours
    assert {plane for plane, _, _ in sources[0]._blocks} == set(range(6))
    assert {each.phase for each in told} == {"prepare", "adapt"}
    assert [each.done for each in told if each.phase == "adapt"] == [1, 2, 3]


def test_what_is_not_kept_was_trained_on_nothing(noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapting, "compare", lambda *_: (False, -0.1))
    model, _ = run(train_on([Image(noisy, "YX")] * 2, Settings(adapt_steps=3)))
    assert not model.training["adapted"]["accepted"]
    assert "trained_on" not in model.training


def test_a_budget_of_seconds_and_a_warm_start(noisy: np.ndarray, always_kept: None, tmp_path: object) -> None:
    first, _ = run(train_on([Image(noisy, "YX", name="a")], Settings(adapt_seconds=0.2)))
    path = save_model(first, f"{tmp_path}/first.safetensors")
    second, _ = run(train_on([Image(noisy, "YX", name="b")], make_settings(model=path, adapt_steps=3)))
    assert second.training["adapted"]["before"] == first.training["adapted"]
    assert [entry["name"] for entry in second.training["trained_on"]] == ["a", "b"]


def test_the_plain_call_is_the_run_of_steps(noisy: np.ndarray, tiny: Settings) -> None:
    told: list[Progress] = []
    model = train([noisy, noisy[::-1]], tiny, epochs=2, on_step=told.append)
    expected, _ = run(train_on([Image(noisy, "YX"), Image(noisy[::-1], "YX")], make_settings(tiny, epochs=2)))
    assert same_weights(model, expected)
    assert [entry["name"] for entry in model.training["trained_on"]] == ["image 0", "image 1"]
    assert told[-1].model is not None
    with pytest.raises(Cancelled):
        train([noisy], tiny, should_stop=lambda: True)


def test_masks_axes_and_a_model_to_go_on_from(noisy: np.ndarray, always_kept: None) -> None:
    lost = np.zeros(noisy.shape, dtype=bool)
    lost[:9] = True
    rgb = np.stack([noisy] * 3, axis=-1)
    first = train([noisy, noisy + 5], masks=[lost, None], adapt_steps=3)
    images = [Image(noisy, "YX", mask=lost), Image(noisy + 5, "YX")]
    assert same_weights(first, run(train_on(images, Settings(adapt_steps=3)))[0])
    second = train([rgb], axes="YXS", model=first, adapt_steps=2)
    assert second.training["adapted"]["before"] == first.training["adapted"]
    with pytest.raises(InputError, match="1 masks were given for 2 images"):
        train([noisy, noisy], masks=[lost], adapt_steps=3)
    with pytest.raises(DeviceMemoryError, match="256 MB"):
        train([noisy, noisy], adapt_steps=3, memory_mb=256)


def test_one_array_is_no_sequence_of_images(noisy: np.ndarray, tiny: Settings) -> None:
    with pytest.raises(InputError, match=r"train\(\[image\]"):
        train(noisy, tiny)
    with pytest.raises(InputError, match="No image"):
        train([], tiny)


def test_no_image_is_written_to(noisy: np.ndarray, tiny: Settings) -> None:
    pixels = noisy.copy()
    pixels[3, 4] = np.nan
    kept = pixels.copy()
    pixels.flags.writeable = False
    run(train_on([Image(pixels, "YX"), Image(pixels[:40, :40], "YX")], tiny))
    np.testing.assert_array_equal(pixels, kept)


# ---- windows of one size -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "patch_px", "side"),
    [
        ([97, 97], 64, 97),
        ([2048, 2048], 64, 2048),
        ([300, 600, 150], 64, 150),
        ([512, 2048], 64, 256),
        ([300, 301], 64, 151),
        ([40, 1000], 64, 40),
    ],
)
def test_windows_overlap_little(lengths: list[int], patch_px: int, side: int) -> None:
    assert joint._window_px(lengths, patch_px) == side


@pytest.mark.parametrize(("height", "width"), [(20, 20), (31, 40), (64, 75), (97, 75)])
def test_windows_cover_every_pixel_and_keep_their_views(height: int, width: int) -> None:
    shape = (2, 3, 97, 75)
    numbered = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    damaged = numbered[:, 0] % 7 == 0
    views = [f"plane {plane} colour {colour}" for plane in range(2) for colour in range(3)]
    shown = joint.Conditioned([], numbered, (), [], views, [])  # type: ignore[arg-type]
    cut = joint._cut(joint._Look(shown, damaged), height, width)
    planes = cut.shown.prepared
    assert planes.shape[1:] == (3, height, width)
    assert set(np.unique(planes)) == set(numbered.ravel())
    np.testing.assert_array_equal(cut.damaged, planes[:, 0] % 7 == 0)
    of_plane = planes[:, :, 0, 0].ravel() // (97 * 75)
    assert [views.index(view) for view in cut.shown.views] == [int(number) for number in of_plane]  # type: ignore[arg-type]


# ---- what is refused ---------------------------------------------------------------------------


def test_images_of_different_kinds_are_refused_unless_the_chain_makes_them_one(
    noisy: np.ndarray, tiny: Settings
) -> None:
    images = [Image(noisy, "YX", name="grey one"), Image(np.stack([noisy] * 3, -1), "YXS", name="photo")]
    for settings in (tiny, Settings(adapt_steps=3)):
        with pytest.raises(InputError, match=r"'grey one' has 1 colour.*'photo' has 3"):
            run(train_on(images, settings))
    run(train_on(images, make_settings(tiny, chain="float32, grey, normalise", epochs=1)))


def test_one_image_whose_noise_forbids_adapting_is_named(noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(seen: Seen) -> str:
        return "neighbours share too much of their noise" if len(seen.planes) == 2 else ""

    monkeypatch.setattr(joint, "obstacle", reason)
    images = [Image(noisy, "YX", name="good"), Image(np.stack([noisy] * 2), "ZYX", name="bad")]
    with pytest.raises(InputError, match="cannot be adapted to 'bad': neighbours share"):
        run(train_on(images, Settings(adapt_steps=3)))


def test_what_cannot_be_trained_is_told(noisy: np.ndarray, model: Model, tmp_path: object) -> None:
    image = Image(noisy, "YX")
    with pytest.raises(InputError, match="No image was given"):
        run(train_on([], Settings(adapt_steps=3)))
    with pytest.raises(SettingsError, match="Nothing says how long"):
        run(train_on([image], Settings()))
    path = save_model(model, f"{tmp_path}/own.safetensors")
    with pytest.raises(SettingsError, match="was trained from scratch, and is to be trained on"):
        run(train_on([image], make_settings(model=path, adapt_steps=3)))


@pytest.mark.parametrize("phase", ["prepare", "train"])
def test_it_stops_when_told(noisy: np.ndarray, tiny: Settings, phase: str) -> None:
    stop = False
    steps = train_on([Image(noisy, "YX")] * 2, tiny, should_stop=lambda: stop)
    with pytest.raises(Cancelled, match=phase):
        for progress in steps:
            stop = stop or progress.phase == phase
