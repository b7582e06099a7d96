"""Label smoothing and label noise: the discriminator's targets are less certain.

A discriminator that is paid for 0.9 instead of 1, or whose targets are now and then wrong, should
be less sure of itself, so that its gradients stay useful to the generator: Salimans et al.,
"Improved Techniques for Training GANs", 2016, https://arxiv.org/abs/1606.03498 (one-sided
smoothing), and Chintala et al., "How to Train a GAN?", 2016, https://github.com/soumith/ganhacks.
"""

from collections.abc import Callable
from types import SimpleNamespace

from dcgan.augment import draw_like
from dcgan.devices import apply_gradients
from dcgan.gan import GAN
from dcgan.quiet import tf

ROWS = {"one-sided label smoothing": {"real_target": 0.9}, "label noise": {"swapped": 0.05}}


def build(
    lesson: SimpleNamespace, real_target: float = 1.0, swapped: float = 0.0
) -> tuple[GAN, Callable]:
    """Return the plain networks, and a step that swaps a share of targets 0 and `real_target`."""

    def target_loss(logits: tf.Tensor, target: float, other: float, seed: tuple) -> tf.Tensor:
        """Return the cross-entropy for a target, or for the other one in place of it."""
        swap = draw_like(logits, tf.random.stateless_uniform, seed) < swapped
        return lesson.cross_entropy(tf.where(swap, other, target), logits)

    def train_step(gan, real_images, labels, noise):
        """Update both networks once; the generator's loss is the plain one."""
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            fake_images = gan.generator(noise, training=True)
            real_logits = gan.discriminator(real_images, training=True)
            fake_logits = gan.discriminator(fake_images, training=True)
            g_loss = lesson.generator_loss(fake_logits)
            # Another seed than that of the generator's noise, or both would be the same numbers.
            seeds = [(lesson.SEED + 1, 2 * gan.step + number) for number in (0, 1)]
            d_loss = target_loss(real_logits, real_target, 0.0, seeds[0])
            d_loss += target_loss(fake_logits, 0.0, real_target, seeds[1])
        apply_gradients(gan.g_optimizer, g_tape, g_loss, gan.generator)
        apply_gradients(gan.d_optimizer, d_tape, d_loss, gan.discriminator)
        return {"g_loss": g_loss, "d_loss": d_loss, **lesson.accuracies(real_logits, fake_logits)}

    return lesson.make_baseline(), train_step
