"""Pictures and GIF: known layouts, file round trips, and inputs that must be refused."""

import re
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import dcgan_utils as utils


def test_to_uint8_maps_the_ends_and_the_middle() -> None:
    images = np.array([-1.0, 0.0, 1.0], np.float32).reshape(1, 1, 3, 1)
    assert utils.to_uint8(images).ravel().tolist() == [0, 128, 255]


def test_to_uint8_undoes_the_scaling_of_the_pipeline() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert np.array_equal(utils.to_uint8(pixels.astype(np.float32) / 127.5 - 1), pixels)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((32, 32, 3), np.uint8), "add a batch axis"),
        (np.zeros((2, 32, 32, 2), np.uint8), "1 or 3"),
        (np.zeros((0, 32, 32, 3), np.uint8), "must not be empty"),
        (np.zeros((2, 32, 32, 3), np.int64), "got int64"),
        (np.full((2, 32, 32, 3), 255.0), r"lie in \[-1, 1\]"),
        (np.full((2, 32, 32, 3), np.nan), "got nan"),
        (np.full((2, 32, 32, 3), -np.inf), "got -inf"),
        (np.array([["a"]]), "array of numbers"),
        ([[1], [2, 3]], "cannot be taken as an array"),
    ],
)
def test_wrong_images_are_refused_by_name(images: np.ndarray, message: str) -> None:
    for helper in (utils.to_uint8, utils.image_grid, utils.smallest_pair_distance):
        with pytest.raises(ValueError, match=message):
            helper(images)


@pytest.mark.parametrize("shape", [(5, 28, 28, 1), (5, 32, 32, 3), (5, 64, 64, 3)])
def test_grid_has_the_documented_shape(shape: tuple[int, ...]) -> None:
    _, height, width, _ = shape
    grid = utils.image_grid(np.zeros(shape, np.uint8), columns=3, scale=2, gap=1)
    assert grid.shape == (2 * (2 * height + 1) + 1, 3 * (2 * width + 1) + 1, 3)


def test_grid_puts_images_row_by_row_on_white(pixels: np.ndarray) -> None:
    grid = utils.image_grid(pixels[:5], columns=3, scale=1, gap=2)
    assert np.array_equal(grid[2:34, 36:68], pixels[1])
    assert np.array_equal(grid[36:68, 2:34], pixels[3])
    assert (grid[36:, 70:] == 255).all()
    assert (grid[:2] == 255).all()


def test_grid_enlarges_by_whole_pixels(pixels: np.ndarray) -> None:
    grid = utils.image_grid(pixels[:1], columns=1, scale=3, gap=0)
    assert np.array_equal(grid[::3, ::3], pixels[0])
    assert np.array_equal(grid[2::3, 1::3], pixels[0])


@pytest.mark.parametrize("layout", [{"columns": 0}, {"scale": 1.5}, {"gap": -1}])
def test_grid_refuses_impossible_layouts(pixels: np.ndarray, layout: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(layout))):
        utils.image_grid(pixels, **layout)


def test_png_round_trip(pixels: np.ndarray, tmp_path: Path) -> None:
    path = utils.save_png(pixels[0], tmp_path / "new" / "picture.png")
    assert np.array_equal(utils.read_picture(path), pixels[0])
    assert np.array_equal(iio.imread(utils.png_bytes(pixels[0])), pixels[0])
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]


def test_save_png_refuses_a_batch(pixels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("uint8 (height, width, 3)")):
        utils.save_png(pixels, tmp_path / "picture.png")
    assert not any(tmp_path.iterdir())


