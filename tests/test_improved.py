"""Step 8's definitions: losses, penalty, augmentation, conditional networks, averaged weights."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import dcgan_utils as utils

Lesson = Callable[..., SimpleNamespace]
LABELS = np.arange(8)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 3)).astype(np.float32)


@pytest.fixture
def names(lesson: Lesson) -> SimpleNamespace:
    """The notebook's definitions."""
    return lesson()


def small_run(names: SimpleNamespace) -> tf.train.Checkpoint:
    """Start a conditional run with a narrow generator."""
    generators = [
        names.build_class_generator(names.LATENT_DIM, (32, 32, 3), width=8) for _ in range(2)
    ]
    discriminator = names.build_class_discriminator(names.lens.outputs)
    return names.start_run(generators[0], discriminator, generators[1])


def rules(names: SimpleNamespace) -> object:
    """The rules of the improved variant."""
    return names.Rules(
        names.relativistic_g_loss,
        names.relativistic_d_loss,
        names.pair_accuracies,
        names.show_through_lens,
        names.gradient_penalty,
    )


def weights(model: keras.Model) -> list[np.ndarray]:
    """Copy all weights."""
    return [weight.numpy() for weight in model.weights]


def test_relativistic_losses_at_known_logits(names: SimpleNamespace) -> None:
    real, fake = tf.constant([[1.0], [0.0]]), tf.constant([[0.0], [2.0]])
    softplus = lambda x: math.log1p(math.exp(x))  # noqa: E731
    assert float(names.relativistic_d_loss(real, fake)) == pytest.approx(
        (softplus(-1) + softplus(2)) / 2
    )
    assert float(names.relativistic_g_loss(real, fake)) == pytest.approx(
        (softplus(1) + softplus(-2)) / 2
    )
    undecided = names.relativistic_d_loss(real, real)
    assert float(undecided) == pytest.approx(math.log(2))


def test_relativistic_losses_and_accuracy_ignore_a_shift_of_all_logits(
    names: SimpleNamespace,
) -> None:
    real, fake = tf.constant([[1.0], [0.0], [3.0]]), tf.constant([[0.0], [2.0], [1.0]])
    for measure in (names.relativistic_d_loss, names.relativistic_g_loss):
        assert float(measure(real + 5, fake + 5)) == pytest.approx(float(measure(real, fake)))
    shares = names.pair_accuracies(real, fake), names.pair_accuracies(real + 5, fake + 5)
    assert [float(share) for pair in shares for share in pair] == pytest.approx([2 / 3] * 4)


def test_penalty_of_a_quadratic_is_the_squared_slope(names: SimpleNamespace) -> None:
    images, maps = tf.constant(IMAGES), tf.constant(IMAGES[:, :4, :4])

    def judge(shown: list[tf.Tensor]) -> tf.Tensor:
        first, second = (tf.reduce_sum(part**2, axis=[1, 2, 3]) for part in shown)
        return 3 * first - 2 * second

    expected = np.mean(np.sum((6 * IMAGES) ** 2, (1, 2, 3)))
    expected += np.mean(np.sum((4 * IMAGES[:, :4, :4]) ** 2, (1, 2, 3)))
    expected *= names.PENALTY * names.PENALTY_INTERVAL / 2
    penalise = tf.function(lambda step: names.gradient_penalty(judge, [images, maps], step))
    assert float(penalise(tf.constant(0))) == pytest.approx(expected, rel=1e-4)
    assert float(penalise(tf.constant(2 * names.PENALTY_INTERVAL))) == pytest.approx(
        expected, rel=1e-4
    )
    assert float(penalise(tf.constant(1))) == 0


def test_mirroring_turns_half_of_the_images_and_nothing_else() -> None:
    images = tf.random.stateless_uniform((200, 4, 4, 1), (1, 2))
    mirrored = utils.mirror_at_random(images, (3, 4)).numpy()
    same = (mirrored == images).numpy().all(axis=(1, 2, 3))
    turned = (mirrored == images.numpy()[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ turned).all()
    assert 70 < turned.sum() < 130
    assert np.array_equal(mirrored, utils.mirror_at_random(images, (3, 4)))
    assert not np.array_equal(mirrored, utils.mirror_at_random(images, (3, 5)))


def test_cutting_blanks_one_square_in_a_share_of_the_images() -> None:
    images = tf.ones((400, 12, 10, 3))
    blank = utils.cut_out_at_random(images, (3, 4), 0.5, 6).numpy() == 0
    assert (blank.all(axis=3) == blank.any(axis=3)).all()  # all channels of a pixel alike
    places = blank[..., 0]
    areas = places.sum(axis=(1, 2))
    assert 160 < np.count_nonzero(areas) < 240
    assert areas.max() == 36
    # A square may reach over the edge by half of its side, so a quarter is left of it at least.
    assert areas[areas > 0].min() >= 9
    sides = places.any(axis=2).sum(axis=1), places.any(axis=1).sum(axis=1)
    assert np.array_equal(areas, sides[0] * sides[1])
    assert places.any(axis=0).all()  # no pixel is spared for ever
    assert np.array_equal(blank, utils.cut_out_at_random(images, (3, 4), 0.5, 6).numpy() == 0)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 50)])
