"""Contender: the training loop as public DCGAN notebooks write it, in float32.

Images are float32 in memory, tf.data shuffles the images themselves, the step judges real and fake
images in two calls under two tapes, every loss is fetched after every step, and 16 fixed-noise
pictures are drawn as subplots.
"""

import tempfile
import time
from pathlib import Path

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from contest import serve
from networks import BATCH_SIZE, LATENT_DIM, build_discriminator, build_generator

import dcgan_utils as utils

STEPS = 12


def make_step(generator: keras.Model, discriminator: keras.Model) -> tf.types.experimental.Callable:
    """Return the compiled training step."""
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    g_optimizer, d_optimizer = keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)
    g_optimizer.build(generator.trainable_variables)
    d_optimizer.build(discriminator.trainable_variables)

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
        g_gradients = g_tape.gradient(g_loss, generator.trainable_variables)
        d_gradients = d_tape.gradient(d_loss, discriminator.trainable_variables)
        g_optimizer.apply_gradients(zip(g_gradients, generator.trainable_variables, strict=True))
        d_optimizer.apply_gradients(
            zip(d_gradients, discriminator.trainable_variables, strict=True)
        )
        return g_loss, d_loss

    return train_step


class Textbook:
    """Networks, data and history of the loop."""

    def __init__(self, pixels: np.ndarray) -> None:
        """Scale the images and build everything."""
        images = (pixels.astype("float32") - 127.5) / 127.5
        dataset = tf.data.Dataset.from_tensor_slices(images)
        self.dataset = dataset.shuffle(len(images)).batch(BATCH_SIZE, drop_remainder=True)
        self.generator = build_generator(keras.layers)
        self.train_step = make_step(self.generator, build_discriminator(keras.layers))
        self.fixed_noise = tf.random.normal((16, LATENT_DIM))
        self.history = []
        self.batches = iter(self.dataset)

    def start_epoch(self) -> float:
        """Time from the start of an epoch to its first batch."""
        self.batches = None  # taking the old iterator down may wait for tf.data's own thread
        started = time.perf_counter()
        self.batches = iter(self.dataset)
        next(self.batches)
        return time.perf_counter() - started

    def run_steps(self) -> float:
        """Time `STEPS` steps with their losses kept."""
        started = time.perf_counter()
        for _ in range(STEPS):
            images = next(self.batches, None)
            if images is None:
                self.batches = iter(self.dataset)
                images = next(self.batches)
            g_loss, d_loss = self.train_step(images)
            self.history.append((g_loss.numpy(), d_loss.numpy()))
        return time.perf_counter() - started

    def draw_picture(self) -> float:
        """Time one figure of 16 subplots."""
        import matplotlib.pyplot as plt

        started = time.perf_counter()
        images = self.generator(self.fixed_noise, training=False)
        figure = plt.figure(figsize=(4, 4))
        for index in range(16):
            plt.subplot(4, 4, index + 1)
            plt.imshow(images[index] * 0.5 + 0.5)
            plt.axis("off")
        plt.savefig(Path(tempfile.gettempdir()) / "textbook.png")
        plt.close(figure)
        return time.perf_counter() - started


def main() -> None:
    """Build, then wait for requests."""
    matplotlib.use("Agg")
    (x_train, _), _ = utils.load_cifar10()
    loop = Textbook(x_train)
    measurements = {
        "start of epoch": loop.start_epoch,
        "steps": loop.run_steps,
        "picture": loop.draw_picture,
    }
    serve(measurements, {"steps": STEPS})


if __name__ == "__main__":
    main()