def test_generate_and_save_images_names_the_file_by_epoch(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    folders = utils.RunFolders(tmp_path, "baseline")
    images = pixels[:4].astype(np.float32) / 127.5 - 1

    fixed_noise = np.ones((4, 5), np.float32)

    def generator(noise: np.ndarray, training: bool) -> np.ndarray:
        assert np.array_equal(noise, fixed_noise)
        assert training is False
        return images

    path = utils.generate_and_save_images(generator, 7, folders, fixed_noise)
    assert path == tmp_path / "generated_samples" / "baseline" / "epoch_0007.png"
    assert np.array_equal(utils.read_picture(path), utils.image_grid(pixels[:4]))


def test_gif_keeps_order_durations_and_loop(tmp_path: Path) -> None:
    shades = (0, 100, 250)
    frames = {
        f"epoch {shade}": utils.save_png(
            np.full((40, 60, 3), shade, np.uint8), tmp_path / f"{shade}.png"
        )
        for shade in shades
    }
    gif = utils.make_gif(frames, tmp_path / "run.gif", frame_ms=120, hold_ms=900)
    assert iio.imread(gif)[:, -10:].mean(axis=(1, 2, 3)) == pytest.approx(shades, abs=4)
    with iio.imopen(gif, "r") as file:
        durations = [file.metadata(index=index)["duration"] for index in range(3)]
        assert file.metadata(index=0)["loop"] == 0
    assert durations == [120, 120, 900]


def test_gif_of_a_single_epoch(pixels: np.ndarray, tmp_path: Path) -> None:
    frame = utils.save_png(utils.image_grid(pixels), tmp_path / "frame.png")
    gif = utils.make_gif({"epoch 1": frame}, tmp_path / "run.gif")
    assert len(iio.imread(gif, index=...)) == 1


def test_gif_refuses_bad_frames(pixels: np.ndarray, tmp_path: Path) -> None:
    small = utils.save_png(pixels[0], tmp_path / "small.png")
    large = utils.save_png(utils.image_grid(pixels), tmp_path / "large.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(small.read_bytes()[:60])
    gif = tmp_path / "run.gif"
    for frames, message in (
        ({}, "frames is empty"),
        ({"a": small, "b": large}, "differ in size"),
        ({"a": small, "b": tmp_path / "missing.png"}, r"missing\.png cannot be read"),
        ({"a": broken}, r"broken\.png cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            utils.make_gif(frames, gif)
    with pytest.raises(ValueError, match="frame_ms"):
        utils.make_gif({"a": small}, gif, frame_ms=5)
    assert not gif.exists()


def test_figures_are_written_and_closed(pixels: np.ndarray, tmp_path: Path) -> None:
    from matplotlib import pyplot

    grid = utils.image_grid(pixels)
    utils.draw_panels(dict.fromkeys("abcde", grid), columns=2, path=tmp_path / "panels.png")
    utils.draw_class_rows(pixels, ["even", "odd"], tmp_path / "rows.png")
    assert utils.read_picture(tmp_path / "panels.png").std() > 10
    assert utils.read_picture(tmp_path / "rows.png").std() > 10
    assert pyplot.get_fignums() == []


def test_figures_refuse_nothing_to_draw(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="panels is empty"):
        utils.draw_panels({})
    with pytest.raises(ValueError, match="columns"):
        utils.draw_panels({"a": pixels[0]}, columns=0)
    with pytest.raises(ValueError, match="panel 'a'"):
        utils.draw_panels({"a": pixels})
    with pytest.raises(ValueError, match="do not fill 4 rows"):
        utils.draw_class_rows(pixels, list("abcd"))


def test_smallest_pair_distance() -> None:
    images = np.zeros((3, 4, 4, 1), np.uint8)
    images[1] += 10
    images[2] += 13
    assert utils.smallest_pair_distance(images) == pytest.approx(3)
    assert utils.smallest_pair_distance(images[[0, 0, 1]]) == 0
    with pytest.raises(ValueError, match="at least two"):
        utils.smallest_pair_distance(images[:1])


def test_joined_pictures_are_centred_on_white() -> None:
    tall, wide = np.zeros((6, 2, 3), np.uint8), np.full((2, 4, 3), 9, np.uint8)
    joined = utils.join_pictures([tall, wide], gap=3)
    assert joined.shape == (6, 9, 3)
    assert (joined[:, :2] == 0).all()
    assert (joined[2:4, 5:] == 9).all()
    assert joined.sum() == 255 * 3 * (6 * 9 - 12 - 8) + 9 * 3 * 8


@pytest.mark.parametrize(("pictures", "gap"), [([], 3), ([np.zeros((2, 2, 3), np.uint8)], -1)])
def test_impossible_joins_are_refused(pictures: list, gap: int) -> None:
    with pytest.raises(ValueError, match=r"no picture to join|gap must be"):
        utils.join_pictures(pictures, gap)


def test_noise_is_interpolated_along_an_arc() -> None:
    points = utils.interpolate_noise([2.0, 0.0], [0.0, 2.0], 3)
    assert points == pytest.approx(np.array([[2, 0], [2**0.5, 2**0.5], [0, 2]]), abs=1e-6)
    assert points.dtype == np.float32
    first, second = np.random.default_rng(0).standard_normal((2, 100))
    walk = utils.interpolate_noise(first, second, 5)
    assert np.allclose(walk[[0, -1]], [first, second], atol=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "steps"),
    [([1, 0], [0, 1], 1), ([1, 0], [0, 1, 0], 5), ([1, 0], [2, 0], 5), ([0, 0], [1, 0], 5)],
)
def test_impossible_walks_are_refused(first: list, second: list, steps: int) -> None:
    with pytest.raises(ValueError, match=r"need two vectors|no single arc|steps must be"):
        utils.interpolate_noise(np.array(first), np.array(second), steps)


def test_gif_takes_pictures_as_arrays(tmp_path: Path) -> None:
    frames = {f"{k}": np.full((16, 24, 3), 60 * k, np.uint8) for k in range(3)}
    path = utils.make_gif(frames, tmp_path / "a.gif")
    assert len(iio.imread(path)) == 3
    with pytest.raises(ValueError, match="frame 'x' must be uint8"):
        utils.make_gif({"x": np.zeros((4, 4))}, tmp_path / "b.gif")
    assert not (tmp_path / "b.gif").exists()
