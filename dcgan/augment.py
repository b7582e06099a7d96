"""Augmentation of images in training: seeded, the same on one device and on many."""

from collections.abc import Sequence

from dcgan.devices import own_share
from dcgan.quiet import tf


def random_flip(images: tf.Tensor, seed: Sequence[int | tf.Tensor]) -> tf.Tensor:
    """Flip each image of a batch left to right with probability one half.

    Args:
        images: (N, height, width, channels) of any dtype; this device's share of a batch.
        seed: two integers; the same ones flip the same images of the whole batch.
    """
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    seed = tf.stack([tf.cast(part, tf.int32) for part in seed])
    count = devices * tf.shape(images)[0]
    flipped = own_share(tf.random.stateless_uniform([count, 1, 1, 1], seed) < 0.5)
    return tf.where(flipped, tf.reverse(images, [2]), images)
