"""Every idea of `experiments/` trains, is restored to the bit, and differs where it says."""

import importlib
import random
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import instance_noise
import keras
import label_smoothing
import numpy as np
import pytest
import self_attention
import spectral_norm
import tensorflow as tf
import upsampling
import vae_gan
import wgan_gp
from notebook import ROOT, run_cells
from small_runs import same, without_timings

import dcgan_utils as utils
from dcgan.data import draw_stand_in_images

IMAGES, LABELS = draw_stand_in_images(20, (32, 32, 3), seed=0)  # two steps an epoch
OTHERS = ("runner", "ablation", "peers", "draw_nebulae")


def rows() -> list[Any]:
    """Return each row's experiment and its options, but for parameters of the notebook."""
    found = [("peers", {"recipe": name}) for name in ("textbook DCGAN", "hinge, SN, projection")]
    for name in sorted(path.stem for path in (ROOT / "experiments").glob("*.py")):
        if name not in OTHERS:
            titles = getattr(importlib.import_module(name), "ROWS", {name: {}})
            found += [(name, options) for options in titles.values()]
    kept = [(name, {k: v for k, v in row.items() if k.islower()}) for name, row in found]
    named = {" ".join([name, *map(str, row.values())]): (name, row) for name, row in kept}
    return [pytest.param(*row, id=title) for title, row in named.items()]


@pytest.fixture(scope="module")
def small() -> SimpleNamespace:
    """The notebook's definitions for narrow networks."""
    widths = {"GENERATOR_WIDTH": 8, "DISCRIMINATOR_WIDTH": 8}
    sizes = {"BATCH_SIZE": 10, "EPOCHS": 2}
    tags = ("setup", "parameters", "definitions", "instruments")
    names = run_cells(*tags, PRECISION="float32", **widths, **sizes)
    names["TRAIN_IMAGES"] = 20  # fewer than a reader may choose
    names["measure_distance"] = lambda gan: float(np.std(gan.generator.weights[0]))
    return SimpleNamespace(**names, x_test=IMAGES)


