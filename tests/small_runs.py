"""What a reader has after executing the notebook's cells, with networks that train in no time."""

import contextlib
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from notebook import run_cells

import dcgan_utils as utils
from dcgan.data import draw_stand_in_images
from dcgan.devices import compile_step
from dcgan.gan import GAN

IMAGES, LABELS = draw_stand_in_images(24, (8, 8, 3), seed=0)  # three steps an epoch
SETTINGS = {"SEED": 42, "BATCH_SIZE": 8, "IMAGE_SHAPE": (8, 8, 3)}
METRICS = {"g_loss": 0.7, "d_loss": 1.4, "real_acc": 0.5, "fake_acc": 0.5}


@functools.cache
def definitions() -> SimpleNamespace:
    """Execute the notebook's definitions, except that the distance takes no classifier."""
    tags = ("setup", "parameters", "definitions", "instruments", "variant:improved")
    with contextlib.chdir("."), contextlib.redirect_stdout(None):  # run_cells goes elsewhere
        names = run_cells(*tags, PRECISION="float32", BATCH_SIZE=8)
    names["TRAIN_IMAGES"] = 24
    names["measure_distance"] = lambda gan: float(np.std(gan.generator.weights[0]))
    return SimpleNamespace(**names)


class Session:
    """A fresh kernel: fresh networks, and a run in a folder."""

    def __init__(
        self, folder: Path, name: str = "tiny", width: int = 4, settings: Any = None, **options: Any
    ) -> None:
        """Build networks of a width; options are those of `Run`."""
        names = definitions()
        names.keras.utils.set_random_seed(names.SEED)
        networks = (
            names.build_generator(names.LATENT_DIM, (8, 8, 3), width),
            names.build_discriminator((8, 8, 3), width, 0.3),
        )
        self.gan = GAN(
            *networks, *(names.Adam(names.halving_rate(1e-3, 50), beta_1=0.5) for _ in range(2))
        )
        self.run = utils.Run(folder, name, SETTINGS if settings is None else settings, **options)

    @functools.cached_property
    def real_step(self) -> Callable:
        """The notebook's training step, compiled."""
        names = definitions()
        return compile_step(names.train_step, self.gan, names.LATENT_DIM, names.SEED)

    def quick_step(self, *_: tf.Tensor) -> dict[str, tf.Tensor]:
        """Change the networks a little, without training."""
        self.gan.checkpoint.g_optimizer.iterations.assign_add(1)
        self.gan.generator.weights[0].assign(self.gan.generator.weights[0] * 1.01)
        return {name: tf.constant(value) for name, value in METRICS.items()}

    def train(
        self, epochs: int, step: Callable | None = None, count: int = len(IMAGES)
    ) -> utils.History:
        """Restore and train on so many images, by the quick step if no other is given."""
        step = step or self.quick_step
        names = definitions()
        # A kernel whose parameters are those that the run was built with.
        with mock.patch.dict(names.train.__globals__, self.run.settings):
            return names.train(self.gan, self.run, step, IMAGES[:count], LABELS[:count], epochs)

    @property
    def values(self) -> list[np.ndarray]:
        """All that a checkpoint holds."""
        return [variable.numpy() for variable in self.gan.variables]

    @property
    def files(self) -> list[str]:
        """The names of the files beside the checkpoints."""
        return sorted(path.name for path in self.run.checkpoints.iterdir())


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    """Say whether two lists of arrays are equal bit by bit."""
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def without_timings(history: utils.History) -> utils.History:
    """Return the records without what depends on the machine's mood."""
    timings = ("seconds", "images_per_second")
    return [{k: v for k, v in record.items() if k not in timings} for record in history]


def interrupted(step: Callable, count: int) -> Callable:
    """Return a step that does what Ctrl-C does before its count-th call."""
    calls = []

    def with_signal(*batch: tf.Tensor) -> dict[str, tf.Tensor]:
        calls.append(None)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*batch)

    return with_signal
