"""The notebook's parameters: each has a rule, and what breaks it is named before any work."""

import ast
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from notebook import NOTEBOOK, code_cells, run_cells

from dcgan.settings import RULES, check_settings

IMPOSSIBLE = pytest.mark.survives(
    "an impossible setting", "each of the notebook's parameters, alone and together"
)
IGNORED = pytest.mark.survives(
    "an option that might be ignored",
    "make's options in the environment, DCGAN_FAST=yes, FAST=true, samples beside FROM_SCRATCH",
)


def parameters(**changes: Any) -> dict[str, Any]:
    """Return the notebook's parameters with changes."""
    return run_cells("parameters", namespace={"os": os}, **changes)


def test_every_parameter_of_the_notebook_has_a_rule() -> None:
    (cell,) = (source for source, tags in code_cells(NOTEBOOK) if "parameters" in tags)
    assigned = {node.targets[0].id for node in ast.parse(cell).body if isinstance(node, ast.Assign)}
    assert assigned == {name for name in RULES if name.isupper()}
    check_settings(parameters())


@IMPOSSIBLE
@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("EPOCHS", [0, 1.5, True, "50", None, 10**20], "a whole number from 1 to 1,000,000"),
        (
            "DATA",
            ["", "mnist", "/none", __file__, None, 3, ["a"]],
            "'cifar10', 'fashion_mnist', a ",
        ),
        ("IMAGE_SIZE", [0, 31, 50, 512, 32.0, "32", None, True], "one of 20, 24, 28, 32, "),
        ("TRAIN_IMAGES", [0, -1, 1e3, None], "a whole number of at least 1"),
        ("SEED", [-1, 2**32, 0.5], "a whole number from 0 to 4,294,967,295"),
        (
            "TRUNCATION",
            [0, 1.01, float("nan"), "1", None, Fraction(19, 20)],
            "a number above 0 and at most 1",
        ),
        ("GENERATOR_WIDTH", [0, 1, -64], "a whole number of at least 2"),
        *(
            (name, [0, -1, 0.5, False, "8"], "a whole number of at least 1")
            for name in ("BATCH_SIZE", "LATENT_DIM", "DISCRIMINATOR_WIDTH", "PENALTY_INTERVAL")
        ),
        *(
            (name, [0, -0.1, None, "1e-3", float("nan"), float("inf"), True], "a number above 0")
            for name in ("G_LEARNING_RATE", "D_LEARNING_RATE", "IMPROVED_LEARNING_RATE")
        ),
        *(
            (name, [0, None, -5, float("nan")], "a number above 0")
            for name in ("G_HALF_LIFE", "D_HALF_LIFE")
        ),
        *(
            (name, [1, 1.0, -0.1, "0.3"], "a number of at least 0 and below 1")
            for name in ("DROPOUT", "BETA_1")
        ),
        ("PENALTY", [-0.1, None, float("inf"), 10**400], "a number of at least 0"),
        ("PRECISION", ["bfloat16", "", None, 16], "one of 'auto', 'float32', 'mixed_bfloat16', "),
        *(
            (name, ["False", "", 0, 1, None], "True or False")
            for name in ("FAST", "FROM_SCRATCH", "DETERMINISTIC")
        ),
        *(
            (
                name,
                [0, False, ["a"], __file__, "~nobody_here/a", "a" * 300],
                "the name of a folder that ",
            )
            for name in ("OUTPUT_DIR", "BACKUP_DIR")
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, values: list, sentence: str) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} must be {sentence}") as caught:
            check_settings(parameters(**{name: value}))
        assert str(caught.value).endswith(f", got {value!r:.80}")


@pytest.mark.parametrize(
    "changes",
    [
        {"OUTPUT_DIR": None, "BACKUP_DIR": Path("drive")},
        {"OUTPUT_DIR": "~/a [v2] 한글", "BACKUP_DIR": None},
        {"EPOCHS": np.int16(50), "DROPOUT": np.float32(0.5), "PENALTY": 0},
        {"DATA": Path(__file__).parent, "IMAGE_SIZE": np.int64(48), "TRAIN_IMAGES": 100},
        {"DATA": "fashion_mnist", "IMAGE_SIZE": 256, "TRAIN_IMAGES": 60_000},
        {"TRAIN_IMAGES": 256, "BATCH_SIZE": 256, "SEED": 2**32 - 1, "G_HALF_LIFE": 0.5},
    ],
)
def test_a_value_of_another_kind_that_can_be_used_is_taken(changes: dict[str, Any]) -> None:
    namespace = parameters(**changes)
    check_settings(namespace)
    assert not any(isinstance(namespace[name], np.generic) for name in changes)


@IMPOSSIBLE
def test_all_that_is_wrong_is_said_at_once(lesson: Callable) -> None:
    with pytest.raises(
        ValueError, match=r"EPOCHS must .* got 0; SEED must .* got -1; DROPOUT must"
    ):
        lesson(SEED=-1, EPOCHS=0, DROPOUT=1.0)


@IMPOSSIBLE
def test_a_batch_needs_its_images(lesson: Callable) -> None:
    with pytest.raises(
        ValueError, match=r"^BATCH_SIZE must be at most TRAIN_IMAGES \(256; .* 512$"
    ):
        lesson(FAST=True, BATCH_SIZE=512)
    with pytest.raises(ValueError, match=r"^BATCH_SIZE .* \(1,000; 256 with FAST\), got 1001$"):
        lesson(TRAIN_IMAGES=1000, BATCH_SIZE=1001)


@IGNORED
@pytest.mark.parametrize("value", ["true", "yes", "2"])
def test_an_environment_variable_is_not_ignored(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    for usable in ("", "0", "1"):
        monkeypatch.setenv("DCGAN_FAST", usable)
        assert parameters()["FAST"] == (os.environ["DCGAN_FAST"] == "1")
        check_settings(parameters())
    monkeypatch.setenv("DCGAN_FAST", value)
    with pytest.raises(ValueError, match=f"variable DCGAN_FAST must be .*, got '{value}'"):
        check_settings(parameters())
