"""Backups: a run moves to another machine, the newer one wins, and nothing else gets in."""

import contextlib
import os
import re
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_runs import Session, interrupted, same
from test_files import cannot_be_written
from test_runs import OTHER_SETTINGS

import dcgan_utils as utils
from dcgan import backup
from dcgan.files import atomic_path

NEWER = pytest.mark.survives(
    "a backup beside shipped files", "the newer one wins, and no older one takes its place"
)


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A folder that outlives the machine; not made yet."""
    return tmp_path / "drive"


@pytest.fixture
def machine(tmp_path: Path, drive: Path) -> Callable[..., Session]:
    """Return a maker of kernels on machines with one drive; a run's folder is called `run`."""
    return lambda name, **options: Session(
        tmp_path / name / "run", **({"backup_dir": drive} | options)
    )


def contents(path: Path) -> dict[str, bytes]:
    """Return the files in a zip by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def change(path: Path, **changes: bytes | None) -> None:
    """Write a zip anew with some files changed, added, or left out if None."""
    files = contents(path) | changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            if content is not None:
                archive.writestr(name, content)


def test_a_run_moves_to_another_machine(
    machine: Callable, tmp_path: Path, drive: Path, capsys
) -> None:
    first = machine("here")
    history = first.train(2)
    assert f"tiny: backed up epoch 2 in {drive / 'run_tiny.zip'}" in capsys.readouterr().out
    assert [file.name for file in drive.iterdir()] == ["run_tiny.zip"]
    second = machine("there")
    assert second.train(2) == history
    output = capsys.readouterr().out
    assert f"tiny: fetched epoch 2 from {drive / 'run_tiny.zip'}" in output
    assert "backed up" not in output
    assert same(first.values, second.values)
    relative = [
        sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*"))
        for name in ("here", "there")
    ]
    assert relative[0] == relative[1]
    assert len(second.train(3)) == 3


def test_a_copy_and_an_old_date_are_no_obstacle(machine: Callable, drive: Path) -> None:
    """As a drive makes copies, and as some cameras and archives date files."""
    here = machine("here")
    here.train(1)
    here.run.sample(1).with_name("epoch_0001 (1).png").write_bytes(b"copy")
    os.utime(here.run.sample(1), (0, 0))
    here.train(2)
    here.train(3)
    kept = [Path(name).name for name in contents(drive / "run_tiny.zip") if "samples" in name]
    assert kept == ["epoch_0001.png", "epoch_0002.png", "epoch_0003.png"]
    assert len(machine("there").train(3)) == 3


def test_fetching_that_is_broken_off_begins_again(
    machine: Callable, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each of its files."""
    history = machine("here").train(2)
    for count in range(len(contents(drive / "run_tiny.zip"))):
        written = []

        @contextlib.contextmanager
        def atomic_path_until(path: Path, count: int = count, written: list = written):
            if len(written) == count:
                raise KeyboardInterrupt
            written.append(path)
            with atomic_path(path) as temporary:
                yield temporary

        there = machine(f"there {count}")
        monkeypatch.setattr(backup, "atomic_path", atomic_path_until)
        with pytest.raises(KeyboardInterrupt):
            there.train(2)
        monkeypatch.setattr(backup, "atomic_path", atomic_path)
        assert there.train(2) == history


@NEWER
def test_a_newer_backup_wins_over_an_older_run(machine: Callable, capsys) -> None:
    """As with the shipped run of 50 epochs and a backup of 60."""
    machine("shipped", backup_dir=None).train(2)
    there = machine("there")
    history = there.train(4)
    here = machine("shipped")
    capsys.readouterr()
    assert here.train(2) == history
    assert "fetched epoch 4" in capsys.readouterr().out
    assert same(here.values, there.values)
    assert here.run.epoch == 4
    assert len(here.train(5)) == 5
    assert [name for name in here.files if name.endswith("index")] == [
        "epoch-4.index",
        "epoch-5.index",
    ]


@NEWER
def test_a_newer_run_wins_over_an_older_backup(machine: Callable, drive: Path, capsys) -> None:
    machine("there").train(1)
    here = machine("here", backup_dir=None)
    history = here.train(3)
    again = machine("here")
    capsys.readouterr()
    assert again.train(3) == history
    output = capsys.readouterr().out
    assert "fetched" not in output
    assert "backed up epoch 3" in output
    assert "training_checkpoints/tiny/epoch-3.index" in contents(drive / "run_tiny.zip")


