"""Turn the baseline into the improved variant one change at a time.

Every row is two epochs from scratch from the same seed; the last rows leave one thing out of the
improved variant. Rows with `maps` have its deeper, class-conditional networks, whose discriminator
sees the image (0) and the feature network's maps (1 to 3).
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

PARAMETERS = {"EPOCHS": 2}
IMAGE, ALL = {"maps": (0,)}, {"maps": (0, 1, 2, 3)}
LOSS, NO_PENALTY = {"relativistic": True}, {"PENALTY": 0.0}
FAST_LOSS = LOSS | {"large_rate": True}
IMPROVED = FAST_LOSS | ALL | {"noise_everywhere": True}
ROWS = {
    "plain DCGAN": {"ema": False, "flips": False},
    "+ EMA generator": {"flips": False},
    "+ random flips": {},
    "+ deeper networks": IMAGE | NO_PENALTY | {"shuffled": True},
    "+ class-conditional": IMAGE | NO_PENALTY,
    "+ relativistic loss and penalty": IMAGE | LOSS,
    "+ larger learning rate": IMAGE | FAST_LOSS,
    "+ feature network": ALL | FAST_LOSS,
    "+ noise in every conditional batch normalisation (improved)": IMPROVED,
    "improved without feature network": IMPROVED | IMAGE,
    "improved without image head": IMPROVED | {"maps": (1, 2, 3)},
    "improved without penalty": IMPROVED | NO_PENALTY,
    "improved without relativistic loss": IMPROVED | {"relativistic": False},
}


def build(
    lesson: SimpleNamespace,
    maps: Sequence[int] = (),
    ema: bool = True,
    flips: bool = True,
    shuffled: bool = False,
    relativistic: bool = False,
    large_rate: bool = False,
    noise_everywhere: bool = False,
) -> tuple[Any, Callable]:
    """Return networks and training step of a row, put together from the notebook's own parts."""
    rates, betas = (lesson.G_LEARNING_RATE, lesson.D_LEARNING_RATE), (lesson.BETA_1, 0.999)
    if large_rate:
        rates, betas = (lesson.IMPROVED_LEARNING_RATE,) * 2, (0.0, 0.99)
    half_lives = lesson.G_HALF_LIFE, lesson.D_HALF_LIFE
    adams = [lesson.make_adam(*pair, *betas) for pair in zip(rates, half_lives, strict=True)]
    if not maps:
        plain = lesson.make_baseline()
        flip = [lesson.layers.RandomFlip("horizontal", seed=lesson.SEED)] if flips else []
        sees = [lesson.keras.Input(lesson.IMAGE_SHAPE), *flip, plain.discriminator]
        networks = plain.generator, lesson.keras.Sequential(sees)
        return lesson.GAN(*networks, *adams, ema=ema), lesson.train_step

    if shuffled:  # labels that say nothing
        lesson.y_train = np.random.default_rng(lesson.SEED).permutation(lesson.y_train)
    # The row's own namespace, where the notebook's functions look each other up.
    names = lesson.improved_train_step.__globals__
    if not relativistic:  # real logits in the generator's loss do not move the generator
        names["pair_accuracies"] = lesson.accuracies
        names["relativistic_loss"] = lambda higher_logits, lower_logits: (
            lesson.generator_loss(higher_logits) + lesson.generator_loss(-lower_logits)
        )
    if not noise_everywhere:
        names["conditional_batch_norm"] = lambda x, condition: lesson.conditional_batch_norm(
            x, condition[:, lesson.LATENT_DIM :]
        )
    names["feature_maps"] = lambda images: [lesson.feature_maps(images)[k] for k in maps]
    seen = [lesson.feature_maps.outputs[k] for k in maps]
    classes = len(lesson.CLASS_NAMES)
    sizes = lesson.LATENT_DIM, lesson.IMAGE_SHAPE, lesson.GENERATOR_WIDTH, classes
    generator = lesson.build_improved_generator(*sizes)
    discriminator = lesson.build_improved_discriminator(seen, classes)
    return lesson.GAN(generator, discriminator, *adams, ema=True), lesson.improved_train_step
