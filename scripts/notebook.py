"""Run chosen cells of the notebook as plain Python, so that its code exists only once."""

import functools
import linecache
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "cifar10_dcgan.ipynb"
# The data and places of the shipped runs, whatever a reader has written into the notebook.
SHIPPED = {"DATA": "cifar10", "IMAGE_SIZE": 32, "OUTPUT_DIR": "", "BACKUP_DIR": ""}
SHIPPED |= {"FAST": False, "FROM_SCRATCH": False}
sys.path.insert(0, str(ROOT))  # for dcgan and dcgan_utils


@functools.cache  # a process that takes hours keeps to one version of the notebook
def code_cells(path: Path) -> list[tuple[str, list[str]]]:
    """Return source and tags of each code cell of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return [(c.source, c.metadata.get("tags", [])) for c in cells if c.cell_type == "code"]


def run_cells(
    *tags: str, namespace: dict[str, Any] | None = None, **parameters: Any
) -> dict[str, Any]:
    """Execute cells with one of the `tags` in the notebook's order; return their namespace.

    The repository's root becomes the current folder. What cells would display is passed over; what
    they print is printed. A `namespace` is that of an earlier call, to go on in. The `parameters`
    replace values of the cell tagged so; one that the notebook does not have raises ValueError.
    """
    os.chdir(ROOT)
    namespace = {"__name__": NOTEBOOK.stem} if namespace is None else namespace
    with mock.patch("IPython.display.display", return_value=None):
        for source, its_tags in code_cells(NOTEBOOK):
            if {*tags}.isdisjoint(its_tags):
                continue
            name = f"<{NOTEBOOK.name}: {source.splitlines()[0]} ({hash(source):x})>"
            # Tracebacks and TensorFlow's AutoGraph look a function's source up here.
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            exec(compile(source, name, "exec"), namespace)
            if "parameters" in its_tags:
                if unknown := sorted(parameters.keys() - namespace.keys()):
                    raise ValueError(f"the notebook has no parameter {', '.join(unknown)}")
                namespace.update(parameters)
    return namespace


def variants() -> list[str]:
    """Return the names of the models that the notebook trains: cells tagged `variant:NAME`."""
    tags = (tag for _, its_tags in code_cells(NOTEBOOK) for tag in its_tags)
    return list(
        dict.fromkeys(tag.removeprefix("variant:") for tag in tags if tag.startswith("variant:"))
    )
