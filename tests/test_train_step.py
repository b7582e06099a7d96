"""The training step: what is compiled is what is written, and what breaks the contract is said."""

import traceback
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from split_batch import LATENT_DIM, SEED, build_gan, losses, make_batches, train_step

from dcgan.augment import random_flip
from dcgan.devices import STEP_KEYS, compile_step, update_ema
from dcgan.gan import GAN


@tf.function
def step_by_hand(gan: GAN, number: tf.Tensor, real_images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Train for one step with nothing but a tape, and gradient descent written out."""
    noise = tf.random.stateless_normal((tf.shape(real_images)[0], LATENT_DIM), (SEED, number))
    real_images = random_flip(real_images, (SEED, number))
    with tf.GradientTape(persistent=True) as tape:
        fake_images = gan.generator(noise, training=True)
        real_logits = gan.discriminator(real_images, training=True)
        fake_logits = gan.discriminator(fake_images, training=True)
        g_loss, d_loss = losses(real_logits, fake_logits)
    g_variables, d_variables = (
        network.trainable_variables for network in (gan.generator, gan.discriminator)
    )
    g_gradients, d_gradients = (
        tape.gradient(g_loss, g_variables),
        tape.gradient(d_loss, d_variables),
    )
    for variable, gradient in zip(g_variables, g_gradients, strict=True):
        variable.assign_sub(0.02 * gradient)
    for variable, gradient in zip(d_variables, d_gradients, strict=True):
        variable.assign_sub(0.01 * gradient)
    return {"g_loss": g_loss, "d_loss": d_loss}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_compiled_step_equals_one_written_by_hand_bit_for_bit(dropout: float) -> None:
    ours, theirs = (build_gan(dropout, keras.optimizers.SGD) for _ in range(2))
    step = compile_step(train_step, ours, LATENT_DIM, SEED)
    for number, (images, labels) in enumerate(make_batches()):
        metrics, expected = step(images, labels), step_by_hand(theirs, tf.constant(number), images)
        for name, value in expected.items():
            assert metrics[name] == value
    assert int(ours.step) == number + 1
    for name in ("generator", "discriminator"):
        pairs = getattr(ours, name).get_weights(), getattr(theirs, name).get_weights()
        assert all(map(np.array_equal, *pairs))


@pytest.mark.parametrize(("half", "tolerance"), [("mixed_float16", 0.02), ("mixed_bfloat16", 0.1)])
def test_16_bits_train_like_float32(half: str, tolerance: float) -> None:
    """But for their rounding; scaling the loss in float16 leaves the step as it is."""
    changes = []
    for precision in ("float32", half):
        keras.config.set_dtype_policy(precision)
        gan = build_gan(optimizer=keras.optimizers.SGD)
        before = np.concatenate([weight.ravel() for weight in gan.generator.get_weights()])
        compile_step(train_step, gan, LATENT_DIM, SEED)(*next(iter(make_batches())))
        after = np.concatenate([weight.ravel() for weight in gan.generator.get_weights()])
        changes.append(after - before)
    assert np.abs(changes[0] - changes[1]).max() < tolerance * np.abs(changes[0]).max()


def test_all_numbers_of_a_step_pass_through_as_float32() -> None:
    extras = {"python": 3, "numpy": np.float64(0.5), "half": tf.constant(2, tf.bfloat16)}

    def step(*arguments: Any) -> dict:
        return train_step(*arguments) | extras

    images, labels = next(iter(make_batches()))
    metrics = compile_step(step, build_gan(), LATENT_DIM, SEED)(images, labels)
    names = {"g_loss", "d_loss", "real_acc", "fake_acc", "mean_label", *extras}
    assert metrics.keys() == names
    assert {value.dtype for value in metrics.values()} == {tf.float32}
    assert all(value.shape == () for value in metrics.values())
    assert [float(metrics[name]) for name in extras] == [3, 0.5, 2]
    assert float(metrics["mean_label"]) == np.mean(labels)


def test_noise_comes_from_the_seed_and_the_number_of_the_step() -> None:
    seen = []

    def step(gan: GAN, real_images: tf.Tensor, labels: tf.Tensor, noise: tf.Tensor) -> dict:
        tf.numpy_function(lambda values: seen.append(values) or np.int64(0), [noise], tf.int64)
        return train_step(gan, real_images, labels, noise)

    for first_step in (0, 1):  # the second time as after a restart
        gan = build_gan()
        gan.g_optimizer.iterations.assign(first_step)
        compiled = compile_step(step, gan, LATENT_DIM, SEED)
        for batch in make_batches().take(2):
            compiled(*batch)
    for noise, number in zip(seen, (0, 1, 1, 2), strict=True):
        assert noise.dtype == np.float32
        assert np.array_equal(noise, tf.random.stateless_normal((8, LATENT_DIM), (SEED, number)))


def test_a_step_is_traced_once() -> None:
    traces = []

    def step(*arguments: Any) -> dict:
        traces.append(None)
        return train_step(*arguments)

    compiled = compile_step(step, build_gan(ema=True), LATENT_DIM, SEED)
    for batch in make_batches():
        compiled(*batch)
    assert len(traces) == 1


def test_a_step_may_branch_on_a_tensor() -> None:
    """AutoGraph turns a plain `if` into a branch of the compiled step."""

    def step(gan: GAN, real_images: tf.Tensor, labels: tf.Tensor, noise: tf.Tensor) -> dict:
        odd = 0.0
        if gan.step % 2 == 1:
            odd = 1.0
        return train_step(gan, real_images, labels, noise) | {"odd": odd}

    compiled = compile_step(step, build_gan(), LATENT_DIM, SEED)
    assert [float(compiled(*batch)["odd"]) for batch in make_batches().take(3)] == [0, 1, 0]


def replacing(**changes: Any) -> Callable:
    """Return a step whose result differs in some values; None leaves the key out.

    One that leaves a key out or changes one trains as well; others would only take longer.
    """

    def step(*arguments: Any) -> dict:
        metrics = dict.fromkeys(STEP_KEYS, 0.5) | changes
        if not {*STEP_KEYS}.isdisjoint(changes):
            metrics = train_step(*arguments) | changes
        return {name: value for name, value in metrics.items() if value is not None}

    return step


KEYS = "g_loss, d_loss, real_acc, fake_acc"
RETURNS = [
    (lambda *_: None, f"a training step returns a dict with {KEYS}; yours returns NoneType"),
    (lambda *_: (0.0, 1.0), f"a training step returns a dict with {KEYS}; yours returns tuple"),
    (
        replacing(d_loss=None, fake_acc=None),
        f"a training step returns {KEYS}; yours lacks d_loss, fake_acc",
    ),
    (
        replacing(real_acc=tf.zeros((8, 1))),
        "a training step returns one number for each key; "
        "yours returns a tensor of shape (8, 1) for real_acc",
    ),
    (
        replacing(mood="good"),
        "a training step returns one number for each key; yours returns string for mood",
    ),
    (
        replacing(right=tf.constant(True)),
        "a training step returns one number for each key; yours returns bool for right",
    ),
    (
        replacing(network=object()),
        "a training step returns one number for each key; yours returns object for network",
    ),
    (
        replacing(parts={"a": 1.0}),
        "a training step returns one number for each key; yours returns dict for parts",
    ),
]


@pytest.mark.parametrize(("step", "sentence"), RETURNS)
def test_a_result_that_breaks_the_contract_is_named(step: Callable, sentence: str) -> None:
    gan = build_gan()
    before = gan.generator.get_weights()
    compiled = compile_step(step, gan, LATENT_DIM, SEED)
    for _ in range(2):  # a second try is not silently accepted
        with pytest.raises(ValueError, match="a training step") as caught:
            compiled(*next(iter(make_batches())))
        assert str(caught.value) == sentence
        text = "".join(traceback.format_exception(caught.value))
        assert "in user code" not in text
        assert "During handling" not in text
    assert all(map(np.array_equal, before, gan.generator.get_weights()))  # nothing is trained


@pytest.mark.parametrize(
    ("step", "signature"),
    [
        (lambda gan, images, labels: {}, "(gan, images, labels)"),
        (lambda gan, images, labels, noise, rate: {}, "(gan, images, labels, noise, rate)"),
        (lambda gan, images, labels, *, noise: {}, "(gan, images, labels, *, noise)"),
    ],
)
def test_other_arguments_are_refused_before_anything_is_traced(
    step: Callable, signature: str
) -> None:
    with pytest.raises(ValueError, match="takes") as caught:
        compile_step(step, build_gan(), LATENT_DIM, SEED)
    assert str(caught.value) == (
        f"a training step takes (gan, real_images, labels, noise), yours takes {signature}"
    )
    assert caught.value.__suppress_context__


def test_further_arguments_with_defaults_are_welcome() -> None:
    def step(gan: GAN, images: Any, labels: Any, noise: Any, rate: float = 0.5) -> dict:
        return train_step(gan, images, labels, noise) | {"rate": rate}

    compiled = compile_step(step, build_gan(), LATENT_DIM, SEED)
    assert float(compiled(*next(iter(make_batches())))["rate"]) == 0.5


def test_an_error_within_a_step_names_its_line() -> None:
    def step(gan: GAN, real_images: tf.Tensor, labels: tf.Tensor, noise: tf.Tensor) -> dict:
        return {"g_loss": tf.matmul(noise, noise)}  # shapes that do not fit

    compiled = compile_step(step, build_gan(), LATENT_DIM, SEED)
    with pytest.raises(ValueError, match="shapes that do not fit"):
        compiled(*next(iter(make_batches())))


def test_the_average_after_each_step_by_hand() -> None:
    gan = build_gan(ema=True)
    step = compile_step(train_step, gan, LATENT_DIM, SEED)
    expected = [variable.numpy() for variable in gan.generator.trainable_variables]
    for number, batch in enumerate(make_batches(), start=1):
        step(*batch)
        kept = (number + 1) / (number + 10)
        expected = [
            kept * old + (1 - kept) * variable.numpy()
            for old, variable in zip(expected, gan.generator.trainable_variables, strict=True)
        ]
        for average, value in zip(gan.ema_generator.trainable_variables, expected, strict=True):
            assert np.allclose(average.numpy(), value, rtol=1e-5, atol=1e-7)
        statistics = [
            network.non_trainable_variables for network in (gan.generator, gan.ema_generator)
        ]
        for new, copied in zip(*statistics, strict=True):
            assert np.array_equal(new.numpy(), copied.numpy())


def test_the_memory_of_the_average_is_limited() -> None:
    gan = build_gan(ema=True)
    gan.g_optimizer.iterations.assign(1_000)
    weight, average = gan.generator.trainable_variables[0], gan.ema_generator.trainable_variables[0]
    weight.assign(tf.ones_like(weight))
    average.assign(tf.zeros_like(average))
    update_ema(gan, decay=0.75)
    assert np.all(average.numpy() == 0.25)
