"""Other people's pictures: whatever kind a file is of, its centre is read as it looks."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_bad_pictures import PICTURES

from dcgan.pictures import has_picture_suffix, read_square

RED, WHITE, GREY = (255, 0, 0), (255, 255, 255), (128, 128, 128)
CLEAR_RED = np.array([[[255, 0, 0, 255], [0, 0, 255, 0]]], np.uint8).repeat(8, 0).repeat(4, 1)


def encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    """Encode a picture with Pillow."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def plain(mode: str, colour: object) -> Image.Image:
    """Return a picture of one colour."""
    return Image.new(mode, (12, 8), colour)


def turned() -> bytes:
    """A picture with red at the left that is to be turned by 90 degrees, red to the top."""
    picture = Image.new("RGB", (8, 8))
    picture.paste(RED, (0, 0, 4, 8))
    exif = picture.getexif()
    exif[0x0112] = 6
    return encode(picture, "PNG", exif=exif)


ONE_COLOUR = {
    "RGB": (encode(plain("RGB", RED), "PNG"), RED),
    "JPEG": (encode(plain("RGB", RED), "JPEG"), RED),
    "CMYK": (encode(plain("CMYK", (0, 255, 255, 0)), "JPEG"), RED),
    "grey": (encode(plain("L", 128), "PNG"), GREY),
    "grey in colour": (encode(plain("RGB", GREY), "JPEG"), GREY),
    "grey and transparent": (encode(plain("LA", (0, 0)), "PNG"), WHITE),
    "16 bits": (encode(plain("I;16", 128 * 257), "PNG"), GREY),
    "16 bits in a TIFF": (encode(plain("I;16", 128 * 257), "TIFF"), GREY),
    "8 of 16 bits": (encode(plain("I;16", 128), "PNG"), GREY),
    "8 of 32 bits in a TIFF": (encode(plain("I", 128), "TIFF"), GREY),
    "12 of 16 bits in a TIFF": (encode(plain("I;16", 128 * 16), "TIFF"), GREY),
    "palette": (encode(plain("RGB", RED).quantize(2), "GIF"), RED),
    "black and white": (encode(plain("1", 1), "PNG"), WHITE),
    "WebP": (encode(plain("RGB", RED), "WEBP", lossless=True), RED),
    "half transparent": (encode(plain("RGBA", (255, 0, 0, 128)), "PNG"), (255, 127, 127)),
    "animated": (
        encode(plain("RGB", RED), "GIF", save_all=True, append_images=[plain("RGB", WHITE)]),
        RED,
    ),
}


@pytest.mark.parametrize("kind", ONE_COLOUR)
def test_each_kind_is_read_as_it_looks(tmp_path: Path, kind: str) -> None:
    content, colour = ONE_COLOUR[kind]
    path = tmp_path / "picture"  # the name does not matter
    path.write_bytes(content)
    pixels = read_square(path, 4)
    assert pixels.shape == (4, 4, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - colour).max() <= 2


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(CLEAR_RED), "PNG"))
    pixels = read_square(path, 8)
    assert pixels[:, 0].tolist() == [[*RED]] * 8
    assert pixels[:, 7].tolist() == [[*WHITE]] * 8


def test_the_centre_is_cut_out_and_turned(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(turned())
    pixels = read_square(path, 8)
    assert pixels[0].tolist() == [[*RED]] * 8
    assert not pixels[7].any()
    wide = Image.new("RGB", (30, 10))
    wide.paste(RED, (10, 0, 20, 10))
    wide.save(path)
    assert read_square(path, 10).tolist() == [[[*RED]] * 10] * 10


def test_large_pictures_are_averaged_and_not_sampled(tmp_path: Path) -> None:
    checks = np.indices((256, 256)).sum(axis=0) % 2 * 255
    path = tmp_path / "a.png"
    Image.fromarray(checks.astype(np.uint8)).save(path)
    assert np.abs(read_square(path, 32).astype(int) - 128).max() <= 1


@pytest.mark.parametrize("kind", ["truncated PNG", "truncated JPEG", "empty", "text", "huge"])
@pytest.mark.filterwarnings("ignore:Image size")
def test_what_cannot_be_read_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PICTURES[kind][0])
    with pytest.raises(ValueError, match=r"no picture of a known|truncated|broken|exceeds limit"):
        read_square(path, 8)


def test_numbers_that_are_no_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    for pixels in (np.full((8, 8), 0.5, np.float32), np.full((8, 8), 70_000, np.int32)):
        Image.fromarray(pixels).save(path)
        with pytest.raises(ValueError, match="save it with 8 bits a colour"):
            read_square(path, 8)


def test_no_file_starts_another_program(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(ValueError, match="no picture of a known format"):
        read_square(path, 8)


def test_pictures_are_known_by_their_suffix() -> None:
    names = "a.png", "a.JPG", "a.jpeg", "a.webp", "a.txt", "a", "a.eps", "a.csv"
    assert [has_picture_suffix(Path(name)) for name in names] == [True] * 4 + [False] * 4
