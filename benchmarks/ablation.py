"""Turn the baseline into the improved variant one change at a time: `make ablation`.

Every row trains from scratch for the same number of epochs from the same seed, with the notebook's
own code, and is scored on 10,000 pictures. Rows go to `training_history/ablation.json` as they are
finished; a run that was interrupted goes on with the first row that is missing there.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from notebook import run_cells

import dcgan_utils as utils

RESULTS = Path(__file__).parent.parent / "training_history" / "ablation.json"
EPOCHS = 2

Row = Callable[[], tuple[tf.train.Checkpoint, Any, np.ndarray]]  # gives a run, rules and labels


def plain(names: SimpleNamespace, sampler: bool) -> tf.train.Checkpoint:
    """Start the baseline's networks, perhaps with averaged weights."""
    shape = names.LATENT_DIM, names.IMAGE_SHAPE
    return names.start_run(
        names.build_generator(*shape),
        names.build_discriminator(names.IMAGE_SHAPE),
        names.build_generator(*shape) if sampler else None,
    )


def with_classes(
    names: SimpleNamespace, *, parts: tuple[int, ...], fast: bool, styled: bool
) -> tf.train.Checkpoint:
    """Start class-conditional networks, whose discriminator sees some of what the lens shows.

    Args:
        names: the notebook's definitions.
        parts: 0 for the picture itself, 1 to 3 for the guide's maps.
        fast: the improved variant's optimizers instead of the baseline's.
        styled: whether noise reaches every layer of the generator.
    """
    shape = names.LATENT_DIM, names.IMAGE_SHAPE
    optimizers = [
        names.make_adam(names.IMPROVED_LEARNING_RATE, half_life, beta_1=0.0, beta_2=0.99)
        for half_life in (names.G_HALF_LIFE, names.D_HALF_LIFE)
        if fast
    ]
    return names.start_run(
        names.build_class_generator(*shape, styled=styled),
        names.build_class_discriminator([names.lens.outputs[k] for k in parts]),
        names.build_class_generator(*shape, styled=styled),
        *optimizers,
    )


def describe_rows(names: SimpleNamespace) -> dict[str, Row]:
    """Return the rows of the table by title; the last ones leave one thing out of the improved."""
    pairs = {
        "g_loss": names.relativistic_g_loss,
        "d_loss": names.relativistic_d_loss,
        "accuracies": names.pair_accuracies,
    }
    penalty = {"penalty": names.gradient_penalty}

    def mirror(images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        return utils.mirror_at_random(images, (names.SEED, step))

    def plain_row(*, sampler: bool, **rules: Callable) -> Row:
        return lambda: (plain(names, sampler), names.Rules(**rules), names.y_train)

    def row(
        *parts: int,
        fast: bool = True,
        styled: bool = True,
        labels: np.ndarray = names.y_train,
        **rules: Callable,
    ) -> Row:
        def show(images: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
            shown = names.show_through_lens(images, step)
            return [shown[k] for k in parts]

        return lambda: (
            with_classes(names, parts=parts, fast=fast, styled=styled),
            names.Rules(show=show, **rules),
            labels,
        )

    # Labels that say nothing leave of the class-conditional networks only what else is in them.
    shuffled = np.random.default_rng(names.SEED).permutation(names.y_train)

    return {
        "plain DCGAN": plain_row(sampler=False),
        "+ averaged weights": plain_row(sampler=True),
        "+ mirrored images": plain_row(sampler=True, show=mirror),
        "+ deeper networks": row(0, fast=False, styled=False, labels=shuffled),
        "+ classes": row(0, fast=False, styled=False),
        "+ pairs and penalty": row(0, fast=False, styled=False, **pairs, **penalty),
        "+ larger learning rate": row(0, styled=False, **pairs, **penalty),
        "+ guide": row(0, 1, 2, 3, styled=False, **pairs, **penalty),
        "+ style (improved)": row(0, 1, 2, 3, **pairs, **penalty),
        "improved without guide": row(0, **pairs, **penalty),
        "improved without picture": row(1, 2, 3, **pairs, **penalty),
        "improved without penalty": row(0, 1, 2, 3, **pairs),
        "improved without pairs": row(0, 1, 2, 3, **penalty),
    }


def train_row(names: SimpleNamespace, row: Row, photographs: utils.Readings) -> dict[str, float]:
    """Train one row from scratch and return its scores."""
    keras.utils.set_random_seed(names.SEED)
    run, rules, labels = row()
    with tempfile.TemporaryDirectory() as folder:
        folders = utils.prepare_run_folders(folder, "ablation")
        step = names.make_train_step(run, rules)
        history = names.train(run, folders, step, names.x_train, labels, EPOCHS)
    noise, wanted = names.draw_inputs(names.SAMPLES, names.SEED + 3)
    images = utils.generate_images(run.sampler, noise, wanted)
    intended = wanted if utils.takes_labels(run.sampler) else None
    scores = names.evaluate(images, names.recogniser.read(images), photographs, intended)
    return {"seconds": sum(record["seconds"] for record in history)} | scores


def main() -> None:
    """Train and score the rows that are missing."""
    sys.stdout.reconfigure(line_buffering=True)
    names = SimpleNamespace(**run_cells("setup", "parameters", "data", "definitions"))
    photographs = names.recogniser.read(names.x_train)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    results |= {"epochs": EPOCHS, "seed": names.SEED, "samples": names.SAMPLES}
    for title, row in describe_rows(names).items():
        if title in results["rows"]:
            continue
        print(f"\n{title}")
        results["rows"][title] = train_row(names, row, photographs)
        print({name: round(value, 3) for name, value in results["rows"][title].items()})
        with utils.atomic_path(RESULTS) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