def capture(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[float]:
    """Let an experiment's step train nothing, and return the losses it would train by."""
    losses = []
    monkeypatch.setattr(module, "apply_gradients", lambda *given: losses.append(float(given[2])))
    return losses


def as_given(step: int = 0) -> SimpleNamespace:
    """Return a GAN whose images are its noise, and whose logits are what it is shown."""
    return SimpleNamespace(
        generator=lambda noise, training: noise,
        discriminator=lambda images, training: images,
        g_optimizer=None,
        d_optimizer=None,
        step=tf.constant(step),
    )


@pytest.mark.parametrize(("name", "options"), rows())
def test_a_resumed_run_equals_an_undisturbed_one(
    small: SimpleNamespace, tmp_path: Path, name: str, options: dict
) -> None:
    """Noise in steps and layers, moments, and all networks, wherever the second ones begin."""
    run = utils.Run(tmp_path, "small")
    histories, values = [], []
    for session in (0, 1):
        keras.utils.clear_session()  # layers are named as in a fresh kernel
        keras.utils.set_random_seed(small.SEED)
        random.seed(session)  # from which Keras draws initial weights, and seeds of layers
        gan, train_step = importlib.import_module(name).build(small, **options)
        step = small.compile_step(train_step, gan, small.LATENT_DIM, small.SEED)
        histories.append(without_timings(small.train(gan, run, step, IMAGES, LABELS, 2)))
        values.append([variable.numpy() for variable in gan.variables])
        for file in run.checkpoints.glob("epoch-2.*"):
            file.unlink()
    assert histories[0] == histories[1]
    assert same(*values)


@pytest.mark.parametrize(
    ("options", "real", "fake"),
    [({}, 1.0, 0.0), ({"real_target": 0.9}, 0.9, 0.0), ({"swapped": 1.0}, 0.0, 1.0)],
)
def test_targets_of_label_smoothing_and_noise(
    small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, options: dict, real: float, fake: float
) -> None:
    losses = capture(monkeypatch, label_smoothing)
    _, step = label_smoothing.build(small, **options)
    logits = tf.constant([[2.0], [-1.0]]), tf.constant([[0.5], [3.0]])
    step(as_given(), logits[0], None, logits[1])
    expected = [float(small.cross_entropy(tf.ones((2, 1)), logits[1]))]
    targets = (tf.fill((2, 1), target) for target in (real, fake))
    pairs = zip(targets, logits, strict=True)
    expected.append(sum(float(small.cross_entropy(*pair)) for pair in pairs))
    assert losses == pytest.approx(expected)


def test_label_noise_swaps_its_share_of_targets(
    small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = capture(monkeypatch, label_smoothing)
    _, step = label_smoothing.build(small, swapped=0.05)
    logits = tf.reshape(tf.linspace(99.0, 101.0, 2000), (-1, 1))
    for number in (0, 1):
        step(as_given(number), logits, None, -logits)
    assert losses[1] != losses[3]
    assert losses[1::2] == pytest.approx([2 * 0.05 * 100] * 2, rel=0.3)


def test_instance_noise_fades_and_differs(
    small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture(monkeypatch, instance_noise)
    _, step = instance_noise.build(small, deviation=0.1)
    images = tf.zeros((100, 4, 4, 1))
    for number, deviation in ((0, 0.1), (1, 0.075), (4, 0.0)):  # of four steps
        shown, gan = [], as_given(number)
        gan.discriminator = lambda images, training, shown=shown: shown.append(images) or images
        step(gan, images, None, images)
        assert [np.std(part) for part in shown] == pytest.approx([deviation] * 2, rel=0.05)
        assert np.array_equal(*shown) == (deviation == 0)


def test_upsampling_has_no_transposed_convolution(small: SimpleNamespace) -> None:
    generator = upsampling.build_generator(small)
    assert not any(isinstance(x, keras.layers.Conv2DTranspose) for x in generator.layers)
    assert generator.output_shape == small.make_baseline().generator.output_shape


def test_attention_changes_nothing_at_first(small: SimpleNamespace) -> None:
    plain, (gan, _) = small.make_baseline(), self_attention.build(small)
    images, noise = tf.random.stateless_normal((4, 32, 32, 3), (1, 2)), small.draw_inputs(4, 0)[0]
    for name, inputs in (("generator", noise), ("discriminator", images)):
        attentive = getattr(gan, name)
        assert [type(x).__name__ for x in attentive.layers].count("Attention") == 1
        assert np.allclose(attentive(inputs), getattr(plain, name)(inputs), atol=1e-6)


def test_spectral_norm_divides_by_the_largest_singular_value(small: SimpleNamespace) -> None:
    """Its state takes part in a checkpoint, and the kernels themselves stay unrounded."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    discriminator = spectral_norm.build_discriminator(small, 0)
    before = [weight.numpy() for weight in discriminator.trainable_variables]
    for _ in range(30):
        discriminator(tf.zeros((1, 32, 32, 3)), training=True)
    assert same(before, [weight.numpy() for weight in discriminator.trainable_variables])
    wrappers = [x for x in discriminator.layers if isinstance(x, spectral_norm.SpectralNorm)]
    assert len(wrappers) == 4
    for wrapper in wrappers:
        vector, kernel = wrapper.normalized_weights()
        assert kernel.dtype == "float32"
        matrix = kernel.numpy().reshape(-1, kernel.shape[-1])
        assert np.linalg.norm(matrix, ord=2) == pytest.approx(1, abs=0.02)
        assert np.allclose(vector, wrapper.vector_u, atol=0.1)


def test_spectral_norm_ignores_the_size_of_a_kernel() -> None:
    """So the gradient of any loss is at a right angle to the kernel."""
    layer = spectral_norm.SpectralNorm(keras.layers.Dense(4))
    inputs = tf.random.stateless_normal((5, 6), (1, 2))
    for _ in range(100):
        outputs = layer(inputs, training=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(inputs, training=True) ** 2)
    slope = tape.gradient(loss, layer.kernel.value)
    assert float(tf.norm(slope)) > 0.1
    assert float(tf.reduce_sum(slope * layer.kernel)) == pytest.approx(0, abs=1e-3)
    layer.kernel.assign(3 * layer.kernel)
    assert np.allclose(layer(inputs, training=False), outputs, atol=1e-5)


def test_gradient_penalty_of_a_linear_discriminator(small: SimpleNamespace) -> None:
    weights = tf.random.stateless_normal((4, 4, 3), (1, 2))
    penalty = wgan_gp.gradient_penalty(
        lambda images, training: tf.reduce_sum(images * weights, axis=[1, 2, 3]),
        tf.zeros((5, 4, 4, 3)),
    )
    assert float(penalty) == pytest.approx((np.linalg.norm(weights) - 1) ** 2, rel=1e-5)


def test_wgan_gp_trains_its_discriminator_several_times_a_step(small: SimpleNamespace) -> None:
    gan, train_step = wgan_gp.build(small, d_steps=5)
    train_step(gan, tf.zeros((10, 32, 32, 3)), None, tf.constant(small.draw_inputs(10, 0)[0]))
    optimizers = gan.g_optimizer, gan.d_optimizer
    assert [int(optimizer.iterations) for optimizer in optimizers] == [1, 5]
    rates = [float(optimizer.learning_rate) for optimizer in optimizers]
    assert rates[0] == pytest.approx(rates[1])


def test_the_encoder_of_a_vae_gan_learns_nothing_from_the_discriminator(
    small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even through the batch statistics of the generator."""
    losses: list[tf.Tensor] = []
    real = small.generator_loss
    gan, train_step = vae_gan.build(
        SimpleNamespace(**vars(small) | {"generator_loss": lambda x: losses.append(x) or real(x)})
    )
    slopes = []

    def keep(optimizer, tape, loss, network) -> None:
        if network is gan.generator:
            encoder = network.encoder.trainable_variables
            slopes.extend(tape.gradient(losses[0], encoder))

    monkeypatch.setattr(vae_gan, "apply_gradients", keep)
    images = tf.random.stateless_normal((10, 32, 32, 3), (1, 2))
    train_step(gan, images, None, tf.constant(small.draw_inputs(10, 0)[0]))
    assert losses[0].shape == (20, 1)
    assert all(slope is None for slope in slopes)


def test_vae_gan_encodes_and_rebuilds(small: SimpleNamespace) -> None:
    gan, train_step = vae_gan.build(small)
    before = gan.generator.encoder.get_weights()
    images = tf.random.stateless_normal((10, 32, 32, 3), (1, 2))
    metrics = train_step(gan, images, None, tf.constant(small.draw_inputs(10, 0)[0]))
    assert metrics["feature difference"] > 0
    assert metrics["KL divergence"] > 0
    changed = zip(before, gan.generator.encoder.get_weights(), strict=True)
    assert not any(np.array_equal(*pair) for pair in changed)
    (rebuilt,) = vae_gan.show(small, gan, 3).values()
    assert rebuilt.shape == (3, 32, 32, 3)
