"""Leave parts out of the improved variant, and see what they are worth.

Every row is five epochs from scratch, with the notebook's own training step. Without the feature
network one head of five is left, and the penalty is five times as strong: it is a sum over heads,
and the hinge loss their mean.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from dcgan.quiet import keras

PARAMETERS = {"EPOCHS": 5, "G_HALF_LIFE": 5, "D_HALF_LIFE": 2, "PRECISION": "mixed_bfloat16"}
ROWS = {
    "plain DCGAN": {"plain": True},
    "improved": {},
    "improved, second seed": {"SEED": 7},
    "without class term": {"CLASS_WEIGHT": 0.0},
    "without class term and feature network": {
        "feature_network": False,
        "CLASS_WEIGHT": 0.0,
        "PENALTY": 0.1,
    },
    "without class term and classes": {"conditional": False, "CLASS_WEIGHT": 0.0},
    "without fall of the rates to zero": {"falling": False},
    "without EMA generator": {"ema": False},
}


def build(
    lesson: SimpleNamespace,
    plain: bool = False,
    feature_network: bool = True,
    conditional: bool = True,
    ema: bool = True,
    falling: bool = True,
) -> tuple[Any, Callable]:
    """Return networks and training step of a row, put together from the notebook's own parts."""
    if plain:
        return lesson.make_baseline(), lesson.train_step
    classes = len(lesson.CLASS_NAMES)
    sizes = lesson.LATENT_DIM, lesson.IMAGE_SHAPE, lesson.GENERATOR_WIDTH, classes
    generator = lesson.build_improved_generator(*sizes)
    if feature_network:
        maps = lesson.feature_maps.outputs
        discriminator = lesson.build_improved_discriminator(maps, lesson.HEADS, classes)
    else:
        discriminator = without_maps(lesson, classes)
    if not conditional:
        generator, discriminator = without_labels(generator), without_labels(discriminator)
    if not falling:  # in the namespace of the notebook's functions, which is this row's alone
        lesson.make_improved.__globals__["FallingRate"] = lambda schedule: schedule
    return lesson.make_improved(generator, discriminator, ema), lesson.improved_train_step


def without_labels(network: Any) -> Any:
    """Return a network that takes labels, but sees zeros in their place."""
    *inputs, labels = network.inputs
    outputs = network([*inputs, keras.ops.zeros_like(labels)])
    return keras.Model(network.inputs, outputs)


def without_maps(lesson: SimpleNamespace, classes: int) -> Any:
    """Return a discriminator that is shown the image and its maps, and looks at the image only."""
    image, *maps = lesson.feature_maps.outputs
    looks = lesson.build_improved_discriminator([image], lesson.HEADS[:1], classes)
    inputs = [keras.Input(x.shape[1:], dtype=x.dtype) for x in (image, *maps)]
    labels = keras.Input((classes,))
    logits = looks([inputs[0], labels])
    for unseen in inputs[1:]:  # the penalty asks for a gradient at each map
        logits += 0 * keras.ops.cast(keras.ops.mean(unseen), "float32")
    return keras.Model([*inputs, labels], logits)
