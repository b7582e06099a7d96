"""Training and checkpoints on tiny networks: restore, continue, and every way to go wrong."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import dcgan_utils as utils

ROOT = Path(__file__).parent.parent
IMAGES, LABELS = utils.draw_stand_in_images(24, (8, 8, 3), seed=0)


class Session:
    """What a reader has after running the cells: fresh networks and the folders of a run."""

    def __init__(self, names: SimpleNamespace, output_dir: Path, width: int = 4) -> None:
        """Start a run as a fresh kernel would."""
        names.keras.utils.set_random_seed(names.SEED)
        self.names = names
        self.run = names.start_run(
            names.build_generator(names.LATENT_DIM, (8, 8, 3), width=width),
            names.build_discriminator((8, 8, 3), width=width),
        )
        self.folders = utils.prepare_run_folders(output_dir, "tiny")

    def train(self, epochs: int, **rules: Callable) -> utils.History:
        """Restore and train."""
        step = self.names.make_train_step(self.run, self.names.Rules(**rules))
        return self.names.train(self.run, self.folders, step, IMAGES, LABELS, epochs)


@pytest.fixture
def session(lesson: Callable, tmp_path: Path) -> Callable[..., Session]:
    """Return a maker of fresh sessions that share one output folder."""
    names = lesson()
    return lambda **options: Session(names, tmp_path, **options)


def generator_weights(session: Session) -> np.ndarray:
    """Return all weights of the generator as one vector."""
    return np.concatenate([w.numpy().ravel() for w in session.run.generator.weights])


def without_timings(history: utils.History) -> utils.History:
    """Return the records without what depends on the machine's mood."""
    timings = ("seconds", "images_per_second")
    return [{k: v for k, v in record.items() if k not in timings} for record in history]


def test_a_run_leaves_pictures_history_and_checkpoint(session: Callable, capsys) -> None:
    first = session()
    history = first.train(2)
    assert [record["epoch"] for record in history] == [1, 2]
    assert utils.load_history(first.folders.history) == history
    assert all(set(record) == set(utils.HISTORY_KEYS) for record in history)
    assert [file.name for file in sorted(first.folders.samples.iterdir())] == [
        "epoch_0001.png",
        "epoch_0002.png",
    ]
    assert capsys.readouterr().out.count("distance") == 2
    left = [file.name for file in first.folders.output_dir.rglob("*") if "tmp" in file.name]
    assert left == []


def test_a_finished_run_is_restored_and_not_trained(session: Callable, capsys) -> None:
    first = session()
    history = first.train(2)
    second = session()
    assert (generator_weights(first) != generator_weights(second)).any()
    capsys.readouterr()
    assert second.train(2) == history
    assert np.array_equal(generator_weights(first), generator_weights(second))
    assert int(second.run.g_optimizer.iterations) == 6
    output = capsys.readouterr().out
    assert "Nothing to train" in output
    assert output.count("distance") == 2


def test_a_larger_total_goes_on_where_the_run_ended(session: Callable) -> None:
    session().train(2)
    continued = session()
    history = continued.train(3)
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert int(continued.run.epoch) == 3

    whole = session()
    whole.folders = utils.prepare_run_folders(whole.folders.output_dir / "whole", "tiny")
    uninterrupted = whole.train(3)
    # Images, noise and dropout go on as if nothing had happened.
    assert without_timings(history) == without_timings(uninterrupted)
    assert np.array_equal(generator_weights(continued), generator_weights(whole))


def test_a_smaller_total_keeps_the_later_checkpoint(session: Callable, capsys) -> None:
    session().train(3)
    capsys.readouterr()
    later = session()
    assert len(later.train(1)) == 3
    assert "EPOCHS = 1 and epoch 3 is done" in capsys.readouterr().out
    assert int(later.run.epoch) == 3


@pytest.mark.parametrize("epochs", [0, -1, 2.5, "3"])
def test_impossible_totals_are_refused(session: Callable, epochs: object) -> None:
    with pytest.raises(ValueError, match="EPOCHS must be a whole number of at least 1"):
        session().train(epochs)


def test_too_few_images_are_refused(session: Callable) -> None:
    tiny = session()
    step = tiny.names.make_train_step(tiny.run)
    with pytest.raises(ValueError, match="at least BATCH_SIZE = 8"):
        tiny.names.train(tiny.run, tiny.folders, step, IMAGES[:5], LABELS[:5], 1)
    with pytest.raises(ValueError, match="each image needs a label, got 24 and 5"):
        tiny.names.train(tiny.run, tiny.folders, step, IMAGES, LABELS[:5], 1)


