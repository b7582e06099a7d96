"""VAE-GAN: an encoder learns to describe a real image by noise from which it is generated again.

The generator must rebuild real images, compared in the features of the discriminator instead of
pixel by pixel, so it cannot leave out kinds of images; and real images can be encoded, changed and
decoded. Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", 2016,
https://arxiv.org/abs/1512.09300.
"""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from dcgan.augment import draw_like
from dcgan.devices import apply_gradients
from dcgan.gan import GAN
from dcgan.quiet import keras, tf

layers = keras.layers
ROWS = {"VAE-GAN": {}}


def build(lesson: SimpleNamespace) -> tuple[GAN, Callable]:
    """Return the plain networks with an encoder, and a step."""
    sizes = lesson.LATENT_DIM, lesson.IMAGE_SHAPE, lesson.GENERATOR_WIDTH
    generator = lesson.build_generator(*sizes)
    body = lesson.build_discriminator(lesson.IMAGE_SHAPE, lesson.DISCRIMINATOR_WIDTH, 0.0)
    code = layers.Dense(2 * lesson.LATENT_DIM, dtype="float32")(body.layers[-2].output)
    # Keras trains and keeps what is an attribute of a network together with this network.
    generator.encoder = keras.Model(body.input, code, name="encoder")
    gan = lesson.make_baseline(generator)
    activations = [x for x in gan.discriminator.layers if isinstance(x, layers.LeakyReLU)]
    features = keras.Model(gan.discriminator.input, activations[-1].output)

    def train_step(gan, real_images, labels, noise):
        """Update generator with encoder, and discriminator, once."""
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            code = gan.generator.encoder(real_images, training=True)
            mean, log_variance = tf.split(code, 2, axis=1)
            # Another seed than that of the noise, or the two would be the same numbers.
            seed = (lesson.SEED + 1, gan.step)
            normal = draw_like(mean, tf.random.stateless_normal, seed)
            drawn = mean + tf.exp(log_variance / 2) * normal
            # The encoder learns to describe images, not to deceive the discriminator.
            both = tf.concat([noise, tf.stop_gradient(drawn)], axis=0)
            real_logits = gan.discriminator(real_images, training=True)
            fake_logits = gan.discriminator(gan.generator(both, training=True), training=True)
            # As it will be sampled; and without dropout, whose noise would count as a difference.
            rebuilt = gan.generator(drawn, training=False)
            differences = features(real_images, training=False) - features(rebuilt, training=False)
            differences = tf.cast(differences, tf.float32)
            rebuilding = tf.reduce_mean(differences**2)
            kl = tf.reduce_sum(mean**2 + tf.exp(log_variance) - 1 - log_variance, axis=1) / 2
            # By the evidence lower bound, it weighs as much as half of the sum over all features.
            kl, count = tf.reduce_mean(kl), differences.shape[1:].num_elements()
            g_loss = lesson.generator_loss(fake_logits) + rebuilding + 2 / count * kl
            d_loss = lesson.discriminator_loss(real_logits, fake_logits)
        apply_gradients(gan.g_optimizer, g_tape, g_loss, gan.generator)
        apply_gradients(gan.d_optimizer, d_tape, d_loss, gan.discriminator)
        others = {"feature difference": rebuilding, "KL divergence": kl}
        accuracies = lesson.accuracies(real_logits, fake_logits)
        return {"g_loss": g_loss, "d_loss": d_loss, **accuracies, **others}

    return gan, train_step


def show(lesson: SimpleNamespace, gan: GAN, count: int) -> dict[str, np.ndarray]:
    """Return what the generator makes of the codes of the first test images, beside samples.

    The notebook shows it below these images, which are not ours to keep as files.
    """
    images = lesson.x_test[:count] / np.float32(127.5) - 1
    codes = gan.generator.encoder(images, training=False)
    rebuilt = lesson.utils.generate_images(gan.generator, codes[:, : lesson.LATENT_DIM])
    return {"rebuilt by VAE-GAN": rebuilt}
