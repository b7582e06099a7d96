"""Run chosen cells of the notebook as plain Python, so that its code exists only once."""

import linecache
from pathlib import Path
from typing import Any

import nbformat

NOTEBOOK = Path(__file__).parent.parent / "cifar10_dcgan.ipynb"


def tagged_cells(*tags: str) -> list[str]:
    """Return the sources of the code cells that carry one of the tags, in the notebook's order."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    return [
        cell.source
        for cell in cells
        if cell.cell_type == "code" and not {*tags}.isdisjoint(cell.metadata.get("tags", []))
    ]


def run_cells(*tags: str, **parameters: Any) -> dict[str, Any]:
    """Execute the tagged cells in one fresh namespace.

    Args:
        tags: cells with one of these tags are run, in the notebook's order.
        parameters: values that replace those of the cell tagged `parameters`.

    Returns:
        The namespace after the last cell.

    Raises:
        ValueError: a parameter that the notebook does not have.
    """
    namespace: dict[str, Any] = {"__name__": "cifar10_dcgan"}
    parameter_cells = tagged_cells("parameters")
    for number, source in enumerate(tagged_cells(*tags), start=1):
        name = f"<{NOTEBOOK.name}, chosen cell {number}>"
        # Tracebacks and TensorFlow's AutoGraph look a function's source up here.
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), namespace)
        if source in parameter_cells:
            unknown = parameters.keys() - namespace.keys()
            if unknown:
                raise ValueError(f"the notebook has no parameter {sorted(unknown)}")
            namespace.update(parameters)
    return namespace


def variants() -> list[str]:
    """Return the names of the models that the notebook trains: cells tagged `variant:NAME`."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
    return list(dict.fromkeys(tag.split(":")[1] for tag in tags if tag.startswith("variant:")))
