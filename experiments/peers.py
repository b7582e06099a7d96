"""Recipes that people pick, each trained for equal minutes on the same machine.

Equal numbers of epochs favour what computes much for each image. The recipes are the notebook's
baseline; networks and rates of many public DCGAN notebooks; hinge loss, spectral normalisation and
projection of the class, in the manner of mimicry (https://arxiv.org/abs/2005.02494) and StudioGAN
(https://arxiv.org/abs/2006.10947), but with small networks and one discriminator step; WGAN-GP; and
the improved variant, without the minutes of its feature network.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import spectral_norm
import wgan_gp
from matplotlib.figure import Figure

from benchmarks import networks
from dcgan import layers
from dcgan.gan import GAN
from dcgan.quiet import keras

PARAMETERS = {"PRECISION": "mixed_bfloat16"}  # epochs and rates follow from the minutes
RECIPES = {
    "baseline": {},
    "textbook DCGAN": {"BATCH_SIZE": networks.BATCH_SIZE},
    "hinge, SN, projection": {},
    "WGAN-GP": {"BATCH_SIZE": 250},
    "improved": {},
    "improved, small batches": {"BATCH_SIZE": 32, "PENALTY": 0.005, "CLASS_WEIGHT": 0.3},
}
MINUTES, SCORES = (3, 30), (50, 100, 200, 400, 800, 1600)  # the latter are ticks
ROWS = {
    f"{recipe}, {minutes} minutes": {"recipe": recipe, "minutes": minutes} | options
    for minutes in MINUTES
    for recipe, options in RECIPES.items()
}


def falling_adams(
    lesson: SimpleNamespace, g_rate: float, d_rate: float, d_steps: int = 1
) -> list[layers.Adam]:
    """Return Adams whose rates fall linearly to zero, as those of mimicry."""
    steps = lesson.EPOCHS * (lesson.TRAIN_IMAGES // lesson.BATCH_SIZE)
    fall = keras.optimizers.schedules.PolynomialDecay
    rates = fall(g_rate, steps, 0.0), fall(d_rate, d_steps * steps, 0.0)
    return [layers.Adam(rate, beta_1=0.0, beta_2=0.9) for rate in rates]


def build(lesson: SimpleNamespace, recipe: str) -> tuple[GAN, Callable]:
    """Return networks and training step of a recipe."""
    if recipe == "textbook DCGAN":
        both = networks.build_generator(layers), networks.build_discriminator(layers)
        return GAN(*both, layers.Adam(1e-4), layers.Adam(1e-4)), lesson.train_step
    if recipe == "hinge, SN, projection":
        adams = falling_adams(lesson, 1e-4, 4e-4)
        return spectral_norm.build(lesson, len(lesson.CLASS_NAMES), adams)
    if recipe == "WGAN-GP":
        return wgan_gp.build(lesson, 5, falling_adams(lesson, 2e-4, 2e-4, d_steps=5))
    if "improved" in recipe:
        return lesson.improved, lesson.improved_train_step
    return lesson.make_baseline(), lesson.train_step


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the score of each recipe against its minutes."""
    axis = Figure(figsize=(9, 4.5), dpi=80, layout="constrained").subplots()
    for recipe in RECIPES:
        own = [rows.get(f"{recipe}, {minutes} minutes", {}) for minutes in MINUTES]
        if points := [(row["minutes"], row["frechet"]) for row in own if "frechet" in row]:
            axis.loglog(*zip(*points, strict=True), "o:", label=recipe)  # separate trainings
    axis.set(xlabel="minutes of training", ylabel="Fréchet distance by the judge")
    axis.set_xticks(MINUTES, MINUTES)
    axis.set_yticks(SCORES, SCORES)
    axis.minorticks_off()
    if axis.lines:  # rows may be judged later
        axis.figure.legend(loc="outside right center", frameon=False)
    axis.figure.savefig(path)
