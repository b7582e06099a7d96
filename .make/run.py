"""Execute the notebook top to bottom and leave a copy as .ipynb and .html: `make run`."""

import logging
import os
import sys
from pathlib import Path

import nbformat
import papermill
from nbconvert import HTMLExporter
from notebook import NOTEBOOK

EXECUTED = NOTEBOOK.parent / "executed"


def main() -> None:
    """Execute with every line of output shown as it comes, then convert to HTML."""
    os.chdir(NOTEBOOK.parent)
    EXECUTED.mkdir(exist_ok=True)
    copy = EXECUTED / NOTEBOOK.name
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("papermill").setLevel(logging.INFO)
    try:
        papermill.execute_notebook(
            NOTEBOOK, copy, kernel_name="python3", progress_bar=False, log_output=True
        )
    except papermill.PapermillExecutionError as error:
        sys.exit(f"make run: a cell failed, see {copy}\n{error.ename}: {error.evalue}")
    executed = nbformat.read(copy, as_version=4)
    page = copy.with_suffix(".html")
    resources = {"metadata": {"path": str(NOTEBOOK.parent), "name": NOTEBOOK.stem}}
    html, _ = HTMLExporter(embed_images=True).from_notebook_node(executed, resources)
    page.write_text(html)
    for cell in executed.cells:  # links lead from the copy's folder
        cell.source = cell.source.replace("](generated_samples/", "](../generated_samples/")
    nbformat.write(executed, copy)
    for path in (copy, page):
        print(f"The executed notebook is {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
