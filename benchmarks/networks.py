"""The networks of the benchmark: those that public DCGAN notebooks build, sized for CIFAR-10."""

from types import ModuleType

import keras
from keras import layers

LATENT_DIM = 100
BATCH_SIZE = 256


def build_generator(kit: ModuleType) -> keras.Model:
    """Return 256-128-64 channels with 5 x 5 kernels; `kit` has the layers: Keras' or ours."""
    return keras.Sequential(
        [
            keras.Input((LATENT_DIM,)),
            layers.Dense(4 * 4 * 256, use_bias=False),
            kit.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((4, 4, 256)),
            kit.Conv2DTranspose(128, 5, strides=2, padding="same", use_bias=False),
            kit.BatchNormalization(),
            layers.LeakyReLU(),
            kit.Conv2DTranspose(64, 5, strides=2, padding="same", use_bias=False),
            kit.BatchNormalization(),
            layers.LeakyReLU(),
            kit.Conv2DTranspose(3, 5, strides=2, padding="same", use_bias=False),
            layers.Activation("tanh", dtype="float32"),
        ],
        name="generator",
    )


def build_discriminator(kit: ModuleType) -> keras.Model:
    """Return 64-128 channels with 5 x 5 kernels and dropout."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            kit.Conv2D(64, 5, strides=2, padding="same"),
            layers.LeakyReLU(),
            kit.Dropout(0.3),
            kit.Conv2D(128, 5, strides=2, padding="same"),
            layers.LeakyReLU(),
            kit.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(1, dtype="float32"),
        ],
        name="discriminator",
    )


def step_flops(generator: keras.Model, discriminator: keras.Model) -> float:
    """Return the floating-point operations of matrix products a training step needs an image.

    A multiplication with its addition counts as two. One pass goes forward through each network
    (two through the discriminator: real and fake), one back to the weights, and one back to the
    inputs, which a network's first layer needs only where the generator learns from it.
    """
    g_first, *g_others = layer_products(generator)
    d_first, *d_others = layer_products(discriminator)
    generator_passes = 2 * g_first + 3 * sum(g_others)
    discriminator_passes = 5 * d_first + 7 * sum(d_others)
    return 2.0 * (generator_passes + discriminator_passes)


def layer_products(network: keras.Model) -> list[int]:
    """Return the multiplications in one forward pass of one image, layer by layer."""
    products = []
    for layer in network.layers:
        if isinstance(layer, layers.Conv2DTranspose):  # each input pixel meets the whole kernel
            _, rows, columns, _ = layer.input.shape
        elif isinstance(layer, layers.Conv2D):  # each output pixel does
            _, rows, columns, _ = layer.output.shape
        elif isinstance(layer, layers.Dense):
            rows = columns = 1
        else:
            continue
        products.append(rows * columns * layer.kernel.shape.num_elements())
    return products
