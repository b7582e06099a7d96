"""Augmentation turns some images and harms none."""

import numpy as np
import pytest
import tensorflow as tf

from dcgan.augment import draw_like, random_flip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8"])
def test_half_of_the_images_are_flipped_and_nothing_else(dtype: str) -> None:
    images = tf.cast(tf.random.stateless_uniform((200, 4, 5, 3), (1, 2), maxval=255), dtype)
    flipped = random_flip(images, (3, 4))
    assert flipped.dtype == images.dtype
    before, after = images.numpy(), flipped.numpy()
    same = (after == before).all(axis=(1, 2, 3))
    turned = (after == before[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ turned).all()
    assert 70 < turned.sum() < 130


def test_the_seed_decides_which() -> None:
    images = tf.random.stateless_uniform((50, 4, 4, 1), (1, 2))
    first = random_flip(images, (3, 4)).numpy()
    assert np.array_equal(first, random_flip(images, (tf.constant(3, tf.int64), 4)))
    for other in ((3, 5), (4, 4)):
        assert not np.array_equal(first, random_flip(images, other))


def test_gradients_are_flipped_back() -> None:
    images = tf.random.stateless_uniform((20, 4, 4, 1), (1, 2))
    weights = tf.random.stateless_uniform((20, 4, 4, 1), (5, 6))
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(weights * random_flip(images, (3, 4)))
    assert np.array_equal(tape.gradient(total, images), random_flip(weights, (3, 4)))


def test_random_numbers_have_the_shape_of_rows_and_depend_on_the_seed() -> None:
    rows, draw = tf.zeros((6, 2, 3)), tf.random.stateless_normal
    numbers = draw_like(rows, draw, (3, tf.constant(4, tf.int64)))
    assert np.array_equal(numbers, draw((6, 2, 3), (3, 4)))
    assert not np.array_equal(numbers, draw_like(rows, draw, (3, 5)))
