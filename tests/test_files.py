"""Files: whole or not at all, under any name; locks that die with their process."""

import errno
import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dcgan import files
from dcgan.files import (
    atomic_path,
    lock_file,
    next_free_folder,
    read_arrays,
    read_settings,
    require_folder,
)

ROOT = Path(__file__).parent.parent
ODD_NAMES = [
    "a [1] b.npz",
    "100%* really?.npz",
    'it\'s "quoted".npz',
    "그림 사진.npz",
    "dot.",
    "%s{}.npz",
    ".npz",
]
cannot_be_written = pytest.mark.survives(
    "a folder that cannot be written",
    "read-only, full, gone, or a file: OUTPUT_DIR, BACKUP_DIR, OUT, KERAS_HOME; before any work",
)
needs_locks = pytest.mark.skipif(files.fcntl is None, reason="needs file locks")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_files_of_any_name_and_folder_are_written_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"folder {name}" / name
    for content in ("first", "second"):
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == (path.suffix or ".tmp")
            temporary.write_text(content, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == content
    assert list(path.parent.iterdir()) == [path]


def test_a_home_folder_and_a_link_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    link, target = tmp_path / "link.txt", tmp_path / "there" / "target.txt"
    link.symlink_to(target)
    with atomic_path("~/link.txt") as temporary:
        temporary.write_text("content", encoding="utf-8")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "content"
    assert sorted(tmp_path.iterdir()) == [link, target.parent]


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Nor would they with the same process id, as in two containers."""
    path = tmp_path / "file.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first", encoding="utf-8")
        second.write_text("second", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_written_whole_but_replaces_none(tmp_path: Path) -> None:
    message = (
        r"folder: Directory not empty\. It exists already: move it away, or choose another name"
    )
    for error in (nullcontext(), pytest.raises(RuntimeError, match=message)):
        with error, atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "file").touch()
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "folder", tmp_path / "folder" / "file"]


def write_half(path: Path, error: Exception) -> None:
    """Fail in the middle of writing a file."""
    with atomic_path(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise error


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(KeyError):
        write_half(path, KeyError())
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["[x] 100%.png", "dot."])
def test_leftovers_of_dead_processes_are_removed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host, end = files.HOST, f"1a2b3c.tmp{path.suffix}"
    leftover = path.with_name(f".{path.stem}.{host}.{dead.pid}.{end}")
    others = [
        path.with_name(f".{path.stem}.{host}.{os.getppid()}.{end}"),  # is running
        path.with_name(f".{path.stem}.{host}-2.{dead.pid}.{end}"),
        path.with_name(f".other.{host}.{dead.pid}.{end}"),
    ]
    for file in (leftover, *others):
        file.write_bytes(b"half")
    with atomic_path(path) as temporary:
        temporary.touch()
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "Free some disk space."),
        (errno.EROFS, "Choose a folder that you may write to."),
        (errno.EACCES, "Choose a folder that you may write to."),
    ],
)
def test_the_remedy_fits_the_error(tmp_path: Path, code: int, remedy: str) -> None:
    path = tmp_path / "file.txt"
    with pytest.raises(RuntimeError) as caught:
        write_half(path, OSError(code, os.strerror(code)))
    assert str(caught.value) == f"Cannot write {path}: {os.strerror(code)}. {remedy}"
    assert not any(tmp_path.iterdir())


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for writer in (atomic_path, lock_file) if files.fcntl else (atomic_path,):
        with pytest.raises(RuntimeError, match=r"Cannot write .*file.a\.txt: .*Choose a folder"):
            writer(tmp_path / "file" / "a.txt").__enter__()


@cannot_be_written
def test_a_folder_is_tried_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a" / "b"
    require_folder(folder, "OUTPUT_DIR", needed=1000)
    assert list(folder.iterdir()) == []
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "a", Path("/proc/none")):
        message = rf"Cannot write to {place}: [\w ]+\. Set DIR to a folder that you may write to\.$"
        with pytest.raises(RuntimeError, match=message):
            require_folder(place, "DIR")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=3_100_000))
    message = "2,000 MB are needed, 3 MB are left. Free some disk space, or set DIR to a folder"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        require_folder(folder, "DIR", needed=2_000_000_000)


@needs_locks
def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "run [1] %s" / ".lock"
    with lock_file(lock):
        message = rf"Another process is training.*process {os.getpid()}, started 20.*delete .*lock"
        with pytest.raises(RuntimeError, match=message):
            lock_file(lock).__enter__()
        with lock_file(lock, wanted=False):
            pass
    assert not lock.exists()
    with lock_file(lock):
        assert lock.exists()


@needs_locks
@pytest.mark.survives("the lock of a killed process", "kill -9, then a run in the same folder")
def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    script = (
        "import os, signal, sys\n"
        "from dcgan.files import lock_file\n"
        "with lock_file(sys.argv[1]):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(lock)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "process" in lock.read_text(encoding="utf-8")
    with lock_file(lock):
        assert f"process {os.getpid()}," in lock.read_text(encoding="utf-8")
    assert not lock.exists()


@needs_locks
def test_a_lock_that_is_deleted_while_it_is_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its owner ends, and a third process begins, between our opening and locking it."""
    lock, lock_for_real = tmp_path / ".lock", files.fcntl.flock

    def flock(*given: object) -> None:
        monkeypatch.setattr(files.fcntl, "flock", lock_for_real)
        lock.unlink()
        lock.touch()
        lock_for_real(*given)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with lock_file(lock):
        assert f"process {os.getpid()}," in lock.read_text(encoding="utf-8")


@needs_locks
def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    with lock_file(tmp_path / ".lock"):
        pass
    assert not any(tmp_path.iterdir())


def test_the_next_free_folder_is_found(tmp_path: Path) -> None:
    name = "run [a] *"
    for number in (1, 2, 4):
        (tmp_path / f"{name}_{number:03d}").mkdir()
    assert next_free_folder(tmp_path, name) == tmp_path / f"{name}_003"


@pytest.mark.parametrize("name", ["a [1].npz", "그림 100%?.npz"])
def test_arrays_are_read_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    written = {"a": np.arange(3), "b": np.ones((2, 2), np.float32)}
    np.savez(path, **written)
    arrays = read_arrays(path)
    assert arrays.keys() == written.keys()
    assert all(np.array_equal(arrays[key], written[key]) for key in written)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "truncated", "flipped", "npy"])
def test_damaged_arrays_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.arange(1000))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "npy":
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    elif damage == "missing":
        path.unlink()
    else:
        parts = {"empty": b"", "text": b"hello", "truncated": content[:500], "flipped": content}
        path.write_bytes(parts[damage])
    with pytest.raises(ValueError, match=r"."):
        read_arrays(path)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "harmed",))

    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.array([Harmful()], dtype=object))
    with pytest.raises(ValueError, match="other things than arrays"):
        read_arrays(path)
    assert not (tmp_path / "harmed").exists()


def test_settings_are_read_in_any_encoding_of_json(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    assert read_settings(file) is None
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        file.write_text('{"DATA": "그림"}', encoding=encoding)
        assert read_settings(file) == {"DATA": "그림"}
        assert read_settings(tmp_path / "a.zip", file.read_bytes()) == {"DATA": "그림"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xff", b"[" * 100_000])
def test_damaged_settings_are_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "settings.json"
    file.write_bytes(content)
    with pytest.raises(RuntimeError, match=r"settings\.json is damaged .*\); bring it back\.$"):
        read_settings(file)
    with pytest.raises(RuntimeError, match=r"a\.zip is damaged .*\); bring it back\.$"):
        read_settings(tmp_path / "a.zip", content)
