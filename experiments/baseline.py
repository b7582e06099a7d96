"""The unchanged baseline under the budget of the other ideas, to compare them with."""

from collections.abc import Callable
from types import SimpleNamespace

from dcgan.gan import GAN


def build(lesson: SimpleNamespace) -> tuple[GAN, Callable]:
    """Return the notebook's plain networks and training step."""
    return lesson.make_baseline(), lesson.train_step
