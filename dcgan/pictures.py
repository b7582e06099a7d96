"""Picture files: PNG is written, own results are read exactly, and other people's as they look."""

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from imageio.core.request import InitializationError
from PIL import Image, ImageOps, UnidentifiedImageError

from dcgan.files import atomic_path

MAX_PICTURE_PIXELS = 50_000_000

# Kinds of files that are decoded without another program, as PostScript is not.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")


def check_pictures(*pictures: Any) -> None:
    """Raise ValueError unless there are pictures, each of at least one pixel."""
    if not pictures:
        raise ValueError("there is no picture: train at least one epoch first")
    for pixels in pictures:
        shape, kind = getattr(pixels, "shape", ()), getattr(pixels, "dtype", type(pixels))
        if kind != np.uint8 or len(shape) != 3 or shape[-1] != 3 or 0 in shape:
            raise ValueError(f"a picture must be uint8 (height, width, 3), got {kind} {shape}")


def png_bytes(pixels: np.ndarray) -> bytes:
    """Encode a picture as PNG."""
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


def has_picture_suffix(path: Path) -> bool:
    """Say whether a file is a picture by its name."""
    Image.init()
    return Image.registered_extensions().get(path.suffix.lower()) in FORMATS


def read_square(path: str | Path, side: int) -> np.ndarray:
    """Read the centre of any picture file, scaled to uint8 (side, side, 3) by a Lanczos filter.

    The picture is turned as its EXIF data say; what is transparent becomes white, CMYK and grey
    become RGB, and of an animation the first picture counts. Grey of more than 8 bits becomes 8 by
    the scale, of 255, 4095 and 65535 the smallest, that holds the brightest pixel: files do not
    tell how many bits are in use, so one with 16 that is all but black becomes brighter. Raises
    ValueError, which says why, for a file that is damaged, too large or no picture.
    """
    Image.init()
    try:
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            image.draft("RGB", (2 * side, 2 * side))  # decodes no more of a JPEG than is needed
            if image.width * image.height > MAX_PICTURE_PIXELS:
                raise ValueError(f"{image.height} x {image.width} pixels are too many")
            return np.asarray(
                ImageOps.fit(_as_rgb(ImageOps.exif_transpose(image)), (side, side), Image.LANCZOS)
            )
    except UnidentifiedImageError as error:
        raise ValueError("no picture of a known format") from error
    except Exception as error:  # decoders raise errors of many kinds
        raise ValueError(str(error) or type(error).__name__) from error


def _as_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB, or raise ValueError."""
    if image.mode.startswith("I"):  # 16 or 32 bits a pixel
        pixels = np.asarray(image)
        fitting = [bits for bits in (8, 12, 16) if 0 <= pixels.min() <= pixels.max() < 2**bits]
        if not fitting:
            raise ValueError("more than 16 bits a pixel; save it with 8 bits a colour")
        image = Image.fromarray((pixels >> (fitting[0] - 8)).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are real numbers; save it with 8 bits a colour")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