def test_none_or_all_images_are_cut(share: float, expected: int) -> None:
    cut = utils.cut_out_at_random(tf.ones((50, 8, 8, 1)), (1, 2), share, 2).numpy()
    assert np.count_nonzero((cut == 0).any(axis=(1, 2, 3))) == expected


@pytest.mark.parametrize("side", [0, 3, -2])
def test_impossible_squares_are_refused(side: int) -> None:
    with pytest.raises(ValueError, match="side must be an even number"):
        utils.cut_out_at_random(tf.ones((2, 8, 8, 1)), (1, 2), 0.5, side)


def test_handicap_grows_from_nothing_to_all(names: SimpleNamespace) -> None:
    steps_an_epoch = names.TRAIN_IMAGES // names.BATCH_SIZE
    begin, end = names.HANDICAP_EPOCHS
    epochs = (0, begin, (begin + end) / 2, end, 2 * end)
    values = [float(names.handicap(tf.constant(int(e * steps_an_epoch)))) for e in epochs]
    assert values == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-3)


def test_penalty_and_cuts_grow_with_the_handicap(names: SimpleNamespace) -> None:
    last = names.HANDICAP_EPOCHS[1] * (names.TRAIN_IMAGES // names.BATCH_SIZE)
    last += -last % names.PENALTY_INTERVAL
    images = tf.constant(IMAGES)

    def judge(shown: list[tf.Tensor]) -> tf.Tensor:
        return tf.reduce_sum(shown[0], axis=[1, 2, 3])

    first, final = (names.gradient_penalty(judge, [images], tf.constant(s)) for s in (0, last))
    assert float(final) == pytest.approx(names.PENALTY_GROWTH * float(first))
    cut = [
        (names.show_through_lens(images, tf.constant(step))[0].numpy() == 0).any(axis=(1, 2, 3))
        for step in (0, 2 * last, 2 * last + 1)
    ]
    assert [part.mean() for part in cut] == [0, 1, 1]  # photographs and fakes alike


def test_real_and_fake_images_are_shown_alike(names: SimpleNamespace) -> None:
    run = small_run(names)
    shown = []

    def show(images: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
        shown.append((images, int(step)))
        return names.show_through_lens(images, step)

    noise, labels = names.draw_inputs(8, 0)
    own_rules = names.Rules(show=show, d_loss=names.relativistic_d_loss)
    names.play(run, own_rules, tf.constant(IMAGES), labels, noise)
    (real, real_step), (fake, fake_step) = shown
    assert np.array_equal(real, IMAGES)
    assert fake.shape == real.shape
    assert real_step != fake_step  # each kind is mirrored independently of the other


def test_lens_shows_the_picture_and_maps_of_16_8_and_4_pixels(names: SimpleNamespace) -> None:
    shown = names.show_through_lens(tf.constant(IMAGES), 0)
    assert [part.shape[1] for part in shown] == [32, 16, 8, 4]
    assert [part.shape[0] for part in shown] == [8] * 4
    mirrored = utils.mirror_at_random(tf.constant(IMAGES), (names.SEED, 0))
    assert np.array_equal(shown[0], mirrored)
    maps = names.guide(mirrored, training=False)
    assert all(np.array_equal(part, other) for part, other in zip(shown[1:], maps, strict=False))


def test_class_networks_use_the_labels(names: SimpleNamespace) -> None:
    generator = names.build_class_generator(names.LATENT_DIM, (32, 32, 3), width=8)
    for layer in generator.layers:  # the shifts of the classes start as zeros
        if "dense" in layer.name:
            layer.set_weights(
                [np.random.default_rng(1).normal(size=w.shape) for w in layer.weights]
            )
    noise, labels = names.draw_inputs(10, 0)
    noise[:] = noise[0]
    images = utils.generate_images(generator, noise, labels)
    assert len(np.unique(images.reshape(10, -1), axis=0)) == 10
    discriminator = names.build_class_discriminator(names.lens.outputs)
    parts = names.show_through_lens(tf.constant(IMAGES), 0)
    logits = [
        utils.call_network(discriminator, parts, labels, training=False).numpy()
        for labels in (LABELS, LABELS[::-1].copy())
    ]
    assert logits[0].shape == (8, 4)
    assert (logits[0] != logits[1]).all()


def test_labels_may_be_shared_out_among_classes(names: SimpleNamespace) -> None:
    generator = names.build_class_generator(names.LATENT_DIM, (32, 32, 3), width=8)
    noise, labels = names.draw_inputs(4, 0)
    one_hot = np.eye(10, dtype=np.float32)[labels]
    whole = utils.generate_images(generator, noise, labels)
    assert np.array_equal(whole, utils.generate_images(generator, noise, one_hot))


def test_networks_without_labels_never_see_them(names: SimpleNamespace) -> None:
    generator = names.build_generator(names.LATENT_DIM, (8, 8, 3), width=4)
    noise, labels = names.draw_inputs(4, 0)
    with_labels = utils.generate_images(generator, noise, labels)
    assert np.array_equal(with_labels, utils.generate_images(generator, noise))
    assert not utils.takes_labels(generator)


def test_missing_labels_are_named(names: SimpleNamespace) -> None:
    generator = names.build_class_generator(names.LATENT_DIM, (32, 32, 3), width=8)
    noise, labels = names.draw_inputs(4, 0)
    with pytest.raises(ValueError, match="class_generator draws or judges by class"):
        utils.generate_images(generator, noise)
    with pytest.raises(ValueError, match="4 noise vectors need as many labels"):
        utils.generate_images(generator, noise, labels[:3])


def test_one_step_trains_the_heads_and_the_generator_but_not_the_guide(
    names: SimpleNamespace,
) -> None:
    run = small_run(names)
    guide = weights(names.guide)
    generator, discriminator = weights(run.generator), weights(run.discriminator)
    assert all(map(np.array_equal, weights(run.sampler), generator))
    step = names.make_train_step(run, rules(names))
    metrics = step(tf.constant(IMAGES), tf.constant(LABELS))
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert metrics["real_acc"] == metrics["fake_acc"]
    assert all(map(np.array_equal, weights(names.guide), guide))
    for before, network in ((generator, run.generator), (discriminator, run.discriminator)):
        assert not all(map(np.array_equal, weights(network), before))


def test_average_after_three_steps_by_hand() -> None:
    layer = keras.layers.BatchNormalization()
    network, average = (keras.Sequential([keras.Input((2,)), layer]) for layer in (
        layer, keras.layers.BatchNormalization()
    ))  # fmt: skip
    expected = np.ones(2)
    for step, gamma in enumerate((2.0, 4.0, 8.0), start=1):
        layer.gamma.assign([gamma, -gamma])
        layer.moving_mean.assign([gamma, gamma])
        utils.update_average(average, network, tf.constant(step), decay=0.3)
        kept = min(0.3, (step + 1) / (step + 10))
        expected = kept * expected + (1 - kept) * np.array([gamma, -gamma])
    assert average.layers[0].gamma.numpy() == pytest.approx(expected)
    assert average.layers[0].moving_mean.numpy().tolist() == [8, 8]  # statistics are copied


def test_a_network_is_its_own_average() -> None:
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    before = weights(network)
    utils.update_average(network, network, tf.constant(5))
    assert all(map(np.array_equal, weights(network), before))


def test_a_run_with_averaged_weights_is_restored(names: SimpleNamespace, tmp_path) -> None:
    images, labels = utils.draw_stand_in_images(16, (32, 32, 3), seed=0)
    folders = utils.prepare_run_folders(tmp_path, "improved")
    first = small_run(names)
    step = names.make_train_step(first, rules(names))
    history = names.train(first, folders, step, images, labels, 1, pictures=20)
    assert utils.read_picture(folders.sample(1)).shape == (2 * 66 + 2, 10 * 66 + 2, 3)
    second = small_run(names)
    step = names.make_train_step(second, rules(names))
    assert names.train(second, folders, step, images, labels, 1, pictures=20) == history
    for name in ("generator", "sampler", "discriminator"):
        pairs = weights(getattr(first, name)), weights(getattr(second, name))
        assert all(map(np.array_equal, *pairs))
    assert not all(map(np.array_equal, weights(second.sampler), weights(second.generator)))