@NEWER
def test_a_newer_backup_is_never_replaced(machine: Callable, drive: Path) -> None:
    """Another machine may have gone on while this one trained."""
    here, there = machine("here"), machine("there")
    here.train(1)
    there.train(4)
    newest = (drive / "run_tiny.zip").read_bytes()
    here.run.write_backup()
    assert (drive / "run_tiny.zip").read_bytes() == newest


def test_runs_in_other_folders_have_backups_of_their_own(tmp_path: Path, drive: Path) -> None:
    folders = {"": "", "runs/fast": "fast_", "runs/from_scratch_001": "from_scratch_001_"}
    for folder, label in folders.items():
        for variant in ("baseline", "improved"):
            run = utils.Run(folder, variant, backup_dir=drive)
            assert run.backup == drive / f"{label}{variant}.zip"


@OTHER_SETTINGS
def test_a_backup_of_other_settings_is_refused(machine: Callable, drive: Path) -> None:
    machine("there", settings={"SEED": 1, "WIDTH": 2}).train(1)
    backup = (drive / "run_tiny.zip").read_bytes()
    message = r"By .*run_tiny\.zip, tiny is trained with .*SEED = 1 \(here 42\), WIDTH = 2 \(here"
    here = machine("here")
    with pytest.raises(RuntimeError, match=message):
        here.train(2)
    assert here.run.epoch == 0
    assert not here.run.samples.exists()
    # Nor does a longer run of other settings take its place.
    machine("here", backup_dir=None).train(2)
    with pytest.raises(RuntimeError, match=message):
        machine("here").train(3)
    assert (drive / "run_tiny.zip").read_bytes() == backup


@OTHER_SETTINGS
def test_a_backup_never_replaces_a_run_of_other_settings(machine: Callable, drive: Path) -> None:
    other = machine("here", settings={"SEED": 1, "WIDTH": 2}, backup_dir=None)
    other.train(1)
    machine("there").train(2)
    before = other.files
    with pytest.raises(RuntimeError, match=r"By .*settings\.json, tiny is trained with .*SEED = 1"):
        machine("here").train(3)
    assert other.files == before


@pytest.mark.parametrize(
    "name",
    [
        "../escaped.txt",
        "/escaped.txt",
        "escaped.txt",
        "training_checkpoints/other/epoch-1.index",
        "training_checkpoints/tiny/../escaped.txt",
        "training_checkpoints/tiny/..",
        "training_checkpoints/tiny/.lock",
        "training_checkpoints/tiny/a/b",
        "training_checkpoints/tiny",
        "training_history/other.json",
        "training_history/",
    ],
)
def test_a_backup_of_other_files_is_refused(
    machine: Callable, tmp_path: Path, drive: Path, name: str
) -> None:
    machine("there").train(1)
    change(drive / "run_tiny.zip", **{name: b"content"})
    before = sorted(tmp_path.rglob("*"))
    here = machine("here")
    message = rf"run_tiny\.zip cannot be read \({re.escape(name)} does not belong .*BACKUP_DIR"
    with pytest.raises(RuntimeError, match=message):
        here.train(2)
    made = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path not in before)
    assert made == []


