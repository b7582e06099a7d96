"""Networks small enough to check by hand, and a training on one or several devices.

Logical devices and clusters have to be set up before TensorFlow computes anything, so
`test_devices.py` runs this file: python split_batch.py DEVICES FOLDER PRECISION...
"""

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dcgan import augment, layers
from dcgan.devices import (
    apply_gradients,
    choose_strategy,
    compile_step,
    is_chief,
    with_loss_scaling,
)
from dcgan.gan import GAN

STEPS, BATCH, LATENT_DIM, SEED = 6, 8, 5, 3


def build_generator() -> keras.Model:
    """Map noise (N, 5) to images (N, 8, 8, 3).

    No bias before batch normalisation: its gradient is nothing but rounding, which Adam enlarges.
    """
    noise = keras.Input((LATENT_DIM,))
    x = keras.layers.Reshape((4, 4, 8))(keras.layers.Dense(4 * 4 * 8, use_bias=False)(noise))
    x = keras.layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Conv2DTranspose(3, 4, strides=2, padding="same")(x)
    return keras.Model(noise, keras.layers.Activation("tanh", dtype="float32")(x))


def build_discriminator(dropout: float = 0.0) -> keras.Model:
    """Map images (N, 8, 8, 3) to logits (N, 1)."""
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 4, strides=2, padding="same")(images)
    x = layers.Dropout(dropout)(keras.layers.LeakyReLU(negative_slope=0.2)(x))
    x = layers.BatchNormalization(momentum=0.9)(
        layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    )
    logits = keras.layers.Dense(1, dtype="float32")(keras.layers.Flatten()(x))
    return keras.Model(images, logits)


def build_gan(dropout: float = 0.0, optimizer: Any = layers.Adam, **options: Any) -> GAN:
    """Return the same small GAN every time."""
    keras.utils.set_random_seed(SEED)
    networks = build_generator(), build_discriminator(dropout)
    return GAN(*networks, optimizer(0.02), optimizer(0.01), **options)


def losses(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return losses that rank real images above generated ones."""
    g_loss = tf.reduce_mean(tf.nn.softplus(real_logits - fake_logits))
    return g_loss, tf.reduce_mean(tf.nn.softplus(fake_logits - real_logits))


def train_step(
    gan: GAN, real_images: tf.Tensor, labels: tf.Tensor, noise: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Train both networks on a device's share of a batch."""
    real_images = augment.random_flip(real_images, (SEED, gan.step))
    with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
        fake_images = gan.generator(noise, training=True)
        real_logits = gan.discriminator(real_images, training=True)
        fake_logits = gan.discriminator(fake_images, training=True)
        g_loss, d_loss = losses(real_logits, fake_logits)
    apply_gradients(gan.g_optimizer, g_tape, g_loss, gan.generator)
    apply_gradients(gan.d_optimizer, d_tape, d_loss, gan.discriminator)
    return {
        "g_loss": g_loss,
        "d_loss": d_loss,
        "real_acc": tf.reduce_mean(tf.cast(real_logits > 0, tf.float32)),
        "fake_acc": tf.reduce_mean(tf.cast(fake_logits < 0, tf.float32)),
        "mean_label": tf.reduce_mean(tf.cast(labels, tf.float32)),
    }


def make_batches() -> tf.data.Dataset:
    """Return as many batches of random images in [-1, 1] and labels as there are steps."""
    rng = np.random.default_rng(SEED)
    images = rng.uniform(-1, 1, (STEPS * BATCH, 8, 8, 3)).astype(np.float32)
    labels = np.arange(STEPS * BATCH, dtype=np.uint8)
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH, drop_remainder=True)


def train(precision: str) -> dict[str, np.ndarray]:
    """Train on all devices, in float16 with dropout; return metrics and weights by name."""
    keras.config.set_dtype_policy(precision)
    gan = build_gan(0.0 if precision == "float32" else 0.3, ema=True)
    step = compile_step(train_step, gan, LATENT_DIM, SEED)
    strategy = tf.distribute.get_strategy()
    metrics = [step(*batch) for batch in strategy.experimental_distribute_dataset(make_batches())]
    columns = {name: np.array([float(record[name]) for record in metrics]) for name in metrics[0]}
    networks = gan.generator, gan.discriminator, gan.ema_generator
    weights = [weight.numpy().ravel() for network in networks for weight in network.weights]
    return columns | {"weights": np.concatenate(weights)}


def overflow() -> None:
    """Print which devices' copies of a variable move if one of two devices overflows, or none."""
    variable = keras.Variable(np.ones(3, np.float32))
    optimizer = with_loss_scaling(layers.Adam(0.1))
    optimizer.build([variable])

    @tf.function
    def step(overflowing: tf.Tensor) -> None:
        def share() -> None:
            device = tf.distribute.get_replica_context().replica_id_in_sync_group
            bad = tf.equal(tf.cast(device, tf.int32), overflowing)
            optimizer.apply([tf.where(bad, tf.fill((3,), float("inf")), tf.ones(3))], [variable])

        tf.distribute.get_strategy().run(share)

    for overflowing in (0, 1, -1):
        step(tf.constant(overflowing))
        print([bool(copy.numpy()[0] < 1) for copy in variable.value.values])


def main() -> None:
    """Train in each precision, and keep metrics and weights in files of a folder."""
    devices, folder, *precisions = sys.argv[1:]
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * int(devices),
    )
    strategy, description = choose_strategy()
    tf.distribute.experimental_set_strategy(strategy)
    print(description)
    for precision in precisions:
        arrays = train(precision)
        if is_chief(strategy):
            np.savez(Path(folder) / f"{precision}.npz", **arrays)
    if "mixed_float16" in precisions:
        overflow()


if __name__ == "__main__":
    main()
