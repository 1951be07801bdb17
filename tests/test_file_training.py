"""One model from many files: nothing beyond the budget in memory, no file forgotten, nothing lost by kill -9."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_vae_repair.cli import main
from napari_vae_repair.errors import Cancelled, ImageFileError, InputError, ModelFileError, RepairWarning, SettingsError
from napari_vae_repair.file_training import checkpoint_of, train_files
from napari_vae_repair.file_training.places import Grid, HeldOut, Order, common_side
from napari_vae_repair.file_training.source import FilePatches, Need
from napari_vae_repair.file_training.surveyed import Place, Surveyed, read_plane, survey
from napari_vae_repair.image.axes import Layout
from napari_vae_repair.image.files import read_image
from napari_vae_repair.joint import train_on
from napari_vae_repair.phases import Progress
from napari_vae_repair.settings import Network, Settings, make_settings
from napari_vae_repair.vae import adapt as adapting
from napari_vae_repair.vae.checkpoint import load_model, save_model
from napari_vae_repair.vae.device import choose_device
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.record import Model
from napari_vae_repair.vae.starter import general_model

TINY = make_settings(
    epochs=3,
    device="cpu",
    network={"widths": [8, 8], "latents": [2, 2]},
    training={"patches_per_epoch": 8, "patch_px": 16, "batch_size": 4},
)
CPU = choose_device("cpu")
NEED = Need(patch_px=16, stride=4, held_out=0.1, validation=16, an_epoch=16, in_all=10**6)


def write(path: Path, pixels: np.ndarray, axes: str = "YX") -> Path:
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": axes})
    return path


@pytest.fixture
def files(tmp_path: Path, photo: np.ndarray) -> list[Path]:
    """Four images of different sizes, one of them a stack."""
    rng = np.random.default_rng(0)
    parts = [photo[:80, :72], np.stack([photo[17:97, :64], photo[:80, 11:75]]), photo[:64, :75], photo[20:97, 3:75]]
    (tmp_path / "in").mkdir()
    return [
        write(
            tmp_path / f"in/{name}.tif", (part + rng.normal(0, 80, part.shape)).astype(np.float32), "ZYX"[-part.ndim :]
        )
        for name, part in zip("abcd", parts, strict=True)
    ]


@pytest.fixture
def numbered(tmp_path: Path) -> list[Surveyed]:
    """Files whose pixels can be told apart: all values differ within each."""
    paths = []
    for name, shape in (("a", (3, 96, 80)), ("b", (1, 64, 72)), ("c", (1, 80, 75))):
        values = np.random.default_rng(len(paths)).permutation(int(np.prod(shape))).astype(np.float32).reshape(shape)
        paths.append(write(tmp_path / f"{name}.tif", values, "ZYX"))
    return [survey(path, None, None, TINY, CPU) for path in paths]


@pytest.fixture
def general(tmp_path: Path) -> Path:
    """A small model that can be adapted."""
    torch.manual_seed(0)
    network = HierarchicalVAE(1, Network(widths=(8, 8), latents=(2, 2), told=True)).requires_grad_(False).eval()
    return save_model(general_model(network, {"restorer": {"hours": 0.0}}, None), tmp_path / "general.safetensors")


def run(steps: Generator[Progress, None, Model]) -> tuple[Model, list[Progress]]:
    told: list[Progress] = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return end.value, told


def weights(model: Model) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in model.network.state_dict().values())


def source(
    files: list[Surveyed], apart: list[Surveyed] | None = None, windows: int = 6, **changes: object
) -> FilePatches:
    """That holds so many windows of 64 x 72 pixels."""
    patches = FilePatches(files, apart or [], NEED, 0, windows * 64 * 72 * 6, **changes)  # type: ignore[arg-type]
    for _ in patches.fill():
        pass
    return patches


def counted(batch: object) -> set[tuple[int, float]]:
    """Which pixels: their file and their value."""
    return {
        (int(channel), value)
        for channel, values, some in zip(batch.channel, batch.values, batch.counted, strict=True)  # type: ignore[attr-defined]
        for value in values[some > 0].tolist()
    }


# ---- where patches come from -------------------------------------------------------------------


@pytest.mark.parametrize(("axes", "shape"), [("YX", (20, 24)), ("TCZYX", (2, 3, 4, 20, 24)), ("ZCXY", (2, 3, 24, 20)),
                                             ("TYXS", (2, 20, 24, 4))])  # fmt: skip
def test_a_window_of_any_plane_is_what_the_whole_array_has_there(axes: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).random(shape)
    array.flat[7] = np.nan
    layout = Layout(axes, shape)
    whole = layout.to_planes(array)[:, :3]
    for plane in range(len(whole)):
        values, damaged = read_plane(array, layout, plane, slice(0, 9), slice(5, 24))
        np.testing.assert_array_equal(values, whole[plane, :, 0:9, 5:24])
        np.testing.assert_array_equal(damaged, np.isnan(whole[plane, :, 0:9, 5:24]).any(axis=0))


@pytest.mark.parametrize("chain", ["float32, normalise", "float32, normalise, denoise(sigma=1)"])
def test_a_window_is_prepared_as_within_its_image(tmp_path: Path, photo: np.ndarray, chain: str) -> None:
    path = write(tmp_path / "a.tif", photo)
    found = survey(path, None, None, make_settings(TINY, chain=chain), CPU)
    (window,) = found.windows([Place(0, 0, 40, 30)], (20, 24))
    whole = found.chains[0].apply(photo[None, None])
    np.testing.assert_allclose(window.planes, whole[:, :, 40:60, 30:54], atol=1e-6)
    (beyond,) = found.windows([Place(0, 0, 90, 70)], (16, 16))
    assert not beyond.damaged[:7, :5].any()
    assert beyond.damaged.sum() == 16 * 16 - 7 * 5


def test_windows_cover_every_pixel_of_every_plane(numbered: list[Surveyed]) -> None:
    grid = Grid(tuple(numbered), (32, 40), 0)
    order = Order(grid, 10**6)
    covered = [np.zeros((file.planes, *file.shape), dtype=bool) for file in numbered]
    for position in range(order.total):
        place = order.place(position)
        covered[place.file][place.plane, place.y : place.y + 32, place.x : place.x + 40] = True
        assert place.y + 32 <= numbered[place.file].shape[0]
        assert place.x + 40 <= numbered[place.file].shape[1]
    assert all(each.all() for each in covered)


def test_each_file_comes_first_then_all_windows_in_proportion_to_area(numbered: list[Surveyed]) -> None:
    grid = Grid(tuple(numbered), (16, 16), 3)
    order = Order(grid, 5)
    places = [order.place(position) for position in range(3 + order.total)]
    assert {place.file for place in places[:3]} == {0, 1, 2}
    assert len(set(places[3:])) == order.total
    share = np.bincount([place.file for place in places[3:23]], minlength=3) / 20
    np.testing.assert_allclose(share, grid.counts / grid.counts.sum(), atol=0.06)


@pytest.mark.parametrize(
    ("lengths", "side"), [([2000, 900], 256), ([300, 100], 100), ([2000, 20], 64), ([40, 20], 40), ([5, 3], 8)]
)
def test_windows_are_as_large_as_the_shortest_side_and_a_patch_allow(lengths: list[int], side: int) -> None:
    assert common_side(lengths, patch_px=64, stride=8) == side


def test_no_more_than_the_budget_is_held_and_every_file_is_met(numbered: list[Surveyed]) -> None:
    patches = source(numbered, windows=2)
    budget = 2 * 64 * 72 * 6
    in_all = sum(file.planes * file.shape[0] * file.shape[1] for file in numbered) * 4
    met: set[int] = set()
    for _ in range(20):
        met |= {int(channel) for channel in patches.training(8).channel}
        assert patches.bytes_held <= budget < in_all / 2
    assert met == {0, 1, 2}
    assert patches.files_read == [0, 1, 2]


def test_held_out_blocks_are_never_learned_from_whatever_windows_come(numbered: list[Surveyed]) -> None:
    patches = source(numbered, windows=2)
    held_out = counted(patches.validation(1000))
    trained: set[tuple[int, float]] = set()
    for _ in range(150):
        trained |= counted(patches.training(8))
    assert len(held_out) > 150
    assert {channel for channel, _ in held_out} == {0, 1, 2}
    assert not trained & held_out
    pixels = sum(file.planes * file.shape[0] * file.shape[1] for file in numbered)
    assert len(trained) > 0.75 * pixels


def test_one_block_is_held_out_of_the_smallest_image(tmp_path: Path) -> None:
    found = survey(write(tmp_path / "a.tif", np.random.default_rng(0).random((16, 16))), None, None, TINY, CPU)
    for seed in range(20):
        held_out = HeldOut(Grid((found,), (16, 16), seed), 0.01, 4, 16)
        assert held_out.mask(held_out.places[0], (4, 4)).all()
        assert 16 <= held_out.mask(Place(0, 0, 0, 0), (16, 16)).sum() < 128


def test_files_for_validation_are_never_trained_on_and_alone_decide(numbered: list[Surveyed]) -> None:
    patches = source(numbered[:2], numbered[2:], windows=2)
    trained = {int(channel) for _ in range(20) for channel in patches.training(8).channel}
    assert trained == {0, 1}
    assert set(patches.validation(1000).channel) == {2}
    assert set(patches.visible(1000).channel) == {0, 1}
    assert patches.validation(1000).counted.all()


def test_the_same_patches_follow_a_state_that_was_put_back(numbered: list[Surveyed]) -> None:
    patches = source(numbered, windows=2)
    for _ in range(7):
        patches.training(8)
    state = patches.state()
    again = source(numbered, windows=2, start=state)
    again.put_back(state)
    for _ in range(7):
        np.testing.assert_array_equal(patches.training(8).seen, again.training(8).seen)
    np.testing.assert_array_equal(patches.validation(9).values, again.validation(9).values)


# ---- a model of files --------------------------------------------------------------------------


def test_each_file_keeps_its_own_noise_and_preprocessing(files: list[Path], tmp_path: Path) -> None:
    model, told = run(train_files(files, TINY, save_to=tmp_path / "m.safetensors"))
    joint, _ = run(train_on([read_image(path) for path in files], TINY))
    assert [each.read_noise for each in model.noise] == pytest.approx([each.read_noise for each in joint.noise])
    assert model.chains == joint.chains
    assert [entry["name"] for entry in model.training["trained_on"]] == list("abcd")
    assert [each.done for each in told if each.losses] == list(range(1, 7))
    assert weights(load_model(tmp_path / "m.safetensors")) == weights(model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "m.safetensors"]


def test_what_validation_files_hold_only_decides(files: list[Path], tmp_path: Path) -> None:
    """Other validation gives other losses, and the same steps."""
    runs = [
        run(train_files(files, TINY, validation=[files[at]], save_to=tmp_path / "m.safetensors", axes=None))
        for at in (2, 3)
    ]
    (first, _), (second, _) = runs
    assert first.training["history"] != second.training["history"]
    assert [entry["name"] for entry in first.training["trained_on"]] == ["a", "b", "d"]
    assert len(first.noise) == len(first.chains) == 3


def test_files_that_training_never_met_are_told(files: list[Path], tmp_path: Path) -> None:
    settings = make_settings(TINY, epochs=1, training=TINY.training.model_dump() | {"patches_per_epoch": 1})
    with pytest.warns(RepairWarning, match="3 of 4 files were not met"):
        model, _ = run(train_files(files, settings, save_to=tmp_path / "m.safetensors", memory_mb=0.03))
    assert model.training["files"] == 1


def test_colour_and_channels(photo: np.ndarray, tmp_path: Path, general: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "rgb.tif", tmp_path / "more.tif"]
    for path in paths:
        rgb = photo[:64, :64, None] / 4 + rng.normal(0, 15, (64, 64, 3))
        tifffile.imwrite(path, rgb.clip(0, 255).astype(np.uint8), photometric="rgb")
    model, _ = run(train_files(paths, make_settings(TINY, epochs=1), save_to=tmp_path / "m.safetensors"))
    assert model.network.channels == 3
    found = [survey(path, None, load_model(general), Settings(), CPU) for path in paths]
    patches = FilePatches(found, [], NEED, 0, 10**6)
    list(patches.fill())
    batch = patches.training(64)
    assert batch.values.shape[1] == 1
    assert set(batch.channel) == set(range(6))  # each opponent colour of each file has a view of its own
    many = write(tmp_path / "many.tif", np.stack([photo[:64, :64]] * 2), "CYX")
    two, _ = run(train_files([many], make_settings(TINY, epochs=1), save_to=tmp_path / "m.safetensors"))
    assert len(two.noise) == 2


# ---- interrupted -------------------------------------------------------------------------------


def interrupted(steps: Callable[..., Generator[Progress, None, Model]], after: int) -> None:
    """Stop after so many steps."""
    done = 0

    def enough() -> bool:
        return done >= after

    with pytest.raises(Cancelled):
        for progress in steps(should_stop=enough):
            done += progress.losses is not None


@pytest.mark.parametrize("way", ["scratch", "learned noise", "adapted", "validation files"])
def test_gone_on_with_it_is_the_model_of_an_undisturbed_run(
    files: list[Path], tmp_path: Path, general: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With windows that are renewed, and stopped more than once."""
    monkeypatch.setattr(adapting, "compare", lambda *_: (True, 0.5))
    settings = TINY if way == "scratch" else make_settings(TINY, noise={"kind": "learned"})
    settings = make_settings(model=general, adapt_steps=40, device="cpu") if way == "adapted" else settings
    validation = files[3:] if way == "validation files" else []

    def steps(name: str, **options: object) -> Generator[Progress, None, Model]:
        place = tmp_path / f"{name}.safetensors"
        return train_files(files, settings, validation=validation, save_to=place, memory_mb=0.08, **options)  # type: ignore[arg-type]

    undisturbed, _ = run(steps("whole"))
    for after in (3, 2) if way != "adapted" else (3, 34):
        interrupted(lambda after=after, **options: steps("parts", **options), after)  # type: ignore[misc]
        assert checkpoint_of(tmp_path / "parts.safetensors").exists()
    resumed, told = run(steps("parts"))
    assert len([each for each in told if each.losses]) == (1 if way != "adapted" else 3)
    assert weights(resumed) == weights(undisturbed)
    assert resumed.noise == undisturbed.noise
    assert resumed.training.get("history") == undisturbed.training.get("history")
    assert sorted(path.name for path in tmp_path.iterdir() if path != general) == [
        "in", "parts.safetensors", "whole.safetensors",
    ]  # fmt: skip


