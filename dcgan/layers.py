"""Keras' own layers and optimizer with faster kernels: same weights, same mathematics.

Each class takes the options of the Keras class of its name and computes the same up to rounding
(dropout draws other masks); what has no faster kernel is left to Keras. `benchmarks/` measures what
they save.
"""

from collections.abc import Callable
from typing import Any

from dcgan.quiet import keras, tf

# Keras finds a class of its own by name in a saved model or a clone only if it is registered.
_registered = keras.saving.register_keras_serializable(package="dcgan")


@_registered
class Conv2D(keras.layers.Conv2D):
    """Keras' convolution; one that halves even sides (stride 2, "same") is faster on a CPU."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolve images (N, height, width, channels)."""
        if self.data_format != "channels_last":
            return super().call(inputs)
        convolve = _halve if _has_fast_kernel(self, inputs.shape) else self.convolution_op
        return _finish(self, convolve(inputs, tf.convert_to_tensor(self.kernel)))


@_registered
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """Keras' transposed convolution; one that doubles sides (stride 2, "same") is faster too."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolve images (N, height, width, channels)."""
        if not _has_fast_kernel(self, inputs.shape):
            return super().call(inputs)
        return _finish(self, _double(inputs, tf.convert_to_tensor(self.kernel)))


def _has_fast_kernel(layer: keras.layers.Layer, shape: tf.TensorShape) -> bool:
    """Say whether `_halve` and `_double` compute this layer, and faster than Keras does."""
    rows, columns = layer.kernel_size
    options = (layer.data_format, layer.strides, layer.padding, layer.dilation_rate)
    usual = options == ("channels_last", (2, 2), "same", (1, 1))
    even = all(side is not None and side % 2 == 0 for side in shape[1:3])
    plain = getattr(layer, "groups", 1) == 1 and getattr(layer, "output_padding", None) is None
    on_cpu = not tf.config.list_physical_devices("GPU")
    return usual and plain and on_cpu and rows == columns and 2 <= rows <= 6 and even


