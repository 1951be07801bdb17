"""The recipe of the weights that ship: ``python -m training.train --clean POOL --hours H``; run again to go on.

``--task restoring`` trains the restorer, ``--task white`` its finest levels for white noise, ``--task filling`` the
filling network; ``--task noise`` and ``--task damage`` train the branches of the inspector.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from napari_vae_repair.vae.device import Device, choose_device, to_device
from napari_vae_repair.vae.starter import unpack_starter
from training.batches import Drawing, stream
from training.export import PARTS
from training.figure import draw_history
from training.filling import Filling
from training.inspecting import FindingDamage, SeeingNoise
from training.objective import Tensors
from training.restoring import Restoring, RestoringWhite
from training.scenes import Scenes, load_scenes

TASKS = {
    "restoring": Restoring,
    "white": RestoringWhite,
    "filling": Filling,
    "noise": SeeingNoise,
    "damage": FindingDamage,
}
HELD_OUT = ("photo/skimage-wheel", "microscopy/neubias-ccby")
WARM_UP_STEPS = 300
LAST_RATE = 0.01  # of the full learning rate, at the end
AVERAGE_DECAY = 0.999
CLIP_NORM = 1.0
LONGEST_STEP = 10.0  # seconds that count of a step: a process that is stopped does not train


class Run:
    """A training that can be stopped at any moment and gone on with.

    Parameters
    ----------
    folder : Path
        Of checkpoint, log and figure; a checkpoint that is there is gone on with.
    held_out : Scenes
        For validation.
    options : argparse.Namespace
        As `main` reads them.
    """

    def __init__(self, folder: Path, held_out: Scenes, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self.device: Device = choose_device(options.device)
        self.task = TASKS[options.task](held_out, self.device)
        torch.manual_seed(options.seed)
        self.network = self.task.network()
        to_device(self.network, self.device)
        self.average = copy.deepcopy(self.network)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=options.learning_rate, betas=(0.9, 0.99), fused=True
        )
        self.step, self.seconds = 0, 0.0
        self.measured: dict[str, list[torch.Tensor]] = defaultdict(list)
        if self.checkpoint.exists():
            self._load()
        elif options.start is not None:
            grown = self.network.load_state_dict(_weights(options.start, options.part), strict=False)
            if grown.unexpected_keys:
                raise ValueError(f"{options.start} has weights that the network lacks: {grown.unexpected_keys}")
            self.average.load_state_dict(self.network.state_dict())

    @property
    def checkpoint(self) -> Path:
        """Where everything is kept that going on needs."""
        return self.folder / "checkpoint.pt"

    @property
    def share(self) -> float:
        """Of the time that is done."""
        return min(1.0, self.seconds / (3600 * self.options.hours))

    def go_on(self, batches: Iterator[dict[str, torch.Tensor]]) -> None:
        """Train until the hours are over."""
        batch = next(batches)  # the first comes late, when all scenes are read
        due, last = self.seconds + self.options.validate_every, time.perf_counter()
        while self.share < 1:
            self._one_step(Tensors.moved(batch, self.device))
            batch = next(batches)
            now = time.perf_counter()
            self.seconds, last = self.seconds + min(now - last, LONGEST_STEP), now
            if self.seconds > due or self.share == 1:
                self._report(self.task.validate(self.average))
                due, last = self.seconds + self.options.validate_every, time.perf_counter()

    def _one_step(self, batch: Tensors) -> None:
        rate = self.options.learning_rate * min(1.0, (self.step + 1) / WARM_UP_STEPS)
        rate *= LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * self.share))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss, measured = self.task.objective(self.network, batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        skipped = (~torch.isfinite(norm)).float()
        # the fused optimiser leaves a step out where this is not 0, and nothing waits for the device to say so
        self.optimiser.found_inf = skipped  # type: ignore[attr-defined]
        self.optimiser.step()
        self.step += 1
        decay = min(AVERAGE_DECAY, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        self.measured["skipped"].append(skipped)
        for name, value in measured.items():
            self.measured[name].append(value)

    def _report(self, validated: dict[str, float]) -> None:
        line: dict[str, Any] = {"step": self.step, "hours": round(self.seconds / 3600, 4)} | validated
        line |= {name: float(torch.stack(values).mean()) for name, values in self.measured.items()}
        self.measured.clear()
        print(json.dumps({name: round(value, 4) for name, value in line.items()}), flush=True)
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        self._save()
        draw_history(self.folder / "log.jsonl", self.folder / "validation.png", self.task.panels)

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "random": torch.get_rng_state(),
        }
        written = self.checkpoint.with_suffix(".part")
        torch.save(state, written)
        written.replace(self.checkpoint)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        for name in ("network", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["random"])


def main(arguments: list[str] | None = None) -> None:
    """Train, or go on training, until the hours are over."""
    options = _parse(arguments)
    torch.backends.cudnn.benchmark = True  # all batches have one shape
    folder: Path = options.run
    folder.mkdir(parents=True, exist_ok=True)
    recipes = folder / "recipe.jsonl"
    # batches go on with a seed of their own after each interruption, so that none comes twice
    times = len(recipes.read_text().splitlines()) if recipes.exists() else 0
    drawing = Drawing(
        options.clean,
        options.held_out,
        options.procedural,
        options.overlays,
        options.cache,
        options.batch_size,
        options.patch_px,
        TASKS[options.task].mix,
        options.seed + times,
    )
    batches = stream(drawing, options.workers, pinned=choose_device(options.device).torch.type == "cuda")
    run = Run(folder, load_scenes(options.clean).only(options.held_out), options)  # while the first are drawn
    recipe = {name: str(value) for name, value in vars(options).items()} | {
        "task_constants": run.task.constants,
        "torch": torch.__version__,
        "device": run.device.label,
        "processor": platform.processor() or platform.machine(),
        "commit": _commit(),
        "from_step": run.step,
    }
    with recipes.open("a") as file:
        file.write(json.dumps(recipe) + "\n")
    run.go_on(batches)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("--clean", type=Path, required=True, help="npz or folder of clean patches (training.scenes)")
    parser.add_argument("--hours", type=float, required=True, help="of training in all, over all interruptions")
    parser.add_argument("--run", type=Path, help="folder of checkpoint, log and figure; None = runs/TASK")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="of procedural scenes")
    parser.add_argument("--start", type=Path, help="checkpoint, or file of the starter, that a new run starts from")
    parser.add_argument("--part", choices=PARTS, help="of the starter, to start from; None = what the task trains")
    parser.add_argument("--task", choices=TASKS, default="restoring")
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT, help="sources for validation alone")
    parser.add_argument("--procedural", type=int, default=3500, help="procedural scenes")
    parser.add_argument("--overlays", type=int, default=2400, help="pictures of damage that nothing marks")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-px", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=8e-4)
    parser.add_argument("--validate-every", type=float, default=900, help="seconds")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw batches; for a GPU one a processor")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    options.held_out = tuple(options.held_out)
    options.run = options.run or Path("runs") / options.task
    options.part = options.part or {"restoring": "restorer", "white": "restorer"}.get(options.task, options.task)
    return options


def _weights(file: Path, part: str) -> dict[str, torch.Tensor]:
    """Averaged weights of a checkpoint, or those that ship."""
    if file.suffix == ".safetensors":
        _, weights = unpack_starter(file.read_bytes())
        return weights[part]
    average: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)["average"]
    return average


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
