"""GIF: order, durations, captions, and frames that must be refused."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import dcgan_utils as utils
from dcgan.pictures import save_png


def test_gif_keeps_order_durations_and_loop(tmp_path: Path) -> None:
    shades = (0, 100, 250)
    frames = {
        f"epoch {shade}": save_png(np.full((40, 60, 3), shade, np.uint8), tmp_path / f"{shade}.png")
        for shade in shades
    }
    gif = utils.make_gif(frames, tmp_path / "run.gif", frame_ms=120, hold_ms=900)
    assert iio.imread(gif)[:, -10:].mean(axis=(1, 2, 3)) == pytest.approx(shades, abs=4)
    with iio.imopen(gif, "r") as file:
        durations = [file.metadata(index=index)["duration"] for index in range(3)]
        assert file.metadata(index=0)["loop"] == 0
    assert durations == [120, 120, 900]


def test_gif_of_a_single_epoch(pixels: np.ndarray, tmp_path: Path) -> None:
    frame = save_png(utils.image_grid(pixels), tmp_path / "frame.png")
    gif = utils.make_gif({"epoch 1": frame}, tmp_path / "run.gif")
    assert len(iio.imread(gif, index=...)) == 1


@pytest.mark.parametrize("width", [3, 266, 941])
def test_captions_stand_above_the_picture(tmp_path: Path, width: int) -> None:
    frames = {f"epoch ${k}$": np.full((50, width, 3), 128 + 50 * k, np.uint8) for k in range(2)}
    first, _ = iio.imread(utils.make_gif(frames, tmp_path / "run.gif"))
    band = len(first) - 50
    assert band >= 22
    assert first[band:].mean() == pytest.approx(128, abs=4)
    assert width < 10 or first[:band].min() < 100


def test_gif_takes_pictures_as_arrays(tmp_path: Path) -> None:
    frames = {f"{k}": np.full((16, 24, 3), 60 * k, np.uint8) for k in range(3)}
    path = utils.make_gif(frames, tmp_path / "a.gif")
    assert len(iio.imread(path)) == 3
    with pytest.raises(ValueError, match="a picture must be uint8"):
        utils.make_gif({"x": np.zeros((4, 4))}, tmp_path / "b.gif")
    assert not (tmp_path / "b.gif").exists()


def test_gif_refuses_bad_frames(pixels: np.ndarray, tmp_path: Path) -> None:
    small = save_png(pixels[0], tmp_path / "small.png")
    large = save_png(utils.image_grid(pixels), tmp_path / "large.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(small.read_bytes()[:60])
    gif = tmp_path / "run.gif"
    for frames, message in (
        ({}, "train at least one epoch first"),
        ({"a": small, "b": large}, "differ in size"),
        ({"a": small, "b": tmp_path / "missing.png"}, r"missing\.png cannot be read"),
        ({"a": broken}, r"broken\.png cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            utils.make_gif(frames, gif)
    for durations in ({"frame_ms": 5}, {"frame_ms": 99.5}, {"hold_ms": 100}, {"hold_ms": 700_000}):
        with pytest.raises(ValueError, match=next(iter(durations))):
            utils.make_gif({"a": small}, gif, **durations)
    assert not gif.exists()
