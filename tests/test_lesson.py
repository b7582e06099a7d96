"""The notebook's own definitions: shapes, losses at known logits, and one training step."""

import ast
import math
import re
import sys
from collections.abc import Callable
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from notebook import NOTEBOOK, code_cells
from small_runs import Session, definitions

from dcgan.settings import RULES

Lesson = Callable[..., SimpleNamespace]
SHAPES = [(28, 28, 1), (32, 32, 3), (64, 64, 3)]
CHANGED = pytest.mark.survives(
    "a changed parameter", "widths, rates and others, without running the definitions again"
)
IMAGES = tf.random.stateless_uniform((8, 8, 8, 3), (0, 0), -1, 1)
LABELS = tf.range(8)


@pytest.fixture
def names() -> SimpleNamespace:
    """The notebook's definitions."""
    return definitions()


def weights(model: keras.Model) -> list[np.ndarray]:
    """Copy the trainable weights."""
    return [variable.numpy() for variable in model.trainable_variables]


def differ(before: list[np.ndarray], model: keras.Model) -> bool:
    """Say whether any weight has changed."""
    return any((a != b).any() for a, b in zip(before, weights(model), strict=True))


@pytest.mark.parametrize("image_shape", SHAPES)
def test_networks_fit_each_image_shape(
    names: SimpleNamespace, image_shape: tuple[int, int, int]
) -> None:
    generator = names.build_generator(100, image_shape, 8)
    discriminator = names.build_discriminator(image_shape, 8, 0.3)
    images = generator(tf.random.normal((3, 100))).numpy()
    assert images.shape == (3, *image_shape)
    assert np.abs(images).max() <= 1
    assert discriminator(images).shape == (3, 1)


def test_networks_follow_the_dcgan_rules(names: SimpleNamespace) -> None:
    generator = names.build_generator(100, (32, 32, 3), 64)
    discriminator = names.build_discriminator((32, 32, 3), 48, 0.3)
    kinds = [type(layer).__name__ for layer in generator.layers + discriminator.layers]
    assert not [kind for kind in kinds if "Pool" in kind]
    assert kinds.count("Conv2DTranspose") == kinds.count("Conv2D") == 3
    assert generator.layers[-1].activation is keras.activations.tanh
    for layer in generator.layers + discriminator.layers:
        if "Conv" in type(layer).__name__:
            assert layer.strides == (2, 2)
            assert all(size % 2 == 0 for size in layer.kernel_size)


@pytest.mark.parametrize("image_shape", [(31, 31, 3), (4, 4, 3), (30, 15, 1)])
def test_impossible_sides_are_refused(
    names: SimpleNamespace, image_shape: tuple[int, int, int]
) -> None:
    for build in (
        lambda: names.build_generator(10, image_shape, 8),
        lambda: names.build_discriminator(image_shape, 8, 0.3),
    ):
        with pytest.raises(ValueError, match="even and above 4"):
            build()


def test_halved_sides(names: SimpleNamespace) -> None:
    assert names.halve_sides((32, 32, 3), 64) == (4, 4, [64, 128, 256])
    assert names.halve_sides((28, 28, 1), 64) == (7, 7, [64, 128])
    assert names.halve_sides((64, 64, 3), 32) == (4, 4, [32, 64, 128, 256])
    assert names.halve_sides((128, 128, 3), 64) == (4, 4, [64, 128, 256, 512, 512])
    assert names.halve_sides((96, 96, 3), 8) == (3, 3, [8, 16, 32, 64, 64])


