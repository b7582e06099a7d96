"""The networks of the benchmark: those that public DCGAN notebooks build, sized for CIFAR-10."""

from types import ModuleType

import keras
from keras import layers

LATENT_DIM = 100
BATCH_SIZE = 256


def build_generator(kit: ModuleType) -> keras.Model:
    """Return 256-128-64 channels with 5 x 5 kernels; `kit` has the layers: Keras' or ours."""
    noise = keras.Input((LATENT_DIM,))
    x = layers.Dense(4 * 4 * 256, use_bias=False)(noise)
    x = layers.Reshape((4, 4, 256))(layers.LeakyReLU()(kit.BatchNormalization()(x)))
    for channels in (128, 64):
        x = kit.Conv2DTranspose(channels, 5, strides=2, padding="same", use_bias=False)(x)
        x = layers.LeakyReLU()(kit.BatchNormalization()(x))
    x = kit.Conv2DTranspose(3, 5, strides=2, padding="same", use_bias=False)(x)
    return keras.Model(noise, layers.Activation("tanh", dtype="float32")(x), name="generator")


def build_discriminator(kit: ModuleType) -> keras.Model:
    """Return 64-128 channels with 5 x 5 kernels and dropout."""
    images = x = keras.Input((32, 32, 3))
    for channels in (64, 128):
        x = kit.Conv2D(channels, 5, strides=2, padding="same")(x)
        x = kit.Dropout(0.3)(layers.LeakyReLU()(x))
    logits = layers.Dense(1, dtype="float32")(layers.Flatten()(x))
    return keras.Model(images, logits, name="discriminator")


def step_flops(
    generator: keras.Model, discriminator: keras.Model, frozen: keras.Model | None = None
) -> float:
    """Return the floating-point operations of matrix products a training step needs an image.

    A multiplication and its addition count as two. Passes go forward, back to the weights, and back
    to the inputs, the last at a network's input only where the generator learns from it. A `frozen`
    network looks at the images before the discriminator does, and does not learn.
    """
    g_first, g_others = count_products(generator)
    d_first, d_others = count_products(discriminator)
    passes = 2 * g_first + 3 * g_others + 5 * d_first + 7 * d_others
    return 2.0 * (passes + 3 * sum(count_products(frozen)) if frozen else passes)


def count_products(network: keras.Model) -> tuple[int, int]:
    """Return the multiplications of a forward pass: in layers at the inputs, and in all others."""
    inputs, products = {id(x) for x in network.inputs}, [0, 0]
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            products[1] += sum(count_products(layer))
        if not isinstance(layer, layers.Conv2D | layers.Conv2DTranspose | layers.Dense):
            continue
        # Each pixel of the smaller side meets the whole kernel.
        small = layer.input if isinstance(layer, layers.Conv2DTranspose) else layer.output
        pixels = 1 if isinstance(layer, layers.Dense) else small.shape[1] * small.shape[2]
        products[id(layer.input) not in inputs] += pixels * layer.kernel.shape.num_elements()
    return tuple(products)
