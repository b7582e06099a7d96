"""Hinge loss and spectral normalisation, in place of batch normalisation and dropout.

Each kernel of the discriminator, as a matrix, is divided by its largest singular value, which
bounds how fast its output can change, however long it trains. Miyato et al., "Spectral
Normalization for Generative Adversarial Networks", 2018, https://arxiv.org/abs/1802.05957.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

from dcgan.devices import apply_gradients
from dcgan.gan import GAN
from dcgan.layers import Conv2D
from dcgan.quiet import keras, tf

layers = keras.layers
TWO_RATES = {"G_LEARNING_RATE": 1e-4, "D_LEARNING_RATE": 4e-4, "BETA_1": 0.0}  # of SAGAN
ROWS = {"hinge + spectral norm": {}, "hinge + spectral norm, two rates": TWO_RATES}


class SpectralNorm(layers.SpectralNormalization):
    """Keras' power iteration; but kernels stay as trained, and gradients pass the division."""

    def __init__(self, layer: layers.Layer) -> None:
        """Wrap a layer; its singular value is computed in float32, whatever its precision."""
        super().__init__(layer, dtype="float32")

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Call the layer with its kernel divided by its largest singular value."""
        vector, kernel = self.normalized_weights()
        if training:
            self.vector_u.assign(vector)
        with keras.StatelessScope([(self.kernel, kernel)]):
            return self.layer(inputs)


def build_discriminator(lesson: SimpleNamespace, classes: int) -> keras.Model:
    """Map images, and one-hot labels if there are classes, to logits (N, 1).

    A label adds the agreement of its vector with the features (Miyato & Koyama, "cGANs with
    Projection Discriminator", 2018, https://arxiv.org/abs/1802.05637).
    """
    _, _, widths = lesson.halve_sides(lesson.IMAGE_SHAPE, lesson.DISCRIMINATOR_WIDTH)
    images = x = keras.Input(lesson.IMAGE_SHAPE)
    for channels in widths:
        x = SpectralNorm(Conv2D(channels, 4, strides=2, padding="same"))(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Flatten(dtype="float32")(x)
    logits = SpectralNorm(layers.Dense(1, dtype="float32"))(x)
    if not classes:
        return keras.Model(images, logits, name="discriminator")
    labels = keras.Input((classes,), name="labels")
    vector = SpectralNorm(layers.Dense(x.shape[-1], use_bias=False, dtype="float32"))(labels)
    logits = layers.Add(dtype="float32")([logits, layers.Dot(1, dtype="float32")([x, vector])])
    return keras.Model([images, labels], logits, name="discriminator")


def build(lesson: SimpleNamespace, classes: int = 0, adams: Sequence = ()) -> tuple[GAN, Callable]:
    """Return networks and step; with classes the generator is that of the improved variant."""

    def train_step(gan, real_images, labels, noise):
        """Update both networks once."""
        condition = [tf.one_hot(labels, classes)] if classes else []
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            fake_images = gan.generator([noise, *condition] if classes else noise, training=True)
            images = tf.concat([real_images, fake_images], axis=0)
            twice = [tf.tile(part, (2, 1)) for part in condition]
            logits = gan.discriminator([images, *twice] if classes else images, training=True)
            real_logits, fake_logits = tf.split(logits, 2)
            g_loss, d_loss = lesson.hinge_losses(real_logits, fake_logits)
        apply_gradients(gan.g_optimizer, g_tape, g_loss, gan.generator)
        apply_gradients(gan.d_optimizer, d_tape, d_loss, gan.discriminator)
        return {"g_loss": g_loss, "d_loss": d_loss, **lesson.accuracies(real_logits, fake_logits)}

    sizes = lesson.LATENT_DIM, lesson.IMAGE_SHAPE, lesson.GENERATOR_WIDTH
    generator = lesson.build_improved_generator(*sizes, classes) if classes else None
    discriminator = build_discriminator(lesson, classes)
    if adams:
        return GAN(generator or lesson.build_generator(*sizes), discriminator, *adams), train_step
    return lesson.make_baseline(generator, discriminator), train_step