COMMAND = [
    "--epochs", "60", "--device", "cpu", "--set", "network.widths=(8,8)", "--set", "network.latents=(2,2)",
    "--set", "training.patches_per_epoch=4", "--set", "training.patch_px=16", "--set", "training.batch_size=4",
]  # fmt: skip


def test_killed_by_kill_9_the_same_command_ends_with_the_same_bytes(files: list[Path], tmp_path: Path) -> None:
    """Each run is a process of its own, as a user's are."""
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    train = [sys.executable, "-m", "napari_vae_repair.cli", "train", str(files[0].parent), *COMMAND, "--save-model"]
    undisturbed = subprocess.Popen([*train, str(whole)], stderr=subprocess.DEVNULL)
    process = subprocess.Popen([*train, str(killed), "--checkpoint-every", "0"], stderr=subprocess.DEVNULL)
    while not checkpoint_of(killed).exists():
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(0.05)
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    assert not killed.exists()
    resumed = subprocess.run([*train, str(killed)], capture_output=True, text=True, check=True)
    assert "going on" in resumed.stderr
    assert undisturbed.wait(120) == 0
    assert weights(load_model(killed)) == weights(load_model(whole))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "killed.safetensors", "whole.safetensors"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(
    files: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    place = tmp_path / "m.safetensors"
    command = ["train", *map(str, files), *COMMAND, "--save-model", str(place)]

    def stop_it() -> None:
        while not checkpoint_of(place).exists():
            time.sleep(0.001)
        os.kill(os.getpid(), number)

    stopping = threading.Thread(target=stop_it)
    stopping.start()
    assert main([*command, "--checkpoint-every", "0.05"]) == code
    stopping.join()
    said = capfd.readouterr()
    assert "The same command goes on from this checkpoint" in said.err
    assert said.out.split() == [str(checkpoint_of(place))]
    assert main(command) == 0
    said = capfd.readouterr()
    assert f"going on: from {checkpoint_of(place)}" in said.err
    assert said.out.split() == [str(place)]
    assert "training 100 %" in said.err
    assert "KL" in said.err
    assert "validation" in said.err


def test_what_cannot_be_saved_is_not_lost(files: list[Path], tmp_path: Path) -> None:
    place = tmp_path / "m.safetensors"
    whole, _ = run(train_files(files, TINY, save_to=tmp_path / "whole.safetensors", memory_mb=1))
    place.mkdir()
    with pytest.raises(ModelFileError, match="The training is kept in .*m.safetensors.checkpoint"):
        run(train_files(files, TINY, save_to=place, memory_mb=1))
    place.rmdir()
    model, told = run(train_files(files, TINY, save_to=place, memory_mb=1))
    assert not [each for each in told if each.losses]
    assert weights(model) == weights(whole)


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(files: list[Path], tmp_path: Path) -> None:
    place = tmp_path / "m.safetensors"
    steps = train_files(files, TINY, save_to=place, checkpoint_every_s=0)
    while next(steps).losses is None:
        pass
    checkpoint_of(place).unlink()
    checkpoint_of(place).mkdir()
    with pytest.warns(RepairWarning, match="goes on without a new checkpoint"):
        run(steps)
    assert load_model(place).training["steps"] == 6


# ---- what is refused ---------------------------------------------------------------------------


def test_the_checkpoint_of_another_training_is_refused_unless_begun_anew(files: list[Path], tmp_path: Path) -> None:
    place = tmp_path / "m.safetensors"
    interrupted(lambda **options: train_files(files, TINY, save_to=place, memory_mb=1, **options), 2)
    longer = make_settings(TINY, epochs=4)
    with pytest.raises(ModelFileError, match=r"another training: setting epochs \(3 -> 4\)"):
        run(train_files(files, longer, save_to=place, memory_mb=1))
    with pytest.raises(ModelFileError, match=r"another training: memory \(1 MB -> 2 MB\)"):
        run(train_files(files, TINY, save_to=place, memory_mb=2))
    with pytest.raises(ModelFileError, match="another training: files, files for validation"):
        run(train_files(files, TINY, validation=files[:1], save_to=place, memory_mb=1))
    os.utime(files[0], (1, 1))
    with pytest.raises(ModelFileError, match="another training: files.*--restart"):
        run(train_files(files, TINY, save_to=place, memory_mb=1))
    _, told = run(train_files(files, TINY, save_to=place, memory_mb=1, resume=False))
    assert len([each for each in told if each.losses]) == 6


def test_a_damaged_checkpoint_is_refused(files: list[Path], tmp_path: Path, model: Model) -> None:
    place = tmp_path / "m.safetensors"
    steps = lambda **options: train_files(files, TINY, save_to=place, memory_mb=1, **options)  # noqa: E731
    interrupted(steps, 2)
    good = checkpoint_of(place).read_bytes()
    for content in (good[:-100], b"", good.replace(b"training 1", b"training 9")):
        checkpoint_of(place).write_bytes(content)
        with pytest.raises(ModelFileError, match="cannot be read"):
            run(steps())
    for content in (good.replace(b'\\"next\\"', b'\\"nexT\\"'), good.replace(b'"network.', b'"netwOrk.')):
        assert content != good
        checkpoint_of(place).write_bytes(content)
        with pytest.raises(ModelFileError, match="is damaged"):
            run(steps())
    shutil.copy(save_model(model, tmp_path / "other.safetensors"), checkpoint_of(place))
    with pytest.raises(ModelFileError, match="cannot be read"):
        run(steps())


def test_all_files_that_cannot_be_used_are_named_before_training(files: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "in/bad.tif"
    bad.write_bytes(b"no image")
    nothing = write(tmp_path / "in/nothing.tif", np.full((32, 32), np.nan, dtype=np.float32))
    colour = tmp_path / "in/colour.tif"
    tifffile.imwrite(colour, np.zeros((32, 32, 3), dtype=np.uint8), photometric="rgb")
    mixed = [*files, bad, nothing, colour]
    place = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match=r"3 of 7 files cannot be used.*bad.tif.*nothing.tif.*colour.tif.*--skip-bad"):
        run(train_files(mixed, TINY, save_to=place))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model, _ = run(train_files(mixed, TINY, save_to=place, skip_bad=True))
    left_out = [str(each.message) for each in told if "left out" in str(each.message)]
    assert [path.name in text for path, text in zip((bad, nothing, colour), left_out, strict=True)] == [True] * 3
    assert model.training["files"] == 4
    with pytest.raises(ImageFileError, match="1 of 1 files to train on cannot be used"):
        run(train_files([bad], TINY, save_to=place, skip_bad=True))
    with pytest.raises(InputError, match="No image file was given"):
        run(train_files(files, TINY, validation=files, save_to=place))


def test_two_runs_do_not_write_one_model(files: list[Path], tmp_path: Path) -> None:
    first = train_files(files, TINY, save_to=tmp_path / "m.safetensors")
    next(first)
    with pytest.raises(ImageFileError, match="another run"):
        next(train_files(files, TINY, save_to=tmp_path / "m.safetensors"))
    first.close()


def test_too_little_memory_and_no_time_are_told(files: list[Path], tmp_path: Path, general: Path) -> None:
    place = tmp_path / "m.safetensors"
    with pytest.raises(SettingsError, match="At least one of 64 x 64 pixels must fit"):
        run(train_files(files, TINY, save_to=place, memory_mb=0.01))
    with pytest.raises(SettingsError, match="Nothing says how long"):
        run(train_files(files, make_settings(model=general), save_to=place))


def test_the_command_checks_before_it_trains(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(files[0]), "--save-model", str(files[0]), "--epochs", "1"]) == 2
    assert "written over" in capsys.readouterr().err
    assert main(["train", f"{tmp_path}/none*.tif", "--save-model", f"{tmp_path}/m", "--epochs", "1"]) == 2
    assert main(["train", str(files[0]), "--save-model", f"{tmp_path}/none/m", "--epochs", "1"]) == 1
    assert main(["train", str(files[0]), "--save-model", f"{tmp_path}/m", "--epochs", "1", "--adapt", "3"]) == 2