def test_history_is_cut_to_the_checkpoint(session: Callable) -> None:
    first = session()
    history = first.train(1)
    utils.save_history([*history, {**history[0], "epoch": 2}], first.folders.history)
    assert session().train(1) == history


def test_a_lost_history_is_named(session: Callable) -> None:
    first = session()
    first.train(1)
    first.folders.history.unlink()
    with pytest.raises(RuntimeError, match=r"tiny\.json ends at epoch 0"):
        session().train(2)


BAD_CHECKPOINT = pytest.mark.survives(
    "a bad checkpoint",
    "data, index, list or record cut, emptied or lost; other networks; other names of variables",
)


@BAD_CHECKPOINT
def test_other_networks_are_named_with_the_variable(session: Callable) -> None:
    first = session()
    first.train(1)
    checkpoints = sorted(file.name for file in first.folders.checkpoints.iterdir())
    message = r"other networks: conv2d\w*/kernel \(d_optimizer.*shape \[.*Delete this folder"
    with pytest.raises(RuntimeError, match=message):
        session(width=6).train(2)
    assert sorted(file.name for file in first.folders.checkpoints.iterdir()) == checkpoints


@BAD_CHECKPOINT
@pytest.mark.parametrize("kind", ["data-00000-of-00001", "index"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "delete"])
def test_a_damaged_checkpoint_falls_back(session: Callable, capsys, kind: str, damage: str) -> None:
    first = session()
    first.train(2)
    damaged = first.folders.checkpoints / f"epoch-2.{kind}"
    if damage == "delete":
        damaged.unlink()
    else:
        content = damaged.read_bytes()
        damaged.write_bytes(content[: len(content) // 2 if damage == "truncate" else 0])
    second = session()
    history = second.train(1)
    assert [record["epoch"] for record in history] == [1]
    assert int(second.run.epoch) == 1
    assert "is passed over" in capsys.readouterr().out


@BAD_CHECKPOINT
def test_no_readable_checkpoint_stops_with_the_remedy(session: Callable) -> None:
    first = session()
    first.train(1)
    for file in first.folders.checkpoints.glob("*.data*"):
        file.write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"No checkpoint in .* Delete this folder"):
        session().train(2)


@pytest.mark.survives("NaN in a loss", "injected in the second step of an epoch")
def test_divergence_names_epoch_and_step_and_keeps_the_checkpoint(session: Callable) -> None:
    session().train(1)
    calls = tf.Variable(0)

    def breaks_at_second_step(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        calls.assign_add(1)
        loss = tf.reduce_mean(fake_logits) - tf.reduce_mean(real_logits)
        return tf.where(calls < 2, loss, float("nan"))

    broken = session()
    with pytest.raises(RuntimeError, match=r"epoch 2, step 2: d_loss is nan.*intact"):
        broken.train(3, d_loss=breaks_at_second_step)
    again = session()
    assert len(again.train(1)) == 1
    assert np.isfinite(generator_weights(again)).all()
    assert not broken.folders.sample(2).exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "{{node}} file; No space left on device"),
    ],
)
def test_a_full_disk_keeps_the_checkpoint(
    session: Callable, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    first = session()
    history = first.train(1)
    unfinished = first.folders.checkpoints / "epoch-2_temp"

    def no_space(*_: object, **__: object) -> None:
        unfinished.mkdir()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(tf.train.CheckpointManager, "save", no_space)
        with pytest.raises(RuntimeError, match=r"No space left on device\. Free.*is intact"):
            session().train(2)
    assert not unfinished.exists()
    assert session().train(1) == history


def test_a_read_only_output_folder_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"Cannot write /proc/dcgan.*folder that you may write"):
        utils.prepare_run_folders("/proc/dcgan", "baseline")


@pytest.mark.parametrize("variant", ["", "a/b", "..", "a b"])
def test_variant_names_are_plain(tmp_path: Path, variant: str) -> None:
    with pytest.raises(ValueError, match="variant must be"):
        utils.prepare_run_folders(tmp_path, variant)
    assert not any(tmp_path.iterdir())


def test_backup_moves_a_run_to_another_machine(
    session: Callable, lesson: Callable, tmp_path: Path
) -> None:
    drive = tmp_path / "drive"
    names = lesson(BACKUP_DIR=str(drive))
    first = Session(names, tmp_path / "here")
    history = first.train(2)
    assert [file.name for file in drive.iterdir()] == ["tiny.zip"]
    second = Session(names, tmp_path / "there")
    assert second.train(2) == history
    assert second.folders.sample(1).exists()
    assert utils.fetch_backup(second.folders, drive) is False
    (drive / "tiny.zip").write_bytes(b"PK")
    with pytest.raises(RuntimeError, match=r"tiny\.zip cannot be unpacked"):
        Session(names, tmp_path / "elsewhere").train(2)


