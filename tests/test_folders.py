"""Where runs keep their files: FROM_SCRATCH, FAST, OUTPUT_DIR and BACKUP_DIR together."""

import errno
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from small_runs import SETTINGS, Session, interrupted

import dcgan_utils as utils
from dcgan.dataset import DataSet, find_data, without_images
from dcgan.folders import choose_output_dir, differences

FIRST, SECOND = "runs/from_scratch_001", "runs/from_scratch_002"
USUAL = {"OUTPUT_DIR": "", "BACKUP_DIR": "", "FAST": False, "FROM_SCRATCH": False, "EPOCHS": 3}
CONTRADICTED = pytest.mark.survives(
    "an option contradicted",
    "FROM_SCRATCH or FAST beside shipped, interrupted and finished runs, and their backups",
)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    folder = tmp_path / "machine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def choose(data: DataSet | None = None, **parameters: Any) -> str:
    """Return the folder that is chosen under the settings of the small runs."""
    parameters = {**USUAL, **SETTINGS, **parameters}
    return str(choose_output_dir(parameters, data or find_data("cifar10")))


def fresh(**parameters: Any) -> str:
    """Return the folder that is chosen for a fresh run."""
    return choose(FROM_SCRATCH=True, **parameters)


def train(folder: str, epochs: int, name: str = "tiny", **options: Any) -> Session:
    """Train a run in a folder, of which nothing but its files remains."""
    session = Session(Path(folder), name, **options)
    session.train(epochs)
    return session


def test_a_usual_run_a_smoke_run_and_one_elsewhere(machine: Path, monkeypatch) -> None:
    assert choose() == choose(OUTPUT_DIR=None) == "."
    assert choose(FAST=True) == "runs/fast"
    assert choose(FAST=True, OUTPUT_DIR="mine") == choose(OUTPUT_DIR=Path("mine")) == "mine"
    monkeypatch.setenv("HOME", str(machine))
    assert choose(OUTPUT_DIR="~/x") == fresh(OUTPUT_DIR="~/x") == str(machine / "x")
    assert not any(machine.iterdir())


@CONTRADICTED
@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("named", [False, True])
def test_an_interrupted_fresh_run_goes_on(kept: int, named: bool, capsys) -> None:
    wanted = {"OUTPUT_DIR": "runs/mine" if named else ""}
    folder = fresh(**wanted)
    assert folder == (wanted["OUTPUT_DIR"] or FIRST)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        session = Session(Path(folder))
        with pytest.raises(utils.Stopped, match=f"{kept} epochs of tiny"):
            session.train(3, interrupted(session.quick_step, 3 * kept + 2))
    finally:
        signal.signal(signal.SIGINT, before)
    capsys.readouterr()
    assert fresh(**wanted) == folder
    expected = f"{folder} lacks epochs and goes on. To start over, name a new folder in OUTPUT_DIR."
    assert capsys.readouterr().out.strip() == expected
    assert len(train(folder, 3).run.history) == 3


@CONTRADICTED
def test_a_finished_fresh_run_is_left_alone() -> None:
    train(FIRST, 3)
    assert fresh() == SECOND
    assert fresh(EPOCHS=2) == SECOND
    assert fresh(EPOCHS=4) == FIRST  # the first three of its epochs are there
    with pytest.raises(
        ValueError, match=f"set, but {FIRST} or its backup holds a run .*OUTPUT_DIR"
    ):
        fresh(OUTPUT_DIR=FIRST)
    train(SECOND, 3)
    assert fresh() == "runs/from_scratch_003"
    assert choose(OUTPUT_DIR=FIRST) == FIRST


@CONTRADICTED
def test_a_fresh_smoke_run_is_not_gone_on_with_in_earnest() -> None:
    smoke = fresh(FAST=True)
    assert smoke == "runs/fast_from_scratch_001"
    train(smoke, 1)
    assert fresh(FAST=True) == smoke
    assert fresh() == FIRST


@CONTRADICTED
def test_all_runs_in_a_folder_count() -> None:
    train(FIRST, 3, "first")
    assert fresh() == SECOND
    train(FIRST, 1, "second")
    assert fresh() == FIRST
    train(FIRST, 3, "second")
    assert fresh() == SECOND


@CONTRADICTED
@pytest.mark.parametrize("settings", [{"SEED": 7}, {"BATCH_SIZE": 4}, {"IMAGE_SHAPE": (8, 8, 1)}])
def test_a_fresh_run_of_other_parameters_is_another_run(settings: dict) -> None:
    train(FIRST, 1)
    assert fresh() == FIRST
    assert fresh(**settings) == SECOND
    with pytest.raises(ValueError, match="a run that is finished or has other parameters"):
        fresh(OUTPUT_DIR=FIRST, **settings)


@pytest.mark.parametrize("content", [b"{", None])
def test_what_is_no_known_run_is_left_alone(machine: Path, content: bytes | None) -> None:
    train(FIRST, 1)
    settings = machine / FIRST / "training_checkpoints" / "tiny" / "settings.json"
    settings.unlink() if content is None else settings.write_bytes(content)
    assert fresh() == SECOND


def test_folders_that_cannot_be_read_are_named(machine: Path, monkeypatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    (machine / "drive").mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)
    message = r"^drive cannot be read \(Permission denied\): choose a folder that you may read$"
    with pytest.raises(ValueError, match=message):
        fresh(BACKUP_DIR="drive")


@CONTRADICTED
def test_shipped_runs_are_nobodys_interrupted_ones() -> None:
    train(".", 2)
    for folder in (".", str(Path.cwd())):
        with pytest.raises(ValueError, match=r"FROM_SCRATCH is set, but .* Leave OUTPUT_DIR empty"):
            fresh(OUTPUT_DIR=folder)
    assert fresh() == FIRST


