"""Upsampling instead of transposed convolutions in the generator.

A transposed convolution writes each pixel from a varying set of weights, which can leave a
checkerboard; doubling the pixels and then convolving treats all pixels alike. Odena et al.,
"Deconvolution and Checkerboard Artifacts", 2016, https://distill.pub/2016/deconv-checkerboard/.
"""

from collections.abc import Callable
from types import SimpleNamespace

from dcgan.gan import GAN
from dcgan.layers import BatchNormalization, Conv2D
from dcgan.quiet import keras

layers = keras.layers
ROWS = {"upsampling": {}}


def build_generator(lesson: SimpleNamespace) -> keras.Model:
    """Map noise to images, with the widths of the notebook's generator."""
    rows, columns, widths = lesson.halve_sides(lesson.IMAGE_SHAPE, lesson.GENERATOR_WIDTH)
    normal = keras.initializers.RandomNormal(stddev=0.02)
    options = {"padding": "same", "kernel_initializer": normal}

    noise = keras.Input((lesson.LATENT_DIM,))
    x = layers.Dense(rows * columns * widths[-1], use_bias=False, kernel_initializer=normal)(noise)
    x = layers.Reshape((rows, columns, widths[-1]))(x)
    for channels in reversed(widths[:-1]):
        x = layers.ReLU()(BatchNormalization(momentum=0.9)(x))
        x = Conv2D(channels, 3, use_bias=False, **options)(layers.UpSampling2D()(x))
    x = layers.ReLU()(BatchNormalization(momentum=0.9)(x))
    x = Conv2D(lesson.IMAGE_SHAPE[-1], 3, **options)(layers.UpSampling2D()(x))
    return keras.Model(noise, layers.Activation("tanh", dtype="float32")(x), name="generator")


def build(lesson: SimpleNamespace) -> tuple[GAN, Callable]:
    """Return the plain discriminator with the other generator, and the notebook's step."""
    return lesson.make_baseline(generator=build_generator(lesson)), lesson.train_step
