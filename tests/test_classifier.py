"""The classifier that measures: training, file, predictions."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_runs import OTHER_PICTURES

from dcgan import classifier as module
from dcgan.data import cache_path, draw_stand_in_images, load_cifar10
from dcgan.dataset import DataSet, find_data
from dcgan.metrics import feature_statistics, frechet_distance

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "training_checkpoints" / "classifier.npz"
NEEDS_DATA = pytest.mark.skipif(
    not cache_path("cifar10").exists(),
    reason="CIFAR-10 is not in the cache; `make run` fetches it",
)


@pytest.fixture(scope="module")
def shipped() -> module.Classifier:
    """The classifier of the repository."""
    return module.load_classifier(SHIPPED)


def test_the_shipped_classifier_is_small_and_good(shipped: module.Classifier) -> None:
    assert SHIPPED.stat().st_size < 3_000_000
    assert shipped.accuracy >= 0.9
    assert shipped.model.count_params() == 687_082


@NEEDS_DATA
def test_it_is_as_accurate_as_it_says(shipped: module.Classifier) -> None:
    _, (images, labels) = load_cifar10()
    predictions = shipped.predict(images[:2000])
    accuracy = np.mean(predictions.classes == labels[:2000])
    # 2,000 of the 10,000 test images: three standard errors
    assert accuracy == pytest.approx(shipped.accuracy, abs=0.02)
    distance = frechet_distance(feature_statistics(predictions.features), shipped.reference)
    assert distance < 0.5


def test_predictions_are_features_and_probabilities(
    shipped: module.Classifier, pixels: np.ndarray
) -> None:
    predictions = shipped.predict(pixels, batch_size=4)
    assert predictions.features.shape == (6, module.FEATURES)
    assert predictions.probabilities.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    together = shipped.predict(pixels)
    assert np.allclose(predictions.features, together.features, atol=1e-4)
    as_floats = shipped.predict(pixels / np.float32(127.5) - 1)
    assert np.allclose(as_floats.features, together.features, atol=1e-4)


def test_grey_images_are_taken_as_coloured_ones(
    shipped: module.Classifier, pixels: np.ndarray
) -> None:
    grey = pixels[..., :1]
    predictions = shipped.predict(grey), shipped.predict(grey.repeat(3, axis=-1))
    assert np.array_equal(predictions[0].features, predictions[1].features)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 32, 32, 3), int)]
)
def test_what_is_no_image_is_refused(shipped: module.Classifier, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"8 x 8 pixels or more|must be uint8"):
        shipped.predict(images)


def build_small(dtype: str, classes: int) -> module.keras.Model:
    """Build a classifier that trains in no time."""
    layers = module.keras.layers
    images = module.keras.Input((None, None, 3))
    features = layers.GlobalAveragePooling2D(dtype="float32")(
        layers.Conv2D(8, 3, dtype=dtype)(images)
    )
    logits = layers.Dense(classes, dtype="float32")(features)
    return module.keras.Model(images, [features, logits], name="classifier")


def discs(count: int, channels: int, classes: int) -> DataSet:
    """Return drawn images of some classes, for training and as many for tests."""
    (images, labels), test = (draw_stand_in_images(count, (20, 20, channels), k) for k in (0, 1))
    names = tuple(map(str, range(classes)))
    return DataSet("discs", images, labels % classes, test[0], test[1] % classes, names)


@pytest.mark.parametrize(
    ("count", "channels", "classes", "build"),
    [(200, 3, 10, build_small), (40, 1, 3, module.build_classifier)],
)
def test_labelled_data_have_a_classifier_of_their_own_which_is_kept_with_the_run(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    count: int,
    channels: int,
    classes: int,
    build: Callable,
) -> None:
    data, folder = discs(count, channels, classes), tmp_path / "a [1]"
    take = functools.partial(module.restore_or_train_classifier, "classifier", build=build)
    trained = take(data, folder, fast=True)
    output = capsys.readouterr().out
    assert all(f"Epoch {epoch}/3" in output for epoch in (1, 2, 3))
    predictions = trained.predict(data.x_test)
    assert predictions.probabilities.shape == (count, classes)
    assert trained.accuracy == np.mean(predictions.classes == data.y_test)
    assert (folder / "training_checkpoints" / "classifier.npz").exists()

    restored = take(data, folder, fast=True)
    assert restored.accuracy == trained.accuracy
    assert np.array_equal(restored.predict(data.x_test).features, predictions.features)
    assert np.array_equal(restored.reference.covariance, trained.reference.covariance)
    other = discs(count - 8, channels, classes)
    message = rf"was trained on {count} images of discs \(20 x 20 x {channels}, classes 0, 1, .*\) "
    message += "in a fast run, and here are"
    with pytest.raises(RuntimeError, match=f"{message} {count - 8} images of"):
        take(other, folder)
    with pytest.raises(RuntimeError, match=f"{message} {count} images of"):
        take(data, folder)


def test_a_machine_that_is_gone_leaves_its_classifier_in_the_backup(tmp_path: Path) -> None:
    data, drive = discs(40, 1, 3), tmp_path / "drive"
    here, new = tmp_path / "a" / "run", tmp_path / "b" / "run"
    take = functools.partial(
        module.restore_or_train_classifier, "classifier", fast=True, build=build_small
    )
    trained = take(data, here, backup_dir=drive)
    fetched = take(data, new, backup_dir=drive)
    pair = [classifier.predict(data.x_test).features for classifier in (trained, fetched)]
    assert np.array_equal(*pair)
    kept = [folder / "training_checkpoints" / "classifier.npz" for folder in (here, new)]
    assert kept[0].read_bytes() == kept[1].read_bytes()
    # A backup that begins later is filled, and one of other images is named.
    take(data, here, backup_dir=tmp_path / "later")
    assert (tmp_path / "later" / "run_classifier.npz").exists()
    with pytest.raises(RuntimeError, match=r"drive/run_classifier\.npz was trained on 40 images"):
        take(discs(32, 1, 3), tmp_path / "c/run", backup_dir=drive)
    assert not (tmp_path / "c").exists()


def test_a_training_that_was_broken_off_goes_on_from_the_backup(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(module, "LEAST_STEPS", 6)
    monkeypatch.setattr(module, "KEEP_STEPS", 1)
    data, drive = discs(40, 1, 3), tmp_path / "drive"

    def run(machine: str) -> None:
        folder = tmp_path / machine / "run"
        options = {"backup_dir": drive, "epochs": 6, "build": build_small}
        module.restore_or_train_classifier("classifier", data, folder, **options)

    def break_off(machine: str, before: int) -> int:
        """Run until an epoch begins (from 0); return how many steps the optimizer remembers."""

        def stop(epoch: int, _: dict) -> None:
            if epoch == before:
                raise KeyboardInterrupt

        callbacks = module.keras.callbacks
        keeping, stopping = callbacks.LambdaCallback, callbacks.LambdaCallback(on_epoch_begin=stop)
        with monkeypatch.context() as patch:
            patch.setattr(
                callbacks,
                "LambdaCallback",
                lambda **own: callbacks.CallbackList([keeping(**own), stopping]),
            )
            with pytest.raises(KeyboardInterrupt):
                run(machine)
        with np.load(kept) as state:
            assert state["epoch"] == before
            (steps,) = (
                int(value)
                for name, value in state.items()
                if name != "epoch" and value.shape == () and value.dtype.kind == "i"
            )
        return steps

    kept = drive / f"run_classifier_unfinished_{data.sha256}.npz"
    assert break_off("a", 3) == 3
    assert break_off("b", 4) == 4  # one step on another machine, after three that were restored
    capsys.readouterr()
    run("c")
    output = capsys.readouterr().out
    assert "goes on after epoch 4." in output
    assert [f"Epoch {epoch}/6" in output for epoch in range(1, 7)] == [False] * 4 + [True] * 2
    assert [path.name for path in drive.iterdir()] == ["run_classifier.npz"]

    (drive / "run_classifier.npz").unlink()
    message = r"unfinished_\w+\.npz is damaged .*: delete it, and"
    np.savez(kept, epoch=np.inf)
    with pytest.raises(RuntimeError, match=message):
        run("d")
    kept.write_bytes(b"half a file")
    with pytest.raises(RuntimeError, match=message):
        run("d")


@OTHER_PICTURES
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"IMAGES_SHA256": "1a"}', "baseline is a run on other images than 40 images of"),
        ("{}", "baseline is a run on other images than 40 images of"),
        ("{", r"settings\.json is damaged .*; bring it back"),
    ],
)
def test_a_run_on_other_images_is_named_before_the_training(
    tmp_path: Path, content: str, reason: str
) -> None:
    run = tmp_path / "training_checkpoints" / "baseline"
    run.mkdir(parents=True)
    (run / "settings.json").write_text(content, encoding="utf-8")
    with pytest.raises(RuntimeError, match=reason):
        module.restore_or_train_classifier("classifier", discs(40, 1, 3), tmp_path, fast=True)


@pytest.mark.parametrize(("count", "epochs"), [(130, 300), (1300, 30), (3000, 14)])
def test_few_images_are_shown_more_often(
    monkeypatch: pytest.MonkeyPatch, count: int, epochs: int
) -> None:
    trained = []
    monkeypatch.setattr(
        module.keras.Model, "fit", lambda *_, epochs, **options: trained.append(epochs)
    )
    module.train_classifier(discs(count, 1, 2), build=build_small)
    assert trained == [epochs]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_the_precision_is_the_readers_but_never_float16(
    monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    built, optimizers = [], []

    def build(dtype: str, classes: int) -> module.keras.Model:
        built.append(dtype)
        return module.build_classifier(dtype, classes)

    monkeypatch.setattr(
        module.keras.Model, "fit", lambda self, *_, **options: optimizers.append(self.optimizer)
    )
    module.keras.config.set_dtype_policy(policy)
    module.train_classifier(discs(40, 1, 2), build=build)
    assert built == ["float32" if policy == "mixed_float16" else policy, "float32"]
    assert [type(optimizer) for optimizer in optimizers] == [module.Adam]


def test_a_file_that_cannot_be_written_is_named_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match=r"Cannot write to .*file.*: .* Set OUTPUT_DIR to"):
        module.restore_or_train_classifier("classifier", discs(40, 1, 3), tmp_path / "file")
    with pytest.raises(RuntimeError, match=r"Cannot write to .*file.*: .* Set BACKUP_DIR to"):
        module.restore_or_train_classifier(
            "classifier", discs(40, 1, 3), tmp_path, backup_dir=tmp_path / "file"
        )


def test_data_without_labels_are_seen_by_the_shipped_classifier(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shipped: module.Classifier
) -> None:
    monkeypatch.chdir(ROOT)
    data = discs(30, 1, 1)
    own = module.restore_or_train_classifier("classifier", data, tmp_path)
    expected = feature_statistics(shipped.predict(data.x_train).features)
    assert np.allclose(own.reference.mean, expected.mean)
    assert not any(tmp_path.iterdir())
    cifar10 = module.restore_or_train_classifier("classifier", find_data("cifar10"), tmp_path)
    assert np.array_equal(cifar10.reference.mean, shipped.reference.mean)


@pytest.mark.parametrize("damage", ["truncated", "other network", "NaN"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "file.npz"
    content = SHIPPED.read_bytes()
    with np.load(SHIPPED) as archive:
        arrays = dict(archive)
    if damage == "other network":
        np.savez(path, weight_00=np.zeros(3), accuracy=1, mean=0, covariance=0, count=0)
    elif damage == "NaN":
        np.savez(path, **arrays | {"weight_00": arrays["weight_00"] * np.nan})
    else:
        path.write_bytes(content[:9000])
    before = path.read_bytes()
    message = r"file\.npz is damaged or of another network \(.*Move it away to train"
    with pytest.raises(RuntimeError, match=message):
        module.load_classifier(path)
    assert path.read_bytes() == before