@CONTRADICTED
def test_a_fresh_run_comes_back_from_its_backup(tmp_path: Path, monkeypatch, capsys) -> None:
    drive = tmp_path / "drive"
    train(FIRST, 2, backup_dir=drive)
    (tmp_path / "new machine").mkdir()
    monkeypatch.chdir(tmp_path / "new machine")
    assert fresh(BACKUP_DIR=drive) == FIRST
    assert "goes on" in capsys.readouterr().out
    assert len(train(FIRST, 3, backup_dir=drive).run.history) == 3
    assert "fetched epoch 2" in capsys.readouterr().out


@CONTRADICTED
def test_the_backup_of_a_finished_fresh_run_is_left_alone(tmp_path: Path, monkeypatch) -> None:
    drive = tmp_path / "drive"
    train(FIRST, 3, backup_dir=drive)
    finished = (drive / "from_scratch_001_tiny.zip").read_bytes()
    (tmp_path / "new machine").mkdir()
    monkeypatch.chdir(tmp_path / "new machine")
    folder = fresh(BACKUP_DIR=str(drive))
    assert folder == SECOND
    assert len(train(folder, 1, backup_dir=drive).run.history) == 1
    assert (drive / "from_scratch_001_tiny.zip").read_bytes() == finished
    with pytest.raises(ValueError, match="or its backup holds a run that is finished"):
        fresh(BACKUP_DIR=drive, OUTPUT_DIR=FIRST)


@CONTRADICTED
@pytest.mark.parametrize("option", ["FAST", "FROM_SCRATCH"])
def test_a_smoke_run_or_a_fresh_one_leaves_the_backup_of_the_usual_run(
    tmp_path: Path, option: str, capsys
) -> None:
    drive = tmp_path / "drive"
    train(".", 3, backup_dir=drive)
    usual = (drive / "tiny.zip").read_bytes()
    folder = choose(BACKUP_DIR=drive, **{option: True})
    capsys.readouterr()
    train(folder, 1, backup_dir=drive)
    assert "restored" not in capsys.readouterr().out
    assert (drive / "tiny.zip").read_bytes() == usual


def test_backups_of_folders_with_longer_names_do_not_count(tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    train("mine_2", 3, backup_dir=drive)
    (drive / "mine_broken.zip").write_text("no zip")
    assert fresh(BACKUP_DIR=drive, OUTPUT_DIR="mine") == "mine"


def test_a_backup_of_the_current_folder_counts(machine: Path) -> None:
    drive = machine / "drive"
    train(".", 3, backup_dir=drive)
    shutil.rmtree(machine / "training_checkpoints")
    with pytest.raises(ValueError, match="or its backup holds a run that is finished"):
        fresh(BACKUP_DIR=drive, OUTPUT_DIR=".")


@pytest.mark.parametrize(
    ("source", "name"),
    [("~/my pictures/", "my pictures"), ("a [1].npz", "a [1]"), ("fashion_mnist",) * 2],
)
def test_other_data_have_other_folders(source: str, name: str) -> None:
    data = without_images(source, (28, 28, 1), ["a"])
    assert choose(data) == f"runs/{name}"
    assert choose(data, FAST=True) == f"runs/{name}_fast"
    assert choose(data, OUTPUT_DIR="mine") == "mine"
    first = choose(data, FROM_SCRATCH=True)
    assert first == f"runs/{name}_from_scratch_001"
    train(first, 3)
    assert choose(data, FROM_SCRATCH=True) == f"runs/{name}_from_scratch_002"
    assert fresh() == FIRST


BACKUP_WITHIN = {"OUTPUT_DIR": "runs/flowers_out", "BACKUP_DIR": "runs/flowers"}


def test_no_run_lies_within_its_own_data(machine: Path) -> None:
    data = without_images("runs/flowers", (28, 28, 1), ["a"])
    (machine / "runs" / "flowers").mkdir(parents=True)
    for wanted in ({}, {"OUTPUT_DIR": "runs/flowers/out"}, BACKUP_WITHIN):
        with pytest.raises(ValueError, match=r"flowers.* is within the data: choose another"):
            choose(data, **wanted)
    assert choose(data, OUTPUT_DIR="runs/flowers_out") == "runs/flowers_out"
    (machine / "cifar10").mkdir()  # no data: the name is that of a known data set
    known = without_images("cifar10", (32, 32, 3), ["a"])
    assert choose(known, OUTPUT_DIR="cifar10/out") == "cifar10/out"


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"DATA": "/moved/nebulae"}, True),
        ({"DATA": "/old/galaxies"}, False),
        ({"TRAIN_IMAGES": 50_000}, True),  # of which there were 225
        ({"TRAIN_IMAGES": 100}, False),
        ({"CLASS_NAMES": ("a", "c")}, False),
    ],
)
def test_a_fresh_run_on_own_data_goes_on(settings: dict, same: bool) -> None:
    names = {"DATA": "/old/nebulae", "CLASS_NAMES": ("a", "b"), "TRAIN_IMAGES": 225}
    train(FIRST, 1, settings=SETTINGS | names)
    assert fresh(**names | settings) == (FIRST if same else SECOND)


@pytest.mark.parametrize("here", ["data/target", "data/alias", "~/data/alias"])
def test_a_link_to_the_data_is_the_same_data(machine: Path, monkeypatch, here: str) -> None:
    monkeypatch.setenv("HOME", str(machine))
    (machine / "data" / "target").mkdir(parents=True)
    (machine / "data" / "alias").symlink_to("target")
    for there in (machine / "data" / "target", "data/alias", "/moved/target"):
        assert differences({"DATA": str(there)}, {"DATA": here}) == ""
    assert "DATA" in differences({"DATA": "~nobody_here/other"}, {"DATA": here})
