"""Recipes that people pick, each trained for equal minutes on the same machine.

Equal numbers of epochs favour what computes much for each image, and equal minutes do not. The
recipes are the notebook's baseline; the networks of many public DCGAN notebooks; hinge loss,
spectral normalisation and projection of the class, as in mimicry (https://arxiv.org/abs/2005.02494)
and StudioGAN (https://arxiv.org/abs/2006.10947); WGAN-GP; and the notebook's improved variant.
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

PARAMETERS = {}  # epochs and rates follow from the minutes
RECIPES = {
    "baseline": {},
    "textbook networks": {"BATCH_SIZE": networks.BATCH_SIZE},
    "hinge, SN, projection": spectral_norm.TWO_RATES,
    "WGAN-GP": {"BATCH_SIZE": 250},
    "improved": {},
}
MINUTES = (3, 30)
ROWS = {
    f"{recipe}, {minutes} minutes": {"recipe": recipe, "minutes": minutes} | options
    for minutes in MINUTES
    for recipe, options in RECIPES.items()
}


def build(lesson: SimpleNamespace, recipe: str) -> tuple[GAN, Callable]:
    """Return networks and training step of a recipe."""
    if recipe == "textbook networks":
        both = networks.build_generator(layers), networks.build_discriminator(layers)
        return lesson.GAN(*both, layers.Adam(1e-4), layers.Adam(1e-4)), lesson.train_step
    if recipe == "hinge, SN, projection":
        return spectral_norm.build(lesson, classes=len(lesson.CLASS_NAMES))
    if recipe == "WGAN-GP":
        return wgan_gp.build(lesson, d_steps=5)
    if recipe == "improved":
        return lesson.improved, lesson.improved_train_step
    return lesson.make_baseline(), lesson.train_step


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the score of each recipe against its minutes."""
    figure = Figure(figsize=(7.5, 4.5), dpi=80, layout="constrained")
    axis = figure.subplots()
    for recipe in RECIPES:
        own = [row for title, row in rows.items() if title.startswith(recipe) and "frechet" in row]
        minutes, scores = ([row[key] for row in own] for key in ("minutes", "frechet"))
        axis.plot(minutes, scores, "o-", label=recipe)
    axis.set(xscale="log", xlabel="minutes of training", ylabel="Fréchet distance by the judge")
    axis.minorticks_off()
    axis.set_xticks(MINUTES, MINUTES)
    axis.legend(frameon=False)
    figure.savefig(path)
