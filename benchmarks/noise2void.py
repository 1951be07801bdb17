"""Noise2Void of CAREamics on one image, in a process of its own: ``PYTHON benchmarks/noise2void.py IN.npy OUT.npy``.

CAREamics 0.3.5 asks for ``torch<2.14`` and ``torchvision<=0.26``, which does not go with the torch of this project, so
it needs an environment of its own; `benchmarks.quality` finds it by the variable NOISE2VOID_PYTHON:

    python3 -m venv n2v && n2v/bin/pip install torch==2.9.1 torchvision==0.24.1 careamics==0.3.5
"""

from __future__ import annotations

import sys
import tempfile

import numpy as np

EPOCHS, BATCH_SIZE, PATCH_PX = 100, 16, 64


def denoise(image: np.ndarray) -> np.ndarray:
    """``(Y, X)``, trained on itself."""
    from careamics import CAREamist
    from careamics.config import create_n2v_config

    with tempfile.TemporaryDirectory() as folder:
        config = create_n2v_config(
            experiment_name="peer",
            data_type="array",
            axes="YX",
            patch_size=[PATCH_PX, PATCH_PX],
            batch_size=BATCH_SIZE,
            num_epochs=EPOCHS,
        )
        trainer = CAREamist(config, work_dir=folder, enable_progress_bar=False)
        trainer.train(train_data=image)
        found, _ = trainer.predict(image)
        return np.asarray(found[0]).reshape(image.shape)


def main() -> None:
    image = np.load(sys.argv[1])
    planes = [image] if image.ndim == 2 else [image[..., c] for c in range(image.shape[-1])]
    found = [denoise(np.ascontiguousarray(plane)).astype(np.float32) for plane in planes]
    np.save(sys.argv[2], found[0] if image.ndim == 2 else np.stack(found, axis=-1))


if __name__ == "__main__":
    main()