def _finish(layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
    """Add the layer's bias, if it has one, and apply its activation."""
    if layer.use_bias:
        outputs = _add_bias(outputs, tf.convert_to_tensor(layer.bias))
    return layer.activation(outputs)


@tf.custom_gradient
def _halve(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Convolve with stride 2 and "same" padding: sides are halved."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _spread(upstream, kernel), _kernel_gradient(images, upstream, kernel.shape)

    return tf.nn.conv2d(images, kernel, 2, "SAME"), gradient


@tf.custom_gradient
def _double(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Convolve transposed with stride 2 and "same" padding: sides are doubled."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images_gradient = tf.nn.conv2d(upstream, kernel, 2, "SAME")
        return images_gradient, _kernel_gradient(upstream, images, kernel.shape)

    return _spread(images, kernel), gradient


@tf.custom_gradient
def _add_bias(images: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Add one number a channel, with a gradient summed in float32.

    TensorFlow's own on a CPU is summed in bfloat16, whose eight bits cannot count the pixels.
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        total = tf.reduce_sum(tf.cast(upstream, tf.float32), axis=[0, 1, 2])
        return upstream, tf.cast(total, bias.dtype)

    return tf.nn.bias_add(images, bias), gradient


def _kernel_gradient(large: tf.Tensor, small: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Return the gradient of the kernel that leads from a `large` image to a `small` one.

    It is itself a convolution, of the large image with the small one dilated by the stride, where
    batch and channels change roles: for small images in bfloat16 up to three times as fast.
    """
    if large.dtype != tf.bfloat16 or max(small.shape[1:3]) > 8 or shape[2] <= 4:
        filter_gradient = tf.compat.v1.nn.conv2d_backprop_filter
        return filter_gradient(large, shape.as_list(), small, [1, 2, 2, 1], "SAME")
    before = shape[0] // 2 - 1  # the zeros that "same" puts before the first pixel
    sides = [before, shape[0] - 2 - before]
    padding = [[0, 0], sides, sides, [0, 0]]
    images, kernel = tf.transpose(large, (3, 1, 2, 0)), tf.transpose(small, (1, 2, 0, 3))
    swapped = tf.nn.conv2d(images, kernel, strides=1, padding=padding, dilations=2)
    return tf.transpose(swapped, (1, 2, 0, 3))


def _spread(small: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Spread each pixel of a small image over a kernel's area of an image of twice the sides.

    oneDNN pads few channels to sixteen, so for images of 1 or 3 channels the four pixels that come
    from one are computed as channels of one plain convolution, then laid side by side.
    """
    _, rows, columns, _ = small.shape
    size, _, channels, _ = kernel.shape
    if channels > 4:
        shape = tf.stack([tf.shape(small)[0], 2 * rows, 2 * columns, channels])
        return tf.nn.conv2d_transpose(small, kernel, shape, 2, "SAME")
    # Of a kernel padded to 6 x 6, each pixel's neighbour (one of 3 x 3) uses its own 2 x 2 weights.
    padding = (3 - size // 2, size // 2 + 3 - size)
    taps = tf.pad(kernel, [padding, padding, (0, 0), (0, 0)])
    taps = tf.reshape(taps, (3, 2, 3, 2, channels, -1))[::-1, :, ::-1]
    taps = tf.reshape(tf.transpose(taps, (0, 2, 5, 1, 3, 4)), (3, 3, -1, 4 * channels))
    return tf.nn.depth_to_space(tf.nn.conv2d(small, taps, 1, "SAME"), 2)


@_registered
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation over all devices' batch; on one device, by a fused kernel."""

    def __init__(self, *, synchronized: bool = True, **options: Any) -> None:
        """Take Keras' options by name."""
        super().__init__(synchronized=synchronized, **options)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Normalise images (N, height, width, channels), or anything else as Keras does."""
        learns = training and self.trainable
        alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
        usual = len(inputs.shape) == 4 and self.axis in (3, -1) and self.scale and self.center
        if not usual or getattr(self, "renorm", False) or (learns and not alone):
            return super().call(inputs, training=training)
        averages = (self.moving_mean, self.moving_variance)
        # TensorFlow 2 has kept the fused kernel under this name only.
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            *(() if learns else map(tf.convert_to_tensor, averages)),
            epsilon=self.epsilon,
            is_training=bool(learns),
        )
        if not learns:
            return outputs
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        variance = variance * (count - 1) / count  # biased, as Keras averages it
        for average, value in zip(averages, (mean, variance), strict=True):
            average.assign(average * self.momentum + value * (1 - self.momentum))
        return outputs


@_registered
class Dropout(keras.layers.Dropout):
    """Keras' dropout with one random byte a value instead of four, so `rate` is in steps of 1/256.

    Devices that share a batch draw different masks.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Zero a share `rate` of the values and enlarge the others, in training only."""
        dropped = round(self.rate * 256)
        if self.noise_shape is not None or dropped == 256:
            return super().call(inputs, training=training)
        if not training or not dropped:
            return inputs
        context = tf.distribute.get_replica_context()
        device = context.replica_id_in_sync_group if context else 0
        seed = tf.random.experimental.stateless_fold_in(
            tf.cast(self.seed_generator.next(), tf.int32), tf.cast(device, tf.int32)
        )
        count = tf.size(inputs)
        words = tf.random.stateless_uniform([(count + 3) // 4], seed, None, None, tf.uint32)
        random_bytes = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count]
        kept = tf.reshape(random_bytes >= dropped, tf.shape(inputs))
        return inputs * (tf.cast(kept, inputs.dtype) * (256 / (256 - dropped)))


@_registered
class Adam(keras.optimizers.Adam):
    """Keras' Adam, each variable updated by TensorFlow's one fused operation.

    Source: Kingma & Ba, "Adam: A Method for Stochastic Optimization", 2015.
    """

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Improve one variable and its two moments."""
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        # Keras has no public way from a variable to its moments; its own Adam goes this way too.
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value, variable.dtype) + 1
        # Only as a raw operation: TensorFlow wraps it in no function of its own.
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
