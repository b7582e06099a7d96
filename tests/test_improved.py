"""Step 8's definitions: losses, penalty, conditional networks, the step, averaged weights."""

import functools
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_runs import definitions, same

import dcgan_utils as utils
from dcgan import augment
from dcgan.classifier import fold_batch_norm
from dcgan.data import draw_stand_in_images
from dcgan.devices import compile_step
from dcgan.gan import GAN

LABELS = np.arange(8)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 3)).astype(np.float32)


@pytest.fixture
def names() -> SimpleNamespace:
    """The notebook's definitions."""
    return definitions()


def small_gan(names: SimpleNamespace) -> GAN:
    """Return a conditional GAN with a narrow generator."""
    names.keras.utils.set_random_seed(names.SEED)
    return GAN(
        names.build_improved_generator(names.LATENT_DIM, (32, 32, 3), 8, 10),
        names.build_improved_discriminator(names.feature_maps.outputs, names.HEADS, 10),
        *(names.Adam(names.halving_rate(2e-3, 50), beta_1=0.0, beta_2=0.99) for _ in range(2)),
        ema=True,
    )


def improved_step(names: SimpleNamespace, gan: GAN) -> functools.partial:
    """Return the notebook's step, compiled."""
    return compile_step(names.improved_train_step, gan, names.LATENT_DIM, names.SEED)


def test_hinge_losses_at_known_logits(names: SimpleNamespace) -> None:
    real, fake = tf.constant([[2.0, 0.5], [-1.0, 0.0]]), tf.constant([[-3.0, 0.0], [1.0, -0.5]])
    g_loss, d_loss = names.hinge_losses(real, fake)
    assert float(g_loss) == pytest.approx(2.5 / 4)
    assert float(d_loss) == pytest.approx((0 + 0.5 + 2 + 1) / 4 + (0 + 1 + 2 + 0.5) / 4)
    assert [float(loss) for loss in names.hinge_losses(0 * real, 0 * fake)] == [0, 2]


