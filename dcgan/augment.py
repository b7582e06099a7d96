"""Augmentation of images in training: seeded, the same on one device and on many."""

from collections.abc import Callable, Sequence

from dcgan.devices import own_share
from dcgan.quiet import tf

Seed = Sequence[int | tf.Tensor]


def draw_like(rows: tf.Tensor, draw: Callable[..., tf.Tensor], seed: Seed) -> tf.Tensor:
    """Draw random numbers float32 of the shape of this device's rows (N, …) of a batch.

    Args:
        rows: a tensor whose shape is known but for N, and whose values do not matter.
        draw: a stateless operation such as `tf.random.stateless_normal`.
        seed: two integers; the same ones draw the same for the whole batch.
    """
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    seed = tf.stack([tf.cast(part, tf.int32) for part in seed])
    return own_share(draw([devices * tf.shape(rows)[0], *rows.shape[1:]], seed))


def random_flip(images: tf.Tensor, seed: Seed) -> tf.Tensor:
    """Flip each image of a batch left to right with probability one half.

    Args:
        images: (N, height, width, channels) of any dtype; this device's share of a batch.
        seed: two integers; the same ones flip the same images of the whole batch.
    """
    flipped = draw_like(images[:, :1, :1, :1], tf.random.stateless_uniform, seed) < 0.5
    return tf.where(flipped, tf.reverse(images, [2]), images)
