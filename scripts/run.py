"""Execute the notebook top to bottom and leave a copy as .ipynb and .html: `make run`."""

import logging
import re
import sys
from pathlib import Path

import nbformat
import papermill
from command import one_sentence
from nbconvert import HTMLExporter
from notebook import NOTEBOOK, ROOT

EXECUTED = ROOT / "executed"


def to_page(executed: nbformat.NotebookNode, folder: Path) -> str:
    """Convert to HTML with all pictures, whose paths lead from a folder.

    nbconvert's other template leaves out their texts.
    """
    exporter = HTMLExporter(template_name="classic", embed_images=True)
    resources = {"metadata": {"path": str(folder), "name": NOTEBOOK.stem}}
    return exporter.from_notebook_node(executed, resources)[0]


@one_sentence("make run")
def main() -> None:
    """Execute with every line of output shown as it comes, then convert to HTML."""
    EXECUTED.mkdir(exist_ok=True)
    copy = EXECUTED / NOTEBOOK.name
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("papermill").setLevel(logging.INFO)
    options = {"kernel_name": "python3", "progress_bar": False, "log_output": True}
    # Else ipykernel warns that it uses TCP, which here stays on the machine.
    options["extra_arguments"] = ["--IPKernelApp.log_level=ERROR"]
    try:
        papermill.execute_notebook(NOTEBOOK, copy, cwd=ROOT, **options)
    except papermill.PapermillExecutionError as error:
        raise RuntimeError(f"{error.ename}: {error.evalue} (the cell is in {copy})") from error
    executed = nbformat.read(copy, as_version=4)
    for cell in executed.cells:
        if cell.cell_type == "markdown":  # its links lead from the folder of the copy
            cell.source = re.sub(r"\]\((?!\w+:|#)", "](../", cell.source)
    copy.with_suffix(".html").write_text(to_page(executed, EXECUTED), encoding="utf-8")
    nbformat.write(executed, copy)
    print(f"The executed notebook is {copy}, and as a page {copy.with_suffix('.html').name}")


if __name__ == "__main__":
    main()
