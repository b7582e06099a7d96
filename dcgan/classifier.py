"""A small classifier of CIFAR-10, whose features and probabilities measure generated images."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcgan.data import Split, load_cifar10
from dcgan.devices import choose_precision
from dcgan.files import atomic_path, read_arrays, require_folder
from dcgan.layers import Adam, BatchNormalization
from dcgan.metrics import FeatureStatistics, feature_statistics
from dcgan.pixels import to_uint8
from dcgan.quiet import keras, tf

FEATURES = 128  # numbers that describe an image
BATCH_SIZE = 128  # of the training
Build = Callable[[str], keras.Model]  # from a dtype policy; last outputs are features and logits


def build_classifier(dtype: str = "float32") -> keras.Model:
    """Build a classifier of images (N, 32, 32, 3) in [-1, 1]; `dtype` is a Keras dtype policy.

    Six blocks of 3 x 3 convolution, batch normalisation and ReLU with three poolings, after the
    third a residual pair (He et al., "Deep Residual Learning for Image Recognition", 2016). The two
    outputs are float32: features (N, FEATURES), averages of the last maps, and logits (N, 10).
    """

    def block(x: Any, channels: int) -> Any:
        x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False, dtype=dtype)(x)
        x = BatchNormalization(momentum=0.9, dtype=dtype)(x)
        return keras.layers.ReLU(dtype=dtype)(x)

    images = keras.Input((None, None, 3))
    x = block(block(images, 32), 64)
    x = keras.layers.MaxPooling2D(dtype=dtype)(x)
    x = block(x, 128)
    x = keras.layers.MaxPooling2D(dtype=dtype)(x)
    x = keras.layers.Add(dtype=dtype)([x, block(block(x, 128), 128)])
    x = block(x, 128)
    x = keras.layers.MaxPooling2D(dtype=dtype)(x)
    x = block(x, FEATURES)
    features = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    logits = keras.layers.Dense(10, dtype="float32")(features)
    return keras.Model(images, [features, logits], name="classifier")


@dataclass(frozen=True)
class Predictions:
    """What a classifier says about N images, as float32 arrays."""

    features: np.ndarray  # (N, FEATURES), the values before its last layer
    probabilities: np.ndarray  # (N, 10), rows that add up to 1

    @property
    def classes(self) -> np.ndarray:
        """The most probable class of each image, int64 (N,)."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True)
class Classifier:
    """A trained classifier, how good it is, and what it sees in real images."""

    model: keras.Model  # in float32; its last two outputs are features and logits
    accuracy: float = math.nan  # share of the 10,000 CIFAR-10 test images whose class it predicts
    reference: FeatureStatistics | None = None  # of the features of the 50,000 training images

    def predict(self, images: np.ndarray, batch_size: int = 100) -> Predictions:
        """Predict classes of images as for `to_uint8`, coloured or grey, 8 x 8 pixels at least."""
        pixels = to_uint8(images)
        if min(pixels.shape[1:3]) < 8:
            raise ValueError(f"the classifier needs 8 x 8 pixels or more, got {pixels.shape}")
        pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
        batches = []
        for start in range(0, len(pixels), batch_size):
            scaled = pixels[start : start + batch_size] / np.float32(127.5) - 1
            *_, features, logits = self._call(tf.constant(scaled))
            batches.append((features.numpy(), tf.nn.softmax(logits).numpy()))
        return Predictions(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))

    @functools.cached_property
    def _call(self) -> Callable:
        """The model as a compiled function."""
        return tf.function(lambda images: self.model(images, training=False), reduce_retracing=True)


