"""A residual discriminator: each halving but the first gets a second convolution and a shortcut.

More layers can tell more kinds of mistakes apart, and the shortcuts keep the gradient that reaches
the generator strong. He et al., "Deep Residual Learning for Image Recognition", 2016,
https://arxiv.org/abs/1512.03385, in a GAN as by Gulrajani et al., 2017.
"""

from collections.abc import Callable
from types import SimpleNamespace

from dcgan.gan import GAN
from dcgan.layers import BatchNormalization, Conv2D, Dropout
from dcgan.quiet import keras

layers = keras.layers
ROWS = {"ResNet discriminator": {}}


def halving_block(x: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    """Halve the sides by two convolutions, beside a shortcut that averages pixels."""
    y = Conv2D(x.shape[-1], 3, padding="same", use_bias=False)(x)
    y = layers.LeakyReLU(negative_slope=0.2)(BatchNormalization(momentum=0.9)(y))
    y = Conv2D(channels, 4, strides=2, padding="same", use_bias=False)(y)
    shortcut = Conv2D(channels, 1, use_bias=False)(layers.AveragePooling2D(2)(x))
    return layers.Add()([BatchNormalization(momentum=0.9)(y), shortcut])


def build_discriminator(lesson: SimpleNamespace) -> keras.Model:
    """Map images to logits (N, 1), with the widths and the dropout of the notebook's."""
    _, _, widths = lesson.halve_sides(lesson.IMAGE_SHAPE, lesson.DISCRIMINATOR_WIDTH)
    images = keras.Input(lesson.IMAGE_SHAPE)
    x = Conv2D(widths[0], 4, strides=2, padding="same")(images)
    for channels in widths[1:]:
        x = Dropout(lesson.DROPOUT)(layers.LeakyReLU(negative_slope=0.2)(x))
        x = halving_block(x, channels)
    x = Dropout(lesson.DROPOUT)(layers.LeakyReLU(negative_slope=0.2)(x))
    logits = layers.Dense(1, dtype="float32")(layers.Flatten()(x))
    return keras.Model(images, logits, name="discriminator")


def build(lesson: SimpleNamespace) -> tuple[GAN, Callable]:
    """Return the plain generator with the other discriminator, and the notebook's step."""
    return lesson.make_baseline(discriminator=build_discriminator(lesson)), lesson.train_step
