"""Contender: this project's own step and epoch, `python project.py auto|float32`.

The code is that of the notebook's cells; the comparison is made with the textbook's networks.
"""

import sys
import tempfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf
from contest import Measurements, serve, timed
from networks import BATCH_SIZE, build_discriminator, build_generator, step_flops
from notebook import SHIPPED, run_cells

import dcgan_utils as utils
from dcgan import layers as fast_layers
from dcgan.data import load_cifar10

TAGS = ("setup", "parameters", "definitions", "instruments", "variant:improved")
STEPS = 12
GIF_EPOCHS = 50  # a run makes one GIF
MATMUL_SIDE = 2048
KERNELS = {
    "Keras' layers": (),
    "convolutions": ("Conv2D", "Conv2DTranspose"),
    "batch normalisation": ("BatchNormalization",),
    "dropout": ("Dropout",),
    "Adam": ("Adam",),
}
KERNELS["all four"] = tuple(name for names in KERNELS.values() for name in names)


def time_step(
    lesson: SimpleNamespace, gan: Any, train_step: Callable, data: tuple, count: int = STEPS
) -> Callable[[], float]:
    """Compile a step; return a measurement of one, the mean of some in an epoch under way."""
    step = lesson.compile_step(train_step, gan, lesson.LATENT_DIM, lesson.SEED)
    batches = iter(lesson.make_dataset(*data, 1).repeat())

    def run_steps() -> float:
        metrics = [step(*next(batches)) for _ in range(count)]
        return float(metrics[-1]["g_loss"])  # waits for the last step

    return timed(run_steps, count)


def time_kernels(lesson: SimpleNamespace, data: tuple) -> Measurements:
    """Return measurements of the notebook's networks with each of the faster kernels alone."""
    measurements = {}
    names = lesson.make_baseline.__globals__  # where the notebook's functions look classes up
    for title, chosen in KERNELS.items():
        for name in KERNELS["all four"]:
            usual = keras.optimizers if name == "Adam" else keras.layers
            names[name] = getattr(fast_layers if name in chosen else usual, name)
        gan = lesson.make_baseline()
        measurements[title] = time_step(lesson, gan, lesson.train_step, data)
    return measurements  # the last ones are those of the notebook again


def time_files(lesson: SimpleNamespace, folder: str) -> Measurements:
    """Return measurements of all that an epoch does besides training."""
    gan, run = lesson.make_baseline(), utils.Run(folder, "benchmark")
    epochs = range(1, GIF_EPOCHS + 1)
    history = [dict.fromkeys(utils.HISTORY_KEYS, 0.5) | {"epoch": epoch} for epoch in epochs]
    for epoch in epochs:
        utils.save_png(lesson.sample_grid(gan), run.sample(epoch))
    return {
        "samples": timed(lambda: utils.save_png(lesson.sample_grid(gan), run.sample(1))),
        "history": timed(lambda: utils.save_history(history, run.history_file)),
        "checkpoint": timed(lambda: run.save(gan, GIF_EPOCHS)),
        "GIF": timed(lambda: utils.make_gif(run.frames, run.picture(".gif")), GIF_EPOCHS),
        "distance": timed(lambda: lesson.measure_distance(gan)),
    }


def time_matmul() -> Callable[[], float]:
    """Return a measurement of a product of square matrices in the policy's precision, best of 5."""
    dtype = keras.config.dtype_policy().compute_dtype
    matrices = [tf.cast(tf.random.normal((MATMUL_SIDE, MATMUL_SIDE)), dtype) for _ in range(2)]
    multiply = tf.function(lambda first, second: tf.matmul(first, second)[0, 0])
    product = timed(lambda: multiply(*matrices).numpy())
    return lambda: min(product() for _ in range(5))


def main(precision: str, folder: str) -> None:
    """Build, then wait for requests."""
    data = tuple(tf.constant(array) for array in load_cifar10()[0])
    sizes = {"PRECISION": precision, "BATCH_SIZE": BATCH_SIZE}
    lesson = SimpleNamespace(**run_cells(*TAGS, **SHIPPED | sizes))
    networks = build_generator(fast_layers), build_discriminator(fast_layers)
    gan = lesson.GAN(*networks, fast_layers.Adam(1e-4), fast_layers.Adam(1e-4))
    measurements = {"step": time_step(lesson, gan, lesson.train_step, data)}
    facts = {"policy": lesson.policy, "flops": step_flops(*networks)}
    if precision == "auto":
        measurements["start"] = timed(lambda: next(iter(lesson.make_dataset(*data, 1))))
        measurements["matmul"] = time_matmul()
        facts["matmul_flops"] = 2 * MATMUL_SIDE**3
        small = SimpleNamespace(**run_cells(*TAGS, **SHIPPED))
        improved, step = small.improved, small.improved_train_step
        measurements["improved"] = time_step(small, improved, step, data, small.PENALTY_INTERVAL)
        parts = improved.generator, improved.discriminator, small.feature_maps
        facts |= {"improved_batch": small.BATCH_SIZE, "improved_flops": step_flops(*parts)}
        measurements |= time_kernels(small, data) | time_files(small, folder)
        facts["kernels"] = [*KERNELS]
    serve(measurements, **facts)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="dcgan_benchmark_") as folder:
        main(sys.argv[1], folder)
