"""The benchmark measures what it says, and its README shows what it measured."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import networks
import numpy as np
import project
import pytest
import tensorflow as tf
import textbook
import train_step
from contest import contend, timed
from notebook import ROOT

from dcgan import layers
from dcgan.data import draw_stand_in_images


def test_products_and_operations_are_counted_by_hand() -> None:
    generator = networks.build_generator(keras.layers)
    discriminator = networks.build_discriminator(keras.layers)
    dense, doubling, last = 100 * 4096, 16 * 25 * 256 * 128, 256 * 25 * 64 * 3
    assert networks.count_products(generator) == (dense, 2 * doubling + last)
    assert networks.count_products(discriminator) == (last, doubling + 8192)
    generator_passes = 2 * dense + 3 * (2 * doubling + last)
    discriminator_passes = 5 * last + 7 * (doubling + 8192)
    expected = 2 * (generator_passes + discriminator_passes)
    assert networks.step_flops(generator, discriminator) == expected
    images = keras.Input(discriminator.input_shape[1:])
    nested = keras.Model(images, discriminator(images))
    assert networks.count_products(nested) == (0, last + doubling + 8192)
    frozen = 3 * (last + doubling + 8192)
    assert networks.step_flops(generator, discriminator, discriminator) == expected + 2 * frozen


def test_both_kinds_of_layers_give_the_same_networks() -> None:
    for build in (networks.build_generator, networks.build_discriminator):
        ours, theirs = build(layers), build(keras.layers)
        assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]


def test_textbook_loop_trains_and_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textbook, "STEPS", 2)
    monkeypatch.setattr(textbook, "BATCH_SIZE", 8)
    built = []
    for build in (networks.build_generator, networks.build_discriminator):
        keep = lambda kit, build=build: built.append(build(kit)) or built[-1]  # noqa: E731
        monkeypatch.setattr(textbook, build.__name__, keep)
    history = []
    parts = textbook.make_loop(draw_stand_in_images(24, (32, 32, 3), seed=0)[0], history)
    before = [network.get_weights() for network in built]
    assert all(parts[name]() > 0 for name in ("start", "step", "picture", "start"))
    assert np.isfinite(history).all()
    assert len(history) == 2
    for network, weights in zip(built, before, strict=True):
        assert all((a != b).any() for a, b in zip(network.get_weights(), weights, strict=True))
    picture = textbook.draw_picture(built[0], np.zeros((16, networks.LATENT_DIM), "float32"))
    assert tf.io.decode_png(picture, channels=3).shape == (400, 400, 3)


def write_contender(folder: Path, code: str) -> Path:
    """Write a script that may serve."""
    script = folder / "contender.py"
    path = str(ROOT / "benchmarks")
    script.write_text(
        f"import sys; sys.path.insert(0, {path!r})\nfrom contest import serve\n{code}"
    )
    return script


def test_contenders_answer_requests(tmp_path: Path) -> None:
    code = "print('chatter')\nserve({'a': lambda: 1.5, 'b': lambda: 2.5}, policy='float32')"
    contender = contend(sys.executable, write_contender(tmp_path, code))
    assert next(contender) == {"policy": "float32"}
    for _ in range(2):
        assert next(contender) == {"a": 1.5, "b": 2.5}
    contender.close()


def test_a_contender_that_fails_is_named(tmp_path: Path) -> None:
    contender = contend(sys.executable, write_contender(tmp_path, "sys.exit('no memory')"))
    with pytest.raises(RuntimeError, match=r"contender\.py ended with code 1:\nno memory"):
        next(contender)


def test_an_action_is_timed() -> None:
    assert 0.01 < timed(lambda: time.sleep(0.01))() < 1
    assert timed(lambda: time.sleep(0.01), 1000)() < 0.01


def test_results_are_ratios_of_the_same_round() -> None:
    noise = np.array([1.0, 5.0, 1.0])  # the second round hits a busy machine
    parts = ("step", "start", "samples", "history", "checkpoint", "GIF", "distance", "matmul")
    mine = dict.fromkeys((*parts, "all four"), noise)
    mine |= {"improved": 2 * noise, "Keras' layers": 2 * noise}
    seconds = {
        train_step.TEXTBOOK: {"step": 4 * noise, "start": 25 * noise, "picture": 50 * noise},
        train_step.FLOAT32: {"step": 2 * noise},
        train_step.PROJECT: mine,
    }
    torch = {name: {"step": k * noise} for k, name in enumerate(train_step.TORCH, start=3)}
    about = {"flops": 1e6, "improved_batch": 64, "improved_flops": 2e6, "matmul_flops": 5e6}
    about["kernels"] = ["Keras' layers", "all four"]
    tables = train_step.evaluate(seconds | torch, about)
    speeds, improved, epochs, multiples, shares, others, kernels = tables.values()
    assert [*speeds.values()][:3] == [64, 128, 256]
    assert [*improved.values()] == [32]
    assert [*epochs.values()] == [195 * 4 + 25 + 4 * 50, 195 + 5 + 1]
    assert [*multiples.values()] == [5, 4, 2, 3]
    peak, epoch = 5e6 / 100, 195 + 5 + 1  # steps, what is done beside them, the distance
    expected = [256 * 1e6 / peak, 32 * 2e6 / peak, 100 / epoch, 500 / epoch]
    assert [*shares.values()] == pytest.approx(expected)
    assert [*others.values()] == [1000] * 5
    assert kernels == {"Keras' layers": 1, "all four": 2}
    without = train_step.evaluate(seconds, about)["this project's speed | as a multiple"]
    assert [*without.values()] == [5, 4, 2]


def test_readme_shows_the_results() -> None:
    tables = json.loads(train_step.RESULTS.read_text(encoding="utf-8"))["tables"]
    readme = (train_step.HERE / "README.md").read_text(encoding="utf-8")
    between = readme.split("<!-- benchmark -->")[1].split("<!-- end of benchmark -->")[0]
    assert between.strip() == train_step.format_tables(tables)
    assert all(value > 0 for rows in tables.values() for value in rows.values())


def test_steps_of_the_lesson_are_timed_with_each_kernel(
    lesson: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, timed_with = lesson(GENERATOR_WIDTH=8, DISCRIMINATOR_WIDTH=8), {}
    data = draw_stand_in_images(2 * names.BATCH_SIZE, (32, 32, 3), seed=0)
    gan = names.make_baseline()
    assert project.time_step(names, gan, names.train_step, data, count=2)() > 0
    scope = names.make_baseline.__globals__
    kinds = project.KERNELS["all four"]

    def time_step(lesson: object, gan: object, *_: object) -> None:
        found = [type(layer) for layer in gan.generator.layers + gan.discriminator.layers]
        found.append(type(gan.checkpoint.g_optimizer))
        timed_with[len(timed_with)] = {k.__name__ for k in found if k.__module__ == "dcgan.layers"}

    monkeypatch.setattr(project, "time_step", time_step)
    assert [*project.time_kernels(names, data)] == [*project.KERNELS]
    assert [*timed_with.values()] == [{*chosen} for chosen in project.KERNELS.values()]
    assert all(scope[name] is getattr(layers, name) for name in kinds)


def test_files_of_the_lesson_are_timed(
    lesson: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "GIF_EPOCHS", 3)
    measurements = project.time_files(lesson(FAST=True), str(tmp_path))
    assert all(measure() > 0 for measure in measurements.values())