@pytest.mark.parametrize("damage", ["truncate", "empty", "text", "change"])
def test_a_damaged_backup_leaves_nothing_behind(
    machine: Callable, tmp_path: Path, drive: Path, damage: str
) -> None:
    machine("there").train(1)
    backup = drive / "run_tiny.zip"
    content = backup.read_bytes()
    damaged = {
        "truncate": content[: len(content) // 2],
        "empty": b"",
        "text": b"PK is no zip",
        "change": content.replace(b"IHDR", b"IHDX", 1),
    }[damage]
    backup.write_bytes(damaged)
    with pytest.raises(RuntimeError, match=r"run_tiny\.zip cannot be read .* Move it away"):
        machine("here").train(2)
    assert not [path for path in (tmp_path / "here").rglob("*") if path.is_file()]
    assert backup.read_bytes() == damaged


def test_files_in_a_backup_are_checked_like_any_others(machine: Callable, drive: Path) -> None:
    machine("there").train(2)
    change(drive / "run_tiny.zip", **{"training_history/tiny.json": b"[{}]"})
    with pytest.raises(ValueError, match=r"tiny\.json: epoch 1 needs finite numbers"):
        machine("here").train(2)
    change(drive / "run_tiny.zip", **{"training_history/tiny.json": None})
    with pytest.raises(RuntimeError, match=r"tiny\.json ends at epoch 0"):
        machine("elsewhere").train(2)


def test_an_interrupt_writes_the_backup(machine: Callable, drive: Path, capsys) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        here = machine("here")
        with pytest.raises(utils.Stopped, match="1 epochs of tiny are kept"):
            here.train(3, interrupted(here.quick_step, 5))
    finally:
        signal.signal(signal.SIGINT, before)
    assert "backed up epoch 1" in capsys.readouterr().out
    assert machine("there").train(2)[:1] == here.run.history
    assert "training_checkpoints/tiny/epoch-2.index" in contents(drive / "run_tiny.zip")


def test_nothing_trained_is_no_backup(machine: Callable, drive: Path) -> None:
    here = machine("here")
    with here.run.training(here.gan, 1):
        pass
    assert not any(drive.iterdir())


def test_long_runs_are_backed_up_on_the_way(
    machine: Callable, drive: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(utils, "BACKUP_SECONDS", 0)
    machine("here").train(3)
    assert re.findall(r"backed up epoch (\d)", capsys.readouterr().out) == ["1", "2", "3"]
    assert [file.name for file in drive.iterdir()] == ["run_tiny.zip"]


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_folder_is_no_backup(machine: Callable, nothing: str | None, capsys) -> None:
    here = machine("here", backup_dir=nothing)
    assert here.run.backup is None
    here.train(1)
    here.run.write_backup()
    assert "back" not in capsys.readouterr().out


@cannot_be_written
def test_a_drive_that_cannot_be_written_is_named_first(machine: Callable, tmp_path: Path) -> None:
    (tmp_path / "drive").write_text("a file")
    here = machine("here")
    message = (
        r"Cannot write to .*drive: File exists\. Set BACKUP_DIR to a folder that you may write"
    )
    with pytest.raises(RuntimeError, match=message):
        here.train(1)
    assert here.run.epoch == 0


@cannot_be_written
def test_a_full_drive_is_named_first(machine: Callable, drive: Path, monkeypatch) -> None:
    machine("here").train(1)
    size = (drive / "run_tiny.zip").stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=size // 2))
    here = machine("here")
    message = r"to .*drive: \d MB are needed, \d MB are left\. Free .*, or set BACKUP_DIR to a"
    with pytest.raises(RuntimeError, match=message):
        here.train(2)
    assert len(machine("here").train(1)) == 1  # nothing to train, nothing to back up
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2 * size))
    assert len(here.train(2)) == 2


@cannot_be_written
def test_a_drive_that_goes_away_costs_no_training(
    machine: Callable, drive: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(utils, "BACKUP_SECONDS", 0)
    here = machine("here")

    def step(*batch: object) -> dict:
        if int(here.gan.step) == 4:  # of epoch 2
            shutil.rmtree(drive)
            drive.write_text("a file")
        if int(here.gan.step) == 7:
            drive.unlink()
        return here.quick_step(*batch)

    assert len(here.train(3, step)) == 3
    output = capsys.readouterr().out
    assert re.findall(r"tiny: backed up epoch (\d)", output) == ["1", "3"]
    assert output.count("tiny: no backup was written. Cannot write ") == 1
    drive_file = drive / "run_tiny.zip"
    drive_file.unlink()
    drive_file.mkdir()  # the last backup is not only talked about
    with pytest.raises(RuntimeError, match=r"run_tiny\.zip cannot be read"):
        machine("here").train(4)


def test_the_notebook_takes_any_kind_of_folder(lesson: Callable, tmp_path: Path) -> None:
    for given, expected in (
        (None, None),
        (tmp_path / "drive", tmp_path / "drive" / f"{tmp_path.name}_baseline.zip"),
        ("~/drive", Path("~/drive").expanduser() / f"{tmp_path.name}_baseline.zip"),
    ):
        assert lesson("variant:baseline", BACKUP_DIR=given).baseline_run.backup == expected
