"""The recipe: it trains, goes on after an interruption, and what it packs is what the package loads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from napari_vae_repair.errors import ModelFileError
from napari_vae_repair.settings import Network
from napari_vae_repair.vae import starter
from napari_vae_repair.vae.calibration import Calibration
from napari_vae_repair.vae.device import choose_device
from napari_vae_repair.vae.inspector import CELL_PX, Inspector
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.starter import Starter, general_model
from training import batches, export, filling, restoring, train, validation
from training.batches import RESTORING, WHITE, BatchSource, Mix
from training.filling import Filling
from training.inspecting import FindingDamage, SeeingNoise
from training.objective import Balance, Tensors, terms
from training.procedural import procedural_scenes
from training.scenes import Scenes
from training.train import CLIP_NORM, main

TINY = Network(widths=(8, 8), latents=(2, 2), blocks=1, told=True)
CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes(procedural_scenes(8, 96, 0), np.array(["photo/a", "photo/b", "cells/c", "cells/d"] * 2))


@pytest.fixture
def pool(tmp_path: Path, scenes: Scenes) -> Path:
    np.savez(tmp_path / "pool.npz", patches=scenes.patches, source=scenes.source)
    return tmp_path / "pool.npz"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "BATCHES", 1)
    monkeypatch.setattr(restoring, "NETWORK", TINY)
    monkeypatch.setattr(filling, "NETWORK", TINY)
    monkeypatch.setattr(batches, "MASKS", 4)


def test_training_goes_on_where_it_was_stopped(pool: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [
        "--clean",
        str(pool),
        "--run",
        str(run),
        "--cache",
        str(tmp_path / "cache"),
        "--procedural",
        "4",
        "--overlays",
        "4",
    ]
    options += ["--held-out", "photo/a", "cells/c", "--batch-size", "4", "--patch-px", "32", "--device", "cpu"]
    for hours in (2e-3, 4e-3):
        main([*options, "--hours", str(hours), "--validate-every", "2"])
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps))
    recipes = [json.loads(line) for line in (run / "recipe.jsonl").read_text().splitlines()]
    assert [recipe["from_step"] for recipe in recipes] == [0, next(s for s in steps if s == recipes[1]["from_step"])]
    assert recipes[1]["from_step"] > 0
    assert lines[-1]["hours"] >= 4e-3
    assert lines[-1]["psnr_mixed"] > lines[0]["psnr_mixed"]
    assert (run / "validation.png").stat().st_size > 1000


def test_both_terms_teach_every_weight(scenes: Scenes) -> None:
    torch.manual_seed(0)
    network = HierarchicalVAE(1, TINY)
    batch = Tensors.of(BatchSource(scenes, 4, 32, RESTORING, 0).draw(), CPU)
    measured = terms(network, batch, 2, CPU, Balance(CPU))
    (measured.one_pass + measured.elbo).backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert silent == []
    assert len(measured.kl) == 2


def test_errors_of_all_noise_levels_come_to_count_alike() -> None:
    balance, generator = Balance(CPU), torch.Generator().manual_seed(0)
    for _ in range(300):
        std = 10 ** (-2.5 + 2 * torch.rand(8, generator=generator))
        images = std[:, None, None, None].expand(8, 1, 4, 4)
        batch = Tensors(
            *(images, images, images, torch.zeros(8, 2), 0 * images, 0 * images + 1, 0 * images, 0 * images),
            torch.zeros(8, 3),
        )
        squared = images**1.1 * torch.rand(8, 1, 1, 1, generator=generator) * 2
        weighted = (balance.weight(batch, squared) * squared).mean(dim=(1, 2, 3))
    assert weighted.max() < 10
    assert 0.5 < float(weighted.mean()) < 2.5


@pytest.mark.parametrize("kind", [SeeingNoise, FindingDamage])
def test_the_inspector_has_something_to_learn(scenes: Scenes, kind: type[SeeingNoise] | type[FindingDamage]) -> None:
    torch.manual_seed(0)
    task = kind(scenes, CPU)
    network = task.network()
    batch = Tensors.of(BatchSource(scenes, 4, 64, task.mix, 0).draw(), CPU)
    assert batch.unmarked.any()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss, _ = task.objective(network, batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)  # as the recipe does
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3
    assert all(np.isfinite(value) for value in task.validate(network).values())


def test_filling_can_learn_a_batch_better_than_the_plate(scenes: Scenes) -> None:
    torch.manual_seed(0)
    task = Filling(scenes, CPU)
    network = task.network()
    batch = Tensors.of(BatchSource(scenes, 4, 64, task.mix, 0).draw(), CPU)
    assert batch.masked.any(dim=3).any(dim=2).all()
    assert not batch.unmarked.any()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(250):
        loss, logged = task.objective(network, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(logged["train_relative"]) < 0.8
    measured = task.validate(network)
    assert measured.keys() == {"psnr_filled", "psnr_plate"}
    assert 10 < measured["psnr_plate"] < 50


def test_each_branch_sees_cells_or_pixels(scenes: Scenes) -> None:
    inspector, values = Inspector(), torch.zeros(2, 1, 64, 96)
    found = inspector.noise(values)
    assert found.log_std.shape == (2, 1, 64 // CELL_PX, 96 // CELL_PX)
    assert found.neighbours.shape == (2, 2, 64 // CELL_PX, 96 // CELL_PX)
    assert inspector.damage(values).shape == values.shape


def test_what_is_packed_is_what_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calibration = Calibration((0.1, 0.5), (0.2, 0.4))
    model = general_model(HierarchicalVAE(1, TINY), {"restorer": {"hours": 1.0}}, calibration)
    white = HierarchicalVAE(1, TINY)
    white.load_state_dict(model.network.state_dict())
    torch.nn.init.normal_(white.head.weight)
    given = Starter(model, white, HierarchicalVAE(1, TINY), Inspector())
    content = starter.pack_starter(given)
    kept = {name for name in safetensors.torch.load(content) if name.startswith("white.")}
    assert kept == {"white.head.weight", "white.head.weight.scale"}  # the rest is the restorer's
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / starter.FILE).write_bytes(content)
    monkeypatch.setattr(starter.resources, "files", lambda _: tmp_path)
    monkeypatch.setattr(starter, "SHA256", hashlib.sha256(content).hexdigest())
    loaded = starter.load_starter.__wrapped__()
    assert loaded.model.general
    assert loaded.model.calibration == calibration
    assert loaded.model.training == {"restorer": {"hours": 1.0}}
    for part, module in loaded.parts().items():
        assert_packed(given.parts()[part], module.state_dict())
        assert not any(weight.requires_grad for weight in module.parameters())
    assert starter.pack_starter(loaded) == content  # so that an export of one part leaves the others alone
    (tmp_path / "weights" / starter.FILE).write_bytes(content[:-1] + b"x")
    with pytest.raises(ModelFileError, match="not those of this version"):
        starter.load_starter.__wrapped__()
    (tmp_path / "weights" / starter.FILE).unlink()
    with pytest.raises(ModelFileError, match="cannot be read"):
        starter.load_starter.__wrapped__()


def assert_packed(before: nn.Module, after: Mapping[str, Tensor]) -> None:
    """The same weights, but for half a step of 8 bits."""
    for name, tensor in before.state_dict().items():
        steps = tensor.flatten(1).abs().amax(dim=1) / 127 if name.endswith(".weight") else torch.full((1,), 1e-3)
        wrong = (after[name] - tensor).flatten(1 if len(steps) > 1 or tensor.ndim == 4 else 0).abs()
        assert (wrong.flatten(1).amax(dim=1) if wrong.ndim > 1 else wrong).le(0.501 * steps + 1e-6).all(), name


def packed(network: HierarchicalVAE, inspector: Inspector) -> bytes:
    training = {part: {"hours": 1.0} for part in export.PARTS}
    model = general_model(network, training, Calibration((0.1,), (0.2,)))
    return starter.pack_starter(Starter(model, network, HierarchicalVAE(1, network.network), inspector))


def test_an_export_of_one_part_leaves_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network, before, trained = HierarchicalVAE(1, TINY), Inspector(), Inspector()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / starter.FILE).write_bytes(packed(network, before))
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "starter.py").write_text('SHA256 = "old"\n')
    run = tmp_path / "run"
    run.mkdir()
    torch.save({"average": trained.damage.state_dict()}, run / "checkpoint.pt")
    (run / "log.jsonl").write_text('{"hours": 0.3}\n')
    monkeypatch.setattr(export, "PACKAGE", tmp_path)
    monkeypatch.setattr(export, "FILE", tmp_path / "weights" / starter.FILE)
    monkeypatch.setattr(export, "NETWORK", TINY)
    export.main(["--damage", str(run)])
    content = (tmp_path / "weights" / starter.FILE).read_bytes()
    assert (tmp_path / "vae" / "starter.py").read_text() == f'SHA256 = "{hashlib.sha256(content).hexdigest()}"\n'
    header, weights = starter.unpack_starter(content)
    assert header["training"]["restorer"] == {"hours": 1.0}
    for part, module in (("restorer", network), ("noise", before.noise), ("damage", trained.damage)):
        assert_packed(module, weights[part])


def test_a_run_can_start_from_what_ships(pool: Path, scenes: Scenes, tmp_path: Path) -> None:
    network = HierarchicalVAE(1, TINY)
    torch.nn.init.constant_(network.head.bias, 0.25)
    (tmp_path / starter.FILE).write_bytes(packed(network, Inspector()))
    weights = train._weights(tmp_path / starter.FILE, "restorer")
    assert weights["head.bias"].eq(0.25).all()
    options = ["--clean", str(pool), "--run", str(tmp_path / "run"), "--held-out", "photo/a", "cells/c", "--hours", "1"]
    parsed = train._parse([*options, "--start", str(tmp_path / starter.FILE), "--device", "cpu"])
    (tmp_path / "run").mkdir()
    begun = train.Run(tmp_path / "run", scenes, parsed)
    assert begun.network.head.bias.eq(0.25).all()
    assert begun.average.head.bias.eq(0.25).all()


def test_coarse_levels_are_packed_in_six_bits() -> None:
    three = Network(widths=(8, 8, 8), latents=(2, 2, 2), blocks=1, told=True)
    network = HierarchicalVAE(1, three)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    content = packed(network, Inspector())
    stored, name = safetensors.torch.load(content), "levels.2.posterior.weight"
    weights, loaded = network.state_dict(), starter.unpack_starter(content)[1]["restorer"]
    assert stored[f"restorer.{name}"].shape == (4, 12, 3, 3)  # of 16 channels: 4 values in 3 bytes
    largest = weights[name].flatten(1).abs().amax(dim=1)[:, None, None, None]
    assert ((loaded[name] - weights[name]).abs() <= 0.501 * largest / 31).all()
    assert not torch.equal(loaded[name], weights[name])
    fine = "levels.0.posterior.weight"
    assert stored[f"restorer.{fine}"].dtype == torch.int8


def test_what_is_learned_for_white_noise_leaves_the_coarse_levels_alone(
    pool: Path, scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = Network(widths=(8, 8, 8), latents=(2, 2, 2), blocks=1, told=True)
    monkeypatch.setattr(restoring, "NETWORK", three)
    restorer = HierarchicalVAE(1, three)
    for parameter in restorer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    (tmp_path / starter.FILE).write_bytes(packed(restorer, Inspector()))
    options = ["--clean", str(pool), "--run", str(tmp_path / "run"), "--held-out", "photo/a", "cells/c", "--hours", "1"]
    options += ["--task", "white", "--start", str(tmp_path / starter.FILE), "--device", "cpu"]
    (tmp_path / "run").mkdir()
    begun = train.Run(tmp_path / "run", scenes, train._parse(options))
    before = {name: tensor.clone() for name, tensor in begun.average.state_dict().items()}
    assert before["levels.2.merge.weight"].any()
    source = BatchSource(scenes, 2, 64, WHITE, 0)
    for _ in range(2):
        begun._one_step(Tensors.of(source.draw(), CPU))
    for weights in (begun.network.state_dict(), begun.average.state_dict()):
        changed = {name for name, tensor in weights.items() if not torch.equal(tensor, before[name])}
        assert {"stem.weight", "levels.0.merge.weight", "levels.1.merge.weight", "head.weight"} <= changed
        assert not {name for name in changed if name.startswith(("up.2.", "levels.2.", "shrink.1.", "grow.1.", "top"))}


def test_plain_patches_are_scenes_under_noise_that_is_white_or_nearly_and_told(scenes: Scenes) -> None:
    source = BatchSource(scenes, 64, 64, Mix(plain=1.0), 0)
    batch = source.draw()
    assert not batch.masked.any()
    assert not batch.unmarked.any()
    assert batch.counted.all()
    noise = (batch.noisy - batch.clean) / batch.std
    assert np.abs(np.median(noise.std(axis=(1, 2, 3))) - 1) < 0.03
    white = ~batch.neighbours.any(axis=1)
    assert 0.75 < white.mean() < 1
    for along, (near, far) in enumerate(((noise[:, :, 1:], noise[:, :, :-1]), (noise[..., 1:], noise[..., :-1]))):
        shared = np.mean(near * far, axis=(1, 2, 3))
        assert np.abs(shared[white].mean()) < 0.02
        assert np.abs(shared - batch.neighbours[:, along]).max() < 0.08  # of 4000 pixels, and gains that are mistold
    assert 0.01 < batch.neighbours[~white].max() < 0.1
    wrong = np.log(batch.told[:, 0] / np.sqrt((batch.std**2).mean(axis=(1, 2, 3))))
    assert 0.02 < wrong.std() < 0.1


def test_a_network_that_has_grown_begins_as_it_was(
    pool: Path, scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = HierarchicalVAE(1, TINY)
    torch.nn.init.normal_(flat.head.weight)
    content = packed(flat, Inspector())
    (tmp_path / starter.FILE).write_bytes(content)
    flat.load_state_dict(starter.unpack_starter(content)[1]["restorer"])
    options = ["--clean", str(pool), "--run", str(tmp_path / "run"), "--held-out", "photo/a", "cells/c", "--hours", "1"]
    parsed = train._parse([*options, "--start", str(tmp_path / starter.FILE), "--device", "cpu"])
    (tmp_path / "run").mkdir()
    monkeypatch.setattr("training.restoring.NETWORK", TINY.model_copy(update={"deeper": 3}))
    grown = train.Run(tmp_path / "run", scenes, parsed).average.eval()
    x, nothing = torch.randn(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    before, after = (
        network.decode(network.encode(x, nothing), lambda level, posterior: None).clean for network in (flat, grown)
    )
    torch.testing.assert_close(before, after, rtol=1e-5, atol=1e-5)
    assert before.std() > 0.1
    (tmp_path / starter.FILE).write_bytes(packed(grown, Inspector()))
    monkeypatch.setattr("training.restoring.NETWORK", TINY)
    with pytest.raises(ValueError, match="weights that the network lacks"):
        train.Run(tmp_path / "run", scenes, parsed)