def train_classifier(
    train: Split, test: Split, epochs: int = 14, seed: int = 0, build: Build = build_classifier
) -> Classifier:
    """Train a classifier from scratch, printing a line an epoch.

    Cross-entropy with smoothed labels; Adam with decoupled weight decay (Loshchilov & Hutter,
    "Decoupled Weight Decay Regularization", 2019) and a learning rate that warms up for two epochs
    and falls along a cosine; images shifted by up to an eighth of their sides, mirrored and mixed
    (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018). Images are uint8
    (N, height, width, 3) with labels (N,) in 0..9; `test` is for the accuracy. Raises ValueError
    for less than 128 images or 3 epochs.
    """
    steps = len(train[1]) // BATCH_SIZE
    if epochs < 3 or steps < 1:
        raise ValueError(f"need 3 epochs and {BATCH_SIZE} images: {epochs}, {len(train[1])}")
    keras.utils.set_random_seed(seed)
    network = build(choose_precision()[0])
    print(f"Training the {network.name}:")
    augment = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 127.5, -1),
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomTranslation(1 / 8, 1 / 8, "reflect", "nearest"),
        ]
    )
    mix_up = keras.layers.MixUp(0.2, dtype="float32")

    def prepare(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        targets = tf.one_hot(labels, network.outputs[-1].shape[-1])
        mixed = mix_up({"images": augment(images, training=True), "labels": targets})
        return mixed["images"], mixed["labels"]

    batches = tf.data.Dataset.from_tensor_slices(train).shuffle(len(train[1]), seed)
    batches = batches.batch(BATCH_SIZE, drop_remainder=True).map(prepare).prefetch(2)
    learning_rate = keras.optimizers.schedules.CosineDecay(
        3e-4, (epochs - 2) * steps, warmup_target=3e-3, warmup_steps=2 * steps
    )
    learner = keras.Model(network.inputs, network.outputs[-1])
    learner.compile(
        Adam(learning_rate, beta_2=0.99, weight_decay=0.05),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        metrics=["accuracy"],
    )
    learner.fit(batches, epochs=epochs, shuffle=False, verbose=2)
    model = build("float32")
    model.set_weights(network.get_weights())
    untested = Classifier(model)
    accuracy = float(np.mean(untested.predict(test[0]).classes == test[1]))
    print(f"{model.name}: {accuracy:.1%} of the {len(test[1]):,} test images right")
    return Classifier(model, accuracy, feature_statistics(untested.predict(train[0]).features))


def freeze(network: keras.Model, outputs: int, dtype: str) -> keras.Model:
    """Return a copy that computes the first `outputs` of a network as in inference, and fast.

    Each batch normalisation, which has to follow a convolution without bias, is folded into it:
    weights are scaled and a bias is added. `dtype` is a Keras dtype policy.
    """

    def plain(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config() | {"dtype": dtype}
        if isinstance(layer, BatchNormalization):
            return keras.layers.Identity(name=layer.name, dtype=dtype)
        if isinstance(layer, keras.layers.Conv2D):
            config["use_bias"] = True
        return type(layer).from_config(config)

    inference = keras.Model(network.inputs, network.outputs[:outputs], name=network.name)
    frozen = keras.models.clone_model(inference, clone_function=plain)
    for before, layer in zip(inference.layers, inference.layers[1:], strict=False):
        if isinstance(layer, BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            scale = gamma / np.sqrt(variance + layer.epsilon)
            frozen.get_layer(before.name).set_weights(
                [before.get_weights()[0] * scale, beta - mean * scale]
            )
    frozen.trainable = False
    return frozen


def save_classifier(classifier: Classifier, path: str | Path) -> None:
    """Write a classifier as one .npz file of plain numbers; RuntimeError if that is impossible."""
    weights = {f"weight_{k:02d}": w for k, w in enumerate(classifier.model.get_weights())}
    with atomic_path(path) as temporary:
        np.savez(temporary, accuracy=classifier.accuracy, **weights, **vars(classifier.reference))


def load_classifier(path: str | Path, build: Build = build_classifier) -> Classifier:
    """Read what `save_classifier` wrote; RuntimeError if missing, damaged or of another network."""
    model = build("float32")
    try:
        arrays = read_arrays(path)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("it holds NaN or infinity")
        model.set_weights([arrays[name] for name in sorted(arrays) if name.startswith("weight_")])
        reference = FeatureStatistics(arrays["mean"], arrays["covariance"], int(arrays["count"]))
        return Classifier(model, float(arrays["accuracy"]), reference)
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeError(
            f"{path} holds no {model.name} ({error}). Move it away to train one anew."
        ) from error


def restore_or_train_classifier(path: str | Path, **options: Any) -> Classifier:
    """Load a classifier, or train it on CIFAR-10 with options of `train_classifier` and keep it."""
    if Path(path).exists():
        return load_classifier(path, options.get("build", build_classifier))
    require_folder(Path(path).parent, "the current folder")
    classifier = train_classifier(*load_cifar10(), **options)
    save_classifier(classifier, path)
    return classifier
