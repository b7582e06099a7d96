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

import keras
import numpy as np
import pytest
import split_batch
import tensorflow as tf

from dcgan import devices, layers

ROOT = Path(__file__).parent.parent
TRAIN = ROOT / "scripts" / "train.py"
SPLIT_BATCH = split_batch.__file__
METRICS = ("g_loss", "d_loss", "real_acc", "fake_acc", "mean_label")


def start_split(count: int, folder: Path, *precisions: str, **environment: str) -> subprocess.Popen:
    """Start trainings in a process that has so many devices."""
    return subprocess.Popen(
        [sys.executable, SPLIT_BATCH, str(count), folder, *precisions],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def one_device() -> dict[str, np.ndarray]:
    """Metrics and weights of a training on one device, by name."""
    return split_batch.train("float32")


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Train on two devices; return the folder of the results and the lines of the output."""
    folder = tmp_path_factory.mktemp("two_devices")
    process = start_split(2, folder, "float32", "mixed_float16")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]
    return folder, output.splitlines()


def assert_alike(first: dict[str, np.ndarray], path: Path) -> None:
    """Compare metrics and weights of two trainings, but for rounding."""
    second = dict(np.load(path))
    assert first.keys() == second.keys() == {*METRICS, "weights"}
    for name, values in first.items():
        assert np.allclose(values, second[name], atol=1e-4), name


def test_two_devices_train_like_one(
    one_device: dict[str, np.ndarray], two_devices: tuple[Path, list[str]]
) -> None:
    """With batch normalisation over the whole batch; without dropout, which is drawn a device."""
    folder, lines = two_devices
    assert lines[0] == "2 devices share each batch"
    assert_alike(one_device, folder / "float32.npz")


def test_two_devices_stay_finite_in_float16(two_devices: tuple[Path, list[str]]) -> None:
    """With dropout; that weights move as in float32 is shown for one device."""
    two = np.load(two_devices[0] / "mixed_float16.npz")
    assert all(np.isfinite(values).all() for values in two.values())


def test_an_overflow_on_one_device_skips_the_step_on_both(
    two_devices: tuple[Path, list[str]],
) -> None:
    assert two_devices[1][1:] == ["[False, False]", "[False, False]", "[True, True]"]


def cluster_of_two(index: int, addresses: list[str]) -> str:
    """Describe a cluster of two workers to one of them."""
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def test_loss_scaling_skips_a_step_that_overflows() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    variable = keras.Variable(np.ones(3, np.float32))
    adam = layers.Adam(0.1)
    optimizer = devices.with_loss_scaling(adam)
    optimizer.build([variable])
    scale = float(optimizer.scale_loss(1.0))
    assert scale > 1
    for gradient, steps, share in ((np.inf, 0, 0.5), (1.0, 1, 0.5)):
        tf.function(lambda g: optimizer.apply([g], [variable]))(tf.fill(3, gradient))
        assert int(adam.iterations) == steps
        assert float(optimizer.scale_loss(1.0)) == share * scale
        assert np.isfinite(variable.numpy()).all()
    assert (variable.numpy() < 1).all()


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_no_loss_scaling_without_float16(policy: str) -> None:
    adam = layers.Adam(0.1)
    keras.config.set_dtype_policy(policy)
    assert devices.with_loss_scaling(adam) is adam
    assert float(adam.scale_loss(tf.constant(3.0))) == 3.0


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def test_two_workers_train_like_one(one_device: dict[str, np.ndarray], tmp_path: Path) -> None:
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    workers = [
        start_split(1, tmp_path, "float32", TF_CONFIG=cluster_of_two(index, addresses))
        for index in range(2)
    ]
    outputs = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert "2 devices in a cluster, here worker 0 of 2" in outputs[0][0]
    assert_alike(one_device, tmp_path / "float32.npz")


class Cluster:
    """Two workers on this machine, each a `make train` of the notebook's own networks."""

    def __init__(self, output_dir: Path, epochs: int) -> None:
        """Start both."""
        workers = [f"localhost:{port}" for port in free_ports(2)]
        command = [sys.executable, str(TRAIN), "--fast", "--epochs", str(epochs)]
        self.processes = []
        for index in range(2):
            process = subprocess.Popen(
                [*command, "--output-dir", str(output_dir)],
                env={**os.environ, "TF_CONFIG": cluster_of_two(index, workers)},
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


@pytest.mark.slow
def test_two_workers_are_killed_and_go_on(
    cluster: Callable[[int], Cluster], tmp_path: Path
) -> None:
    checkpoints = tmp_path / "training_checkpoints" / "baseline"
    history = tmp_path / "training_history" / "baseline.json"
    first = cluster(500)
    wait_for(checkpoints / "epoch-2.index")
    chief, worker = first.processes
    chief.kill()
    output, _ = worker.communicate(timeout=240)
    assert worker.returncode == 1
    assert "a worker of the cluster is lost; start all workers again" in output
    assert "Traceback" not in output

    done = max(int(path.stem.split("-")[1]) for path in checkpoints.glob("epoch-*.index"))
    before = json.loads(history.read_text())[:done]
    again = cluster(done + 1)
    outputs = [process.communicate(timeout=240)[0] for process in again.processes]
    assert [process.returncode for process in again.processes] == [0, 0], outputs
    assert all(f"restored epoch {done}" in output for output in outputs)
    assert json.loads(history.read_text())[:done] == before
    assert len(json.loads(history.read_text())) == done + 1
    assert "baseline.gif: " in outputs[0]
    assert "baseline.gif: " not in outputs[1]  # only the chief writes


@pytest.mark.parametrize("config", ["{", "[]", '{"cluster": 3}', '{"cluster": {"worker": 3}}'])
def test_a_broken_cluster_description_is_refused(
    monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="TF_CONFIG does not describe a cluster"):
        devices.choose_strategy()


@pytest.mark.parametrize("config", [None, "", "{}", '{"cluster": {}}'])
def test_one_device_needs_no_cluster(monkeypatch: pytest.MonkeyPatch, config: str | None) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    strategy, text = devices.choose_strategy()
    assert strategy is tf.distribute.get_strategy()
    assert text == "one device"
    assert devices.is_chief(strategy)


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
    assert devices.is_chief(SimpleNamespace(cluster_resolver=resolver)) is expected


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("avx512_bf16", "mixed_bfloat16"),
        ("amx_bf16", "mixed_bfloat16"),
        ("avx512f avx2", "float32"),
        ("", "float32"),
    ],
)
def test_precision_fits_the_processor(
    monkeypatch: pytest.MonkeyPatch, flags: str, policy: str
) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(Path, "exists", lambda path: bool(flags))
    monkeypatch.setattr(Path, "read_text", lambda path: f"flags : fpu {flags} sse")
    chosen, reason = devices.choose_precision("auto")
    assert chosen == policy
    assert "the CPU" in reason
    assert devices.choose_precision("mixed_float16") == ("mixed_float16", "as asked for")


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
    chosen, reason = devices.choose_precision("auto")
    assert chosen == policy
    assert "the GPU" in reason


@pytest.mark.parametrize("other", [2, 3])
def test_workers_start_from_the_same_epoch(monkeypatch: pytest.MonkeyPatch, other: int) -> None:
    two_workers = SimpleNamespace(
        num_replicas_in_sync=2, run=lambda f: f(), reduce=lambda kind, value, axis: value + other
    )
    monkeypatch.setattr(devices.tf.distribute, "get_strategy", lambda: two_workers)
    epoch = tf.Variable(2)
    if other == 2:
        devices.require_same_epoch(epoch)
    else:
        with pytest.raises(RuntimeError, match=r"from epoch 2 and another .* must be a fold"):
            devices.require_same_epoch(epoch)
