"""What a reader hands in becomes pixels, arrays and whole numbers, or one sentence."""

from typing import Any

import numpy as np
import pytest

from dcgan.pixels import as_array, check_whole, to_uint8


def test_floats_become_pixels_and_pixels_stay(pixels: np.ndarray) -> None:
    assert to_uint8(pixels) is pixels
    for dtype in (np.float16, np.float32, np.float64):
        ends = np.array([-1, 0, 1], dtype).reshape(1, 1, 3, 1)
        assert to_uint8(ends).ravel().tolist() == [0, 128, 255]
    assert np.array_equal(to_uint8(pixels / np.float32(127.5) - 1), pixels)
    grey = pixels[..., :1]
    assert to_uint8(grey).shape == grey.shape


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), "add a batch axis"),
        (np.zeros((2, 8, 8, 4), np.uint8), "1 or 3"),
        (np.zeros((0, 8, 8, 3), np.uint8), "and not empty"),
        (np.zeros((2, 8, 8, 3), int), "must be uint8 in 0..255 or float"),
        (np.full((1, 2, 2, 3), 200.0), "scale uint8 pixels"),
        (np.full((1, 2, 2, 3), np.nan), "must lie in"),
        ([[1], [1, 2]], "cannot be taken as an array"),
        (None, "array of numbers"),
    ],
)
def test_what_is_no_image_batch_is_refused(images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_uint8(images)


def test_arrays_are_of_numbers() -> None:
    assert as_array([1, 2.5], "series").tolist() == [1, 2.5]
    assert as_array(True, "flag").dtype == bool
    for values in ("text", [object()], [1j]):
        with pytest.raises(ValueError, match="series must be an array of numbers"):
            as_array(values, "series")


def test_whole_numbers_have_a_minimum() -> None:
    check_whole(size=(2, 2), side=(np.int64(3), 1))
    for value in (1, 2.0, True, None, "2"):
        with pytest.raises(ValueError, match="size must be a whole number of at least 2"):
            check_whole(side=(1, 1), size=(value, 2))