def test_output_folders_protect_shipped_results(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    choose = utils.choose_output_dir
    assert choose("", fast=False, from_scratch=False) == Path()
    assert choose("", fast=True, from_scratch=False) == Path("runs/fast")
    assert choose("mine", fast=True, from_scratch=False) == Path("mine")
    fresh = choose("", fast=False, from_scratch=True)
    assert fresh == Path("runs/from_scratch_001")
    fresh.mkdir(parents=True)
    assert choose("", fast=False, from_scratch=True) == Path("runs/from_scratch_002")
    folders = utils.prepare_run_folders("mine", "baseline")
    (folders.checkpoints / "checkpoint").touch()
    with pytest.raises(ValueError, match="holds checkpoints already"):
        choose("mine", fast=False, from_scratch=True)


def test_precision_is_chosen_with_a_reason() -> None:
    assert utils.choose_precision("float32") == ("float32", "as asked for")
    policy, reason = utils.choose_precision("auto")
    assert policy in ("float32", "mixed_bfloat16")
    assert "bfloat16" in reason
    with pytest.raises(ValueError, match="PRECISION"):
        utils.choose_precision("float64")


@pytest.mark.parametrize(
    ("capabilities", "policy"),
    [
        ([(9, 0)], "mixed_bfloat16"),
        ([(8, 0)], "mixed_bfloat16"),
        ([(7, 5)], "mixed_float16"),
        ([(8, 0), (7, 5)], "mixed_float16"),
        ([(6, 1)], "float32"),
        ([None], "float32"),
    ],
)
def test_precision_fits_the_weakest_gpu(
    monkeypatch: pytest.MonkeyPatch, capabilities: list, policy: str
) -> None:
    details = {
        f"GPU:{i}": {"compute_capability": c} if c else {} for i, c in enumerate(capabilities)
    }
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(details))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    chosen, reason = utils.choose_precision()
    assert chosen == policy
    assert "the GPU" in reason


def test_checkpoints_fit_every_precision(lesson: Callable, tmp_path: Path) -> None:
    history = Session(lesson(PRECISION="float32"), tmp_path).train(1)
    for epochs, precision in enumerate(("mixed_float16", "mixed_bfloat16", "float32"), start=2):
        later = Session(lesson(PRECISION=precision), tmp_path).train(epochs)
        assert later[: len(history)] == history
        assert all(np.isfinite(record["g_loss"]) for record in later)
        history = later


