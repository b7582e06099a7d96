"""The notebook's own definitions: shapes, losses at known logits, and one training step."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

Lesson = Callable[..., SimpleNamespace]
SHAPES = [(28, 28, 1), (32, 32, 3), (64, 64, 3)]
IMAGES = tf.random.stateless_uniform((8, 8, 8, 3), (0, 0), -1, 1)
LABELS = tf.range(8)


def small_run(lesson: SimpleNamespace, image_shape: tuple[int, int, int] = (8, 8, 3)):
    """Start a run on networks that train in milliseconds."""
    return lesson.start_run(
        lesson.build_generator(lesson.LATENT_DIM, image_shape, width=4),
        lesson.build_discriminator(image_shape, width=4),
    )


def weights(model: keras.Model) -> list[np.ndarray]:
    """Copy the trainable weights."""
    return [variable.numpy() for variable in model.trainable_variables]


def differ(before: list[np.ndarray], model: keras.Model) -> bool:
    """Say whether any weight has changed."""
    return any((a != b).any() for a, b in zip(before, weights(model), strict=True))


@pytest.mark.parametrize("image_shape", SHAPES)
def test_networks_fit_each_image_shape(lesson: Lesson, image_shape: tuple[int, int, int]) -> None:
    names = lesson()
    generator = names.build_generator(100, image_shape, width=8)
    discriminator = names.build_discriminator(image_shape, width=8)
    images = generator(tf.random.normal((3, 100))).numpy()
    assert images.shape == (3, *image_shape)
    assert np.abs(images).max() <= 1
    assert discriminator(images).shape == (3, 1)


def test_networks_follow_the_dcgan_rules(lesson: Lesson) -> None:
    names = lesson()
    generator = names.build_generator(100, (32, 32, 3))
    discriminator = names.build_discriminator((32, 32, 3))
    kinds = [type(layer).__name__ for layer in generator.layers + discriminator.layers]
    assert not [kind for kind in kinds if "Pool" in kind]
    assert kinds.count("Conv2DTranspose") == kinds.count("Conv2D") == 3
    assert generator.layers[-1].activation is keras.activations.tanh
    for layer in generator.layers + discriminator.layers:
        if "Conv" in type(layer).__name__:
            assert layer.strides == (2, 2)
            assert all(size % 2 == 0 for size in layer.kernel_size)


@pytest.mark.parametrize("image_shape", [(31, 31, 3), (4, 4, 3), (30, 15, 1)])
def test_impossible_sides_are_refused(lesson: Lesson, image_shape: tuple[int, int, int]) -> None:
    names = lesson()
    for build in (
        lambda: names.build_generator(10, image_shape),
        lambda: names.build_discriminator(image_shape),
    ):
        with pytest.raises(ValueError, match="even and above 4"):
            build()


def test_shape_ladder(lesson: Lesson) -> None:
    ladder = lesson().shape_ladder
    assert ladder((32, 32, 3), 64) == (4, 4, [64, 128, 256])
    assert ladder((28, 28, 1), 64) == (7, 7, [64, 128])
    assert ladder((64, 64, 3), 32) == (4, 4, [32, 64, 128, 256])


def test_losses_at_known_logits(lesson: Lesson) -> None:
    names = lesson()
    zero, two = tf.zeros((4, 1)), tf.fill((4, 1), 2.0)
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    assert float(names.discriminator_loss(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(names.generator_loss(zero, zero)) == pytest.approx(math.log(2))
    assert float(names.discriminator_loss(two, -two)) == pytest.approx(2 * softplus(-2), rel=1e-5)
    assert float(names.generator_loss(zero, two)) == pytest.approx(softplus(-2), rel=1e-5)
    assert float(names.generator_loss(zero, -two)) == pytest.approx(softplus(2), rel=1e-5)


def test_accuracy_is_the_sign_of_the_logit(lesson: Lesson) -> None:
    real_acc, fake_acc = lesson().accuracies(
        tf.constant([0.1, 3.0, -2.0, 0.4]), tf.constant([0.1, -0.1, 0.3, 0.4])
    )
    assert (float(real_acc), float(fake_acc)) == (0.75, 0.25)


def test_dataset_shows_each_image_once_in_a_seeded_order(lesson: Lesson) -> None:
    names = lesson(BATCH_SIZE=16)
    labels = np.arange(64, dtype=np.uint8)
    pixels = labels.reshape(64, 1, 1, 1)

    def order(epoch: int) -> list[float]:
        batches = [batch.numpy() for batch, _ in names.make_dataset(pixels, labels, epoch)]
        assert [batch.shape for batch in batches] == [(16, 1, 1, 1)] * 4
        return np.concatenate(batches).ravel().tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert np.allclose(sorted(order(3)), np.arange(64) / 127.5 - 1)
    assert len(list(names.make_dataset(pixels[:40], labels[:40], 1))) == 2
    for images, its_labels in names.make_dataset(pixels, labels, 1):
        assert np.allclose(images[:, 0, 0, 0], its_labels.numpy() / 127.5 - 1)


def test_dataset_maps_pixels_to_the_range_of_tanh(lesson: Lesson) -> None:
    pixels = np.array([0, 255] * 4, np.uint8).reshape(8, 1, 1, 1)
    images, _ = next(iter(lesson().make_dataset(pixels, np.zeros(8, np.uint8), 1)))
    batch = images.numpy()
    assert batch.dtype == np.float32
    assert (batch.min(), batch.max()) == (-1, 1)


def test_one_step_changes_both_networks_and_reports_scalars(lesson: Lesson) -> None:
    names = lesson()
    run = small_run(names)
    before_g, before_d = weights(run.generator), weights(run.discriminator)
    metrics = names.make_train_step(run)(IMAGES, LABELS)
    assert set(metrics) == {"g_loss", "d_loss", "real_acc", "fake_acc"}
    assert all(np.isfinite(value) and value.shape == () for value in metrics.values())
    assert differ(before_g, run.generator)
    assert differ(before_d, run.discriminator)
    assert int(run.g_optimizer.iterations) == int(run.d_optimizer.iterations) == 1


def test_step_is_traced_once(lesson: Lesson) -> None:
    names = lesson()
    step = names.make_train_step(small_run(names))
    for _ in range(3):
        step(IMAGES, LABELS)
    assert step.experimental_get_tracing_count() == 1


def test_a_new_step_does_not_train_the_old_networks(lesson: Lesson) -> None:
    names = lesson()
    old = small_run(names)
    names.make_train_step(old)(IMAGES, LABELS)
    before_g, before_d = weights(old.generator), weights(old.discriminator)
    names.make_train_step(small_run(names))(IMAGES, LABELS)
    assert not differ(before_g, old.generator)
    assert not differ(before_d, old.discriminator)


def test_losses_are_passed_in(lesson: Lesson) -> None:
    names = lesson()
    run = small_run(names)
    rules = names.Rules(
        g_loss=lambda _, fake: -tf.reduce_mean(fake),
        d_loss=lambda real, fake: tf.reduce_mean(fake) - tf.reduce_mean(real),
    )
    step = names.make_train_step(run, rules)
    before = weights(run.discriminator)
    metrics = step(IMAGES, LABELS)
    assert np.isfinite(metrics["d_loss"])
    assert differ(before, run.discriminator)


@pytest.mark.parametrize("count", [10, 300, 1000])
def test_each_class_is_asked_for_equally_often(lesson: Lesson, count: int) -> None:
    noise, labels = lesson().draw_inputs(count, 0)
    assert noise.shape == (count, 100)
    assert np.bincount(labels).tolist() == [count // 10] * 10
