"""A generator taken away: written with Keras' own classes alone, and used without this project."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import export
import imageio.v3 as iio
import keras
import numpy as np
import pytest
import tensorflow as tf
from small_runs import definitions
from test_scripts import ROOT, command

import dcgan_utils as utils
from dcgan import layers
from dcgan.checkpoints import saved_epochs
from dcgan.export import check_format, export_generator, plain_generator
from dcgan.pixels import to_uint8

NOISE = np.random.default_rng(0).standard_normal((10, 100), np.float32)
LABELS = np.arange(10)
README_CODE = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[
    1
]
ALONE = """
import importlib.util
assert not importlib.util.find_spec("dcgan")
"""
IN_BFLOAT16 = 'keras.config.set_dtype_policy("mixed_bfloat16")'


def build(conditional: bool = True, policy: str = "float32") -> keras.Model:
    """Return one of the notebook's generators, small and with weights of no special kind."""
    names = definitions()
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(1)
    options = (names.LATENT_DIM, (16, 16, 3), 8)
    builder = names.build_improved_generator if conditional else names.build_generator
    generator = builder(*options, *([10] if conditional else []))
    rng = np.random.default_rng(1)
    generator.set_weights([w + rng.uniform(0, 0.3, w.shape) for w in generator.get_weights()])
    return generator


def float_images(generator: keras.Model) -> np.ndarray:
    """Return what a generator of this project draws."""
    inputs = [NOISE, np.eye(10, dtype=np.float32)] if len(generator.inputs) > 1 else NOISE
    return np.asarray(generator(inputs, training=False))


