"""Pictures: known layouts, file round trips, figures, and inputs that must be refused."""

import base64
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

import dcgan_utils as utils
from dcgan.diagram import draw_flow
from dcgan.pictures import png_bytes, read_picture, save_png


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


def test_grid_refuses_what_no_screen_can_show(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="too large"):
        utils.image_grid(pixels, gap=100_000)


def test_png_round_trip(pixels: np.ndarray, tmp_path: Path) -> None:
    path = save_png(pixels[0], tmp_path / "new" / "picture.png")
    assert np.array_equal(read_picture(path), pixels[0])
    assert np.array_equal(iio.imread(png_bytes(pixels[0])), pixels[0])
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]


def test_save_png_refuses_a_batch(pixels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("uint8 (height, width, 3)")):
        save_png(pixels, tmp_path / "picture.png")
    assert not any(tmp_path.iterdir())


def test_joined_pictures_are_centred_on_white() -> None:
    tall, wide = np.zeros((6, 2, 3), np.uint8), np.full((2, 4, 3), 9, np.uint8)
    joined = utils.join_pictures([tall, wide])
    assert joined.shape == (6, 8 + 2 + 16 + 4 + 8, 3)
    assert (joined[:, 8:10] == 0).all()
    assert (joined[2:4, 26:30] == 9).all()
    assert (joined == 255).all(axis=2).sum() == joined[..., 0].size - 12 - 8
    with pytest.raises(ValueError, match="there is no picture"):
        utils.join_pictures([])


class StandIn:
    """A generator that draws its inputs: the first noise value, or the class, as a grey."""

    def __init__(self, classes: int = 0) -> None:
        """Take labels if there are classes."""
        self.inputs = [SimpleNamespace(shape=(None, 5))]
        self.inputs += [SimpleNamespace(shape=(None, classes))] if classes else []
        self.sizes: list[int] = []

    def __call__(self, inputs: Any, training: bool) -> np.ndarray:
        """Return float images (N, 2, 2, 1)."""
        assert training is False
        noise, labels = inputs if len(self.inputs) > 1 else (inputs, None)
        self.sizes.append(len(noise))
        greys = (
            noise.reshape(len(noise), -1)[:, 0]
            if labels is None
            else labels @ np.arange(labels.shape[1]) / 10
        )
        return np.broadcast_to(greys[:, None, None, None], (len(noise), 2, 2, 1))


def test_images_are_generated_in_batches() -> None:
    noise = np.linspace(-1, 1, 7)[:, None].repeat(5, axis=1)
    generator = StandIn()
    images = utils.generate_images(generator, noise, labels="of no use here", batch_size=3)
    assert generator.sizes == [3, 3, 1]
    assert images[:, 0, 0, 0] == pytest.approx([0, 42.5, 85, 127.5, 170, 212.5, 255], abs=0.6)
    assert images.dtype == np.uint8


def test_classes_become_one_hot_vectors() -> None:
    noise = np.zeros((2, 5), np.float32)
    by_number = utils.generate_images(StandIn(4), noise, [3, 0])
    assert by_number[:, 0, 0, 0].tolist() == [166, 128]


@pytest.mark.parametrize("labels", [None, [0], [0, 4], [-1, 0], [0.5, 1], np.eye(2, 4), [[1]]])
def test_labels_that_do_not_fit_are_refused(labels: Any) -> None:
    with pytest.raises(ValueError, match="labels must be"):
        utils.generate_images(StandIn(4), np.zeros((2, 5)), labels)


@pytest.mark.parametrize("noise", [np.zeros(5), np.zeros((0, 5)), np.full((2, 5), np.nan), "noise"])
def test_noise_that_is_none_is_refused(noise: Any) -> None:
    with pytest.raises(ValueError, match="noise must be"):
        utils.generate_images(StandIn(), noise)


def test_panels_are_drawn_pixel_by_pixel(pixels: np.ndarray, tmp_path: Path) -> None:
    grid = utils.image_grid(pixels)
    file = save_png(255 - grid, tmp_path / "grid.png")
    figure = utils.draw_panels({"a": grid, "b": grid, "c": file}, columns=2)
    figure.savefig(tmp_path / "panels.png")
    drawn = read_picture(tmp_path / "panels.png")
    height, width, _ = grid.shape
    assert drawn.shape[1] == 2 * (width + 8) + 8
    assert np.array_equal(drawn[-height - 8 : -8, 8 : 8 + width], 255 - grid)
    assert (drawn[-height:, width + 16 :] == 255).all()
    assert drawn[8:30, 8 : 8 + width].min() < 100  # the title


def test_class_rows_show_every_pixel_beside_the_names(pixels: np.ndarray, tmp_path: Path) -> None:
    figure = utils.draw_rows(pixels, ["even", "odd"], tmp_path / "rows.png")
    assert [text.get_text() for text in figure.texts] == ["even", "odd"]
    drawn, grid = read_picture(tmp_path / "rows.png"), utils.image_grid(pixels, 3, scale=4)
    assert np.array_equal(drawn[:, -grid.shape[1] :], grid)
    assert drawn[:, : -grid.shape[1]].min() < 100


@pytest.mark.parametrize("kind", ["figure", "picture", "file", "photo"])
def test_an_embedded_picture_is_whole_and_says_what_it_shows(
    pixels: np.ndarray, tmp_path: Path, kind: str
) -> None:
    shown = {"figure": utils.draw_panels({"a": pixels[0]}), "picture": pixels[0]}
    shown["file"] = save_png(pixels[0], tmp_path / "it.png")
    shown["photo"] = tmp_path / "it.jpg"
    iio.imwrite(shown["photo"], pixels[0])
    data, metadata = utils.Picture(shown[kind], "six dots")._repr_mimebundle_()
    (mime,) = metadata
    assert mime in ("image/jpeg", "image/png")
    assert metadata == {mime: {"alt": "six dots"}}
    assert data.keys() == {mime, "text/plain"}
    assert data["text/plain"] == "six dots"
    extension = mime.replace("image/", ".")
    picture = iio.imread(base64.b64decode(data[mime]), extension=extension)
    if kind == "figure":
        width, height = shown[kind].canvas.get_width_height()
        assert picture.shape == (height, width, 3)
    elif kind != "photo":
        assert np.array_equal(picture, pixels[0])


def test_figures_do_not_pile_up_in_pyplot(pixels: np.ndarray) -> None:
    from matplotlib import pyplot

    utils.draw_rows(pixels, ["even", "odd"])
    draw_flow(100, (32, 32, 3))
    assert pyplot.get_fignums() == []


def test_figures_refuse_nothing_to_draw(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="there is no picture"):
        utils.draw_panels({})
    with pytest.raises(ValueError, match="columns"):
        utils.draw_panels({"a": pixels[0]}, columns=0)
    with pytest.raises(ValueError, match="a picture must be"):
        utils.draw_panels({"a": pixels})
    with pytest.raises(ValueError, match="do not fill 4 rows"):
        utils.draw_rows(pixels, list("abcd"))
