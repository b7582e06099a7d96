"""Leave one part out of the improved variant, and see what it was worth.

Every row is five epochs from scratch, with the notebook's own training step. Where a head is left
out, the penalty is stronger: it is a sum over heads, and the hinge loss their mean.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from dcgan.quiet import keras

PARAMETERS = {"EPOCHS": 5, "G_HALF_LIFE": 5, "D_HALF_LIFE": 2, "PRECISION": "mixed_bfloat16"}
ROWS = {
    "plain DCGAN": {"plain": True},
    "improved": {},
    "improved, second seed": {"SEED": 7},
    "improved without class term": {"CLASS_WEIGHT": 0.0},
    "improved without class term and feature network": {
        "heads": (0,),
        "CLASS_WEIGHT": 0.0,
        "PENALTY": 0.1,
    },
    "improved without class term and classes": {"conditional": False, "CLASS_WEIGHT": 0.0},
    "improved without image head": {"heads": (1, 2, 3, 4), "PENALTY": 0.025},
    "improved without penalty": {"PENALTY": 0.0},
    "improved without fall of the rates to zero": {"falling": False},
    "improved without EMA generator": {"ema": False},
    "improved, one logit a head": {"patches": False},
    "improved, a fifth of the learning rate": {"IMPROVED_LEARNING_RATE": 4e-4},
}


def build(
    lesson: SimpleNamespace,
    plain: bool = False,
    heads: Sequence[int] = (0, 1, 2, 3, 4),
    conditional: bool = True,
    ema: bool = True,
    patches: bool = True,
    falling: bool = True,
) -> tuple[Any, Callable]:
    """Return networks and training step of a row, put together from the notebook's own parts."""
    if plain:
        return lesson.make_baseline(), lesson.train_step
    classes = len(lesson.CLASS_NAMES)
    sizes = lesson.LATENT_DIM, lesson.IMAGE_SHAPE, lesson.GENERATOR_WIDTH, classes
    generator = lesson.build_improved_generator(*sizes)
    discriminator = choose_heads(lesson, heads, patches, classes)
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


def choose_heads(lesson: SimpleNamespace, heads: Sequence[int], patches: bool, classes: int) -> Any:
    """Return a discriminator that is shown the image (0) and all maps, and looks at some."""
    maps = lesson.feature_maps.outputs
    widths = [lesson.HEADS[k] for k in heads]
    looks = lesson.build_improved_discriminator([maps[k] for k in heads], widths, classes)
    inputs = [*(keras.Input(x.shape[1:], dtype=x.dtype) for x in maps), keras.Input((classes,))]
    logits = looks([*(inputs[k] for k in heads), inputs[-1]])
    if not patches:
        logits = keras.ops.mean(logits, axis=-1, keepdims=True)
    for unseen in set(range(len(maps))) - {*heads}:  # the penalty asks for a gradient at each map
        logits += 0 * keras.ops.cast(keras.ops.mean(inputs[unseen]), "float32")
    return keras.Model(inputs, logits)
