"""Shared fixtures: the notebook's own definitions, and small images."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from notebook import run_cells

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def float32_again() -> Iterator[None]:
    """Undo a test's choice of precision."""
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def lesson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """Return a function that executes the notebook's definitions, with tags and parameters."""
    monkeypatch.chdir(ROOT)

    def define(*tags: str, **parameters: object) -> SimpleNamespace:
        settings = {"OUTPUT_DIR": str(tmp_path), "PRECISION": "float32", "BATCH_SIZE": 8}
        names = run_cells("setup", "parameters", "definitions", *tags, **settings | parameters)
        return SimpleNamespace(**names)

    return define


@pytest.fixture
def pixels() -> np.ndarray:
    """Six random uint8 images (6, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
