"""Noise2Void of CAREamics on one image, in a process of its own: ``PYTHON benchmarks/noise2void.py IN.npy OUT.npy``.

CAREamics 0.3.5 asks for ``torchvision<=0.26``, which does not go with the torch of this project, so it needs an
environment of its own; `benchmarks.quality` finds it by the variable NOISE2VOID_PYTHON:

    python3 -m venv n2v
    n2v/bin/pip install torch==2.13.0 lightning torchmetrics zarr microssim "bioimageio-core>=0.9,<=0.11"
    n2v/bin/pip install scikit-image matplotlib && n2v/bin/pip install --no-deps careamics==0.3.5

Only its ladder VAE uses torchvision; where that is missing, an empty module takes its place.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from types import ModuleType

import numpy as np

EPOCHS, BATCH_SIZE, PATCH_PX = 60, 16, 64


def without_torchvision() -> None:
    """Empty modules, there only while careamics is imported: others look whether torchvision is there."""
    import lightning  # noqa: F401 - looks itself, at import

    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    modules = {name: ModuleType(name) for name in names}
    modules[names[1]].functional = modules[names[2]]  # type: ignore[attr-defined]
    sys.modules |= modules
    import careamics  # noqa: F401

    for name in names:
        del sys.modules[name]


def denoise(image: np.ndarray) -> np.ndarray:
    """``(Y, X)``, trained on itself."""
    from careamics import CAREamist
    from careamics.config import create_n2v_configuration

    with tempfile.TemporaryDirectory() as folder:
        config = create_n2v_configuration(
            experiment_name="peer",
            data_type="array",
            axes="YX",
            patch_size=[PATCH_PX, PATCH_PX],
            batch_size=BATCH_SIZE,
            num_epochs=EPOCHS,
        )
        trainer = CAREamist(config, work_dir=folder)
        trainer.train(train_source=image, val_percentage=0.1)
        return np.squeeze(np.asarray(trainer.predict(source=image)))


def main() -> None:
    if find_spec("torchvision") is None:
        without_torchvision()
    image = np.load(sys.argv[1])
    planes = [image] if image.ndim == 2 else [image[..., c] for c in range(image.shape[-1])]
    found = [denoise(np.ascontiguousarray(plane)).astype(np.float32) for plane in planes]
    np.save(sys.argv[2], found[0] if image.ndim == 2 else np.stack(found, axis=-1))


if __name__ == "__main__":
    main()
