"""Pack trained weights for the package: ``python -m training.export [--restorer RUN] [--filling RUN] ...``."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch

from napari_vae_repair.vae import starter
from napari_vae_repair.vae.calibration import Calibration
from napari_vae_repair.vae.inspector import Inspector
from napari_vae_repair.vae.model import HierarchicalVAE
from napari_vae_repair.vae.starter import Starter, general_model
from training.restoring import NETWORK

NONE_YET = Calibration((1.0,), (1.0,))  # for the first export, with which training.calibrate measures
PACKAGE = Path(__file__).parents[1] / "src" / "napari_vae_repair"
FILE = PACKAGE / "weights" / starter.FILE
PARTS = ("restorer", "white", "filling", "noise", "damage")


def main(arguments: list[str] | None = None) -> None:
    """Write the file into the package, and its hash into `vae.starter`."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    for part in PARTS:
        parser.add_argument(f"--{part}", type=Path, help="folder of its run; left out, the package's own stays")
    parser.add_argument("--calibration", type=Path, help="of training.calibrate; a new restorer has none without it")
    options = parser.parse_args(arguments)
    runs = {part: getattr(options, part) for part in PARTS}
    training: dict[str, Any] = {}
    header, weights = starter.unpack_starter(FILE.read_bytes()) if None in runs.values() else ({}, {})
    for part, run in runs.items():
        if run is None:
            training[part] = header["training"][part]
            continue
        weights[part] = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["average"]
        last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
        training[part] = {key: round(value, 4) for key, value in last.items()}
    if options.calibration is not None:
        calibration = Calibration.from_dict(json.loads(options.calibration.read_text()))
    elif runs["restorer"] is None:
        calibration = Calibration.from_dict(header["calibration"])
    else:
        calibration = NONE_YET
    restorer, white, filling = (HierarchicalVAE(1, NETWORK) for _ in range(3))
    packed = Starter(general_model(restorer, training, calibration), white, filling, Inspector())
    for part, module in packed.parts().items():
        module.load_state_dict(weights[part])
    content = starter.pack_starter(packed)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    source = PACKAGE / "vae" / "starter.py"
    source.write_text(re.sub(r'^SHA256 = ".*"$', f'SHA256 = "{digest}"', source.read_text(), flags=re.MULTILINE))
    print(f"{FILE}: {len(content) / 2**20:.2f} MB, SHA-256 {digest}")


if __name__ == "__main__":
    main()
