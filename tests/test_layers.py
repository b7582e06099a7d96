"""The layers with faster kernels compute what Keras' own compute."""

from itertools import product
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcgan import layers

POLICIES = ("float32", "mixed_bfloat16")


def relative_error(value: tf.Tensor, expected: tf.Tensor) -> float:
    """Return the largest difference as a share of the largest expected value."""
    value, expected = np.asarray(value, np.float64), np.asarray(expected, np.float64)
    return np.abs(value - expected).max() / np.abs(expected).max()


def output_and_gradients(layer: keras.layers.Layer, images: tf.Tensor) -> list[tf.Tensor]:
    """Return the layer's output, and a loss's gradients to images, kernel and bias."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        output = layer(images)
        loss = tf.reduce_sum(tf.cast(output, tf.float32) ** 2)
    return [output, *tape.gradient(loss, [images, layer.kernel, layer.bias])]


@pytest.mark.parametrize("name", ["Conv2D", "Conv2DTranspose"])
@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("policy", POLICIES)
def test_convolutions_equal_those_of_keras(name: str, size: int, policy: str) -> None:
    """To a few bits in float32; in bfloat16, which keeps eight, as nearly as Keras' own layer."""
    options = {"strides": 2, "padding": "same", "bias_initializer": "ones"}
    for side, channels, filters in product((8, 14, 20), (3, 8), (3, 8)):
        ours = getattr(layers, name)(filters, size, dtype=policy, **options)
        exact, rounded = (
            getattr(keras.layers, name)(filters, size, dtype=dtype, **options)
            for dtype in ("float32", policy)
        )
        images = tf.random.stateless_normal((6, side, side, channels), (size, side))
        for layer in (ours, exact, rounded):
            layer(images)
            layer.set_weights(ours.get_weights())
        for value, expected, keras_value in zip(
            *(output_and_gradients(layer, images) for layer in (ours, exact, rounded)), strict=True
        ):
            assert value.shape == expected.shape
            assert relative_error(value, expected) < max(
                {"float32": 1e-5, "mixed_bfloat16": 0.03}[policy],
                1.5 * relative_error(keras_value, expected),
            )


@pytest.mark.parametrize("name", ["Conv2D", "Conv2DTranspose"])
@pytest.mark.parametrize(
    "options",
    [
        {"strides": 1, "padding": "same"},
        {"strides": 2, "padding": "valid"},
        {"strides": 2, "padding": "same", "activation": "relu"},
        {"strides": 2, "padding": "same", "use_bias": False},
        {"strides": 2, "padding": "same", "kernel_size": 1},
        {"strides": 2, "padding": "same", "kernel_size": 7},
    ],
)
def test_other_convolutions_are_those_of_keras(name: str, options: dict) -> None:
    for side in (8, 9):
        ours, theirs = (
            getattr(module, name)(5, **({"kernel_size": 4} | options))
            for module in (layers, keras.layers)
        )
        images = tf.random.stateless_normal((3, side, side, 2), (1, 2))
        ours(images), theirs(images)
        theirs.set_weights(ours.get_weights())
        assert relative_error(ours(images), theirs(images)) < 1e-5


def test_gradient_of_a_gradient_passes_through() -> None:
    """As a penalty on the discriminator's gradient needs it."""
    penalties = []
    kernel = None
    for module in (layers, keras.layers):
        images = tf.random.stateless_normal((4, 8, 8, 3), (1, 2))
        down = module.Conv2D(6, 4, strides=2, padding="same", activation="tanh")
        up = module.Conv2DTranspose(3, 4, strides=2, padding="same", activation="tanh")
        up(down(images))
        if kernel is not None:
            down.set_weights(kernel[0]), up.set_weights(kernel[1])
        kernel = down.get_weights(), up.get_weights()
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(images)
                logits = tf.reduce_sum(up(down(images)))
            penalty = tf.reduce_sum(inner.gradient(logits, images) ** 2)
        penalties.append([penalty, *outer.gradient(penalty, [down.kernel, up.kernel])])
    for value, expected in zip(*penalties, strict=True):
        assert relative_error(value, expected) < 1e-4


