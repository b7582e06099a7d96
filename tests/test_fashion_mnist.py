"""Fashion-MNIST: from its own host or from a package, checked and kept like CIFAR-10."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from dcgan import data
from dcgan.dataset import load_data

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 7_000)
IMAGES = np.broadcast_to(LABELS[:, None, None], (70_000, 28, 28))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Use an empty cache; return a function that says what the host answers."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(data.shutil, "which", lambda _: None)

    def answer(answers: bool) -> None:
        def load_data() -> tuple:
            if not answers:
                raise Exception("URL fetch failure")
            first = np.arange(70_000) % 7_000 < 1_000
            return tuple((IMAGES[chosen], LABELS[chosen]) for chosen in (~first, first))

        monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", load_data)

    return answer


def write_package(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let npm deliver a package in the layout of fashion-mnist, with an empty row in one class."""
    classes = folder / "src" / "clothes"
    classes.mkdir(parents=True)
    for label in range(10):
        test, train = [[label] * 784] * 10, [[label] * 783 + [9]] * 60
        rows = [*test, *([[]] if label == 0 else []), *train]
        (classes / f"{label}.json").write_text(json.dumps({"data": rows}))

    @contextlib.contextmanager
    def package(name: str, megabytes: int) -> Iterator[Path]:
        yield folder

    monkeypatch.setattr(data, "_npm_package", package)
    monkeypatch.setattr(data, "_check_fashion", lambda arrays: None)  # here are fewer images


def test_the_official_files_come_first_and_are_kept(
    host: Callable[..., None], capsys: pytest.CaptureFixture
) -> None:
    host(True)
    first = load_data("fashion_mnist", at_most=60_000)
    host(False)
    again = load_data("fashion_mnist", at_most=60_000)
    assert first.x_train.shape == (60_000, 28, 28, 1)
    assert first.x_test.shape == (10_000, 28, 28, 1)
    assert np.array_equal(first.x_train[:, 0, 0, 0], first.y_train)
    assert np.array_equal(first.x_train, again.x_train)
    assert "Fashion-MNIST is kept in" in capsys.readouterr().out


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("labels", [{}, {"y_train": np.zeros(60_000)}])
def test_a_cache_without_whole_labels_is_damaged(labels: dict[str, np.ndarray]) -> None:
    path = data.cache_path("fashion_mnist")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=np.zeros((60_000, 28, 28, 1), np.uint8), **labels)
    with pytest.raises(RuntimeError, match=r"is damaged \(x_train and y_train are not those"):
        data.load_fashion_mnist()


def test_the_package_holds_test_images_before_training_images(
    host: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host(False)
    write_package(monkeypatch, tmp_path / "package")
    (x_train, y_train), (x_test, y_test) = data.load_fashion_mnist()
    for images, labels, count in ((x_train, y_train, 60), (x_test, y_test, 10)):
        assert np.array_equal(images[:, 0, 0, 0], labels)
        assert np.bincount(labels).tolist() == [count] * 10
        assert len({*labels[:50]}) > 5  # in no order of classes
    assert (x_train[:, 27, 27, 0] == 9).all()
    assert (x_test[:, 27, 27, 0] == y_test).all()


def test_without_network_one_sentence_names_the_remedy(host: Callable[..., None]) -> None:
    host(False)
    message = r"^Fashion-MNIST could not be fetched \(official files: URL.*npm is not on.*Connect"
    with pytest.raises(RuntimeError, match=message):
        data.load_fashion_mnist()
    assert not data.cache_path("fashion_mnist").exists()
