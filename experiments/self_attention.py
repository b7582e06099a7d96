"""Self-attention: in both networks, each place of a feature map looks at all other places.

A convolution sees a neighbourhood only; attention should let distant parts of a thing, such as legs
or wheels, agree. Zhang et al., "Self-Attention Generative Adversarial Networks", 2019,
https://arxiv.org/abs/1805.08318.
"""

from collections.abc import Callable
from types import SimpleNamespace

from dcgan.gan import GAN
from dcgan.layers import Conv2D
from dcgan.quiet import keras

layers = keras.layers
ROWS = {"self-attention": {}}


def attend(x: keras.KerasTensor) -> keras.KerasTensor:
    """Add to maps (N, height, width, channels) what each place gathers from all; nothing at first.

    The last convolution begins with zeros, in place of the paper's factor gamma.
    """
    _, height, width, channels = x.shape

    def places(size: int) -> keras.KerasTensor:
        """Return `size` numbers for each place: (N, places, size)."""
        return layers.Reshape((-1, size))(Conv2D(size, 1, use_bias=False)(x))

    query, key, value = places(channels // 8), places(channels // 8), places(channels // 2)
    gathered = layers.Attention(dtype="float32")([query, value, key])  # softmax needs the digits
    gathered = layers.Reshape((height, width, channels // 2))(gathered)
    zeros = Conv2D(channels, 1, use_bias=False, kernel_initializer="zeros")
    return layers.Add()([x, zeros(gathered)])


def with_attention(network: keras.Model, side: int) -> keras.Model:
    """Return a chain of layers with attention after the activation of its maps of that side."""
    x = network.inputs[0]
    for layer in network.layers[1:]:
        x = layer(x)
        if isinstance(layer, layers.ReLU | layers.LeakyReLU) and x.shape[1] == side:
            x = attend(x)
    return keras.Model(network.inputs[0], x, name=network.name)


def build(lesson: SimpleNamespace) -> tuple[GAN, Callable]:
    """Return the plain networks with attention at half of the images' sides, and the plain step."""
    plain, side = lesson.make_baseline(), lesson.IMAGE_SHAPE[0] // 2
    networks = with_attention(plain.generator, side), with_attention(plain.discriminator, side)
    return lesson.make_baseline(*networks), lesson.train_step
