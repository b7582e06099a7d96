"""Files: written whole or not at all, locked by one process, read without trusting them."""

import contextlib
import errno
import io
import itertools
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # on Windows, whose locks are of another kind
    fcntl = None

HOST = re.sub("[^a-zA-Z0-9]", "-", platform.node())  # where a process id means anything


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Offer a temporary path that becomes `path` when the block ends well, and vanishes when not.

    A `~` is expanded, and a link is followed. The temporary path lies in the same folder, which is
    created, has the same suffix, and is nobody else's. A file or a new folder may be made there.
    What a killed process of this host has left of an earlier try to write the same path is deleted.
    Raises RuntimeError if it cannot be written (read-only, disk full).
    """
    path = Path(path).expanduser().resolve()
    owner = f"{HOST}.{os.getpid()}.{os.urandom(3).hex()}"
    temporary = path.with_name(f".{path.stem}.{owner}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            _delete(temporary)


def _delete(path: Path) -> None:
    """Delete a file, or a folder with all that is in it, if there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> RuntimeError:
    """Turn what the operating system says about a file into a sentence with a remedy."""
    remedies = {
        errno.ENOSPC: "Free some disk space.",
        errno.EDQUOT: "Free some disk space.",
        errno.ENOTEMPTY: "It exists already: move it away, or choose another name.",
    }
    remedy = remedies.get(error.errno, "Choose a folder that you may write to.")
    return RuntimeError(f"Cannot write {path}: {error.strerror or error}. {remedy}")


def require_folder(folder: Path, setting: str, needed: int = 0) -> None:
    """Make a folder; RuntimeError, before any work, unless it takes files of `needed` bytes.

    The message names the setting that leads to another folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        free = shutil.disk_usage(folder).free
        if free < needed:
            reason = f"{needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are left"
            raise OSError(errno.ENOSPC, reason)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Free some disk space, or set" if full else "Set"
        raise RuntimeError(
            f"Cannot write to {folder}: {error.strerror or error}. "
            f"{remedy} {setting} to a folder that you may write to."
        ) from error


def _remove_abandoned(path: Path) -> None:
    """Delete temporary files of `path` whose process, one of this host, is no more."""
    if os.name != "posix":  # elsewhere os.kill would end the process
        return
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    name = re.compile(rf"\.{stem}\.{HOST}\.(\d+)\.[0-9a-f]+\.tmp{suffix}")
    for other in path.parent.iterdir():
        if match := name.fullmatch(other.name):
            try:
                os.kill(int(match[1]), 0)  # asks whether it exists
            except (ProcessLookupError, OverflowError):
                _delete(other)
            except PermissionError:  # it does, and is somebody else's
                pass


@contextlib.contextmanager
def lock_file(path: str | Path, wanted: bool = True) -> Iterator[None]:
    """Keep other processes from training in the folder of `path` during this block.

    The system drops the lock of a process that has ended. None is taken on Windows, which lacks
    fcntl, or if not `wanted`. Raises RuntimeError if another process holds it.
    """
    if not wanted or fcntl is None:
        yield
        return
    path = Path(path)
    try:
        file = _open_locked(path)
    except BlockingIOError as error:
        owner = "unknown"
        with contextlib.suppress(OSError):  # it may have ended since
            owner = path.read_text(encoding="utf-8").strip() or owner
        raise RuntimeError(
            f"Another process is training in {path.parent}: {owner}. Wait for it, stop it, "
            f"or choose another OUTPUT_DIR. If there is no such process, delete {path}"
        ) from error
    except OSError as error:
        raise _cannot_write(path, error) from error
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _open_locked(path: Path) -> io.TextIOWrapper:
    """Open and lock a file that names this process; raise BlockingIOError if it is locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    except OSError:  # a file system without locks
        pass
    if not (path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino):
        file.close()  # its owner deleted it between our opening and locking it
        return _open_locked(path)
    file.truncate(0)
    file.write(f"process {os.getpid()}, started {datetime.now():%Y-%m-%d %H:%M:%S}\n")
    file.flush()
    return file


def next_free_folder(parent: str | Path, name: str) -> Path:
    """Return the first of `parent/name_001`, `parent/name_002`, … that does not exist yet."""
    candidates = (Path(parent) / f"{name}_{number:03d}" for number in itertools.count(1))
    return next(folder for folder in candidates if not folder.exists())


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read an .npz file, but no pickles; ValueError if it is missing, damaged or no such file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # damaged archives raise errors of many kinds
        reason = str(error) or type(error).__name__
        if "pickle" in reason:  # NumPy's advice would run what the file holds
            reason = "it holds other things than arrays of numbers and texts"
        elif isinstance(error, TypeError):  # one bare array, for instance
            reason = "it is no .npz file"
        raise ValueError(reason) from error


def read_settings(file: Path, stored: bytes | None = None) -> dict[str, Any] | None:
    """Return the settings of a run from their file, or None if there is none.

    With `stored`, these bytes are read, and the file is where they come from. Raises RuntimeError
    if they are damaged.
    """
    try:
        return {**json.loads(file.read_bytes() if stored is None else stored)}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RuntimeError(
            f"{file} is damaged or may not be read ({error}); bring it back."
        ) from error
