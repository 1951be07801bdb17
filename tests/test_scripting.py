"""Copied code and commands give the settings back, and the same pixels."""

from __future__ import annotations

import shlex
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from napari_vae_repair import cli, restore
from napari_vae_repair.chain import parse_chain
from napari_vae_repair.preflight import settings_from
from napari_vae_repair.scripting import as_command, as_python, changes, repeatable
from napari_vae_repair.settings import GivenNoise, LearnedNoise, Settings, make_settings

MANY = [
    Settings(),
    Settings(samples=4, seed=3, device="cpu"),
    Settings(model="a folder/my model.safetensors", keep_samples=True),
    Settings(adapt_steps=7),
    make_settings(epochs=3, training={"batch_size": 4}, network={"widths": (8,), "latents": (2,)}),
    make_settings(model="starter", epochs=3),
    make_settings(noise=LearnedNoise()),
    make_settings(noise=GivenNoise(gain=2.0, read_noise=1.5, correlation=(0.2, 0.1))),
    make_settings(preset="classic"),
    Settings(chain=parse_chain("float32, normalise(low=1, high=99), segment(threshold=otsu)"), tile_px=256),
]


@pytest.mark.parametrize("settings", MANY, ids=range(len(MANY)))
def test_what_is_not_at_its_default_is_enough(settings: Settings) -> None:
    assert make_settings(None, **changes(settings)) == settings


@pytest.mark.parametrize("settings", MANY, ids=range(len(MANY)))
def test_a_command_means_the_same_settings(settings: Settings) -> None:
    words = shlex.split(as_command(settings, "my image.tif", "out.tif", axes="ZYX", mask="mask.png"))
    assert words[0] == "vae-repair"
    args = cli._parser().parse_args(words[1:])
    assert (args.input, args.output, args.axes, args.mask) == (["my image.tif"], "out.tif", "ZYX", "mask.png")
    assert settings_from(args) == settings


@pytest.mark.parametrize("settings", MANY, ids=range(len(MANY)))
def test_python_means_the_same_settings(settings: Settings) -> None:
    calls = []
    text = as_python(settings, "image", axes="YX", mask="lost")
    scope = {"image": 1, "lost": 2}
    call = text.replace("from napari_vae_repair import restore\n", "")
    exec(call, scope | {"restore": lambda *args, **named: calls.append((args, named))})
    (((image,), named),) = calls
    assert (image, named.pop("axes"), named.pop("mask")) == (1, "YX", 2)
    assert make_settings(None, **named) == settings
    assert max(map(len, text.splitlines())) <= 120


def test_copied_calls_give_the_same_pixels(noisy: np.ndarray, tmp_path: Path) -> None:
    image = noisy[:64, :64].astype(np.float32)
    iio.imwrite(tmp_path / "in.tif", image)
    asked = make_settings(adapt_seconds=1.0, seed=5)
    first = restore(image, asked)
    again = repeatable(first.settings, first.model.training)
    assert again.adapt_steps == first.model.training["adapted"]["steps"]
    assert again.adapt_seconds == 0
    scope = {"image": image}
    exec(as_python(again), scope)
    np.testing.assert_array_equal(scope["result"].restored, first.restored)  # type: ignore[attr-defined]
    words = shlex.split(as_command(again, str(tmp_path / "in.tif"), str(tmp_path / "out.tif")))
    assert cli.main(words[1:]) == 0
    np.testing.assert_array_equal(iio.imread(tmp_path / "out.tif"), first.restored)


def test_without_a_budget_nothing_changes() -> None:
    for settings in MANY:
        assert repeatable(settings, {"steps": 3}) == settings
        assert repeatable(settings, {"adapted": {"steps": 3}}) == settings
