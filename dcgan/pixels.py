"""Checks where data comes in: it becomes pixels, arrays and whole numbers."""

from typing import Any

import numpy as np


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Turn images (N, height, width, 1 or 3), float in [-1, 1], into uint8 pixels.

    Images that are uint8 are returned as they are. Raises ValueError for another shape, type or
    range, for NaN, and for no image at all.
    """
    images = as_array(images, "images")
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(
            f"images must be (N, height, width, 1 or 3) and not empty, got {images.shape}; "
            "add a batch axis to a single image with image[None]"
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise ValueError(f"images must be uint8 in 0..255 or float in [-1, 1], got {images.dtype}")
    low, high = float(images.min()), float(images.max())
    if not -1.001 <= low <= high <= 1.001:  # false for NaN as well
        raise ValueError(
            f"float images must lie in [-1, 1], got {low:g} to {high:g}; "
            "scale uint8 pixels with pixels / 127.5 - 1"
        )
    return np.clip(np.rint((images.astype(np.float32) + 1.0) * 127.5), 0, 255).astype(np.uint8)


def as_array(values: Any, name: str) -> np.ndarray:
    """Return an array of booleans, integers or real numbers, or raise ValueError."""
    try:
        array = np.asarray(values)
    except Exception as error:  # ragged lists, foreign tensors
        raise ValueError(f"{name} cannot be taken as an array: {error}") from error
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} must be an array of numbers, got {array.dtype}")
    return array


def check_whole(**numbers: tuple[Any, int]) -> None:
    """Raise ValueError unless each number, given with its minimum, is whole and not below it."""
    for name, (value, minimum) in numbers.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < minimum:
            raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
