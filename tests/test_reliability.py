"""What a run survives, tried on the notebook's own networks in processes that really die.

Each test that carries the mark `survives` prints a row of the table in tests/README.md.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tensorflow as tf
from jupyter_client.manager import start_new_kernel
from small_runs import without_timings

import dcgan_utils as utils
from dcgan.data import cache_path, draw_stand_in_images

ROOT = Path(__file__).parent.parent
WORKER = ROOT / "tests" / "train_and_die.py"
VARIANTS = ("baseline", "improved")

needs_images = pytest.mark.skipif(
    not cache_path("cifar10").exists(),
    reason="CIFAR-10 is not in the cache; `make run` fetches it",
)
needs_signals = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def start(
    output_dir: Path, variant: str, epochs: int, **task: object
) -> subprocess.CompletedProcess:
    """Train in a process of its own."""
    task = {
        "images": 0,
        **task,
        "variant": variant,
        "epochs": epochs,
        "output_dir": str(output_dir),
    }
    return subprocess.run(
        [sys.executable, WORKER, json.dumps(task)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}"},
        capture_output=True,
        text=True,
        check=False,
    )


def finish(output_dir: Path, variant: str, epochs: int, **task: object) -> str:
    """Train in a process that has to succeed; return what it printed."""
    done = start(output_dir, variant, epochs, **task)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def printed_epochs(output: str) -> int:
    """Return the last epoch whose line was printed."""
    return max([0, *map(int, re.findall(r"^epoch +(\d+)/\d+  loss", output, re.MULTILINE))])


def checkpoint_values(run: utils.Run, epoch: int) -> dict[str, np.ndarray]:
    """Read everything that a checkpoint holds."""
    reader = tf.train.load_checkpoint(str(run.checkpoints / f"epoch-{epoch}"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_same_run(first: utils.Run, second: utils.Run, epochs: int) -> None:
    """Compare two runs bit by bit: all numbers but times, all variables, all pictures."""
    histories = [without_timings(run.history) for run in (first, second)]
    assert len(histories[0]) == epochs
    assert histories[0] == histories[1]
    values = [checkpoint_values(run, epochs) for run in (first, second)]
    assert values[0].keys() == values[1].keys()
    assert len(values[0]) > 30
    different = [
        name
        for name, value in values[0].items()
        if not name.startswith(("save_counter", "_CHECKPOINTABLE"))
        and not np.array_equal(value, values[1][name])
    ]
    assert different == []
    for epoch in range(1, epochs + 1):
        assert first.sample(epoch).read_bytes() == second.sample(epoch).read_bytes()


@pytest.mark.slow
@pytest.mark.survives(
    "the process ends between two epochs", "3 epochs at once, and 1 + 2, real nets"
)
@pytest.mark.parametrize("variant", VARIANTS)
@needs_images
def test_a_run_in_two_processes_equals_one_in_one(tmp_path: Path, variant: str) -> None:
    finish(tmp_path / "whole", variant, 3, images=3200)
    finish(tmp_path / "parts", variant, 1, images=3200, planned=3)
    assert "restored epoch 1" in finish(tmp_path / "parts", variant, 3, images=3200)
    whole, parts = (utils.Run(tmp_path / name, variant) for name in ("whole", "parts"))
    assert_same_run(whole, parts, 3)


@pytest.mark.slow
@pytest.mark.survives(
    "Ctrl-C within an epoch",
    "SIGINT in step 70 of 150, then a rerun, real nets: at most the epoch under way is repeated, "
    "to the same bits",
)
@pytest.mark.parametrize("variant", VARIANTS)
@needs_images
@needs_signals
def test_an_interrupted_run_equals_an_undisturbed_one(tmp_path: Path, variant: str) -> None:
    finish(tmp_path / "whole", variant, 3, images=3200)
    alarm = {"signal": "SIGINT", "event": "step", "count": 70, "delay": 0.0}
    stopped = start(tmp_path / "parts", variant, 3, images=3200, **alarm)
    assert stopped.returncode != 0
    assert f"Stopped; 1 epochs of {variant} are kept. Run this again to go on." in stopped.stderr
    assert "restored epoch 1" in finish(tmp_path / "parts", variant, 3, images=3200)
    whole, parts = (utils.Run(tmp_path / name, variant) for name in ("whole", "parts"))
    assert_same_run(whole, parts, 3)


@pytest.mark.slow
@pytest.mark.survives(
    "the stop button",
    "a Jupyter kernel is interrupted in its second epoch, then a rerun: at most the epoch under "
    "way is repeated, to the same bits",
)
@needs_signals
def test_the_stop_button_of_a_notebook_keeps_the_epochs_so_far(tmp_path: Path) -> None:
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT))
    try:
        task = {"variant": "baseline", "output_dir": str(tmp_path), "epochs": 200, "images": 0}
        script = [f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'scripts')]}"]
        script += [f"sys.argv = ['train_and_die.py', {json.dumps(json.dumps(task))}]"]
        script += [f"exec(compile({WORKER.read_text()!r}, 'train_and_die.py', 'exec'))"]
        request = client.execute("\n".join(script))
        output = ""
        while not printed_epochs(output):
            message = client.get_iopub_msg(timeout=120)
            output += message["content"].get("text", "").replace("\r", "\n")
        manager.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=60))["parent_header"]["msg_id"] != request:
            pass
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    run = utils.Run(tmp_path, "baseline")
    done = run.epoch
    assert 1 <= done < 200
    sentence = f"Stopped; {done} epochs of baseline are kept. Run this again to go on."
    assert reply["content"]["evalue"] == sentence
    assert reply["content"]["traceback"] == [sentence]
    total = done + 2
    assert f"restored epoch {done}" in finish(tmp_path, "baseline", total)
    finish(tmp_path / "whole", "baseline", total)
    assert_same_run(utils.Run(tmp_path / "whole", "baseline"), run, total)


def choose_moments(count: int, seed: int) -> Iterator[dict[str, object]]:
    """Choose when to kill: each kind of event in turn, at a random time within it."""
    longest = {"checkpoint": 0.08, "step": 0.05, "picture": 0.02, "history": 0.003, "gif": 0.1}
    calls = {"step": 11, "gif": 1}
    rng = random.Random(seed)
    for number in range(count):
        event = list(longest)[number % len(longest)]
        yield {
            "event": event,
            "count": rng.randint(1, calls.get(event, 2)),
            "delay": round(rng.uniform(0, longest[event]), 4),
        }


def survive_kills(output_dir: Path, moments: int, seed: int) -> None:
    """Kill a run again and again, each time after a plain rerun, and compare with a whole one."""
    run, whole = (utils.Run(output_dir / name, "baseline") for name in ("killed", "whole"))
    kept = 0
    for moment in choose_moments(moments, seed):
        total = kept + (1 if moment["event"] == "gif" else 3)
        done = start(run.output_dir, "baseline", total, signal="SIGKILL", **moment)
        print(f"killed after {moment['delay'] * 1000:.1f} ms of {moment['event']}", end=" ")
        print(f"{moment['count']}: epoch {printed_epochs(done.stdout)} was the last one")
        assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
        # Whatever was announced as done is done, and the history knows every restored epoch.
        assert run.epoch >= max(kept, printed_epochs(done.stdout))
        kept = run.epoch
        assert len(run.history) >= kept
    total = kept + 1
    for each in (run, whole):
        finish(each.output_dir, "baseline", total)
    assert_same_run(whole, run, total)
    frames = [iio.imread(each.picture(".gif")) for each in (run, whole)]
    assert len(frames[0]) == total
    assert np.array_equal(*frames)
    names = [path.name for path in run.output_dir.rglob("*")]
    assert [name for name in names if "tmp" in name or "temp" in name] == []


@pytest.mark.slow
@pytest.mark.survives(
    "kill -9", "in a step, picture, history, checkpoint or GIF, then a plain rerun"
)
@needs_signals
def test_twenty_kills(tmp_path: Path, record_property: Callable) -> None:
    survive_kills(tmp_path, moments=20, seed=0)
    record_property("times", 20)


@needs_signals
def test_a_kill_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    survive_kills(tmp_path, moments=1, seed=1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 60 MB, which has room for three checkpoints of the baseline."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(folder)]
    if not Path("/bin/mount").exists() or subprocess.run(mount, check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Fill a disk up to a number of bytes."""
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler.write_bytes(bytes(max(0, free - left)))
    return filler