@pytest.fixture
def listening() -> Iterator[None]:
    """Let this process notice interrupts, even if it was started to ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupting_loss() -> Callable[..., tf.Tensor]:
    """Return a loss of the discriminator that in its second step does what Ctrl-C does."""
    calls = []

    def interrupt() -> np.float32:
        calls.append(None)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return np.float32(0)

    def d_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        return plain_loss(real_logits, fake_logits) + tf.numpy_function(interrupt, [], tf.float32)

    return d_loss


def plain_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """Return the same loss without an interrupt."""
    return tf.reduce_mean(fake_logits) - tf.reduce_mean(real_logits)


@pytest.mark.usefixtures("listening")
def test_an_interrupt_keeps_the_steps_so_far_and_the_run_goes_on_exactly(
    session: Callable, capsys
) -> None:
    stopped = session()
    with pytest.raises(KeyboardInterrupt, match="run it again to go on"):
        stopped.train(2, d_loss=interrupting_loss())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert sorted(file.name for file in stopped.folders.checkpoints.iterdir()) == [
        "epoch-0-step-2.data-00000-of-00001",
        "epoch-0-step-2.index",
        "epoch-0-step-2.json",
    ]
    continued = session()
    history = continued.train(2, d_loss=plain_loss)
    assert "restored epoch 0 and 2 steps of the next" in capsys.readouterr().out
    assert not list(continued.folders.checkpoints.glob("*step*"))

    whole = session()
    whole.folders = utils.prepare_run_folders(whole.folders.output_dir / "whole", "tiny")
    assert without_timings(history) == without_timings(whole.train(2, d_loss=plain_loss))
    assert np.array_equal(generator_weights(continued), generator_weights(whole))


@pytest.mark.usefixtures("listening")
def test_a_second_interrupt_breaks_off_at_once() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), utils.delay_interrupts() as interruption:  # noqa: PT012
        assert not interruption.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested
        reached.append("first")
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("second")
    assert reached == ["first"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("listening")
def test_a_process_that_ignores_interrupts_goes_on_doing_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with utils.delay_interrupts() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
    assert not interruption.requested
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_training_in_a_thread_gets_no_interrupts(session: Callable) -> None:
    with ThreadPoolExecutor() as pool:
        assert len(pool.submit(session().train, 1).result()) == 1


@BAD_CHECKPOINT
@pytest.mark.parametrize("content", [None, "", "[]", '{"series": {"d_loss": [1, NaN]}}', "{}"])
@pytest.mark.usefixtures("listening")
def test_a_damaged_record_of_an_interrupted_epoch_is_passed_over(
    session: Callable, capsys, content: str | None
) -> None:
    first = session()
    history = first.train(1)
    with pytest.raises(KeyboardInterrupt):
        session().train(2, d_loss=interrupting_loss())
    (record,) = first.folders.checkpoints.glob("*.json")
    if content is None:
        record.unlink()
    else:
        record.write_text(content)
    assert session().train(1) == history
    assert "epoch-1-step-2 cannot be read and is passed over" in capsys.readouterr().out


@BAD_CHECKPOINT
@pytest.mark.parametrize(
    "content",
    [None, b"", b"\x00\xff\xfe", b'model_checkpoint_path: "epoch-7"', b"no protocol buffer"],
)
def test_a_useless_list_of_checkpoints_does_no_harm(
    session: Callable, content: bytes | None
) -> None:
    first = session()
    history = first.train(2)
    listing = first.folders.checkpoints / "checkpoint"
    if content is None:
        listing.unlink()
    else:
        listing.write_bytes(content)
    again = session()
    assert again.train(2) == history
    assert np.array_equal(generator_weights(first), generator_weights(again))
    assert len(session().train(3)) == 3


@BAD_CHECKPOINT
def test_other_names_of_the_same_variables_are_explained(session: Callable) -> None:
    first = session()
    first.train(1)
    values = {  # as another version of Keras might name them
        name: first.run.generator.weights[number].value
        for number, name in enumerate(("kernel_of_the_first", "gamma_of_the_first"))
    }
    stored = tf.train.Checkpoint(**{name: tf.Variable(value) for name, value in values.items()})
    expected = {
        f"{name}/.ATTRIBUTES/VARIABLE_VALUE": v.shape.as_list() for name, v in values.items()
    }
    renamed = {f"old_{name}": shape for name, shape in expected.items()}
    with pytest.raises(
        RuntimeError, match=r"other names, such as old_gamma.*another version of Keras"
    ):
        utils._check_same_variables(stored, renamed | {"save_counter": []}, "a folder")


def test_leftovers_of_killed_processes_are_cleared_away(session: Callable) -> None:
    first = session()
    folders = first.folders
    number = 2**22 + 1  # above the largest number of a process on Linux
    leftovers = [
        folders.history.with_name(f".tiny.{number}.tmp.json"),
        folders.sample(1).with_name(f".epoch_0001.{number}.tmp.png"),
        folders.checkpoints / "checkpoint.tmp0123",
        folders.checkpoints / "epoch-1_temp" / "part",
    ]
    other = folders.history.with_name(f".tiny.{os.getpid()}.tmp.png")  # of another file
    for file in (*leftovers, other):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
    first.train(1)
    assert not [file for file in leftovers if file.exists()]
    assert other.exists()


def test_a_second_run_in_the_same_folder_is_refused(session: Callable) -> None:
    first = session()
    with utils.lock_run(first.folders):
        message = (
            rf"Another process is training.*process {os.getpid()}, started 20.*delete .*\.lock"
        )
        with pytest.raises(RuntimeError, match=message):
            session().train(1)
        with utils.lock_run(first.folders, wanted=False):
            pass
    assert not first.folders.lock.exists()
    assert len(session().train(1)) == 1


@pytest.mark.survives("the lock of a killed process", "kill -9, then a run in the same folder")
def test_the_lock_of_a_dead_process_is_taken_over(session: Callable) -> None:
    first = session()
    script = (
        "import os, signal, sys, pathlib, dcgan_utils as utils\n"
        "with utils.lock_run(utils.RunFolders(pathlib.Path(sys.argv[1]), 'tiny')):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", script, str(first.folders.output_dir)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert "process" in first.folders.lock.read_text()
    assert len(first.train(1)) == 1
    assert not first.folders.lock.exists()


def test_a_file_system_without_locks_is_no_obstacle(
    session: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(utils.fcntl, "flock", no_locks)
    assert len(session().train(1)) == 1
