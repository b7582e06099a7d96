"""Contender: this project's own step and epoch, `python project.py auto|float32`.

The code is that of the notebook's cells; only the networks differ in the comparison with the
textbook, which is made with the textbook's.
"""

import atexit
import shutil
import sys
import tempfile
import time

STARTED = time.perf_counter()

from collections.abc import Callable  # noqa: E402
from types import SimpleNamespace  # noqa: E402
from typing import Any  # noqa: E402

import tensorflow as tf  # noqa: E402
from contest import serve  # noqa: E402
from keras import layers, optimizers  # noqa: E402
from networks import BATCH_SIZE, build_discriminator, build_generator, step_flops  # noqa: E402
from notebook import run_cells  # noqa: E402

import dcgan_utils as utils  # noqa: E402

STEPS = 12
KERNELS = {
    "Keras' layers": (),
    "convolutions": ("Conv2D", "Conv2DTranspose"),
    "batch normalisation": ("BatchNormalization",),
    "dropout": ("Dropout",),
    "Adam": ("Adam",),
    "all four": ("Conv2D", "Conv2DTranspose", "BatchNormalization", "Dropout", "Adam"),
}


def define_lesson(precision: str, **parameters: Any) -> SimpleNamespace:
    """Run the notebook's definitions in a namespace of their own."""
    folder = tempfile.mkdtemp(prefix="dcgan_benchmark_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = {"PRECISION": precision, "OUTPUT_DIR": folder, **parameters}
    return SimpleNamespace(**run_cells("setup", "parameters", "definitions", **settings))


def time_epoch(train_epoch: Callable, step: Callable, images: tf.Tensor) -> Callable[[], float]:
    """Return a function that trains on the images once and returns the seconds it took."""

    def measure() -> float:
        labels = tf.zeros(len(images), tf.uint8)
        progress = utils.EpochProgress()
        train_epoch(step, images, labels, 1, progress, utils.Interruption())
        return progress.seconds

    return measure


def time_kernels(names: SimpleNamespace, images: tf.Tensor) -> dict[str, Callable[[], float]]:
    """Return measurements of the notebook's networks with each of the faster kernels alone."""
    measurements = {}
    for title, chosen in KERNELS.items():
        kit = {name: getattr(layers, name, None) for name in KERNELS["all four"]}
        kit["Adam"] = optimizers.Adam
        kit.update({name: getattr(utils, name) for name in chosen})
        # The notebook's functions look `utils` up in the namespace that they were defined in.
        namespace = names.start_run.__globals__
        namespace["utils"] = SimpleNamespace(**{**vars(utils), **kit})
        run = names.start_run(
            names.build_generator(names.LATENT_DIM, names.IMAGE_SHAPE),
            names.build_discriminator(names.IMAGE_SHAPE),
        )
        step = names.make_train_step(run)
        measurements[f"kernels: {title}"] = time_epoch(names.train_epoch, step, images)
        measurements[f"kernels: {title}"]()  # traced while `utils` has these kernels
        namespace["utils"] = utils
    return measurements


def time_files(names: SimpleNamespace, run: tf.train.Checkpoint) -> dict[str, Callable[[], float]]:
    """Return measurements of all that an epoch does besides training."""
    folders = utils.prepare_run_folders(names.OUTPUT_DIR, "benchmark")
    manager = utils.make_checkpoint_manager(run, folders)
    record = dict.fromkeys(utils.HISTORY_KEYS, 0.5)
    history = [{**record, "epoch": epoch} for epoch in range(1, 51)]
    names.measure_distance(run.generator)  # traced
    for epoch in range(1, 51):
        utils.generate_and_save_images(run.generator, epoch, folders, names.fixed_noise)
    actions = {
        "samples": lambda: utils.generate_and_save_images(
            run.generator, 50, folders, names.fixed_noise
        ),
        "distance": lambda: names.measure_distance(run.generator),
        "history": lambda: utils.save_history(history, folders.history),
        "checkpoint": lambda: utils.save_checkpoint(manager, 50),
        "GIF": lambda: utils.make_gif(folders.frames(range(1, 51)), folders.gif),
    }

    def timed(action: Callable) -> Callable[[], float]:
        def measure() -> float:
            started = time.perf_counter()
            action()
            return time.perf_counter() - started

        return measure

    return {name: timed(action) for name, action in actions.items()}


def time_matmul(dtype: str, side: int = 2048) -> Callable[[], float]:
    """Return a measurement of one product of square matrices, the fastest of five."""
    matrices = [tf.cast(tf.random.normal((side, side)), dtype) for _ in range(2)]
    multiply = tf.function(lambda first, second: tf.matmul(first, second)[0, 0])

    def measure() -> float:
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            multiply(*matrices).numpy()
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    return measure


def main() -> None:
    """Build, then wait for requests."""
    precision = sys.argv[1]
    imported = time.perf_counter()
    (x_train, y_train), _ = utils.load_cifar10()
    loaded = time.perf_counter()
    names = define_lesson(precision, BATCH_SIZE=BATCH_SIZE)
    networks = build_generator(utils), build_discriminator(utils)
    run = names.start_run(*networks)
    step = names.make_train_step(run)
    built = time.perf_counter()
    images = tf.constant(x_train)
    labels = tf.constant(y_train)
    float(step(*next(iter(names.make_dataset(images, labels, 1))))["g_loss"])
    traced = time.perf_counter()

    def start_epoch() -> float:
        started = time.perf_counter()
        next(iter(names.make_dataset(images, labels, 1)))
        return time.perf_counter() - started

    few = images[: STEPS * BATCH_SIZE]
    measurements = {
        "steps": time_epoch(names.train_epoch, step, few),
        "start of epoch": start_epoch,
    }
    facts = {
        "steps": STEPS,
        "policy": tf.keras.config.dtype_policy().name,
        "flops": step_flops(*networks),
        "start_up": {
            "importing TensorFlow": imported - STARTED,
            "loading CIFAR-10": loaded - imported,
            "building the networks": built - loaded,
            "first batch and step": traced - built,
        },
    }
    if precision == "auto":
        measurements |= {f"matmul {dtype}": time_matmul(dtype) for dtype in ("float32", "bfloat16")}
        lesson = define_lesson(precision)
        measurements |= time_files(lesson, run)
        measurements |= time_kernels(lesson, images[: STEPS * lesson.BATCH_SIZE])
        facts["lesson_steps"], facts["lesson_batch"] = STEPS, lesson.BATCH_SIZE
    serve(measurements, facts)


if __name__ == "__main__":
    main()
