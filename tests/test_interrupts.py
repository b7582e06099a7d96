"""Ctrl-C and the stop button: at most the epoch under way is repeated, to the same bits."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from IPython.core.interactiveshell import InteractiveShell
from small_runs import IMAGES, LABELS, Session, interrupted, same, without_timings

import dcgan_utils as utils


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    """Let this process notice interrupts, even if it was started to ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run of two epochs that nothing has interrupted."""
    session = Session(tmp_path_factory.mktemp("whole"))
    session.train(2, session.real_step)
    return session


@pytest.mark.parametrize("again", ["the same networks", "fresh networks"])
@pytest.mark.parametrize(("count", "kept"), [(2, 0), (5, 1)])
def test_a_stopped_run_goes_on_with_the_same_bits(
    tmp_path: Path, undisturbed: Session, count: int, kept: int, again: str
) -> None:
    session = Session(tmp_path)
    with pytest.raises(utils.Stopped) as caught:
        session.train(2, interrupted(session.real_step, count))
    sentence = f"Stopped; {kept} epochs of tiny are kept. Run this again to go on."
    assert str(caught.value) == sentence
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert (session.run.epoch, len(session.run.history)) == (kept, kept)
    assert not (session.run.checkpoints / ".lock").exists()

    if again == "fresh networks":
        session = Session(tmp_path)
    history = session.train(2, session.real_step)
    assert without_timings(history) == without_timings(undisturbed.run.history)
    assert same(session.values, undisturbed.values)
    for epoch in (1, 2):
        pictures = (one.run.sample(epoch).read_bytes() for one in (session, undisturbed))
        assert len({*pictures}) == 1


def test_a_run_stopped_twice_goes_on(tmp_path: Path, undisturbed: Session) -> None:
    session = Session(tmp_path)
    for count in (2, 1, 5, 1, 3):
        with pytest.raises(utils.Stopped):
            session.train(2, interrupted(session.real_step, count))
    assert session.run.epoch == 1
    history = session.train(2, session.real_step)
    assert without_timings(history) == without_timings(undisturbed.run.history)
    assert same(session.values, undisturbed.values)


@pytest.mark.parametrize("name", ["save_png", "save_history", "checkpoints.save"])
def test_the_sentence_counts_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An interrupt between an epoch's last step and its checkpoint costs that epoch."""

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    session = Session(tmp_path)
    history = session.train(1)
    with monkeypatch.context() as patch:
        patch.setattr(f"dcgan_utils.{name}", interrupt)
        with pytest.raises(utils.Stopped, match="Stopped; 1 epochs of tiny are kept"):
            session.train(2)
    assert session.run.epoch == 1
    assert session.train(1) == history


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        (
            "session.train(2, step)",
            "Stopped; 0 epochs of tiny are kept. Run this again to go on.",
        ),
        ("signal.raise_signal(signal.SIGINT)", "Stopped. Run this cell again to go on."),
    ],
)
def test_jupyter_shows_a_sentence_and_no_traceback(
    tmp_path: Path, capsys, cell: str, sentence: str
) -> None:
    session = Session(tmp_path)
    shell = InteractiveShell()
    shell.set_custom_exc((KeyboardInterrupt,), utils.show_interrupt)
    step = interrupted(session.quick_step, 2)
    shell.user_ns.update(session=session, step=step, signal=signal)
    capsys.readouterr()
    result = shell.run_cell(cell)
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    shown = capsys.readouterr()
    assert (shown.out + shown.err).strip() == sentence


def test_an_epoch_that_is_left_early_is_not_kept(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.train(1)
    before = session.run.history_file.read_bytes()
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8)
    with session.run.training(session.gan, 2) as training:
        for batch in training.batches(dataset):
            training.record(session.quick_step(*batch))
            break
        with pytest.raises(RuntimeError, match="epoch 2 was left before its last batch"):
            training.end_epoch(IMAGES[0], 1.0)
    assert session.run.history_file.read_bytes() == before
    assert session.run.epoch == 1


def test_an_error_in_the_loop_stays_what_it_is(tmp_path: Path) -> None:
    session = Session(tmp_path)
    with pytest.raises(KeyError, match="mine"), session.run.training(session.gan, 1):
        raise KeyError("mine")
    assert not (session.run.checkpoints / ".lock").exists()
    assert len(session.train(1)) == 1