@pytest.mark.slow
@pytest.mark.survives("the disk is full", "a real disk with 0, 60 kB or 8 MB left after epoch 1")
@pytest.mark.parametrize("left", [0, 60_000, 8_000_000])
def test_a_full_disk_stops_the_run_and_harms_nothing(small_disk: Path, left: int) -> None:
    finish(small_disk, "baseline", 1)
    run = utils.Run(small_disk, "baseline")
    history, values = run.history, checkpoint_values(run, 1)
    filler = fill(small_disk, left)
    done = start(small_disk, "baseline", 3)
    assert done.returncode == 1
    last_line = done.stderr.strip().splitlines()[-1]
    assert re.fullmatch(
        r"RuntimeError: Cannot write .*No space left on device\. Free .*", last_line
    )
    filler.unlink()
    names = [path.name for path in small_disk.rglob("*")]
    assert [name for name in names if "tmp" in name or "temp" in name] == []
    assert run.history[:1] == history
    again = checkpoint_values(run, 1)
    assert all(np.array_equal(value, again[name]) for name, value in values.items())
    assert printed_epochs(finish(small_disk, "baseline", 2)) == 2


def watch_a_long_run(names: object, output_dir: Path, epochs: int, early: int) -> None:
    """Train the fast baseline and compare memory, files and figures early and at the end."""
    gan, run = names.make_baseline(), utils.Run(output_dir, "long")
    step = names.compile_step(names.train_step, gan, names.LATENT_DIM, names.SEED)
    data = draw_stand_in_images(64, names.IMAGE_SHAPE, seed=0)
    states = []
    for total in (early, epochs):
        names.train(gan, run, step, *data, total)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = len(list(Path("/proc/self/fd").iterdir()))
        states.append((pages * os.sysconf("SC_PAGE_SIZE"), files))
    print(f"memory after {early} and {epochs} epochs: {states[0][0]:,} and {states[1][0]:,} bytes")
    assert states[1][0] <= 1.05 * states[0][0]
    assert states[1][1] <= states[0][1]
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


SMALL = {"BATCH_SIZE": 16, "FAST": True, "GENERATOR_WIDTH": 8, "DISCRIMINATOR_WIDTH": 8}
needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")


@pytest.mark.slow
@pytest.mark.survives(
    "a long run", "200 epochs: memory at most 5 % above that after 20, no open files"
)
@needs_proc
def test_two_hundred_epochs_stay_flat(lesson: Callable, tmp_path: Path) -> None:
    watch_a_long_run(lesson(**SMALL), tmp_path, epochs=200, early=20)
