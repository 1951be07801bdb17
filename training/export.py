"""Pack trained weights for the package: ``python -m training.export --restorer RUN --noise RUN --damage RUN``."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_vae_repair.vae import starter
from napari_vae_repair.vae.calibration import Calibration
from napari_vae_repair.vae.inspector import Inspector
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.starter import Starter, general_model
from training.restoring import NETWORK

NONE_YET = Calibration((1.0,), (1.0,))  # for the first export, with which training.calibrate measures
PACKAGE = Path(__file__).parents[1] / "src" / "napari_vae_repair"


def main(arguments: list[str] | None = None) -> None:
    """Write the file into the package, and its hash into `vae.starter`."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("--restorer", type=Path, default=Path("runs/restoring"), help="folder of the run")
    parser.add_argument("--noise", type=Path, default=Path("runs/noise"), help="folder of the run")
    parser.add_argument("--damage", type=Path, default=Path("runs/damage"), help="folder of the run")
    parser.add_argument("--calibration", type=Path, default=Path("runs/calibration.json"), help="of training.calibrate")
    options = parser.parse_args(arguments)
    restorer, inspector = HierarchicalVAE(1, NETWORK), Inspector()
    training: dict[str, Any] = {}
    runs: list[tuple[str, nn.Module, Path]] = [
        ("restorer", restorer, options.restorer),
        ("noise", inspector.noise, options.noise),
        ("damage", inspector.damage, options.damage),
    ]
    for name, module, run in runs:
        state = torch.load(run / "checkpoint.pt", weights_only=True)
        module.load_state_dict(state["average"])
        last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
        training[name] = {key: round(value, 4) for key, value in last.items()}
    calibration = NONE_YET
    if options.calibration.is_file():
        calibration = Calibration.from_dict(json.loads(options.calibration.read_text()))
    model = general_model(restorer, training, calibration)
    content = starter.pack_starter(Starter(model, inspector, training["damage"]["threshold"]))
    file = PACKAGE / "weights" / starter.FILE
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    source = PACKAGE / "vae" / "starter.py"
    source.write_text(re.sub(r'^SHA256 = ".*"$', f'SHA256 = "{digest}"', source.read_text(), flags=re.MULTILINE))
    print(f"{file}: {len(content) / 2**20:.2f} MB, SHA-256 {digest}")


if __name__ == "__main__":
    main()
