"""Own data from end to end: networks of every size, runs that know their data, the notebook."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from own_pictures import COLOURS, write_folder
from small_runs import definitions
from test_checkpoints import ODD_FOLDER
from test_end_to_end import execute, shipped_files
from test_scripts import ODD_NAME, command

import dcgan_utils as utils
from dcgan import classifier
from dcgan.dataset import DataSet
from dcgan.metrics import feature_statistics
from dcgan.pictures import read_picture


@pytest.mark.parametrize(
    ("side", "patches"), [(20, 9), (28, 16), (32, 16), (48, 9), (64, 16), (96, 9), (128, 16)]
)
def test_all_heads_have_the_same_patches_at_every_size(side: int, patches: int) -> None:
    sides = [side, side, *(-(-side // 2**k) for k in (1, 2, 3))]
    maps = [keras.Input((each, each, 3)) for each in sides]
    names = definitions()
    discriminator = names.build_improved_discriminator(maps, names.HEADS, 2)
    assert discriminator.output.shape == (None, 5, patches)


@pytest.fixture
def describe(
    lesson: Callable[..., SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SimpleNamespace]:
    """Return a function that runs the cells for a file of so many classes and channels."""

    def untrained(data: DataSet, **_: object) -> classifier.Classifier:
        network = classifier.Classifier(classifier.build_classifier("float32", 2))
        reference = feature_statistics(network.predict(data.x_train).features)
        return replace(network, reference=reference, accuracy=0.5, trained_on=data.in_words)

    monkeypatch.setattr(classifier, "train_classifier", untrained)

    def run(classes: int, channels: int, *tags: str) -> SimpleNamespace:
        images = np.random.default_rng(0).integers(0, 256, (250, 20, 20, channels), dtype=np.uint8)
        labels = {"labels": np.arange(250) % classes} if classes > 1 else {}
        np.savez(tmp_path / "mine.npz", images=images, **labels)
        return lesson("data", *tags, DATA=tmp_path / "mine.npz", FAST=True)

    return run


@pytest.mark.parametrize(("classes", "columns"), [(1, 4), (3, 3), (10, 10), (12, 10)])
def test_pictures_of_epochs_can_be_read_for_any_number_of_classes(
    describe: Callable[..., SimpleNamespace], classes: int, columns: int
) -> None:
    names = describe(classes, 1)
    assert (names.IMAGE_SHAPE, len(names.CLASS_NAMES)) == ((20, 20, 1), classes)
    assert names.TRAIN_IMAGES == len(names.x_train) == 225
    noise, labels = names.draw_inputs(2 * classes, 0)
    assert labels.tolist() == [*range(classes)] * 2
    generator = names.build_improved_generator(names.LATENT_DIM, names.IMAGE_SHAPE, 4, classes)
    asked = []

    def draw(inputs: list[np.ndarray], training: bool) -> keras.KerasTensor:
        asked.extend(inputs[1].argmax(axis=1))
        return generator(inputs, training=training)

    draw.inputs = generator.inputs
    gan = SimpleNamespace(conditional=True, ema_generator=draw)
    assert names.sample_grid(gan).shape == (4 * 42 + 2, columns * 42 + 2, 3)
    assert asked == [*range(min(classes, columns))] * (4 * columns // min(classes, columns))
    assert utils.generate_images(generator, noise, labels).shape[1:] == (20, 20, 1)
    assert names.data.examples()[0].shape[0] == 10 * min(classes, 10)


def test_settings_describe_the_data(
    describe: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    settings = describe(3, 3, "variant:baseline").baseline_run.settings
    assert settings["DATA"] == str(tmp_path / "mine.npz")
    assert settings["IMAGE_SHAPE"] == [20, 20, 3]
    assert settings["CLASS_NAMES"] == ["0", "1", "2"]
    assert settings["TRAIN_IMAGES"] == 225


@ODD_FOLDER
def test_a_run_on_a_folder_is_trained_and_sampled(tmp_path: Path) -> None:
    """Samples take the classes from the run, whose pictures may be gone."""
    folder, run = write_folder(tmp_path / "mine", 30, [*COLOURS]), tmp_path / ODD_NAME
    shipped = sorted((path, path.stat().st_mtime_ns) for path in shipped_files())
    options = ("--variant=improved", f"--output-dir={run}")
    training = ("train", "--fast", "--epochs=1", "--image-size=20", *options)
    trained = command(*training, "--data", "mine", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""
    assert "mine: 81 images for training and 9 for tests, of 3 classes: blue, g" in trained.stdout
    networks = {path.name for path in (run / "training_checkpoints").glob("*.npz")}
    assert networks == {"classifier.npz"}  # the feature network is that of CIFAR-10
    settings = json.loads((run / "training_checkpoints/improved/settings.json").read_text())
    assert settings["CLASS_WEIGHT"] == 0
    picture = read_picture(run / "generated_samples" / "improved" / "epoch_0001.png")
    assert picture.shape == (4 * 42 + 2, 3 * 42 + 2, 3)
    assert (run / "training_history" / "improved.png").stat().st_size > 1000
    assert (run / "generated_samples" / "improved.gif").stat().st_size > 1000

    shutil.rmtree(folder)
    out = tmp_path / "few.npz"
    drawn = command("samples", *options, "--count=5", f"--out={out}", "--class=green")
    assert drawn.returncode == 0, drawn.stderr
    with np.load(out) as arrays:
        assert arrays["images"].shape == (5, 20, 20, 3)
        assert arrays["labels"].tolist() == [1] * 5
    assert sorted((path, path.stat().st_mtime_ns) for path in shipped_files()) == shipped


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["labelled", "unlabelled", "fashion_mnist"])
def test_the_notebook_runs_on_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # empty: Fashion-MNIST has stand-ins
    classes = [*COLOURS] if kind == "labelled" else []
    folder = write_folder(tmp_path / "mine", 100, classes)
    data = kind if kind == "fashion_mnist" else str(folder)
    (tmp_path / "run").mkdir()
    size = 32 if kind == "fashion_mnist" else 64
    output, _ = execute(tmp_path / "run", DATA=data, IMAGE_SIZE=size, EPOCHS=1)
    assert ("has no labels" in output) == (kind == "unlabelled")
    for variant in ("baseline", "improved"):
        run = utils.Run(tmp_path / "run", variant)
        assert len(run.history) == 1
        assert json.loads((run.checkpoints / "settings.json").read_text())["DATA"] == data
        for path in (run.picture(".gif"), run.history_plot, run.sample(1)):
            assert path.stat().st_size > 1000
