"""A folder's files in one zip elsewhere, e.g. on a mounted drive.

One file that is replaced, rather than many that are deleted, does not fill a drive's bin.
"""

import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from dcgan.files import atomic_path


def write_zip(path: Path, folder: Path, parts: Iterable[Path]) -> None:
    """Pack files, or the files of folders, below a folder into a zip, whole or not at all.

    Names in the zip are relative to `folder`. Raises RuntimeError if it cannot be written.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for part in parts:
            for file in sorted(part.iterdir()) if part.is_dir() else [part]:
                if file.is_file() and not file.name.startswith("."):
                    archive.write(file, file.relative_to(folder))


def read_zip(path: Path, folders: Sequence[str], file: str) -> dict[str, bytes]:
    """Read all files of a zip into memory, which proves it whole; a missing one is empty.

    It may hold files of `folders`, and `file`, all relative as in the zip. Raises RuntimeError if
    it is damaged or holds something else.
    """
    if not path.exists():
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                folder, _, last = name.rpartition("/")
                in_folder = folder in folders and re.fullmatch(r"[\w-][\w.-]*", last)
                if name != file and not in_folder:
                    raise ValueError(f"{name} does not belong to this run")
            return {name: archive.read(name) for name in archive.namelist()}
    except Exception as error:  # damaged archives raise errors of many kinds
        raise RuntimeError(
            f"{path} cannot be read ({error}). Move it away, or choose another BACKUP_DIR."
        ) from error


def unpack(contents: dict[str, bytes], folder: Path) -> None:
    """Write files below a folder in their order, each whole; RuntimeError if that is impossible."""
    for name, content in contents.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
