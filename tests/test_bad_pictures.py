"""Bad pictures: whatever a helper is given, it returns a result or a ValueError of ours."""

import struct
import zlib
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from test_fuzz_arrays import (
    EXAMPLES,
    any_input,
    any_number,
    fuzzed,
    result_or_error,
    survives_arrays,
)
from test_pictures import StandIn

import dcgan_utils as utils
from dcgan.pictures import png_bytes, read_picture, save_png


def is_picture(value: Any) -> bool:
    """Say whether a result is a whole uint8 picture."""
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.shape[-1] == 3


@survives_arrays
@fuzzed
@given(images=any_input, columns=any_number, scale=any_number, gap=any_number)
def test_grids_of_anything(images: Any, columns: Any, scale: Any, gap: Any) -> None:
    for options in ({}, {"columns": columns, "scale": scale, "gap": gap}):
        grid = result_or_error(lambda options=options: utils.image_grid(images, **options))
        assert grid is None or is_picture(grid)


@survives_arrays
@fuzzed
@given(picture=any_input, others=st.lists(any_input, max_size=2), columns=any_number)
def test_pictures_of_anything(tmp_path: Path, picture: Any, others: list, columns: Any) -> None:
    path = tmp_path / "picture.png"
    path.unlink(missing_ok=True)
    written = result_or_error(lambda: save_png(picture, path))
    assert [file.name for file in tmp_path.iterdir()] == ([path.name] if written else [])
    if written:
        assert np.array_equal(read_picture(path), picture)
    encoded = result_or_error(lambda: png_bytes(picture))
    assert (encoded is None) == (written is None)
    joined = result_or_error(lambda: utils.join_pictures([picture, *others]))
    assert joined is None or is_picture(joined)
    for figure in (
        result_or_error(lambda: utils.draw_panels({"title": picture}, columns=columns)),
        result_or_error(lambda: utils.draw_rows(picture, ["one", "two"])),
    ):
        assert figure is None or isinstance(figure, Figure)


@survives_arrays
@fuzzed
@given(frames=st.lists(any_input, max_size=3), milliseconds=any_number)
def test_animations_of_anything(tmp_path: Path, frames: list, milliseconds: Any) -> None:
    path = tmp_path / "animation.gif"
    path.unlink(missing_ok=True)
    named = {str(number): frame for number, frame in enumerate(frames)}
    result_or_error(lambda: utils.make_gif(named, path))
    result_or_error(lambda: utils.make_gif(named, path, frame_ms=milliseconds))
    assert [file.name for file in tmp_path.iterdir()] in ([], [path.name])


@survives_arrays
@fuzzed
@given(noise=any_input, labels=any_input, batch_size=any_number, classes=st.sampled_from([0, 4]))
def test_generating_from_anything(noise: Any, labels: Any, batch_size: Any, classes: int) -> None:
    generator = StandIn(classes)
    images = result_or_error(lambda: utils.generate_images(generator, noise, labels, batch_size))
    assert images is None or len(images) == len(noise)


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG that announces a size, with hardly any pixels in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def encode(pixels: np.ndarray, extension: str, **options: Any) -> bytes:
    """Encode pixels with Pillow."""
    return iio.imwrite("<bytes>", pixels, extension=extension, plugin="pillow", **options)


NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
RGB = np.ascontiguousarray(NOISE[..., :3])
PICTURES = {
    "truncated PNG": (encode(RGB, ".png")[:-600], "truncated|buffer"),
    "truncated JPEG": (encode(RGB, ".jpeg")[:-300], "truncated|broken"),
    "empty": (b"", "no known format"),
    "text": (b"no picture at all", "no known format"),
    "animated GIF": (encode(np.stack([RGB, 255 - RGB]), ".gif"), "animation"),
    "transparent": (encode(NOISE, ".png"), "transparent"),
    "16 bits": (encode(RGB[..., 0].astype(np.uint16) * 257, ".png"), "kind I;16"),
    "CMYK": (encode(NOISE, ".jpeg", mode="CMYK"), "kind CMYK"),
    "huge": (png(60_000, 60_000), "exceeds limit"),
    "large": (png(8_000, 8_000), "too many"),
    "archive": (b"PK\x03\x04" + bytes(100), "no known format"),
}


@pytest.mark.survives(
    "picture files", "truncated, empty, animated, CMYK, 16 bits, huge, no picture …"
)
@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.filterwarnings("ignore:Image size")
def test_bad_pictures_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    content, reason = PICTURES[kind]
    path = tmp_path / "frame.png"
    path.write_bytes(content)
    message = rf"frame\.png cannot be read as a picture: .*({reason})"
    with pytest.raises(ValueError, match=message):
        read_picture(path)
    with pytest.raises(ValueError, match=message):
        utils.make_gif({"a": path}, tmp_path / "a.gif")
    assert [file.name for file in tmp_path.iterdir()] == ["frame.png"]


def test_harmless_pictures_are_read_as_they_look(tmp_path: Path) -> None:
    opaque = NOISE.copy()
    opaque[..., 3] = 255
    path = tmp_path / "frame.png"
    path.write_bytes(encode(opaque, ".png"))
    assert np.array_equal(read_picture(path), RGB)
    path.write_bytes(encode(RGB[..., 0], ".png"))
    assert np.array_equal(read_picture(path), RGB[..., :1].repeat(3, axis=2))
    path.write_bytes(encode(RGB[:1, :1].repeat(4, axis=0).repeat(4, axis=1), ".gif"))
    assert np.array_equal(read_picture(path)[0, 0], RGB[0, 0])


@pytest.mark.survives(
    "wrong bytes in a picture", "hypothesis: PNG, JPEG, GIF and BMP", times=EXAMPLES
)
@fuzzed
@given(data=st.data())
def test_pictures_with_wrong_bytes(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(encode(RGB, data.draw(st.sampled_from([".png", ".jpeg", ".gif", ".bmp"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "frame.png"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    picture = result_or_error(lambda: read_picture(path))
    assert picture is None or is_picture(picture)
