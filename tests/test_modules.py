"""The modules: small files, and imports that go one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "dcgan").glob("*.py"))
EXPERIMENTS = {*(ROOT / "experiments").glob("*.py")} - {ROOT / "experiments" / "runner.py"}
LIMITS = {
    **dict.fromkeys(MODULES, 350),
    **dict.fromkeys(sorted(EXPERIMENTS), 80),
    **dict.fromkeys(sorted((ROOT / "tests").glob("*.py")), 350),
    ROOT / "dcgan_utils.py": 700,
}


def imports(path: Path) -> set[str]:
    """Return the dotted names of all that a file imports, at its top or within a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "modules are imported by their full names"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_modules_do_not_know_the_lesson() -> None:
    known = {path.name: imports(path) for path in MODULES}
    assert {"files.py", "pixels.py", "metrics.py"} <= known.keys()
    assert [name for name, names in known.items() if "dcgan_utils" in str(names)] == []


@pytest.mark.parametrize("name", ["__init__", "files", "pixels", "metrics"])
def test_some_modules_work_without_tensorflow(name: str) -> None:
    heavy = ("tensorflow", "keras", "dcgan")
    found = {full for full in imports(ROOT / "dcgan" / f"{name}.py") if full.startswith(heavy)}
    assert {full for full in found if not full.startswith("dcgan.pixels.")} == set()


def test_no_file_outgrows_its_reader() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in LIMITS}
    assert {path: count for path, count in lines.items() if count > LIMITS[path]} == {}
