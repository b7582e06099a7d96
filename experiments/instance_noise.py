"""Instance noise: the discriminator sees real and generated images through noise that fades away.

Noise makes the two distributions overlap, so that the discriminator cannot win outright and its
gradient says in which direction to go; it fades to nothing over the training. Sønderby et al.,
"Amortised MAP Inference for Image Super-resolution", 2017, https://arxiv.org/abs/1610.04490.
"""

from collections.abc import Callable
from types import SimpleNamespace

from dcgan.augment import draw_like
from dcgan.devices import apply_gradients
from dcgan.gan import GAN
from dcgan.quiet import tf

ROWS = {"instance noise": {}}


def build(lesson: SimpleNamespace, deviation: float = 0.1) -> tuple[GAN, Callable]:
    """Return the plain networks, and a step whose noise begins with a standard deviation."""
    total = lesson.EPOCHS * (lesson.TRAIN_IMAGES // lesson.BATCH_SIZE)

    def add_noise(images: tf.Tensor, step: tf.Tensor, number: int) -> tf.Tensor:
        """Add the noise of a step to images; another `number` draws other noise."""
        left = 1 - tf.cast(step, tf.float32) / total
        # Another seed than that of the generator's noise, or the two would be the same numbers.
        seed = (lesson.SEED + 1, 2 * step + number)
        return images + deviation * left * draw_like(images, tf.random.stateless_normal, seed)

    def train_step(gan, real_images, labels, noise):
        """Update both networks once."""
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            fake_images = add_noise(gan.generator(noise, training=True), gan.step, 0)
            real_logits = gan.discriminator(add_noise(real_images, gan.step, 1), training=True)
            fake_logits = gan.discriminator(fake_images, training=True)
            g_loss = lesson.generator_loss(fake_logits)
            d_loss = lesson.discriminator_loss(real_logits, fake_logits)
        apply_gradients(gan.g_optimizer, g_tape, g_loss, gan.generator)
        apply_gradients(gan.d_optimizer, d_tape, d_loss, gan.discriminator)
        return {"g_loss": g_loss, "d_loss": d_loss, **lesson.accuracies(real_logits, fake_logits)}

    return lesson.make_baseline(), train_step
