"""Write the repository's address into README and notebook: `make publish REPO=owner/name`."""

import re
from urllib.parse import quote

from command import Options, one_sentence
from notebook import NOTEBOOK, ROOT

from dcgan.files import atomic_path

README = ROOT / "README.md"
BADGE_IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
# From the start of a line or of a JSON string: elsewhere a megabyte of base64 would be searched.
BADGE = r'(?m)(?:^|(?<="))[^"\n]*<!-- colab badge -->'
ADDRESS = r'REPOSITORY = \\"[^"]*\\"'  # as it is written in the notebook's JSON
SITE = r"(?:(?:https?://|ssh://git@)?(?:www\.)?github\.com/|git@github\.com:)?"
REPOSITORY = re.compile(SITE + r"([a-z\d-]+/[\w.-]+?)(?:\.git)?/?", re.ASCII | re.IGNORECASE)


@one_sentence("make publish")
def main() -> None:
    """Check the address, then write badge and constant."""
    parser = Options("make publish", description=__doc__)
    parser.add_argument("--repo", default="", help="owner/name, or the address of its page")
    parser.add_argument("--branch", default="main")
    options = parser.parse_args()
    match = REPOSITORY.fullmatch(options.repo.strip())
    if not match:
        raise ValueError(f"REPO is owner/name or an address on github.com, not {options.repo!r}")
    if not re.fullmatch(r"[^\s~^:?*\[\\\"]+", options.branch):
        raise ValueError(f"BRANCH is no name of a branch: {options.branch!r}")
    path = f"{match[1]}/blob/{quote(options.branch)}/{NOTEBOOK.name}"
    page = f"https://colab.research.google.com/github/{path}"
    badge = f"[![Open in Colab]({BADGE_IMAGE})]({page}) <!-- colab badge -->"
    address = rf"REPOSITORY = \"https://github.com/{match[1]}.git\""

    texts = {file: file.read_text(encoding="utf-8") for file in (README, NOTEBOOK)}
    edits = (README, BADGE, badge), (NOTEBOOK, BADGE, badge), (NOTEBOOK, ADDRESS, address)
    for file, pattern, line in edits:
        texts[file], count = re.subn(pattern, lambda _, line=line: line, texts[file])
        if count != 1:
            raise ValueError(f"{file.name} needs exactly one {pattern}, found {count}")
    for file, text in texts.items():
        with atomic_path(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(f"{README.name} and {NOTEBOOK.name} point to {match[1]}, branch {options.branch}.")
    print(f"Next: git commit -am 'Point to {match[1]}' && git push")


if __name__ == "__main__":
    main()
