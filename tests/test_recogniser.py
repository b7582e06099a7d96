"""The classifier that measures: training, file, readings."""

from pathlib import Path

import numpy as np
import pytest

import dcgan_utils as utils

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "training_checkpoints" / "recogniser.npz"
NEEDS_DATA = pytest.mark.skipif(
    not utils.cifar10_cache_path().exists(),
    reason="CIFAR-10 is not in the cache; `make run` fetches it",
)


@pytest.fixture(scope="module")
def shipped() -> utils.Recogniser:
    """The recogniser of the repository."""
    return utils.load_recogniser(SHIPPED)


def test_shipped_recogniser_is_small_and_good(shipped: utils.Recogniser) -> None:
    assert SHIPPED.stat().st_size < 3_000_000
    assert shipped.accuracy >= 0.9
    assert shipped.reference.count == 50_000
    assert shipped.model.count_params() == 687_082


@NEEDS_DATA
def test_it_reads_real_test_images_as_well_as_it_says(shipped: utils.Recogniser) -> None:
    _, (images, labels) = utils.load_cifar10()
    readings = shipped.read(images[:2000])
    accuracy = np.mean(readings.classes == labels[:2000])
    # 2,000 of the 10,000 test images: three standard errors
    assert accuracy == pytest.approx(shipped.accuracy, abs=0.02)
    distance = utils.frechet_distance(
        utils.feature_statistics(readings.features), shipped.reference
    )
    assert distance < 0.5


def test_readings_have_features_and_probabilities(shipped: utils.Recogniser, pixels) -> None:
    readings = shipped.read(pixels, batch_size=4)
    assert readings.features.shape == (6, utils.FEATURES)
    assert readings.probabilities.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    together = shipped.read(pixels)
    assert np.allclose(readings.features, together.features, atol=1e-4)
    as_floats = shipped.read(pixels / np.float32(127.5) - 1)
    assert np.allclose(as_floats.features, together.features, atol=1e-4)


def test_grey_images_are_read_as_coloured_ones(shipped: utils.Recogniser, pixels) -> None:
    grey = pixels[..., :1]
    readings = shipped.read(grey), shipped.read(grey.repeat(3, axis=-1))
    assert np.array_equal(readings[0].features, readings[1].features)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 32, 32, 3), int)]
)
def test_what_is_no_image_is_refused(shipped: utils.Recogniser, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"8 x 8 pixels or more|must be uint8"):
        shipped.read(images)


def test_training_reports_its_epochs_and_the_file_keeps_the_result(tmp_path: Path) -> None:
    train, test = (utils.draw_stand_in_images(256, (16, 16, 3), seed) for seed in (0, 1))
    lines: list[str] = []
    trained = utils.train_recogniser(train, test, epochs=3, say=lines.append)
    assert [line.split(":")[0] for line in lines[:3]] == [
        f"recogniser, epoch {epoch}/3" for epoch in (1, 2, 3)
    ]
    assert trained.accuracy == np.mean(trained.read(test[0]).classes == test[1])
    path = tmp_path / "recogniser.npz"
    utils.save_recogniser(trained, path)
    restored = utils.restore_or_train_recogniser(path)
    assert restored.accuracy == trained.accuracy
    assert np.array_equal(restored.read(test[0]).features, trained.read(test[0]).features)
    assert np.array_equal(restored.reference.covariance, trained.reference.covariance)


@pytest.mark.parametrize(("count", "epochs"), [(100, 3), (256, 2)])
def test_too_little_to_train_on_is_refused(count: int, epochs: int) -> None:
    data = utils.draw_stand_in_images(count, (16, 16, 3), 0)
    with pytest.raises(ValueError, match="need 3 epochs and 128 images"):
        utils.train_recogniser(data, data, epochs)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other network"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "recogniser.npz"
    content = SHIPPED.read_bytes()
    if damage == "other network":
        np.savez(path, weight_00=np.zeros(3), accuracy=1, mean=0, covariance=0, count=0)
    else:
        path.write_bytes({"truncated": content[:9000], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(RuntimeError, match=r"recogniser\.npz holds no recogniser of this kind"):
        utils.restore_or_train_recogniser(path)
    assert path.exists()
