"""A run's files in one zip elsewhere, e.g. on a mounted drive.

One file that is replaced, rather than many that are deleted, does not fill a drive's bin.
"""

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from dcgan.checkpoints import epochs_among
from dcgan.files import atomic_path

_is_own = re.compile(r"[\w-][\w.-]*").fullmatch  # a file name of a run; no "epoch_0001 (1).png"


def place(backup_dir: str | Path, output_dir: str | Path, name: str) -> Path:
    """Return where a file of a run is backed up; its name begins with that of the run's folder."""
    return Path(backup_dir).expanduser() / f"{prefix(output_dir)}{name}"


def prefix(output_dir: str | Path) -> str:
    """Return what the names of all backups from a folder begin with."""
    label = Path(output_dir).expanduser().name
    return f"{label}_" if label else ""


def write_zip(path: Path, folder: Path, parts: Iterable[Path]) -> None:
    """Pack files, or the files of folders, below a folder into a zip, whole or not at all.

    Names in the zip are relative to `folder`. Files of other names than a run's stay out: hidden
    ones, a drive's copies. Raises RuntimeError if it cannot be written.
    """
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", strict_timestamps=False) as archive,
    ):
        for part in parts:
            for file in sorted(part.iterdir()) if part.is_dir() else [part]:
                if file.is_file() and _is_own(file.name):
                    archive.write(file, file.relative_to(folder))


def read_run(path: Path, name: str) -> tuple[dict[str, bytes], int]:
    """Read a run's files into memory, which proves the zip whole; return them and the newest epoch.

    A missing zip has no files and epoch 0. Raises RuntimeError if it is damaged or holds anything
    but the run's pictures, checkpoints and history.
    """
    folders = f"generated_samples/{name}", f"training_checkpoints/{name}"
    try:
        if not path.exists():
            return {}, 0
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                folder, _, last = member.rpartition("/")
                in_folder = folder in folders and _is_own(last)
                if member != f"training_history/{name}.json" and not in_folder:
                    raise ValueError(f"{member} does not belong to this run")
            contents = {member: archive.read(member) for member in archive.namelist()}
    except Exception as error:  # damaged archives raise errors of many kinds
        raise RuntimeError(
            f"{path} cannot be read ({error}). Move it away, or choose another BACKUP_DIR."
        ) from error
    return contents, max(epochs_among(Path(member).name for member in contents), default=0)


def unpack(contents: dict[str, bytes], folder: Path) -> None:
    """Write files below a folder, each whole; RuntimeError if that is impossible.

    Checkpoints' indexes come last: without them no epoch counts as kept, so that a fetch that is
    broken off is repeated as a whole.
    """
    for name in sorted(contents, key=lambda name: name.endswith(".index")):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(contents[name])
