import numpy as np
import pytest

from napari_vae_repair.errors import InputError
from napari_vae_repair.image.record import Image


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u8", "f2", "f4", "f8", ">u2", ">f8"])
def test_every_real_dtype_is_taken_as_it_is(dtype: str) -> None:
    pixels = np.ones((8, 9), dtype=dtype)
    image = Image(pixels, "YX")
    assert image.pixels is pixels
    assert not image.damaged.any()
    assert image.damaged.shape == (8, 9)


def test_damage_is_the_mask_and_all_that_is_not_finite() -> None:
    pixels = np.ones((2, 8, 8))
    pixels[0, 1, 1], pixels[0, 2, 2], pixels[1, 3, 3] = np.nan, np.inf, -np.inf
    mask = np.zeros((2, 8, 8), dtype=bool)
    mask[1, 4, 4] = True
    damaged = Image(pixels, "ZYX", mask).damaged
    assert sorted(zip(*np.nonzero(damaged), strict=True)) == [(0, 1, 1), (0, 2, 2), (1, 3, 3), (1, 4, 4)]
    assert mask.sum() == 1  # not written to


def test_colour_pixel_is_damaged_when_one_sample_is() -> None:
    pixels = np.ones((8, 8, 3), dtype=np.float32)
    pixels[2, 3, 1] = np.nan
    image = Image(pixels, "YXS", np.zeros((8, 8), dtype=bool))
    assert image.is_colour
    np.testing.assert_array_equal(np.argwhere(image.damaged), [[2, 3]])
    assert Image(np.ones((8, 8, 4), dtype=np.uint8), "YXS").damaged.shape == (8, 8)


def test_read_only_pixels_and_masks_are_left_alone() -> None:
    pixels, mask = np.full((8, 8), 1.0), np.zeros((8, 8), dtype=bool)
    pixels[0, 0] = np.nan
    for array in (pixels, mask):
        array.flags.writeable = False
    assert Image(pixels, "YX", mask).damaged.sum() == 1


ONES = np.ones((8, 8))
BAD_PIXELS = {
    "complex": (ONES.astype(complex), "dtype complex128"),
    "object": (ONES.astype(object), "dtype object"),
    "text": (ONES.astype(str), "dtype <U"),
    "time": (ONES.astype("M8[s]"), "dtype datetime64"),
    "empty": (np.ones((0, 8)), "is empty"),
    "all NaN": (ONES * np.nan, "no finite value"),
    "all infinite": (ONES * np.inf, "no finite value"),
    "beyond float32": (ONES * 1e300, "values up to 1e\\+300"),
    "1 x 1": (np.ones((1, 1)), "measures 1 x 1"),
    "7 x 7": (np.ones((7, 7)), "measures 7 x 7"),
    "7 x 100": (np.ones((7, 100)), "measures 7 x 100"),
}


@pytest.mark.parametrize(("pixels", "match"), BAD_PIXELS.values(), ids=BAD_PIXELS)
def test_pixels_that_cannot_be_restored_are_refused(pixels: np.ndarray, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        Image(pixels, "YX")
    assert all((caught.value.received, caught.value.allowed, caught.value.remedy))


@pytest.mark.parametrize(
    ("mask", "match"),
    [
        (np.zeros((8, 8), dtype=np.uint8), "mask has dtype uint8"),
        (np.zeros((8, 9), dtype=bool), r"mask has shape \(8, 9\)"),
        (np.zeros((1, 8, 8), dtype=bool), r"mask has shape \(1, 8, 8\)"),
        (np.ones((8, 8), dtype=bool), "every pixel as damaged"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: np.ndarray, match: str) -> None:
    with pytest.raises(InputError, match=match):
        Image(ONES, "YX", mask)


def test_mask_with_colour_samples_is_refused() -> None:
    with pytest.raises(InputError, match=r"must have shape \(8, 8\)"):
        Image(np.ones((8, 8, 3)), "YXS", np.zeros((8, 8, 3), dtype=bool))


def test_measured_pixels_must_remain_beside_mask_and_nan() -> None:
    pixels = np.ones((8, 8))
    pixels[:, :4] = np.nan
    mask = np.zeros((8, 8), dtype=bool)
    mask[:, 4:] = True
    image = Image(pixels, "YX", mask)
    assert image.damaged.all()  # each of the two leaves something; preprocessing refuses their union


def test_axes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="The axes 'ZYX' were given"):
        Image(ONES, "ZYX")