def assert_same_pixels(images: np.ndarray, expected: np.ndarray) -> None:
    """Hold that images are equal but for what lies between two grey levels up to rounding."""
    assert images.dtype == expected.dtype == np.uint8
    difference = np.abs(images.astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


def test_ten_horses_are_drawn_without_this_project(tmp_path: Path) -> None:
    """By the lines in README.md, under any policy, as the notebook draws them in float32."""
    home, folder = tmp_path / "keras", tmp_path / "elsewhere"
    folder.mkdir()
    done = command("export", "--variant=improved", cwd=folder, KERAS_HOME=str(home))
    assert (done.returncode, done.stderr) == (0, "")
    assert "noise float32 (None, 100) and label int32 (None,)" in done.stdout
    assert "7 horse, 8 ship" in done.stdout
    assert list(folder.iterdir()) == [folder / "generator.keras"]
    assert not (home / "datasets").exists()

    code = [ALONE, README_CODE, IN_BFLOAT16, README_CODE.replace("horses.png", "again.png")]
    subprocess.run([sys.executable, "-I", "-c", "\n".join(code)], cwd=folder, check=True)
    picture, again = (iio.imread(folder / f"{name}.png")[..., :3] for name in ("horses", "again"))
    assert np.array_equal(picture, again)

    names, shipped = definitions(), ROOT / "training_checkpoints" / "improved"
    generator = names.build_improved_generator(100, (32, 32, 3), names.GENERATOR_WIDTH, 10)
    checkpoint = tf.train.Checkpoint(sampler=generator)
    checkpoint.restore(f"{shipped}/epoch-{saved_epochs(shipped)[0]}").expect_partial()
    noise, _ = names.draw_inputs(10, seed=0)
    horses = utils.generate_images(generator, names.TRUNCATION * noise, np.full(10, 7))
    assert_same_pixels(picture, np.concatenate(horses, axis=1))


def use_keras(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return keras.saving.load_model(path).predict(inputs, verbose=0)


def use_saved_model(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    function = tf.saved_model.load(path).signatures["serving_default"]
    return function(**{name: tf.constant(value) for name, value in inputs.items()})["output_0"]


def use_tflite(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return tf.lite.Interpreter(str(path)).get_signature_runner()(**inputs)["output_0"]


def use_onnx(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    pytest.importorskip("tf2onnx")
    return pytest.importorskip("onnxruntime").InferenceSession(path).run(None, inputs)[0]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize(("conditional", "uint8"), [(False, False), (True, True)])
@pytest.mark.parametrize(
    ("suffix", "use"),
    [(".keras", use_keras), ("", use_saved_model), (".tflite", use_tflite), (".onnx", use_onnx)],
)
def test_each_format_draws_what_the_generator_draws(
    tmp_path: Path, suffix: str, use: Callable, conditional: bool, uint8: bool
) -> None:
    generator, path = build(conditional), tmp_path / f"a{suffix}"
    if use is use_onnx:
        pytest.importorskip("tf2onnx")
    export_generator(generator, path, uint8)
    assert list(tmp_path.iterdir()) == [path]
    inputs = {"noise": NOISE} | ({"label": LABELS.astype(np.int32)} if conditional else {})
    images, expected = np.asarray(use(path, inputs)), float_images(generator)
    assert expected.std() > 0.1
    if uint8:
        assert_same_pixels(images, to_uint8(expected))
    else:
        assert images.dtype == np.float32
        assert np.abs(images - expected).max() < 1e-5


@pytest.mark.parametrize("conditional", [False, True])
def test_a_generator_in_bfloat16_becomes_one_in_float32(tmp_path: Path, conditional: bool) -> None:
    """Whatever the policy is where it is written and loaded; with options that each Keras knows."""
    expected = float_images(build(conditional))
    generator, path = build(conditional, "mixed_bfloat16"), tmp_path / "a.keras"
    assert np.abs(float_images(generator) - expected).max() > 1e-3
    export_generator(generator, path)
    images = use_keras(path, {"noise": NOISE, "label": LABELS})
    assert np.abs(images - expected).max() < 1e-5
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json").decode()
    assert json.loads(config)["module"].startswith("keras")
    for word in ("bfloat16", "dcgan", "quantization_config", "renorm", "optional"):
        assert word not in config


def changed_by_a_reader(policy: str = "float32") -> keras.Model:
    """Return a generator with nested models, a wrapper, a shared layer and more."""
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(1)
    noise, labels = keras.Input((100,)), keras.Input((10,))
    x = keras.layers.Concatenate()([noise, labels])
    shared = keras.layers.Dense(110, activation=tf.nn.leaky_relu)
    x = keras.layers.Reshape((4, 4, 8))(keras.layers.Dense(128)(shared(shared(x))))
    inner = keras.Sequential([layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization()])
    start = keras.Input((4, 4, 8))
    y = layers.Dropout(0.3)(keras.layers.GaussianNoise(0.1)(inner(start)))
    x = keras.Model(start, keras.layers.Add()([y, start]))(x)
    rows = keras.layers.TimeDistributed(
        keras.layers.Conv1D(8, 3, padding="same", activation=keras.layers.LeakyReLU())
    )
    x = keras.layers.UpSampling2D(interpolation="bilinear")(rows(x))
    x = layers.Conv2DTranspose(3, 4, strides=2, padding="same", name="label")(x)
    x = keras.layers.Rescaling(2.0)(keras.layers.LayerNormalization()(x))
    return keras.Model([noise, labels], keras.layers.Activation("tanh", dtype="float32")(x))


def test_what_is_keras_own_passes_through(tmp_path: Path) -> None:
    expected = float_images(changed_by_a_reader())
    generator = changed_by_a_reader("mixed_bfloat16")
    assert np.abs(float_images(generator) - expected).max() > 1e-3
    export_generator(generator, tmp_path / "a.keras")
    images = use_keras(tmp_path / "a.keras", {"noise": NOISE, "label": LABELS})
    assert np.abs(images - expected).max() < 1e-5


class Mine(keras.layers.Layer):
    """A layer that a reader wrote."""

    def __init__(self, part: object = None, **options: object) -> None:
        """Take anything."""
        super().__init__(**options)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return the input."""
        return x


def twice(x: tf.Tensor) -> tf.Tensor:
    """Double a tensor."""
    return 2 * x


@pytest.mark.filterwarnings("ignore:.*includes a .lambda.")
@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (lambda: Mine(), "^Mine of the model big would not be found where the file is loaded"),
        (lambda: Mine(Mine()), "^Mine of the model big"),
        (lambda: keras.Sequential([Mine(), keras.layers.Activation(twice)]), "^Mine, twice of"),
        (lambda: keras.layers.Dense(1, activation=twice), "^twice of the model big"),
        (lambda: keras.layers.TimeDistributed(keras.layers.Lambda(tf.abs)), "^Lambda, abs of"),
        (lambda: keras.layers.Activation(lambda x: x), "^Keras cannot rebuild the model big"),
    ],
)
def test_what_is_not_keras_own_is_named(tmp_path: Path, layer: Callable, sentence: str) -> None:
    noise = keras.Input((10, 10))
    generator = keras.Model(noise, layer()(noise), name="big")
    with pytest.raises(ValueError, match=sentence):
        export_generator(generator, tmp_path / "a.keras")
    assert list(tmp_path.iterdir()) == []


def test_other_inputs_are_refused() -> None:
    inputs = [keras.Input((3,)) for _ in range(3)]
    with pytest.raises(ValueError, match=r"a generator takes noise and perhaps one-hot labels"):
        plain_generator(keras.Model(inputs, keras.layers.Add()(inputs)))


def test_labels_out_of_range_are_an_error() -> None:
    """On a CPU, where negative ones count from the end."""
    model = plain_generator(build())
    assert np.array_equal(model([NOISE, LABELS - 10]), model([NOISE, LABELS]))
    for label in (10, -11):
        with pytest.raises(tf.errors.InvalidArgumentError, match="is not in"):
            model([NOISE[:1], np.array([label])])


def test_a_file_in_the_way_of_a_folder_is_named_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "restore", None)
    (tmp_path / "gen").touch()
    monkeypatch.setattr(sys, "argv", ["export.py", f"--out={tmp_path / 'gen'}"])
    with pytest.raises(SystemExit, match=r"^make export: OUT names a file, .*/gen, where a SavedM"):
        export.main()


def test_a_name_says_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"has no suffix for a SavedModel: a\.h5 does not"):
        check_format(Path("a.h5"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="ONNX needs the package tf2onnx: install it"):
        check_format(Path("a.onnx"))
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(RuntimeError, match=r"Cannot write .* Directory not empty"):
        export_generator(build(False), tmp_path / "a")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]
