"""The classifier that measures: training, file, predictions."""

from pathlib import Path

import numpy as np
import pytest

from dcgan import classifier as room
from dcgan.data import cifar10_cache_path, draw_stand_in_images, load_cifar10
from dcgan.metrics import feature_statistics, frechet_distance

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "training_checkpoints" / "classifier.npz"
NEEDS_DATA = pytest.mark.skipif(
    not cifar10_cache_path().exists(),
    reason="CIFAR-10 is not in the cache; `make run` fetches it",
)


@pytest.fixture(scope="module")
def shipped() -> room.Classifier:
    """The classifier of the repository."""
    return room.load_classifier(SHIPPED)


def test_the_shipped_classifier_is_small_and_good(shipped: room.Classifier) -> None:
    assert SHIPPED.stat().st_size < 3_000_000
    assert shipped.accuracy >= 0.9
    assert shipped.reference.count == 50_000
    assert shipped.model.count_params() == 687_082


@NEEDS_DATA
def test_it_is_as_accurate_as_it_says(shipped: room.Classifier) -> None:
    _, (images, labels) = load_cifar10()
    predictions = shipped.predict(images[:2000])
    accuracy = np.mean(predictions.classes == labels[:2000])
    # 2,000 of the 10,000 test images: three standard errors
    assert accuracy == pytest.approx(shipped.accuracy, abs=0.02)
    distance = frechet_distance(feature_statistics(predictions.features), shipped.reference)
    assert distance < 0.5


def test_predictions_are_features_and_probabilities(
    shipped: room.Classifier, pixels: np.ndarray
) -> None:
    predictions = shipped.predict(pixels, batch_size=4)
    assert predictions.features.shape == (6, room.FEATURES)
    assert predictions.probabilities.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    together = shipped.predict(pixels)
    assert np.allclose(predictions.features, together.features, atol=1e-4)
    as_floats = shipped.predict(pixels / np.float32(127.5) - 1)
    assert np.allclose(as_floats.features, together.features, atol=1e-4)


def test_grey_images_are_taken_as_coloured_ones(
    shipped: room.Classifier, pixels: np.ndarray
) -> None:
    grey = pixels[..., :1]
    predictions = shipped.predict(grey), shipped.predict(grey.repeat(3, axis=-1))
    assert np.array_equal(predictions[0].features, predictions[1].features)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 32, 32, 3), int)]
)
def test_what_is_no_image_is_refused(shipped: room.Classifier, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"8 x 8 pixels or more|must be uint8"):
        shipped.predict(images)


def test_training_reports_its_epochs_and_the_file_keeps_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (images, labels), test = (draw_stand_in_images(256, (16, 16, 3), seed) for seed in (0, 1))
    trained = room.train_classifier((images, labels), test, epochs=3)
    output = capsys.readouterr().out
    assert all(f"Epoch {epoch}/3" in output for epoch in (1, 2, 3))
    assert trained.accuracy == np.mean(trained.predict(test[0]).classes == test[1])
    assert trained.reference.count == 256
    path = tmp_path / "classifier [1].npz"
    room.save_classifier(trained, path)
    restored = room.restore_or_train_classifier(path)
    assert restored.accuracy == trained.accuracy
    assert np.array_equal(restored.predict(test[0]).features, trained.predict(test[0]).features)
    assert np.array_equal(restored.reference.covariance, trained.reference.covariance)


def test_a_file_that_cannot_be_written_is_named_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match=r"Cannot write to .*file: .* Set the current folder to"):
        room.restore_or_train_classifier(tmp_path / "file" / "classifier.npz")


@pytest.mark.parametrize(("count", "epochs"), [(100, 3), (256, 2)])
def test_too_little_to_train_on_is_refused(count: int, epochs: int) -> None:
    data = draw_stand_in_images(count, (16, 16, 3), 0)
    with pytest.raises(ValueError, match="need 3 epochs and 128 images"):
        room.train_classifier(data, data, epochs)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other network", "NaN", "pickle"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "file.npz"
    content = SHIPPED.read_bytes()
    with np.load(SHIPPED) as archive:
        arrays = dict(archive)
    if damage == "other network":
        np.savez(path, weight_00=np.zeros(3), accuracy=1, mean=0, covariance=0, count=0)
    elif damage == "NaN":
        np.savez(path, **arrays | {"weight_00": arrays["weight_00"] * np.nan})
    elif damage == "pickle":
        np.savez(path, weight_00=np.array([{"a": 1}], dtype=object))
    else:
        path.write_bytes({"truncated": content[:9000], "empty": b"", "text": b"hello"}[damage])
    before = path.read_bytes()
    with pytest.raises(
        RuntimeError, match=r"file\.npz holds no classifier \(.*Move it away to train"
    ):
        room.restore_or_train_classifier(path)
    assert path.read_bytes() == before