@pytest.mark.parametrize("shape", [(8, 4, 4, 5), (16, 7)])
def test_batch_normalisation_equals_that_of_keras(shape: tuple[int, ...]) -> None:
    ours, theirs = (m.BatchNormalization(momentum=0.9) for m in (layers, keras.layers))
    for seed in (1, 2):
        batch = 3 * tf.random.stateless_normal(shape, (seed, 0)) + 1
        assert np.allclose(ours(batch, training=True), theirs(batch, training=True), atol=1e-5)
    for value, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert np.allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert np.allclose(ours(batch, training=False), theirs(batch, training=False), atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_bias_gradients_are_summed_in_float32(stride: int) -> None:
    layer = layers.Conv2D(4, 3, strides=stride, padding="same", dtype="mixed_bfloat16")
    with tf.GradientTape() as tape:
        outputs = layer(tf.ones((64, 32, 32, 3)))
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32))
    # One for every pixel of the output, far more than bfloat16 can count.
    assert tape.gradient(loss, layer.bias).numpy() == pytest.approx(
        64 * (32 // stride) ** 2, rel=0.01
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_batch_normalisation_with_known_statistics_and_its_gradient(policy: str) -> None:
    tolerance = {"float32": 1e-5, "mixed_bfloat16": 0.03}[policy]
    images = tf.random.stateless_normal((4, 8, 8, 16), (1, 2))
    results = []
    for module, dtype in ((layers, policy), (keras.layers, "float32")):
        layer = module.BatchNormalization(dtype=dtype)
        layer.build(images.shape)
        rng = np.random.default_rng(0)
        layer.set_weights([rng.uniform(0.5, 2, 16) for _ in range(4)])
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=False)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
        results.append((outputs, tape.gradient(loss, images)))
    for value, expected in zip(*results, strict=True):
        assert relative_error(tf.cast(value, tf.float32), expected) < tolerance


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    layer = layers.Dropout(0.25, seed=1)
    ones = tf.ones((100, 1003))  # not a multiple of four: random bytes come in fours
    first, second = layer(ones, training=True).numpy(), layer(ones, training=True).numpy()
    assert set(np.unique(first)) == {0, np.float32(1 / 0.75)}
    assert (first == 0).mean() == pytest.approx(0.25, abs=0.005)
    assert (first != second).any()
    assert (layer(ones, training=False).numpy() == 1).all()
    assert (layers.Dropout(0.0)(ones, training=True).numpy() == 1).all()
    assert (layers.Dropout(0.999)(ones, training=True).numpy() == 0).mean() > 0.99
    again = layers.Dropout(0.25, seed=1)
    assert (again(ones, training=True).numpy() == first).all()


def test_adam_equals_that_of_keras() -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)
    results = []
    for module in (layers, keras.optimizers):
        variable = keras.Variable(np.ones((3, 4), np.float32))
        optimizer = module.Adam(schedule, beta_1=0.5, beta_2=0.9)
        for step in range(20):
            optimizer.apply([tf.random.stateless_normal((3, 4), (step, 0))], [variable])
        results.append([variable.numpy(), *(moment.numpy() for moment in optimizer.variables)])
    for value, expected in zip(*results, strict=True):
        assert np.allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_a_mask_of_another_shape_is_left_to_keras() -> None:
    dropout = layers.Dropout(0.5, noise_shape=(None, 1, 1, 7), seed=1)
    outputs = dropout(tf.ones((4, 3, 3, 7)), training=True).numpy()
    assert (outputs == outputs[:, :1, :1]).all()  # whole channels are dropped
    assert set(np.unique(outputs)) == {0, 2}


def test_amsgrad_is_left_to_keras() -> None:
    results = []
    for module in (layers, keras.optimizers):
        variable = keras.Variable(np.ones(3, np.float32))
        optimizer = module.Adam(0.1, amsgrad=True)
        for gradient in (9.0, 0.1, 0.1):
            optimizer.apply([tf.fill(3, gradient)], [variable])
        results.append(variable.numpy())
    assert np.array_equal(*results)


@pytest.mark.parametrize("name", ["Conv2D", "Conv2DTranspose"])
def test_channels_first_is_left_to_keras(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow has no such convolution for a CPU."""
    monkeypatch.setattr(getattr(keras.layers, name), "call", lambda self, inputs: "Keras")
    layer = getattr(layers, name)(6, 4, strides=2, padding="same", data_format="channels_first")
    assert layer.call(tf.zeros((2, 8, 8, 8))) == "Keras"


def build_model(seed: int) -> keras.Model:
    """Return a model with every layer of the module, each with options of its own."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 4, strides=2, padding="same", activation="relu", name="down")(images)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-4, name="norm")(x)
    x = layers.Dropout(0.25, seed=5, name="drop")(x)
    x = layers.Conv2DTranspose(3, 4, strides=2, padding="same", use_bias=False, name="up")(x)
    model = keras.Model(images, x)
    model.compile(layers.Adam(0.02, beta_1=0.5), "mse")
    model.train_on_batch(np.ones((4, 8, 8, 3)), np.zeros((4, 8, 8, 3)))
    return model


def outputs_of(model: keras.Model) -> np.ndarray:
    """Return what a model computes in use."""
    return model(tf.random.stateless_normal((4, 8, 8, 3), (1, 2)), training=False).numpy()


@pytest.mark.parametrize("name", ["down", "norm", "drop", "up"])
def test_a_layer_is_rebuilt_from_its_own_config(name: str) -> None:
    layer = build_model(1).get_layer(name)
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert type(again) is type(layer)
    assert again.get_config() == config
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(restored) is type(layer)
    assert restored.get_config() == config


def test_batch_normalisation_keeps_what_is_asked_of_it() -> None:
    for synchronized in (True, False):
        layer = layers.BatchNormalization(synchronized=synchronized)
        assert layer.synchronized is synchronized
        assert type(layer).from_config(layer.get_config()).synchronized is synchronized
    assert layers.BatchNormalization().synchronized


@pytest.mark.parametrize("policy", POLICIES)
def test_a_clone_computes_the_same(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    model = build_model(1)
    clone = keras.models.clone_model(model)
    assert [type(layer) for layer in clone.layers] == [type(layer) for layer in model.layers]
    assert not np.array_equal(outputs_of(clone), outputs_of(model))  # weights of its own
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert np.array_equal(outputs_of(clone), outputs_of(model))


def test_a_saved_model_computes_the_same(tmp_path: Path) -> None:
    model = build_model(1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    assert type(loaded.optimizer) is layers.Adam
    assert np.array_equal(outputs_of(loaded), outputs_of(model))
    pair = zip(loaded.optimizer.variables, model.optimizer.variables, strict=True)
    assert all(np.array_equal(value, expected) for value, expected in pair)
