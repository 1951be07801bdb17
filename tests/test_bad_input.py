"""What users hand over by mistake: a clear error, or a right result, and nothing lost.

The rows that need a viewer are in `plugin/`, those of files in `image/test_files.py` and `test_cli.py`, those of model
files in `vae/test_checkpoint.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_vae_repair.errors import InputError, ModelFileError, SettingsError
from napari_vae_repair.pipeline import encode, restore
from napari_vae_repair.settings import Settings
from napari_vae_repair.vae.record import Model

RNG = np.random.default_rng(0)
PICTURE = RNG.random((24, 32)).astype(np.float32)


def with_pixels(value: float, count: int) -> np.ndarray:
    image = PICTURE.copy()
    image.ravel()[:: PICTURE.size // count] = value
    return image


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "empty": (lambda: np.zeros((0, 32)), "empty"),
    "no plane": (lambda: np.zeros((0, 24, 32)), "empty"),
    "one pixel": (lambda: np.zeros((1, 1)), "1 x 1 pixels"),
    "7 x 7": (lambda: np.zeros((7, 7)), "8 x 8"),
    "8 x 7": (lambda: np.zeros((8, 7)), "8 x 7 pixels"),
    "all NaN": (lambda: np.full((24, 32), np.nan), "no finite value"),
    "all infinite": (lambda: np.full((24, 32), -np.inf), "no finite value"),
    "complex": (lambda: PICTURE + 1j, "complex"),
    "object dtype": (lambda: PICTURE.astype(object), "object"),
    "text": (lambda: np.full((24, 32), "a"), "dtype"),
    "a file's name": (lambda: "image.tif", "dtype"),
    "nothing": (lambda: None, "object"),
    "a scalar": (lambda: 3.0, "0 dimension"),
    "1-D": (lambda: np.zeros(100), "1 dimension"),
    "6-D": (lambda: np.zeros((2, 2, 2, 2, 8, 8)), "6 dimension"),
    "beyond float32": (lambda: PICTURE.astype(np.float64) * 1e300, "float32"),
    "ragged": (lambda: [[1.0, 2.0], [3.0]], "rows of one length"),
    "dates": (lambda: np.zeros((24, 32), "datetime64[s]"), "dtype"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_the_way_out(kind: str, tiny: Settings) -> None:
    make, message = REFUSED[kind]
    with pytest.raises(InputError, match=message) as caught:
        restore(make(), tiny)
    assert caught.value.remedy


RESTORED: dict[str, Callable[[], Any]] = {
    "8 x 8": lambda: PICTURE[:8, :8],
    "8 x 9 odd": lambda: PICTURE[:8, :9],
    "constant": lambda: np.full((24, 32), 7.0),
    "constant zero": lambda: np.zeros((24, 32), np.uint8),
    "bool": lambda: PICTURE > 0.5,
    "uint8": lambda: (PICTURE * 255).astype(np.uint8),
    "int64": lambda: (PICTURE * 1e6).astype(np.int64),
    "float16": lambda: PICTURE.astype(np.float16),
    "float64": lambda: PICTURE.astype(np.float64),
    "some NaN": lambda: with_pixels(np.nan, 20),
    "infinities": lambda: with_pixels(np.inf, 20),
    "negative": lambda: PICTURE - 5,
    "huge values": lambda: PICTURE * 1e30,
    "tiny values": lambda: PICTURE * 1e-30,
    "large offset": lambda: PICTURE + 1e4,
    "big-endian": lambda: PICTURE.astype(">f4"),
    "big-endian uint16": lambda: (PICTURE * 1000).astype(">u2"),
    "non-contiguous": lambda: np.repeat(PICTURE, 2, axis=1)[::-1, ::2],
    "Fortran order": lambda: np.asfortranarray(PICTURE),
    "read-only": lambda: np.broadcast_to(PICTURE, (2, 24, 32)),
    "list of lists": lambda: PICTURE.tolist(),
    "RGBA": lambda: RNG.random((32, 32, 4)),
    "5-D": lambda: RNG.random((1, 2, 1, 8, 8)),
    "one plane of NaN": lambda: np.stack([PICTURE, np.full_like(PICTURE, np.nan)]),
    "masked column": lambda: np.where(np.arange(32) == 5, np.nan, PICTURE),
}


@pytest.mark.parametrize("kind", RESTORED)
@pytest.mark.parametrize("model", ["starter", "scratch"])
def test_restored_finite_and_in_its_own_range(kind: str, model: str, tiny: Settings) -> None:
    image = RESTORED[kind]()
    given = np.asarray(image)
    trained = {"epochs": 1} if model == "scratch" else {}
    result = restore(image, tiny if trained else Settings(), samples=2, model=model, **trained)
    expected = given[..., :3] if kind == "RGBA" else given
    assert result.restored.shape == expected.shape
    for name in ("restored", "residual", "std", "prepared"):
        assert np.isfinite(getattr(result, name)).all(), name
        assert getattr(result, name).dtype == np.float32
    finite = expected[np.isfinite(expected)].astype(np.float64)
    span = float(np.ptp(finite)) or max(1.0, abs(float(finite[0])))
    assert result.restored.min() > finite.min() - 2 * span
    assert result.restored.max() < finite.max() + 2 * span
    good = np.isfinite(expected)
    assert np.allclose(result.prepared[good], expected[good], rtol=1e-3, atol=1e-3 * span)


BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "axes of another number": ({"axes": "ZYX"}, InputError, "ZYX"),
    "axes without X": ({"axes": "ZY"}, InputError, "Y and X"),
    "axes twice": ({"axes": "XX"}, InputError, "twice"),
    "axes in small letters": ({"axes": "yx"}, InputError, "capital"),
    "S that is no colour": ({"axes": "YS"}, InputError, "must be there"),
    "mask of another shape": ({"mask": np.zeros((5, 5), bool)}, InputError, r"\(24, 32\)"),
    "mask of numbers": ({"mask": np.zeros((24, 32))}, InputError, "boolean"),
    "mask of everything": ({"mask": np.ones((24, 32), bool)}, InputError, "every pixel"),
    "reference of another shape": ({"reference": np.zeros((5, 5))}, InputError, "reference"),
    "reference with NaN": ({"reference": np.full((24, 32), np.nan)}, InputError, "reference holds NaN"),
    "reference of text": ({"reference": np.full((24, 32), "a")}, InputError, "dtype"),
    "correlation above 1": (
        {"noise": {"kind": "given", "read_noise": 1, "correlation": (50, 0)}},
        SettingsError,
        "correlation.0",
    ),
    "unknown setting": ({"epoch": 3}, SettingsError, "epochs"),
    "epochs of zero": ({"epochs": 0}, SettingsError, "epochs"),
    "negative samples": ({"samples": -1}, SettingsError, "samples"),
    "unknown preset": ({"preset": "clasic"}, SettingsError, "classic"),
    "unknown step": ({"chain": "float32, sharpen"}, SettingsError, "sharpen"),
    "chain without float32": ({"chain": "normalise"}, SettingsError, "float32"),
    "unknown device": ({"device": "tpu"}, SettingsError, "device"),
    "no noise at all": ({"noise": {"kind": "given", "read_noise": 0}}, SettingsError, "no noise"),
    "missing model": ({"model": "/nowhere/model.safetensors"}, ModelFileError, "cannot be read"),
    "a folder as model": ({"model": "/"}, ModelFileError, "cannot be read"),
}


@pytest.mark.parametrize("kind", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_before_training(kind: str, tiny: Settings) -> None:
    arguments, error, message = BAD_ARGUMENTS[kind]
    steps: list[Any] = []
    with pytest.raises(error, match=message):
        restore(PICTURE, tiny, on_step=steps.append, **arguments)
    assert not [step for step in steps if step.phase == "train"]


def test_a_model_of_another_channel_count_is_refused(model: Model) -> None:
    colour = RNG.random((32, 32, 3))
    with pytest.raises(InputError, match="trained on grey"):
        restore(colour, model=model)
    with pytest.raises(InputError, match="trained on grey"):
        encode(colour, model)


def test_a_channel_without_any_value_is_named() -> None:
    image = np.stack([PICTURE, np.full_like(PICTURE, np.nan)])
    with pytest.raises(InputError, match="channel 1"):
        restore(image, axes="CYX")


def test_a_mask_and_nans_that_together_cover_everything_are_refused(tiny: Settings) -> None:
    image = PICTURE.copy()
    image[:12] = np.nan
    mask = np.zeros(image.shape, dtype=bool)
    mask[12:] = True
    with pytest.raises(InputError, match="[Ee]very pixel"):
        restore(image, tiny, mask=mask)
