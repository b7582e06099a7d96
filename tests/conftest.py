"""Shared fixtures: the notebook's own definitions, and small images."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from command import write_table
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
        tags = ("setup", "parameters", "definitions", "instruments", *tags)
        names = run_cells(*tags, **settings | parameters)
        return SimpleNamespace(**names)

    return define


@pytest.fixture
def pixels() -> np.ndarray:
    """Six random uint8 images (6, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Remember what each test marked `survives` tries, for the table below."""
    for item in items:
        for mark in item.iter_markers("survives"):
            times = mark.kwargs.get("times", 1)  # a test may record another number itself
            item.user_properties += [("survives", mark.args), ("times", times)]


def pytest_terminal_summary(terminalreporter: object) -> None:
    """Print a row for each fault that was tried; a whole `make test-slow` writes the table."""
    if hasattr(terminalreporter.config, "workerinput"):
        return  # one of two processes, which knows its own tests only
    rows: dict[tuple[str, str], list[int]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            properties = dict(report.user_properties)
            if report.when == "call" and "survives" in properties:
                survived = rows.setdefault(tuple(properties["survives"]), [0, 0])
                survived[outcome == "failed"] += properties["times"]
    if not rows:
        return
    terminalreporter.section("what it survives")
    lines = ["| fault | how it was tried | tries | result |", "|---|---|---|---|"]
    for (fault, how), (passed, failed) in sorted(rows.items()):
        result = f"{failed} failed" if failed else "survived"
        lines.append(f"| {fault} | {how} | {passed + failed} | {result} |")
        terminalreporter.write_line(lines[-1])
    options = terminalreporter.config.option
    whole = (options.markexpr, options.keyword, options.file_or_dir) == ("slow or survives", "", [])
    stats = terminalreporter.stats
    skipped = [dict(getattr(report, "user_properties", ())) for report in stats.get("skipped", [])]
    untried = any("survives" in properties for properties in skipped)
    if whole and not (stats.get("failed") or stats.get("error") or untried):
        write_table(ROOT / "tests" / "README.md", "survives", "\n".join(lines))