def test_losses_at_known_logits(names: SimpleNamespace) -> None:
    zero, two = tf.zeros((4, 1)), tf.fill((4, 1), 2.0)
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    assert float(names.discriminator_loss(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(names.generator_loss(zero)) == pytest.approx(math.log(2))
    assert float(names.discriminator_loss(two, -two)) == pytest.approx(2 * softplus(-2), rel=1e-5)
    assert float(names.generator_loss(two)) == pytest.approx(softplus(-2), rel=1e-5)
    assert float(names.generator_loss(-two)) == pytest.approx(softplus(2), rel=1e-5)


def test_accuracy_is_the_sign_of_the_logit(names: SimpleNamespace) -> None:
    shares = names.accuracies(
        tf.constant([0.1, 3.0, -2.0, 0.4]), tf.constant([0.1, -0.1, 0.3, 0.4])
    )
    assert shares == {"real_acc": 0.75, "fake_acc": 0.25}


def test_dataset_shows_each_image_once_in_a_seeded_order(names: SimpleNamespace) -> None:
    labels = np.arange(32, dtype=np.uint8)
    pixels = labels.reshape(32, 1, 1, 1)

    def order(epoch: int) -> list[float]:
        batches = [batch.numpy() for batch, _ in names.make_dataset(pixels, labels, epoch)]
        assert [batch.shape for batch in batches] == [(8, 1, 1, 1)] * 4
        return np.concatenate(batches).ravel().tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert np.allclose(sorted(order(3)), np.arange(32) / 127.5 - 1)
    assert len(names.make_dataset(pixels[:20], labels[:20], 1)) == 2
    for images, its_labels in names.make_dataset(pixels, labels, 1):
        assert np.allclose(images[:, 0, 0, 0], its_labels.numpy() / 127.5 - 1)


def test_dataset_maps_pixels_to_the_range_of_tanh(names: SimpleNamespace) -> None:
    pixels = np.array([0, 255] * 4, np.uint8).reshape(8, 1, 1, 1)
    images, _ = next(iter(names.make_dataset(pixels, np.zeros(8, np.uint8), 1)))
    batch = images.numpy()
    assert batch.dtype == np.float32
    assert (batch.min(), batch.max()) == (-1, 1)


def test_learning_rate_halves_every_half_life(names: SimpleNamespace) -> None:
    optimizer = names.Adam(names.halving_rate(0.4, 5))  # three steps an epoch
    optimizer.build([keras.Variable([1.0])])
    assert float(optimizer.learning_rate) == pytest.approx(0.4)
    optimizer.iterations.assign(15)
    assert float(optimizer.learning_rate) == pytest.approx(0.2)


def test_one_step_changes_both_networks_and_reports_scalars(tmp_path, names) -> None:
    session = Session(tmp_path)
    gan = session.gan
    before_g, before_d = weights(gan.generator), weights(gan.discriminator)
    metrics = session.real_step(IMAGES, LABELS)
    assert set(metrics) == {"g_loss", "d_loss", "real_acc", "fake_acc"}
    assert all(np.isfinite(value) and value.shape == () for value in metrics.values())
    assert differ(before_g, gan.generator)
    assert differ(before_d, gan.discriminator)
    assert int(gan.step) == int(gan.checkpoint.d_optimizer.iterations) == 1


def test_a_new_step_does_not_train_the_old_networks(tmp_path) -> None:
    old = Session(tmp_path)
    old.real_step(IMAGES, LABELS)
    before_g, before_d = weights(old.gan.generator), weights(old.gan.discriminator)
    Session(tmp_path).real_step(IMAGES, LABELS)
    assert not differ(before_g, old.gan.generator)
    assert not differ(before_d, old.gan.discriminator)


@pytest.mark.parametrize("count", [10, 300, 1000])
def test_each_class_is_asked_for_equally_often(names: SimpleNamespace, count: int) -> None:
    noise, labels = names.draw_inputs(count, 0)
    assert noise.shape == (count, 100)
    assert noise.dtype == np.float32
    assert np.bincount(labels).tolist() == [count // 10] * 10
    assert np.array_equal(noise, names.draw_inputs(count, 0)[0])


def test_the_picture_of_an_epoch_is_drawn_from_the_same_noise(tmp_path, names) -> None:
    gan = Session(tmp_path).gan
    picture = names.sample_grid(gan)
    assert picture.shape == (4 * 18 + 2, 4 * 18 + 2, 3)
    assert np.array_equal(picture, names.sample_grid(gan))


def test_distance_of_a_generator(lesson: Lesson) -> None:
    names = lesson(FAST=True)
    distances = [names.measure_distance(names.make_baseline()) for _ in range(2)]
    assert distances[0] == distances[1] > 1


def test_settings_of_a_run_are_the_notebooks_parameters(lesson: Lesson, tmp_path) -> None:
    names = lesson("variant:baseline", "variant:improved", SEED=5, FAST=True)
    for run in (names.baseline_run, names.improved_run):
        assert run.settings["SEED"] == 5
        assert run.settings["TRAIN_IMAGES"] == 256
        assert run.output_dir == tmp_path


@pytest.mark.parametrize(("shipped", "colab"), [(True, False), (True, True), (False, False)])
def test_a_gif_is_displayed_unless_the_text_shows_it(shipped: bool, colab: bool) -> None:
    (cell,) = (source for source, _ in code_cells(NOTEBOOK) if "def show_file" in source)
    displayed: list[str] = []
    system = SimpleNamespace(modules={"google.colab"} if colab else {})
    utils = SimpleNamespace(Picture=lambda path, alt: f"{path}: {alt}")
    namespace = {"sys": system, "shipped_run": shipped, "utils": utils}
    namespace["display"] = displayed.append
    exec(cell[: cell.index("\n\n\nframes = ")], namespace)
    namespace["show_file"]("a.gif", "six dots")
    assert displayed == ([] if shipped and not colab else ["a.gif: six dots"])


@pytest.mark.parametrize("name", ["DATA", "OUTPUT_DIR", "BACKUP_DIR"])
def test_drive_is_mounted_for_every_folder_on_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = (source for source, _ in code_cells(NOTEBOOK) if "drive.mount" in source)
    mounted: list[str] = []
    colab = SimpleNamespace(drive=SimpleNamespace(mount=mounted.append))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    places = {"DATA": "cifar10", "OUTPUT_DIR": "", "BACKUP_DIR": ""}
    exec(cell[: cell.index("if FAST:")], places | {name: "/content/drive/MyDrive/x"})
    assert mounted == ["/content/drive"]
    exec(cell[: cell.index("if FAST:")], places)
    assert mounted == ["/content/drive"]


@CHANGED
def test_changed_parameters_hold_at_once(lesson: Lesson) -> None:
    names = lesson()
    parameters = names.make_baseline.__globals__  # what a reader's cell changes
    parameters |= {"GENERATOR_WIDTH": 6, "DISCRIMINATOR_WIDTH": 5, "LATENT_DIM": 7, "BETA_1": 0.1}
    parameters |= {"G_LEARNING_RATE": 0.5, "DROPOUT": 0.9}
    gan = names.make_baseline()
    assert gan.generator.weights[0].shape == (7, 4 * 4 * 4 * 6)
    assert gan.discriminator.weights[0].shape[-1] == 5
    assert gan.checkpoint.g_optimizer.beta_1 == 0.1
    assert float(gan.checkpoint.g_optimizer.learning_rate) == 0.5
    rates = [layer.rate for layer in gan.discriminator.layers if hasattr(layer, "rate")]
    assert {*rates} == {0.9}
    assert names.draw_inputs(3, 0)[0].shape == (3, 7)


@CHANGED
def test_no_default_argument_keeps_an_old_parameter() -> None:
    defaults = [
        ast.unparse(default)
        for source, _ in code_cells(NOTEBOOK)
        for node in ast.walk(ast.parse(re.sub(r"(?m)^%.*", "", source)))
        if isinstance(node, ast.arguments)
        for default in [*node.defaults, *filter(None, node.kw_defaults)]
    ]
    assert [default for default in defaults if default in RULES] == []
