"""A GAN holds everything that has to survive an interruption, and a checkpoint holds it all."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from split_batch import LATENT_DIM, SEED, build_gan, make_batches, train_step

from dcgan import layers
from dcgan.devices import compile_step
from dcgan.gan import GAN

BOOKKEEPING = ("save_counter", "_CHECKPOINTABLE")


def train(gan: GAN, steps: int) -> list[dict[str, float]]:
    """Train for some steps and return their metrics."""
    step = compile_step(train_step, gan, LATENT_DIM, SEED)
    return [
        {name: float(value) for name, value in step(*batch).items()}
        for batch in make_batches().take(steps)
    ]


def shapes(path: str) -> dict[str, list[int]]:
    """Return the names and shapes of a checkpoint's variables."""
    found = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    return {name: shape for name, shape in found.items() if not name.startswith(BOOKKEEPING)}


def values(gan: GAN) -> list[np.ndarray]:
    """Return all that a checkpoint of this GAN holds."""
    return [variable.numpy() for variable in gan.variables]


def build_noisy(name: str, nested: bool) -> keras.Model:
    """Return a network with random layers: two, one of which may lie within another layer."""
    inner = [keras.layers.GaussianNoise(0.1), keras.layers.Dense(3)]
    inputs = keras.Input((4,))
    x = keras.Sequential(inner)(inputs) if nested else inner[1](inner[0](inputs))
    return keras.Model(inputs, layers.Dropout(0.5)(x), name=name)


@pytest.mark.parametrize("nested", [False, True])
def test_the_random_state_of_both_networks_is_held(nested: bool) -> None:
    networks = build_noisy("generator", nested), build_noisy("discriminator", False)
    gan = GAN(*networks, layers.Adam(), layers.Adam())
    assert len(gan.checkpoint.dropout_seeds) == 4
    dropout = gan.discriminator.layers[-1]
    before = [seed.numpy().tolist() for seed in gan.checkpoint.dropout_seeds]
    gan.discriminator(tf.ones((2, 4)), training=True)
    changed = [seed.numpy().tolist() != old for seed, old in zip(
        gan.checkpoint.dropout_seeds, before, strict=True
    )]  # fmt: skip
    assert changed == [True, True, False, False]  # the discriminator's come first
    states = [id(seed) for seed in gan.checkpoint.dropout_seeds]
    assert id(dropout.seed_generator.state.value) in states


def test_networks_without_randomness_have_no_random_state() -> None:
    assert len(build_gan().checkpoint.dropout_seeds) == 0
    assert len(build_gan(dropout=0.3).checkpoint.dropout_seeds) == 1


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_its_variables_are_those_of_its_checkpoint(
    tmp_path: Path, ema: bool, precision: str
) -> None:
    keras.config.set_dtype_policy(precision)
    gan = build_gan(dropout=0.3, ema=ema)
    found = shapes(gan.checkpoint.write(str(tmp_path / "c"))).values()
    assert sorted(map(list, found)) == sorted(list(variable.shape) for variable in gan.variables)


def test_a_restored_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """Moments, random state and the average included; the noise comes from the step's number."""
    first, second = (build_gan(dropout=0.3, ema=True) for _ in range(2))
    train(first, 3)
    first.epoch.assign(7)
    path = first.checkpoint.write(str(tmp_path / "c"))
    status = second.checkpoint.restore(path)
    status.assert_existing_objects_matched()
    status.assert_consumed()
    assert int(second.epoch) == 7
    assert int(second.step) == 3
    assert all(map(np.array_equal, values(first), values(second)))
    assert train(first, 2) == train(second, 2)
    assert all(map(np.array_equal, values(first), values(second)))


def test_a_checkpoint_fits_every_precision(tmp_path: Path) -> None:
    path = str(tmp_path / "c")
    gan = build_gan(dropout=0.3, ema=True)
    train(gan, 2)
    gan.checkpoint.write(path)
    for precision in ("mixed_float16", "mixed_bfloat16", "float32"):
        keras.config.set_dtype_policy(precision)
        later = build_gan(dropout=0.3, ema=True)
        before = values(gan)
        later.checkpoint.restore(path).assert_consumed()
        assert all(map(np.array_equal, before, values(later)))
        metrics = train(later, 2)
        assert np.isfinite([list(record.values()) for record in metrics]).all()
        later.checkpoint.write(path)
        gan = later


def test_float16_scales_the_loss_and_keeps_the_optimizers_inside() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    gan = build_gan()
    for optimizer, inner in (
        (gan.g_optimizer, gan.checkpoint.g_optimizer),
        (gan.d_optimizer, gan.checkpoint.d_optimizer),
    ):
        assert optimizer.inner_optimizer is inner
        assert float(optimizer.scale_loss(1.0)) > 1
    train(gan, 2)
    assert int(gan.step) == int(gan.checkpoint.g_optimizer.iterations)


def test_the_ema_generator_is_a_copy_with_the_same_weights() -> None:
    plain, averaging = build_gan(), build_gan(ema=True)
    assert plain.ema_generator is plain.generator
    assert averaging.ema_generator is not averaging.generator
    noise = tf.random.stateless_normal((3, LATENT_DIM), (1, 2))
    expected = averaging.generator(noise, training=False)
    assert np.array_equal(averaging.ema_generator(noise, training=False), expected)
    pairs = zip(averaging.generator.weights, averaging.ema_generator.weights, strict=True)
    assert all(one is not other for one, other in pairs)


def test_two_inputs_make_it_conditional() -> None:
    gan = build_gan()
    assert not gan.conditional
    noise, labels = keras.Input((LATENT_DIM,)), keras.Input((10,))
    images = gan.generator(
        keras.layers.Dense(LATENT_DIM)(keras.layers.Concatenate()([noise, labels]))
    )
    generator = keras.Model([noise, labels], images)
    assert GAN(generator, gan.discriminator, layers.Adam(), layers.Adam()).conditional
