"""Which folder the runs of a notebook are kept in."""

import contextlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dcgan import backup, checkpoints
from dcgan.data import KNOWN
from dcgan.dataset import DataSet
from dcgan.files import read_settings

Kept = tuple[dict[str, Any] | None, int]  # a run's settings, if they can be read, and its epoch


def choose_output_dir(parameters: Mapping[str, Any], data: DataSet) -> Path:
    """Choose where runs keep their files, given the notebook's parameters and data.

    A usual run gets the current folder and a smoke run `runs/fast`, unless OUTPUT_DIR names one.
    With FROM_SCRATCH it is OUTPUT_DIR, or the newest of `runs/from_scratch_001`, …, if that holds
    no run yet, or one that was begun with these parameters and lacks epochs; otherwise the next of
    these; a smoke run has `runs/fast_from_scratch_001`, …. With other data than the shipped runs'
    a usual run gets `runs/NAME`, and the other names begin with it, such as `runs/NAME_fast`. A
    backup in BACKUP_DIR counts like the run it is of. Raises ValueError if FROM_SCRATCH is set and
    OUTPUT_DIR holds other runs or a folder cannot be read, or if a run or its backup would lie
    within its own data.
    """
    folder = _choose(parameters, [] if data.source == "cifar10" else [data.name])
    source = Path(data.source).expanduser()
    for setting, place in (("OUTPUT_DIR", folder), ("BACKUP_DIR", parameters["BACKUP_DIR"])):
        inside = place and Path(place).expanduser().resolve().is_relative_to(source.resolve())
        if data.source not in KNOWN and source.is_dir() and inside:
            raise ValueError(f"{place} is within the data: choose another {setting}")
    return folder


def _choose(parameters: Mapping[str, Any], names: list[str]) -> Path:
    """Choose a folder whose name begins with `names`, unless OUTPUT_DIR names one."""
    wanted, drive = parameters["OUTPUT_DIR"], parameters["BACKUP_DIR"]
    if parameters["FAST"]:
        names = [*names, "fast"]
    if not parameters["FROM_SCRATCH"]:
        label = "_".join(names)
        return Path(wanted or (f"runs/{label}" if label else ".")).expanduser()
    label = "_".join([*names, "from_scratch"])
    backups = _list(Path(drive).expanduser()) if drive else []
    there = (path.name for path in [*_list(Path("runs")), *backups])
    matches = (re.match(rf"{re.escape(label)}_(\d+)", name) for name in there)
    newest = max((int(match[1]) for match in matches if match), default=1)
    folder = Path(wanted or f"runs/{label}_{newest:03d}").expanduser()

    runs = _find_runs(folder, backups)
    shipped = folder.resolve() == Path.cwd()
    if not runs:
        return folder
    if not shipped and _lack_epochs(runs.values(), parameters):
        print(f"{folder} lacks epochs and goes on. To start over, name a new folder in OUTPUT_DIR.")
        return folder
    if not wanted:
        return folder.with_name(f"{label}_{newest + 1:03d}")
    raise ValueError(
        f"FROM_SCRATCH is set, but {folder} or its backup holds a run that is finished or has "
        "other parameters. Leave OUTPUT_DIR empty or name a new folder."
    )


def _list(folder: Path) -> list[Path]:
    """Return what is in a folder, nothing if there is none; ValueError if that is impossible."""
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be read ({error.strerror}): choose a folder that you may read"
        ) from error


def _find_runs(folder: Path, backups: list[Path]) -> dict[str, Kept]:
    """Return settings and newest epoch of the runs in a folder and in its backups, by name."""
    runs: dict[str, Kept] = {}
    for place in _list(folder / "training_checkpoints"):
        if epochs := checkpoints.saved_epochs(place):
            runs[place.name] = None, epochs[0]
            with contextlib.suppress(RuntimeError):
                runs[place.name] = read_settings(place / "settings.json"), epochs[0]
    for path in backups:
        if match := re.fullmatch(rf"{re.escape(backup.prefix(folder))}([\w-]+)\.zip", path.name):
            # One that cannot be read may be another folder's; else the training will say so.
            with contextlib.suppress(RuntimeError):
                contents, epoch = backup.read_run(path, match[1])
                stored = contents.get(f"training_checkpoints/{match[1]}/settings.json", b"")
                epoch = max(epoch, runs.get(match[1], (None, 0))[1])
                runs[match[1]] = None, epoch
                runs[match[1]] = read_settings(path, stored), epoch
    return runs


def _lack_epochs(runs: Collection[Kept], parameters: Mapping[str, Any]) -> bool:
    """Say whether runs were begun with these parameters, and one of them lacks epochs."""
    if any(settings is None for settings, _ in runs):
        return False

    def fits(name: str, value: Any) -> bool:
        own = value if name == "IMAGES_SHA256" else parameters.get(name)  # not loaded yet
        if name == "TRAIN_IMAGES" and isinstance(value, int) and own is not None:
            return value <= own  # there may be fewer, which is known once they are loaded
        own = list(own) if isinstance(own, tuple) else own  # JSON has lists
        return _without_folder(own) == _without_folder(value)

    same = all(fits(*item) for settings, _ in runs for item in settings.items())
    return same and any(epoch < parameters["EPOCHS"] for _, epoch in runs)


def _without_folder(value: Any) -> Any:
    """Return the last part of a path, whose folder may have moved, and all else as it is.

    It is that of the folder to which a link leads.
    """
    if not isinstance(value, str):
        return value
    with contextlib.suppress(RuntimeError, ValueError):  # an unknown user's home, or no path
        value = Path(value).expanduser().resolve()
    return Path(value).name


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """List in words the settings that differ, folders of paths aside; empty if none does."""
    pairs = ((name, theirs.get(name), ours.get(name)) for name in sorted({**theirs, **ours}))
    return ", ".join(
        f"{name} = {a!r:.80} (here {b!r:.80})"
        for name, a, b in pairs
        if _without_folder(a) != _without_folder(b)
    )
