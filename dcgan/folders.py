"""Where runs keep their files: finished results are never overwritten."""

import contextlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dcgan import backup, checkpoints


def choose_output_dir(parameters: Mapping[str, Any]) -> Path:
    """Choose where runs keep their files, given the notebook's parameters.

    A usual run gets the current folder and a smoke run `runs/fast`, unless OUTPUT_DIR names one.
    With FROM_SCRATCH it is OUTPUT_DIR, or the newest of `runs/from_scratch_001`, …, if that holds
    no run yet, or one that was begun with these parameters and lacks epochs; otherwise the next of
    these. A backup in BACKUP_DIR counts like the run it is of. Raises ValueError if FROM_SCRATCH is
    set and OUTPUT_DIR holds other runs.
    """
    wanted, drive = parameters["OUTPUT_DIR"], parameters["BACKUP_DIR"]
    if not parameters["FROM_SCRATCH"]:
        return Path(wanted or ("runs/fast" if parameters["FAST"] else ".")).expanduser()
    backups = _list(Path(drive).expanduser()) if drive else []
    names = (path.name for path in [*_list(Path("runs")), *backups])
    matches = (re.match(r"from_scratch_(\d+)", name) for name in names)
    newest = max((int(match[1]) for match in matches if match), default=1)
    folder = Path(wanted or f"runs/from_scratch_{newest:03d}").expanduser()

    runs = _find_runs(folder, backups)
    shipped = folder.resolve() == Path.cwd()
    if not runs:
        return folder
    if not shipped and _lack_epochs(runs.values(), parameters):
        print(f"{folder} lacks epochs and goes on. To start over, name a new folder in OUTPUT_DIR.")
        return folder
    if not wanted:
        return folder.with_name(f"from_scratch_{newest + 1:03d}")
    raise ValueError(
        f"FROM_SCRATCH is set, but {folder} or its backup holds a run that is finished or has "
        "other parameters. Leave OUTPUT_DIR empty or name a new folder."
    )


def _list(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing if there is none."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _find_runs(folder: Path, backups: list[Path]) -> dict[str, tuple[bytes, int]]:
    """Return settings and newest epoch of the runs in a folder and in its backups, by name."""
    runs = {}
    for place in _list(folder / "training_checkpoints"):
        if epochs := checkpoints.saved_epochs(place):
            settings = place / "settings.json"
            runs[place.name] = settings.read_bytes() if settings.exists() else b"", epochs[0]
    for path in backups:
        if match := re.fullmatch(rf"{re.escape(folder.name)}_([\w-]+)\.zip", path.name):
            # One that cannot be read may be another folder's; else the training will say so.
            with contextlib.suppress(RuntimeError):
                contents, epoch = backup.read_run(path, match[1])
                settings = contents.get(f"training_checkpoints/{match[1]}/settings.json", b"")
                runs[match[1]] = settings, max(epoch, runs.get(match[1], (b"", 0))[1])
    return runs


def _lack_epochs(runs: Collection[tuple[bytes, int]], parameters: Mapping[str, Any]) -> bool:
    """Say whether runs were begun with these parameters, and one of them lacks epochs."""
    try:
        stored = [item for settings, _ in runs for item in json.loads(settings).items()]
    except (ValueError, AttributeError):  # none, or damaged
        return False
    ours = ((parameters.get(name), value) for name, value in stored)
    same = all((list(a) if isinstance(a, tuple) else a) == b for a, b in ours)  # JSON has lists
    return same and any(epoch < parameters["EPOCHS"] for _, epoch in runs)
