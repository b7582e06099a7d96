"""WGAN-GP: the discriminator estimates a distance, and learns several times a step.

Its loss is the difference of its mean logits, which approaches the Wasserstein distance while its
gradient between real and generated images has a norm near 1; so it may be trained ahead of the
generator, whose own gradient does not die. Gulrajani et al., "Improved Training of Wasserstein
GANs", 2017, https://arxiv.org/abs/1704.00028.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

from dcgan.augment import draw_like
from dcgan.devices import apply_gradients
from dcgan.gan import GAN
from dcgan.layers import Conv2D
from dcgan.quiet import keras, tf

layers = keras.layers
PENALTY = 10.0  # weight, as in the paper
ROWS = {
    "WGAN-GP, 5 discriminator steps": {"d_steps": 5, "BATCH_SIZE": 250},  # 50 images each
    "WGAN-GP, 1 discriminator step": {"d_steps": 1},
}


def build_discriminator(lesson: SimpleNamespace) -> keras.Model:
    """Map images to logits (N, 1): the penalty is one for each image, so no batch normalisation."""
    _, _, widths = lesson.halve_sides(lesson.IMAGE_SHAPE, lesson.DISCRIMINATOR_WIDTH)
    images = x = keras.Input(lesson.IMAGE_SHAPE)
    for channels in widths:
        x = Conv2D(channels, 4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    logits = layers.Dense(1, dtype="float32")(layers.Flatten()(x))
    return keras.Model(images, logits, name="discriminator")


def gradient_penalty(discriminator: Callable, images: tf.Tensor) -> tf.Tensor:
    """Return the mean squared difference of the norm of the gradient at images from 1."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(discriminator(images, training=True))
    gradients = tf.cast(tape.gradient(total, images), tf.float32)
    norms = tf.sqrt(tf.reduce_sum(gradients**2, axis=[1, 2, 3]) + 1e-12)
    return tf.reduce_mean((norms - 1) ** 2)


def build(lesson: SimpleNamespace, d_steps: int, adams: Sequence = ()) -> tuple[GAN, Callable]:
    """Return networks and a step that gives each discriminator step its part of the batch."""

    def train_step(gan, real_images, labels, noise):
        """Update the discriminator several times, then the generator once."""
        real_parts, noise_parts = tf.split(real_images, d_steps), tf.split(noise, d_steps)
        for number in range(d_steps):
            real = real_parts[number]
            fake = gan.generator(noise_parts[number], training=True)
            # Another seed than that of the generator's noise, or both would be the same numbers.
            seed = (lesson.SEED + 1, d_steps * gan.step + number)
            share = draw_like(real[:, :1, :1, :1], tf.random.stateless_uniform, seed)
            with tf.GradientTape() as d_tape:
                logits = gan.discriminator(tf.concat([real, fake], axis=0), training=True)
                real_logits, fake_logits = tf.split(logits, 2)
                d_loss = tf.reduce_mean(fake_logits) - tf.reduce_mean(real_logits)
                between = real + share * (fake - real)
                loss = d_loss + PENALTY * gradient_penalty(gan.discriminator, between)
            apply_gradients(gan.d_optimizer, d_tape, loss, gan.discriminator)
        with tf.GradientTape() as g_tape:
            fake = gan.generator(noise_parts[0], training=True)
            g_loss = -tf.reduce_mean(gan.discriminator(fake, training=True))
        apply_gradients(gan.g_optimizer, g_tape, g_loss, gan.generator)
        # A logit of 0 means nothing here, so accuracy is the share of pairs that are ranked right.
        right = tf.reduce_mean(tf.cast(real_logits > fake_logits, tf.float32))
        return {"g_loss": g_loss, "d_loss": d_loss, "real_acc": right, "fake_acc": right}

    rate, half_life = lesson.G_LEARNING_RATE, lesson.G_HALF_LIFE
    rates = [lesson.halving_rate(rate, steps * half_life) for steps in (1, d_steps)]
    adams = adams or [lesson.Adam(rate, beta_1=0.0, beta_2=0.9) for rate in rates]
    sizes = lesson.LATENT_DIM, lesson.IMAGE_SHAPE, lesson.GENERATOR_WIDTH
    networks = lesson.build_generator(*sizes), build_discriminator(lesson)
    return lesson.GAN(*networks, *adams), train_step
