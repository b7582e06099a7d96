"""Execute the notebook top to bottom and leave a copy as .ipynb and .html: `make run`."""

import logging
import os
import sys
from pathlib import Path

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
    html, _ = HTMLExporter(embed_images=True).from_filename(str(copy))
    copy.with_suffix(".html").write_text(html)
    for path in (copy, copy.with_suffix(".html")):
        print(f"The executed notebook is {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
