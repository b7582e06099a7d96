"""Contender: the training loop as public DCGAN notebooks write it, in float32.

Images are float32 and shuffled themselves, every loss is fetched after every step, and 16 generated
images are drawn as subplots.
"""

import io

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from contest import Measurements, serve, timed
from networks import BATCH_SIZE, LATENT_DIM, build_discriminator, build_generator

from dcgan.data import load_cifar10

STEPS = 12


def make_step(generator: keras.Model, discriminator: keras.Model) -> tf.types.experimental.Callable:
    """Return the compiled training step."""
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    g_optimizer, d_optimizer = keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)

    @tf.function
    def train_step(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        noise = tf.random.normal((BATCH_SIZE, LATENT_DIM))
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            fakes = generator(noise, training=True)
            real_output = discriminator(images, training=True)
            fake_output = discriminator(fakes, training=True)
            g_loss = cross_entropy(tf.ones_like(fake_output), fake_output)
            d_loss = cross_entropy(tf.ones_like(real_output), real_output)
            d_loss += cross_entropy(tf.zeros_like(fake_output), fake_output)
        for network, optimizer, tape, loss in (
            (generator, g_optimizer, g_tape, g_loss),
            (discriminator, d_optimizer, d_tape, d_loss),
        ):
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return g_loss, d_loss

    return train_step


def draw_picture(generator: keras.Model, noise: tf.Tensor) -> bytes:
    """Return a PNG of 16 subplots."""
    images, png = generator(noise, training=False), io.BytesIO()
    figure = plt.figure(figsize=(4, 4))
    for index in range(16):
        plt.subplot(4, 4, index + 1)
        plt.imshow(images[index] * 0.5 + 0.5)
        plt.axis("off")
    plt.savefig(png)
    plt.close(figure)
    return png.getvalue()


def make_loop(pixels: np.ndarray, history: list[tuple[float, float]]) -> Measurements:
    """Build all for images (N, 32, 32, 3); return measurements of an epoch's parts."""
    images = (pixels.astype("float32") - 127.5) / 127.5
    dataset = tf.data.Dataset.from_tensor_slices(images)
    dataset = dataset.shuffle(len(images)).batch(BATCH_SIZE, drop_remainder=True)
    generator, discriminator = build_generator(keras.layers), build_discriminator(keras.layers)
    train_step, noise = make_step(generator, discriminator), tf.random.normal((16, LATENT_DIM))
    batches = []  # one iterator

    def start_epoch() -> None:
        batches.append(iter(dataset))
        next(batches[0])

    def run_steps() -> None:
        for _ in range(STEPS):
            g_loss, d_loss = train_step(next(batches[0]))
            history.append((g_loss.numpy(), d_loss.numpy()))

    return {
        # An old iterator is taken down before: that may wait for tf.data's own thread.
        "start": lambda: batches.clear() or timed(start_epoch)(),
        "step": timed(run_steps, STEPS),
        "picture": timed(lambda: draw_picture(generator, noise)),
    }


if __name__ == "__main__":
    plt.switch_backend("Agg")
    (x_train, _), _ = load_cifar10()
    serve(make_loop(x_train, []))
