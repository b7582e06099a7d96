"""Run chosen cells of the notebook as plain Python, so that its code exists only once."""

import json
import linecache
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "cifar10_dcgan.ipynb"
sys.path.insert(0, str(ROOT))  # for dcgan and dcgan_utils


def code_cells() -> list[tuple[str, list[str]]]:
    """Return source and tags of each code cell."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    return [(c.source, c.metadata.get("tags", [])) for c in cells if c.cell_type == "code"]


def tagged_cells(*tags: str) -> list[str]:
    """Return the sources of the code cells that carry one of the tags, in the notebook's order."""
    return [source for source, its_tags in code_cells() if not {*tags}.isdisjoint(its_tags)]


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
    parameter_cells = tagged_cells("parameters")
    with mock.patch("IPython.display.display", return_value=None):
        for source in tagged_cells(*tags):
            name = f"<{NOTEBOOK.name}: {source.splitlines()[0]} ({hash(source):x})>"
            # Tracebacks and TensorFlow's AutoGraph look a function's source up here.
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            exec(compile(source, name, "exec"), namespace)
            if source in parameter_cells:
                if unknown := sorted(parameters.keys() - namespace.keys()):
                    raise ValueError(f"the notebook has no parameter {', '.join(unknown)}")
                namespace.update(parameters)
    return namespace


def read_settings(output_dir: str | None, variant: str) -> dict[str, Any]:
    """Return the parameters that a run was trained with; none if nothing has been trained."""
    file = Path(output_dir or ROOT, "training_checkpoints", variant, "settings.json")
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def variants() -> list[str]:
    """Return the names of the models that the notebook trains: cells tagged `variant:NAME`."""
    tags = (tag for _, its_tags in code_cells() for tag in its_tags)
    return list(dict.fromkeys(tag[8:] for tag in tags if tag.startswith("variant:")))
