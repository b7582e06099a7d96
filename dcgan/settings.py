"""What each of the notebook's parameters may be, checked together before anything is built."""

import math
import os
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np

from dcgan.data import KNOWN
from dcgan.dataset import SIDES
from dcgan.devices import PRECISIONS

Rule = tuple[str, Callable[[Any], bool]]  # what a value must be, in words and as a test


def whole(low: int, high: float = math.inf) -> Rule:
    """A whole number from `low` to `high`, both included."""
    words = f"of at least {low}" if high == math.inf else f"from {low:,} to {high:,}"
    return f"a whole number {words}", lambda value: _is_a(int, value) and low <= value <= high


def number(words: str, fits: Callable[[float], bool]) -> Rule:
    """A finite number that fits."""
    return f"a number {words}", lambda value: _is_finite(value) and fits(value)


def one_of(*choices: Any) -> Rule:
    """One of several texts or numbers."""
    return (
        f"one of {', '.join(map(repr, choices))}",
        lambda value: isinstance(value, str | int) and value in choices,
    )


def _is_a(kind: Any, value: Any) -> bool:
    """Say whether a value is a number of a kind; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    """Say whether a value is a number that Python's floats can hold."""
    try:
        return _is_a(int | float, value) and math.isfinite(value)
    except OverflowError:  # a huge integer
        return False


def _expand(value: Any) -> Path | None:
    """Return the path that a value names; None if it is no name, or of a user who is unknown."""
    try:
        return Path(value).expanduser() if isinstance(value, str | Path) and value else None
    except RuntimeError:
        return None


def _is_folder_or_empty(value: Any) -> bool:
    """Say whether a value may name a folder, which need not exist."""
    empty = value is None or (isinstance(value, str) and not value)
    path = _expand(value)
    return empty or (path is not None and not path.is_file())


def _is_data(value: Any) -> bool:
    """Say whether a value names a data set, or a folder or file that exists."""
    path = _expand(value)
    own = path and (path.is_dir() or (path.is_file() and path.suffix == ".npz"))
    return bool(own) or (isinstance(value, str) and value in KNOWN)


SWITCH = "True or False", lambda value: isinstance(value, bool)
FOLDER = "the name of a folder that you may open, or empty", _is_folder_or_empty
POSITIVE = number("above 0", lambda value: value > 0)
NOT_NEGATIVE = number("of at least 0", lambda value: value >= 0)
BELOW_ONE = number("of at least 0 and below 1", lambda value: 0 <= value < 1)

RULES: dict[str, Rule] = {
    "the environment variable DCGAN_FAST": one_of("", "0", "1"),
    "FAST": SWITCH,
    "EPOCHS": whole(1, 1_000_000),
    "FROM_SCRATCH": SWITCH,
    "OUTPUT_DIR": FOLDER,
    "BACKUP_DIR": FOLDER,
    "SEED": whole(0, 2**32 - 1),
    "PRECISION": one_of("auto", *PRECISIONS),
    "DETERMINISTIC": SWITCH,
    "DATA": (f"{', '.join(map(repr, KNOWN))}, a folder of pictures or an .npz file", _is_data),
    "IMAGE_SIZE": one_of(*SIDES),
    "TRAIN_IMAGES": whole(1),
    "BATCH_SIZE": whole(1),
    "LATENT_DIM": whole(1),
    "GENERATOR_WIDTH": whole(2),  # the improved generator has layers of half this width
    "DISCRIMINATOR_WIDTH": whole(1),
    "DROPOUT": BELOW_ONE,
    "G_LEARNING_RATE": POSITIVE,
    "D_LEARNING_RATE": POSITIVE,
    "G_HALF_LIFE": POSITIVE,
    "D_HALF_LIFE": POSITIVE,
    "BETA_1": BELOW_ONE,
    "IMPROVED_LEARNING_RATE": POSITIVE,
    "PENALTY": NOT_NEGATIVE,
    "PENALTY_INTERVAL": whole(1),
    "CLASS_WEIGHT": NOT_NEGATIVE,
    "TRUNCATION": number("above 0 and at most 1", lambda value: 0 < value <= 1),
}


def _fits(value: Any, fits: Callable[[Any], bool]) -> bool:
    """Say whether a value passes a test; a name that the file system refuses does not."""
    try:
        return fits(value)
    except OSError:
        return False


def check_settings(parameters: MutableMapping[str, Any]) -> None:
    """Raise ValueError with a sentence for each of the notebook's parameters that is no use.

    Numbers of NumPy are replaced by Python's, which do not overflow.
    """
    numbers = {
        k: v.item() for k, v in parameters.items() if k in RULES and isinstance(v, np.generic)
    }
    parameters.update(numbers)
    variable = os.environ.get("DCGAN_FAST", "")
    values = {"the environment variable DCGAN_FAST": variable, **parameters}
    wrong = {
        name: f"{name} must be {words}, got {values.get(name)!r:.80}"
        for name, (words, fits) in RULES.items()
        if not _fits(values.get(name), fits)
    }
    if wrong.keys().isdisjoint(("BATCH_SIZE", "TRAIN_IMAGES")):
        size, images = values["BATCH_SIZE"], values["TRAIN_IMAGES"]
        if size > images:
            wrong["BATCH_SIZE"] = (
                f"BATCH_SIZE must be at most TRAIN_IMAGES ({images:,}; 256 with FAST), got {size}"
            )
    if wrong:
        raise ValueError("; ".join(wrong.values()))
