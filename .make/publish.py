"""Write the repository's address into README and notebook: `make publish REPO=owner/name`."""

import re
import sys

import nbformat
from notebook import NOTEBOOK

README = NOTEBOOK.parent / "README.md"
BADGE_IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
BADGE_LINE = re.compile(r"^.*<!-- colab badge -->$", re.MULTILINE)
ADDRESS_LINE = re.compile(r'^REPOSITORY = ".*"$', re.MULTILINE)


def replace_line(text: str, pattern: re.Pattern[str], line: str, place: str) -> str:
    """Replace the one line that matches, or stop."""
    text, count = pattern.subn(lambda _: line, text)
    if count != 1:
        sys.exit(f"make publish: {place} needs exactly one line {pattern.pattern}, found {count}")
    return text


def main() -> None:
    """Check the name, then write badge and constant."""
    repository = sys.argv[1] if len(sys.argv) > 1 else ""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        sys.exit("make publish: say which repository, e.g. make publish REPO=owner/name")
    page = f"https://colab.research.google.com/github/{repository}/blob/main/{NOTEBOOK.name}"
    badge = f"[![Open in Colab]({BADGE_IMAGE})]({page}) <!-- colab badge -->"
    address = f'REPOSITORY = "https://github.com/{repository}.git"'

    readme = replace_line(README.read_text(), BADGE_LINE, badge, README.name)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    title = notebook.cells[0]
    title.source = replace_line(title.source, BADGE_LINE, badge, "the notebook's first cell")
    setup = next(cell for cell in notebook.cells if "REPOSITORY = " in cell.source)
    setup.source = replace_line(setup.source, ADDRESS_LINE, address, "the notebook's setup cell")

    README.write_text(readme)
    nbformat.write(notebook, NOTEBOOK)
    print(f"README and notebook point to {repository}")


if __name__ == "__main__":
    main()
