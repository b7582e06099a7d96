"""Runs of tiny networks: train, restore, go on, and what a run refuses."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from small_runs import IMAGES, LABELS, SETTINGS, Session, definitions, same, without_timings
from test_files import cannot_be_written

import dcgan_utils as utils
from dcgan.files import HOST, lock_file

LOST_FILE = pytest.mark.survives(
    "a lost file of a run", "settings.json: named; the picture of an epoch: left out"
)
OTHER_PICTURES = pytest.mark.survives(
    "another data set of the same name", "as many other pictures: named before anything is trained"
)


def test_a_run_leaves_pictures_history_checkpoint_and_settings(tmp_path: Path, capsys) -> None:
    first = Session(tmp_path)
    history = first.train(2)
    assert [record["epoch"] for record in history] == [1, 2]
    assert first.run.history == history
    assert all(set(record) == set(utils.HISTORY_KEYS) for record in history)
    assert sorted(first.run.samples.iterdir()) == [first.run.sample(1), first.run.sample(2)]
    assert list(first.run.frames) == ["epoch 1", "epoch 2"]
    stored = json.loads((first.run.checkpoints / "settings.json").read_text())
    assert stored == {**SETTINGS, "IMAGE_SHAPE": [8, 8, 3]}
    epochs = [f"epoch-{k}.{kind}" for k in (1, 2) for kind in ("data-00000-of-00001", "index")]
    assert first.files == [*epochs, "settings.json"]
    assert capsys.readouterr().out.count("distance") == 2
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_run_by_itself_touches_nothing(tmp_path: Path) -> None:
    run = utils.Run(tmp_path, "tiny", backup_dir=tmp_path / "drive")
    assert (run.history, run.epoch, run.frames) == ([], 0, {})
    assert Session(tmp_path).run.restore(Session(tmp_path).gan) == 0
    assert not any(tmp_path.iterdir())


def test_a_finished_run_is_restored_and_not_trained(tmp_path: Path, capsys) -> None:
    first, second = Session(tmp_path), Session(tmp_path)
    history = first.train(2)
    assert not same(first.values, second.values)
    capsys.readouterr()
    assert second.train(2) == history
    assert same(first.values, second.values)
    output = capsys.readouterr().out
    assert "tiny: restored epoch 2 from" in output
    assert "Nothing to train: EPOCHS = 2 and epoch 2 is done." in output
    assert output.count("distance") == 2
    later = Session(tmp_path)
    assert later.run.restore(later.gan) == 2
    assert same(later.values, second.values)


def test_a_larger_total_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    first = Session(tmp_path)
    first.train(2, first.real_step)
    continued, whole = Session(tmp_path), Session(tmp_path / "whole")
    history = continued.train(3, continued.real_step)
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert int(continued.gan.epoch) == 3
    # Images, noise and dropout go on as if nothing had happened.
    assert without_timings(history) == without_timings(whole.train(3, whole.real_step))
    assert same(continued.values, whole.values)
    assert continued.run.sample(3).read_bytes() == whole.run.sample(3).read_bytes()
    # A finished run goes on in the same kernel as well.
    assert len(continued.train(4, continued.real_step)) == 4
    assert without_timings(continued.run.history) == without_timings(
        whole.train(4, whole.real_step)
    )
    assert same(continued.values, whole.values)


def test_a_smaller_total_keeps_the_later_checkpoint(tmp_path: Path, capsys) -> None:
    Session(tmp_path).train(3)
    capsys.readouterr()
    later = Session(tmp_path)
    assert len(later.train(1)) == 3
    assert "Nothing to train: EPOCHS = 1 and epoch 3 is done." in capsys.readouterr().out
    assert int(later.gan.epoch) == later.run.epoch == 3


@pytest.mark.parametrize("epochs", [0, -1, 2.5, "3", True])
def test_impossible_totals_are_refused(tmp_path: Path, epochs: object) -> None:
    run = utils.Run(tmp_path, "tiny")
    with pytest.raises(ValueError, match="EPOCHS must be a whole number of at least 1"):
        run.training(None, epochs).__enter__()
    assert not any(tmp_path.iterdir())


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it takes BATCH_SIZE images at least"):
        Session(tmp_path).train(1, count=5)


def test_further_metrics_of_a_step_land_in_the_history(tmp_path: Path) -> None:
    tiny = Session(tmp_path)

    def step(*batch: tf.Tensor) -> dict[str, tf.Tensor]:
        count = tiny.gan.step
        return tiny.quick_step(*batch) | {r"$\bad$": count}

    history = tiny.train(2, step)
    assert [record[r"$\bad$"] for record in history] == [1, 4]  # means of 0, 1, 2 and 3, 4, 5
    assert utils.load_history(tiny.run.history_file) == history
    utils.draw_train_history(history, path=tiny.run.history_plot)
    assert tiny.run.history_plot.stat().st_size > 1000


def test_history_is_cut_to_the_checkpoint(tmp_path: Path) -> None:
    first = Session(tmp_path)
    history = first.train(1)
    utils.save_history([*history, {**history[0], "epoch": 2}], first.run.history_file)
    assert Session(tmp_path).train(1) == history
    assert len(Session(tmp_path).train(2)) == 2


def test_a_lost_history_is_named(tmp_path: Path) -> None:
    first = Session(tmp_path)
    first.train(1)
    first.run.history_file.unlink()
    message = r"is that of epoch 1, but .*tiny\.json ends at epoch 0\. Bring .* new OUTPUT_DIR"
    with pytest.raises(RuntimeError, match=message):
        Session(tmp_path).train(2)


@pytest.mark.survives("NaN in a loss", "injected in the second step of an epoch")
def test_divergence_names_epoch_step_and_metric_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    Session(tmp_path).train(1)
    broken = Session(tmp_path)

    def step(*batch: tf.Tensor) -> dict[str, tf.Tensor]:
        metrics = broken.quick_step(*batch)
        if int(broken.gan.step) == 5:
            broken.gan.generator.weights[0].assign(broken.gan.generator.weights[0] * np.nan)
            return metrics | {"d_loss": tf.constant(np.nan)}
        return metrics

    with pytest.raises(RuntimeError, match=r"epoch 2, step 2: d_loss is nan, .* is intact"):
        broken.train(3, step)
    assert not broken.run.sample(2).exists()
    assert len(broken.train(2)) == 2  # by the same networks, restored
    assert all(np.isfinite(value).all() for value in broken.values)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "a\n", "a.b"])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a run's name has letters, digits, '-' and '_' only"):
        utils.Run(tmp_path, name)


@cannot_be_written
def test_a_read_only_output_folder_is_named() -> None:
    with pytest.raises(
        RuntimeError, match=r"Cannot write to /proc/dcgan.*Set OUTPUT_DIR to a folder"
    ):
        Session(Path("/proc/dcgan")).train(1)


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = utils.Run("~/mine", "tiny", backup_dir="~/drive")
    assert run.sample(3) == tmp_path / "mine" / "generated_samples" / "tiny" / "epoch_0003.png"
    assert run.backup == tmp_path / "drive" / "mine_tiny.zip"


@pytest.mark.parametrize(("source", "same"), [("/moved/nebulae", True), ("/old/galaxies", False)])
def test_the_folder_of_the_data_may_move(tmp_path: Path, source: str, same: bool) -> None:
    Session(tmp_path, settings={"DATA": "/old/nebulae", "CLASS_NAMES": ["a", "b"]}).train(1)
    later = Session(tmp_path, settings={"DATA": source, "CLASS_NAMES": ["a", "b"]})
    if same:
        assert later.train(1)
        return
    with pytest.raises(RuntimeError, match=r"DATA = '/old/nebulae' \(here '/old/galaxies'\)\. Set"):
        later.train(2)


def test_a_worker_that_is_not_the_chief_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(utils.devices, "is_chief", lambda strategy: False)
    worker = Session(tmp_path, backup_dir=tmp_path / "drive")
    worker.train(1)
    assert int(worker.gan.epoch) == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.survives("two runs at once", "a run begins while the folder's lock is held")
def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    tiny = Session(tmp_path)
    with lock_file(tiny.run.checkpoints / ".lock"):
        message = rf"Another process is training.*process {os.getpid()}.*another OUTPUT_DIR"
        with pytest.raises(RuntimeError, match=message):
            tiny.train(1)
        assert len(Session(tmp_path, "other").train(1)) == 1
    assert not tiny.run.history_file.exists()
    assert len(tiny.train(1)) == 1


def test_training_in_a_thread_works(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        assert len(pool.submit(Session(tmp_path).train, 1).result()) == 1


def test_leftovers_of_killed_processes_are_cleared_away(tmp_path: Path) -> None:
    run = Session(tmp_path).run
    dead = f"{HOST}.{2**22 + 1}.1a2b3c"  # above the largest number of a process on Linux
    leftovers = [
        run.history_file.with_name(f".tiny.{dead}.tmp.json"),
        run.sample(1).with_name(f".epoch_0001.{dead}.tmp.png"),
        run.checkpoints / f".settings.{dead}.tmp.json",
        run.checkpoints / "epoch-1_temp" / "part",
    ]
    other = run.history_file.with_name(f".tiny.{dead}.tmp.png")  # of another file
    for file in (*leftovers, other):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    Session(tmp_path).train(1)
    assert not [file for file in leftovers if file.exists()]
    assert not leftovers[-1].parent.exists()
    assert other.exists()


def test_trained_networks_are_no_fresh_start(tmp_path: Path) -> None:
    trained = Session(tmp_path / "first")
    trained.train(1)
    before = trained.values
    trained.run = utils.Run(tmp_path / "second", "tiny")
    message = r"tiny is to start in .*second, but its networks are trained already: run the cell"
    with pytest.raises(RuntimeError, match=message):
        trained.train(2)
    assert same(trained.values, before)
    assert not trained.run.history_file.exists()
    assert trained.run.epoch == 0


OTHER_SETTINGS = pytest.mark.survives(
    "other settings than the run's",
    "each setting of the shipped runs, and a backup: named before anything is trained or restored",
)
OTHER = {"SEED": 7, "BATCH_SIZE": 8, "IMAGE_SHAPE": (8, 8, 3), "DROPOUT": 0.3}


@OTHER_SETTINGS
def test_every_setting_that_differs_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    first = Session(tmp_path)
    first.train(1)
    other = Session(tmp_path, settings=OTHER)
    before, files = other.values, first.files
    message = (
        r"settings\.json, tiny is trained with DROPOUT = None \(here 0\.3\), SEED = 42 \(here 7\)\."
        r" Set this back, .*FROM_SCRATCH = True"
    )
    for refused in (lambda: other.train(2), lambda: other.run.restore(other.gan)):
        with pytest.raises(RuntimeError, match=message) as caught:
            refused()
        assert "BATCH_SIZE" not in str(caught.value)
    assert same(other.values, before)
    assert first.files == files
    assert len(Session(tmp_path).train(2)) == 2


@LOST_FILE
def test_lost_settings_are_named(tmp_path: Path) -> None:
    first = Session(tmp_path)
    first.train(1)
    (first.run.checkpoints / "settings.json").unlink()
    with pytest.raises(RuntimeError, match=r"settings\.json is missing, so what tiny was trained"):
        Session(tmp_path).train(2)


@pytest.mark.survives(
    "a parameter changed under a built run", "the training cell is run without those before it"
)
def test_parameters_that_change_under_a_built_run_are_named(tmp_path: Path) -> None:
    tiny = Session(tmp_path)
    tiny.train(1)
    train = definitions().train
    changed = tiny.run.settings | {"BATCH_SIZE": 4}
    with (
        mock.patch.dict(train.__globals__, changed),
        pytest.raises(
            RuntimeError, match=r"tiny was built with BATCH_SIZE = 8 \(here 4\)\. Run all"
        ),
    ):
        train(tiny.gan, tiny.run, tiny.quick_step, IMAGES, LABELS, 2)
    assert len(tiny.train(2)) == 2


@OTHER_PICTURES
def test_other_pictures_of_the_same_number_are_other_data(tmp_path: Path) -> None:
    settings = {"DATA": "/a/train", "TRAIN_IMAGES": 24}
    Session(tmp_path, settings=settings | {"IMAGES_SHA256": "1a"}).train(1)
    with pytest.raises(
        RuntimeError, match=r"trained with IMAGES_SHA256 = '1a' \(here '2b'\)\. Set"
    ):
        Session(tmp_path, settings=settings | {"IMAGES_SHA256": "2b"}).train(2)


@LOST_FILE
def test_a_lost_picture_is_left_out(tmp_path: Path) -> None:
    tiny = Session(tmp_path)
    tiny.train(3)
    tiny.run.sample(2).unlink()
    assert [*tiny.run.frames] == ["epoch 1", "epoch 3"]
    tiny.train(4)
    utils.make_gif(tiny.run.frames, tiny.run.picture(".gif"))


def test_untrained_networks_of_an_earlier_try_are_replaced(tmp_path: Path, capsys) -> None:
    """Other networks, other settings, or the same networks with other first weights."""
    tries = [Session(tmp_path), Session(tmp_path, width=6), Session(tmp_path, settings=OTHER)]
    tries.append(Session(tmp_path, settings=OTHER))
    for tried in tries:
        first = tried.gan.generator.weights[0]
        first.assign(first + len(tries))
        before = tried.values
        with tried.run.training(tried.gan, 1):
            assert tried.run.epoch == 0
        assert same(tried.values, before)
    assert capsys.readouterr().out == ""
    assert len(tries[-1].train(1)) == 1
