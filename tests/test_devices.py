"""Training on several devices: they compute what one computes, and a lost worker costs nothing."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import dcgan_utils as utils

ROOT = Path(__file__).parent.parent
TRAIN = ROOT / ".make" / "train.py"
SPLIT_BATCH = ROOT / "tests" / "split_batch.py"


def train_split(
    devices: int,
    output_dir: Path,
    epochs: int,
    dropout: float = 0.0,
    precision: str = "float32",
    side: int = 8,
) -> tuple[str, utils.History, np.ndarray]:
    """Train in a process that has so many devices; return its output, history and weights."""
    arguments = [devices, output_dir, epochs, dropout, precision, side]
    done = subprocess.run(
        [sys.executable, SPLIT_BATCH, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / '.make'}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    history = output_dir / "training_history" / "split.json"
    return done.stdout, utils.load_history(history), np.load(history.with_suffix(".npy"))


def test_two_devices_train_like_one(tmp_path: Path) -> None:
    """With batch normalisation over the whole batch; without dropout, which is drawn a device."""
    _, one_history, one_weights = train_split(1, tmp_path / "one", epochs=3)
    output, two_history, two_weights = train_split(2, tmp_path / "two", epochs=3)
    assert "2 devices share each batch" in output
    for one, two in zip(one_history, two_history, strict=True):
        for key in ("g_loss", "d_loss", "real_acc", "fake_acc"):
            assert two[key] == pytest.approx(one[key], abs=1e-4)
    assert np.allclose(one_weights, two_weights, atol=1e-4)

    output, history, _ = train_split(1, tmp_path / "two", epochs=4)
    assert "restored epoch 3" in output
    assert history[:3] == two_history


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_the_real_networks_train_and_restore_on_two_devices(tmp_path: Path, precision: str) -> None:
    _, first, _ = train_split(2, tmp_path, 1, dropout=0.3, precision=precision, side=32)
    output, history, weights = train_split(
        2, tmp_path, 2, dropout=0.3, precision=precision, side=32
    )
    assert "restored epoch 1" in output
    assert history[:1] == first
    assert len(history) == 2
    assert np.isfinite(weights).all()


OVERFLOW = """
import keras, numpy as np, tensorflow as tf
import dcgan_utils as utils

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy, _ = utils.choose_strategy()
tf.distribute.experimental_set_strategy(strategy)
keras.config.set_dtype_policy("mixed_float16")
variable = keras.Variable(np.ones(3, np.float32))
adam = utils.Adam(0.1)
adam.build([variable])
optimizer = utils.with_loss_scaling(adam)

@tf.function
def step(overflowing):
    def share():
        device = tf.distribute.get_replica_context().replica_id_in_sync_group
        bad = tf.equal(tf.cast(device, tf.int32), overflowing)
        optimizer.apply([tf.where(bad, tf.fill((3,), float("inf")), tf.ones(3))], [variable])
    strategy.run(share)

for overflowing in (0, 1, -1):
    step(tf.constant(overflowing))
    print([bool(copy.numpy()[0] < 1) for copy in variable.value.values])
"""


def test_an_overflow_on_one_device_skips_the_step_on_both() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OVERFLOW], cwd=ROOT, capture_output=True, text=True, check=True
    )
    copies_changed = done.stdout.splitlines()
    assert copies_changed == ["[False, False]", "[False, False]", "[True, True]"]


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


class Cluster:
    """Two workers on this machine, each a `make train` of the notebook's own networks."""

    def __init__(self, output_dir: Path, epochs: int) -> None:
        """Start both."""
        workers = [f"localhost:{port}" for port in free_ports(2)]
        command = [sys.executable, str(TRAIN), "--fast", "--epochs", str(epochs)]
        self.processes = []
        for index in range(2):
            task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            process = subprocess.Popen(
                [*command, "--output-dir", str(output_dir)],
                env={**os.environ, "TF_CONFIG": json.dumps(task)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.processes.append(process)

    def stop(self) -> None:
        """Leave nothing running."""
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[[int], Cluster]]:
    """Return a maker of clusters that share one output folder."""
    started = []

    def start(epochs: int) -> Cluster:
        started.append(Cluster(tmp_path, epochs))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def wait_for(path: Path, seconds: float = 240) -> None:
    """Wait until a file exists."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} did not appear"
        time.sleep(0.2)


def test_two_workers_are_killed_and_go_on(
    cluster: Callable[[int], Cluster], tmp_path: Path
) -> None:
    folders = utils.RunFolders(tmp_path, "baseline")
    first = cluster(500)
    wait_for(folders.checkpoints / "epoch-2.index")
    chief, worker = first.processes
    chief.kill()
    output, _ = worker.communicate(timeout=240)
    assert worker.returncode == 1
    assert "a worker of the cluster is lost. Start all workers again" in output
    assert "Traceback" not in output

    done = int((folders.checkpoints / "checkpoint").read_text().split('"')[1].split("-")[1])
    before = utils.load_history(folders.history)[:done]
    again = cluster(done + 1)
    outputs = [process.communicate(timeout=240)[0] for process in again.processes]
    assert [process.returncode for process in again.processes] == [0, 0], outputs
    assert all(f"restored epoch {done}" in output for output in outputs)
    assert utils.load_history(folders.history)[:done] == before
    assert len(utils.load_history(folders.history)) == done + 1
    assert "plot and GIF" in outputs[0]
    assert "plot and GIF" not in outputs[1]  # only the chief writes


@pytest.mark.parametrize("config", ["{", "[]", '{"cluster": 3}', '{"cluster": {"worker": 3}}'])
def test_a_broken_cluster_description_is_refused(
    monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="TF_CONFIG does not describe a cluster"):
        utils.choose_strategy()


@pytest.mark.parametrize("config", [None, "", "{}", '{"cluster": {}}'])
def test_one_device_needs_no_cluster(monkeypatch: pytest.MonkeyPatch, config: str | None) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    strategy, text = utils.choose_strategy()
    assert strategy is tf.distribute.get_strategy()
    assert text == "one device"
    assert utils.is_chief(strategy)


@pytest.mark.parametrize(
    ("jobs", "task_type", "task_id", "expected"),
    [
        (["worker"], "worker", 0, True),
        (["worker"], "worker", 1, False),
        (["chief", "worker"], "chief", 0, True),
        (["chief", "worker"], "worker", 0, False),
    ],
)
def test_one_worker_is_the_chief(
    jobs: list[str], task_type: str, task_id: int, expected: bool
) -> None:
    resolver = SimpleNamespace(
        task_type=task_type, task_id=task_id, cluster_spec=lambda: SimpleNamespace(jobs=jobs)
    )
    assert utils.is_chief(SimpleNamespace(cluster_resolver=resolver)) is expected


def test_a_batch_without_equal_shares_is_refused(lesson: Callable) -> None:
    names = lesson(BATCH_SIZE=8)
    names.train.__globals__["strategy"] = SimpleNamespace(num_replicas_in_sync=3)
    with pytest.raises(ValueError, match="BATCH_SIZE = 8 has no equal shares for 3 devices"):
        names.train(None, None, None, np.zeros((24, 8, 8, 3), np.uint8), np.zeros(24), 1)


def test_one_device_has_the_whole_share() -> None:
    rows = tf.range(6)
    assert np.array_equal(tf.distribute.get_strategy().run(utils.own_share, (rows,)), rows)
