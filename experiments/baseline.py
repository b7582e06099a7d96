"""The unchanged baseline under the budget of the other ideas, to compare them with.

A second seed shows how far two runs of one idea differ.
"""

from collections.abc import Callable
from types import SimpleNamespace

from dcgan.gan import GAN

ROWS = {"baseline": {}, "baseline, second seed": {"SEED": 7}}


def build(lesson: SimpleNamespace) -> tuple[GAN, Callable]:
    """Return the notebook's plain networks and training step."""
    return lesson.make_baseline(), lesson.train_step