def test_class_loss_at_known_logits(
    names: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SimpleNamespace(get_layer=lambda name: lambda features: features)
    monkeypatch.setitem(
        names.class_loss.__globals__, "feature_network", SimpleNamespace(model=model)
    )
    labels = tf.one_hot([0, 1], 10)

    def loss(logits: tf.Tensor) -> float:
        return float(names.class_loss(logits[:, None, None], labels))

    assert loss(tf.zeros((2, 10))) == pytest.approx(np.log(10))
    smoothed = 0.9 * labels + 0.01
    entropy = -np.sum(smoothed[0] * np.log(smoothed[0]))
    assert loss(tf.math.log(smoothed)) == pytest.approx(entropy)
    assert loss(20 * labels) > entropy  # too sure


def test_the_class_loss_reads_the_maps_as_the_trained_network_does(
    names: SimpleNamespace,
) -> None:
    maps = names.feature_network.model(IMAGES, training=False)
    labels = tf.one_hot(LABELS, 10)
    expected = keras.losses.categorical_crossentropy(
        labels, maps[-1], from_logits=True, label_smoothing=0.1
    )
    loss = names.class_loss(maps[3], labels)
    assert float(loss) == pytest.approx(float(tf.reduce_mean(expected)), rel=1e-4)


def test_learning_rate_falls_to_zero_over_the_second_half(names: SimpleNamespace) -> None:
    rate = names.FallingRate(names.halving_rate(0.4, names.EPOCHS))
    steps = names.EPOCHS * 3  # three an epoch
    optimizer = names.Adam(rate)
    optimizer.build([keras.Variable([1.0])])
    for share, expected in (
        (0, 0.4),
        (1 / 2, 0.4 * 0.5**0.5),
        (3 / 4, 0.2 * 0.5**0.75),
        (1, 0),
        (2, 0),
    ):
        optimizer.iterations.assign(round(share * steps))
        assert float(optimizer.learning_rate) == pytest.approx(expected, rel=0.03)


def test_penalty_of_a_quadratic_is_the_squared_slope(names: SimpleNamespace) -> None:
    maps = [tf.constant(IMAGES), tf.constant(IMAGES[:, :4, :4])]

    def discriminator(inputs: list[tf.Tensor], training: bool) -> tf.Tensor:
        assert training
        first, second, labels = inputs
        assert np.array_equal(labels, LABELS)
        squares = [tf.reduce_sum(part**2, axis=[1, 2, 3]) for part in (first, second)]
        slopes = 3 * squares[0] - 2 * squares[1]
        return slopes[:, None, None] * tf.constant([0.5, 1.5])  # one head, patches of mean 1

    expected = np.mean(np.sum((6 * IMAGES) ** 2, (1, 2, 3)))
    expected += np.mean(np.sum((4 * IMAGES[:, :4, :4]) ** 2, (1, 2, 3)))
    penalty = names.gradient_penalty(discriminator, maps, tf.constant(LABELS))
    assert float(penalty) == pytest.approx(expected, rel=1e-4)


def test_penalty_is_the_same_for_16_bit_maps(names: SimpleNamespace) -> None:
    maps = tf.constant(IMAGES[:, :4, :4], tf.bfloat16)

    def squares(inputs: list[tf.Tensor], training: bool) -> tf.Tensor:
        return tf.reduce_sum(inputs[0] ** 2, axis=[2, 3])[..., None]

    penalty = names.gradient_penalty(squares, [maps], LABELS)
    expected = np.mean(np.sum((2 * IMAGES[:, :4, :4]) ** 2, (1, 2, 3)))
    assert penalty.dtype == tf.float32
    assert float(penalty) == pytest.approx(expected, rel=0.02)


def test_feature_maps_are_the_image_and_maps_of_the_trained_network(
    names: SimpleNamespace,
) -> None:
    maps = names.feature_maps(tf.constant(IMAGES))
    shapes = [(32, 32, 3), (32, 32, 32), (16, 16, 96), (8, 8, 192), (4, 4, 192)]
    assert [tuple(part.shape) for part in maps] == [(8, *shape) for shape in shapes]
    assert np.array_equal(maps[0], IMAGES)
    assert names.feature_network.accuracy > 0.85
    expected = names.feature_network.model(IMAGES, training=False)[:4]
    exact = fold_batch_norm(names.feature_network.model, 4, "float32")(IMAGES)
    for quick, precise, wanted in zip(maps[1:], exact, expected, strict=True):
        assert np.allclose(precise, wanted, atol=1e-4)
        assert np.allclose(quick, wanted, atol=0.05 * np.abs(wanted).max())


def test_conditional_networks_use_the_labels(names: SimpleNamespace) -> None:
    gan = small_gan(names)
    assert gan.conditional
    noise, labels = names.draw_inputs(10, 0)
    noise[:] = noise[0]
    images = utils.generate_images(gan.generator, noise, labels)
    assert len(np.unique(images.reshape(10, -1), axis=0)) == 10
    assert len(np.unique(utils.generate_images(gan.generator, noise, labels * 0)[:, 0, 0])) < 4
    maps = names.feature_maps(tf.constant(IMAGES))
    logits = [
        gan.discriminator([*maps, tf.one_hot(labels, 10)], training=False).numpy()
        for labels in (LABELS, (LABELS + 1) % 10)
    ]
    assert logits[0].shape == (8, 5, 16)
    assert (logits[0] != logits[1]).all()


def test_noise_reaches_more_than_the_bottom(names: SimpleNamespace) -> None:
    generator = small_gan(names).generator
    bottom = next(layer for layer in generator.layers if isinstance(layer, keras.layers.Dense))
    bottom.kernel.assign(tf.zeros_like(bottom.kernel))
    noise, labels = names.draw_inputs(10, 0)
    images = utils.generate_images(generator, noise, 0 * labels)
    assert len(np.unique(images.reshape(10, -1), axis=0)) == 10


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_the_step_trains_in_16_bits(
    names: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """With every term: flips, feature maps, penalty and class term."""
    keras.config.set_dtype_policy(precision)
    scope, penalties = names.improved_train_step.__globals__, []
    monkeypatch.setitem(scope, "policy", precision)
    maps = names.make_feature_maps(names.feature_network.model)
    monkeypatch.setitem(scope, "feature_maps", maps)
    measure = names.gradient_penalty
    monkeypatch.setitem(
        scope, "gradient_penalty", lambda *given: penalties.append(measure(*given)) or penalties[0]
    )
    gan = small_gan(SimpleNamespace(**vars(names) | {"feature_maps": maps}))
    before = [gan.generator.get_weights(), gan.discriminator.get_weights()]
    noise = tf.constant(names.draw_inputs(8, 0)[0])
    metrics = names.improved_train_step(gan, tf.constant(IMAGES), tf.constant(LABELS), noise)
    assert 0 < float(penalties[0]) < 100
    assert all(np.isfinite(float(value)) for value in metrics.values())
    for network, weights in zip((gan.generator, gan.discriminator), before, strict=True):
        assert not any(map(np.array_equal, network.get_weights(), weights))
        assert all(np.isfinite(weight).all() for weight in network.get_weights())


def test_the_terms_of_both_losses_are_weighted_and_the_penalty_is_due_every_so_many_steps(
    names: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope, targets = names.improved_train_step.__globals__, []
    monkeypatch.setitem(scope, "gradient_penalty", lambda *_: tf.constant(3.0))
    monkeypatch.setitem(scope, "apply_gradients", lambda *given: targets.append(float(given[2])))
    monkeypatch.setitem(scope, "class_loss", lambda *_: tf.constant(2.0))
    gan, interval = small_gan(names), names.PENALTY_INTERVAL
    noise = tf.constant(names.draw_inputs(8, 0)[0])
    for step, times in ((0, interval), (1, 0), (interval - 1, 0), (2 * interval, interval)):
        gan.checkpoint.g_optimizer.iterations.assign(step)
        metrics = names.improved_train_step(gan, tf.constant(IMAGES), tf.constant(LABELS), noise)
        penalty = targets[-1] - float(metrics["d_loss"])
        assert penalty == pytest.approx(times * names.PENALTY / 2 * 3, abs=1e-5)
        class_term = targets[-2] - float(metrics["g_loss"])
        assert class_term == pytest.approx(names.CLASS_WEIGHT * 2, abs=1e-5)
    monkeypatch.setitem(scope, "CLASS_WEIGHT", 0.0)  # as for classes that no network knows
    monkeypatch.delitem(scope, "class_loss")
    metrics = names.improved_train_step(gan, tf.constant(IMAGES), tf.constant(LABELS), noise)
    assert targets[-2] == float(metrics["g_loss"])


def test_real_and_generated_images_are_flipped_independently(
    names: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def flip(images: tf.Tensor, seed: tuple) -> tf.Tensor:
        seeds.append(tuple(int(part) for part in seed))
        return images

    monkeypatch.setattr(augment, "random_flip", flip)
    gan = small_gan(names)
    noise = tf.constant(names.draw_inputs(8, 0)[0])
    for _ in range(2):
        names.improved_train_step(gan, tf.constant(IMAGES), tf.constant(LABELS), noise)
    assert len(seeds) == len({*seeds}) == 4


def test_a_run_trains_all_but_the_feature_network_and_is_restored(
    names: SimpleNamespace, tmp_path: Path
) -> None:
    images, labels = draw_stand_in_images(16, (32, 32, 3), seed=0)
    run, maps = utils.Run(tmp_path, "improved"), names.feature_maps.get_weights()
    first, second = small_gan(names), small_gan(names)
    begun = first.generator.get_weights(), first.discriminator.get_weights()
    assert same(first.ema_generator.get_weights(), begun[0])
    history = names.train(first, run, improved_step(names, first), images, labels, 1)
    assert same(names.feature_maps.get_weights(), maps)
    for network, weights in zip((first.generator, first.discriminator), begun, strict=True):
        assert not any(map(np.array_equal, network.get_weights(), weights))
    assert not same(first.ema_generator.get_weights(), begun[0])
    assert utils.read_picture(run.sample(1)).shape == (4 * 66 + 2, 10 * 66 + 2, 3)
    assert names.train(second, run, improved_step(names, second), images, labels, 1) == history
    for name in ("generator", "ema_generator", "discriminator"):
        assert same(getattr(first, name).get_weights(), getattr(second, name).get_weights())
    assert not same(second.ema_generator.get_weights(), second.generator.get_weights())
    assert int(second.step) == 2
