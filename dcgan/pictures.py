"""Picture files: PNG is written, and what eight bits a colour can show is read."""

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from imageio.core.request import InitializationError

from dcgan.files import atomic_path

MAX_PICTURE_PIXELS = 50_000_000


def check_pictures(*pictures: Any) -> None:
    """Raise ValueError unless there are pictures, each of at least one pixel."""
    if not pictures:
        raise ValueError("there is no picture: train at least one epoch first")
    for pixels in pictures:
        shape, kind = getattr(pixels, "shape", ()), getattr(pixels, "dtype", type(pixels))
        if kind != np.uint8 or len(shape) != 3 or shape[-1] != 3 or 0 in shape:
            raise ValueError(f"a picture must be uint8 (height, width, 3), got {kind} {shape}")


def png_bytes(pixels: np.ndarray) -> bytes:
    """Encode a picture as PNG, e.g. for `IPython.display.Image`."""
    check_pictures(pixels)
    return iio.imwrite("<bytes>", pixels, extension=".png")


def save_png(pixels: np.ndarray, path: str | Path) -> Path:
    """Write a picture as PNG, whole or not at all, and return its path."""
    content = png_bytes(pixels)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def read_picture(path: str | Path) -> np.ndarray:
    """Read a picture file; ValueError if eight bits a colour would not show all that is in it."""
    try:
        with iio.imopen(path, "r", plugin="pillow") as file:
            height, width = file.properties(index=0).shape[:2]  # known before pixels are decoded
            if height * width > MAX_PICTURE_PIXELS:
                raise ValueError(f"{height} x {width} pixels are too many")
            if file.properties(index=...).n_images != 1:
                raise ValueError("it is an animation")
            about = file.metadata()
            if about["mode"] not in ("1", "L", "P", "RGB", "RGBA"):
                raise ValueError(f"it is of the kind {about['mode']}; save it as RGB with 8 bits")
            transparent = about["mode"] == "RGBA" or "transparency" in about
            if transparent and file.read(index=0, mode="RGBA")[..., 3].min() < 255:
                raise ValueError("it is transparent in places; put it on a background")
            return file.read(index=0, mode="RGB")
    except Exception as error:  # decoders raise errors of many kinds
        cause = error.__cause__ or error
        if isinstance(cause, InitializationError):
            cause = "it is empty or of no known format"
        raise ValueError(f"{path} cannot be read as a picture: {cause}") from error
