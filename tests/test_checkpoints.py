"""Checkpoints: damaged ones, those of other networks, full disks and odd names of folders."""

import errno
from pathlib import Path

import pytest
import tensorflow as tf
from small_runs import Session, same

from dcgan import checkpoints

ODD_FOLDER = pytest.mark.survives(
    "a folder of an odd name",
    "brackets, *, ?, %, quotes, Hangul, a dot at the end: train, resume, back up, sample",
)
BAD_CHECKPOINT = pytest.mark.survives(
    "a bad checkpoint", "data or index cut, emptied, changed or lost; other networks or settings"
)
ODD_NAMES = ["x [v2]", "a*b", "q?", "100%", "two words", 'it\'s "q"', "그림", "dot.", "{x}", "a\\b"]


def test_epochs_are_told_by_their_index_files() -> None:
    names = ["epoch-9.index", "epoch-10.index", "epoch-11.data-00000-of-00001", "epoch-0.index"]
    assert checkpoints.epochs_among([*names, "epoch-x.index", "my-epoch-3.index"]) == [10, 9, 0]
    assert checkpoints.saved_epochs(Path("no such folder")) == []


@BAD_CHECKPOINT
@pytest.mark.parametrize("kind", ["data-00000-of-00001", "index"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "delete", "change"])
def test_a_damaged_checkpoint_falls_back(tmp_path: Path, capsys, kind: str, damage: str) -> None:
    first = Session(tmp_path)
    first.train(1)
    kept = first.values
    first.train(2)
    damaged = first.run.checkpoints / f"epoch-2.{kind}"
    content = damaged.read_bytes()
    if damage == "delete":
        damaged.unlink()
    elif damage == "change":
        middle = len(content) // 2
        damaged.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        damaged.write_bytes(content[: len(content) // 2 if damage == "truncate" else 0])
    second = Session(tmp_path)
    history = second.train(1)
    assert [record["epoch"] for record in history] == [1]
    assert int(second.gan.epoch) == 1
    assert same(second.values, kept)
    passed_over = (damage, kind) != ("delete", "index")  # without its index it is none
    output = capsys.readouterr().out
    assert ("epoch-2 cannot be read and is passed over" in output) == passed_over
    assert "tiny: restored epoch 1 from" in output
    assert [record["epoch"] for record in second.train(2)] == [1, 2]
    third = Session(tmp_path)
    third.train(2)
    assert same(third.values, second.values)


@BAD_CHECKPOINT
def test_no_readable_checkpoint_ends_in_one_sentence(tmp_path: Path) -> None:
    first = Session(tmp_path)
    first.train(2)
    for file in first.run.checkpoints.glob("*.data*"):
        file.write_bytes(b"")
    second = Session(tmp_path)
    before = second.values
    message = r"^No checkpoint in .*tiny can be read\. Bring the folder back from a backup, or"
    with pytest.raises(RuntimeError, match=message):
        second.train(3)
    assert same(second.values, before)


@BAD_CHECKPOINT
@pytest.mark.parametrize("width", [6, 3])
def test_other_networks_are_refused_and_left_as_they_were(tmp_path: Path, width: int) -> None:
    first = Session(tmp_path)
    first.train(1)
    files = {path: path.read_bytes() for path in first.run.checkpoints.iterdir()}
    other = Session(tmp_path, width=width)
    before = other.values
    message = (
        r"of other networks: names or shapes .* differ\. To .* name a new folder in OUTPUT_DIR"
    )
    with pytest.raises(RuntimeError, match=message):
        other.train(2)
    assert same(other.values, before)
    assert {path: path.read_bytes() for path in first.run.checkpoints.iterdir()} == files


@BAD_CHECKPOINT
def test_networks_with_more_or_fewer_layers_are_refused(tmp_path: Path) -> None:
    first = Session(tmp_path)
    first.train(1)
    other = Session(tmp_path)
    other.gan.checkpoint.further = tf.Variable([1.0, 2.0])
    before = other.values
    with pytest.raises(RuntimeError, match="of other networks"):
        other.train(2)
    assert same(other.values, before)
    checkpoints.save(other.gan, first.run.checkpoints, 2)
    fewer = Session(tmp_path)
    before = fewer.values
    with pytest.raises(RuntimeError, match="of other networks"):
        fewer.train(2)
    assert same(fewer.values, before)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(
            None, None, "{{function_node x}} /a/b; No space left on device [Op:SaveV2]"
        ),
    ],
)
def test_a_full_disk_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    history = Session(tmp_path).train(1)
    second = Session(tmp_path)
    unfinished = second.run.checkpoints / "epoch-2_temp"

    def no_space(*_: object) -> None:
        unfinished.mkdir()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(second.gan.checkpoint, "write", no_space)
        message = r"Cannot write a checkpoint to .*tiny: .*No space left on device\. Free .* intact"
        with pytest.raises(RuntimeError, match=message) as caught:
            second.train(2)
    assert "{{" not in str(caught.value)
    assert "[Op" not in str(caught.value)
    assert not unfinished.exists()
    assert Session(tmp_path).train(1) == history
    assert [record["epoch"] for record in second.train(2)] == [1, 2]


@ODD_FOLDER
@pytest.mark.parametrize("name", ODD_NAMES)
def test_folders_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """TensorFlow's own tools take some of these names for patterns."""
    monkeypatch.chdir(tmp_path)
    drive = tmp_path / f"drive {name}"
    first = Session(Path(name), backup_dir=drive)  # relative to the current folder
    history = first.train(3)
    epochs = [f"epoch-{k}.{kind}" for k in (2, 3) for kind in ("data-00000-of-00001", "index")]
    assert first.files == [*epochs, "settings.json"]
    later = Session(tmp_path / name)
    assert later.train(3) == history
    assert same(first.values, later.values)
    assert len(later.train(4)) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, drive.name])
    assert [file.name for file in drive.iterdir()] == [f"{name}_tiny.zip"]
    other = Session(tmp_path / "there" / name, backup_dir=drive)
    assert other.train(3) == history
    assert Path.cwd() == tmp_path


def test_a_checkpoint_may_have_several_data_files(tmp_path: Path) -> None:
    """Old parts are deleted, those of an epoch that begins with the same digit are not."""
    session = Session(tmp_path)
    folder = session.run.checkpoints
    for epoch in (1, 10, 11):
        checkpoints.save(session.gan, folder, epoch)
    assert checkpoints.saved_epochs(folder) == [11, 10]
    (folder / "epoch-1.data-00000-of-00002").write_bytes(b"old")
    (folder / "epoch-1.data-00001-of-00002").write_bytes(b"old")
    (folder / "epoch-1.index").write_bytes(b"old")
    checkpoints.save(session.gan, folder, 12)
    assert checkpoints.saved_epochs(folder) == [12, 11]
    assert not list(folder.glob("epoch-1.*"))
