"""Write the repository's address into README and notebook: `make publish REPO=owner/name`."""

import re
import shlex
from urllib.parse import quote, unquote

from command import Options, one_sentence
from notebook import NOTEBOOK, ROOT

from dcgan.files import atomic_path

README = ROOT / "README.md"
BADGE_IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
# From the start of a line or of a JSON string: elsewhere a megabyte of base64 would be searched.
BADGE = r'(?m)(?:^|(?<="))[^"\n]*<!-- colab badge -->'
ADDRESS = r'REPOSITORY = \\"[^"]*\\"'  # as it is written in the notebook's JSON
BRANCH = r'BRANCH = \\"[^"]*\\"'
SITE = r"(?:(?:https?://|ssh://git@)?(?:www\.)?github\.com/|git@github\.com:)?"
# What follows the name in the address of a page: a branch, a file, a tab.
REST = r"(?:\.git)?(?:/(?:tree|blob)/([^?#]+?)(?:/[^/?#]+\.(?:ipynb|md))?)?/?(?:[?#].*)?"
REPOSITORY = re.compile(
    SITE + r"([a-z\d-]+/(?!\.+(?:git)?(?:[/?#]|$))[\w.-]+?)" + REST, re.ASCII | re.IGNORECASE
)

# What git allows in no branch, and a quote, which would end the notebook's string.
NO_BRANCH = re.compile(
    r'[\s\0-\37\177~^:?*\[\\"]|^[-./]|^@$|^HEAD$|\.\.|//|/\.|@\{|\.lock(?:/|$)|[./]$'
)


@one_sentence("make publish")
def main() -> None:
    """Check the address, then write badge and constants, and say what comes next."""
    parser = Options("make publish", description=__doc__)
    parser.add_argument("--repo", default="", help="owner/name, or the address of its page")
    parser.add_argument("--branch", default="", help="the one of the address, or main")
    options = parser.parse_args()
    match = REPOSITORY.fullmatch(options.repo.strip())
    if not match:
        raise ValueError(f"REPO is owner/name or an address on github.com, not {options.repo!r}")
    branch = options.branch or unquote(match[2] or "main")
    if NO_BRANCH.search(branch):
        raise ValueError(f"BRANCH is no name of a branch: {branch!r}")
    address = f"https://github.com/{match[1]}.git"
    page = "https://colab.research.google.com/github/"
    page += f"{match[1]}/blob/{quote(branch)}/{NOTEBOOK.name}"
    badge = f"[![Open in Colab]({BADGE_IMAGE})]({page}) <!-- colab badge -->"
    edits = [
        (README, BADGE, badge),
        (NOTEBOOK, BADGE, badge),
        (NOTEBOOK, ADDRESS, rf"REPOSITORY = \"{address}\""),
        (NOTEBOOK, BRANCH, rf"BRANCH = \"{branch}\""),
    ]

    texts = {file: file.read_text(encoding="utf-8") for file in (README, NOTEBOOK)}
    for file, pattern, line in edits:
        texts[file], count = re.subn(pattern, lambda _, line=line: line, texts[file])
        if count != 1:
            raise ValueError(f"{file.name} needs exactly one {pattern}, found {count}")
    for file, text in texts.items():
        with atomic_path(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(f"{README.name} and {NOTEBOOK.name} point to {match[1]}, branch {branch}.")
    print("Next, with a repository of that name on GitHub:")
    print(f"  git commit -am {shlex.quote(f'Point to {match[1]}')}")
    print(f"  git push {address} {shlex.quote(f'HEAD:refs/heads/{branch}')}")
    print(f"Then open {page}")


if __name__ == "__main__":
    main()
