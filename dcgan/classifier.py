"""Classifiers, of which one measures images and one is the feature network: train, keep, load."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dcgan import backup
from dcgan.dataset import DataSet, load_data
from dcgan.files import atomic_path, read_arrays, read_settings, require_folder
from dcgan.layers import Adam, BatchNormalization
from dcgan.metrics import FeatureStatistics, feature_statistics
from dcgan.pixels import to_uint8
from dcgan.quiet import keras, tf

FEATURES = 128  # numbers that describe an image
BATCH_SIZE = 128  # of the training
LEAST_STEPS = 300  # of the training, so that few images are shown more often
KEEP_STEPS = 100  # of the training, at least, from one state that is kept to the next
# From a dtype policy and a number of classes; the last two outputs are features and logits.
Build = Callable[[str, int], keras.Model]


def build_classifier(dtype: str, classes: int) -> keras.Model:
    """Build a classifier of images (N, side, side, 3) in [-1, 1]; `dtype` is a Keras dtype policy.

    Seven blocks of 3 x 3 convolution, batch normalisation and ReLU with three poolings, the fourth
    and fifth block a residual pair (He et al., "Deep Residual Learning for Image Recognition",
    2016). The two outputs are float32: features (N, FEATURES), averages of the last maps, and
    logits (N, classes).
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
    logits = keras.layers.Dense(classes, dtype="float32")(features)
    return keras.Model(images, [features, logits], name="classifier")


@dataclass(frozen=True)
class Predictions:
    """What a classifier says about N images, as float32 arrays."""

    features: np.ndarray  # (N, FEATURES), the values before its last layer
    probabilities: np.ndarray  # (N, classes), rows that add up to 1

    @property
    def classes(self) -> np.ndarray:
        """The most probable class of each image, int64 (N,)."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True)
class Classifier:
    """A trained classifier, how good it is, and what it sees in real images."""

    model: keras.Model  # in float32; its last two outputs are features and logits
    accuracy: float = math.nan  # share of the test images whose class it predicts
    reference: FeatureStatistics | None = None  # of the features of the training images
    trained_on: str = ""  # the data in words; empty for what comes with the repository

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
        """The model as a compiled function, which is traced once."""
        images = tf.TensorSpec(self.model.inputs[0].shape, tf.float32)
        return tf.function(lambda images: self.model(images, training=False), [images])


def train_classifier(
    data: DataSet,
    epochs: int = 14,
    seed: int = 0,
    build: Build = build_classifier,
    fast: bool = False,
    unfinished: Path | None = None,
) -> Classifier:
    """Train a classifier, printing a line an epoch.

    Few images are shown in more epochs, for `LEAST_STEPS` in all; a `fast` training has three. A
    training that was broken off goes on from the .npz file `unfinished`, which keeps its state
    after whole epochs; RuntimeError if that file is damaged or cannot be written.

    Cross-entropy with smoothed labels; Adam with decoupled weight decay (Loshchilov & Hutter,
    "Decoupled Weight Decay Regularization", 2019) and a learning rate that warms up for two epochs
    and falls along a cosine; images shifted by up to an eighth of their sides, mirrored and mixed
    (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018).
    """
    count, classes, channels = len(data.x_train), len(data.class_names), data.image_shape[-1]
    batch_size = min(BATCH_SIZE, count)
    steps = count // batch_size
    epochs = 3 if fast else max(3, epochs, math.ceil(LEAST_STEPS / steps))
    keras.utils.set_random_seed(seed)
    policy = keras.config.dtype_policy()
    # The scale that float16 needs would be state that no other machine could go on from.
    network = build("float32" if policy.compute_dtype == "float16" else policy.name, classes)
    title = network.name.replace("_", " ")
    print(f"Training the {title} for {epochs * steps:,} steps, which takes minutes on a CPU.")
    augment = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 127.5, -1),
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomTranslation(1 / 8, 1 / 8, "reflect", "nearest"),
        ]
    )
    mix_up = keras.layers.MixUp(0.2, dtype="float32")

    with tf.device("CPU"):
        images, labels = tf.constant(data.x_train), tf.constant(data.y_train)

    def prepare(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        coloured = tf.repeat(tf.gather(images, rows), 3 // channels, axis=-1)
        targets = tf.one_hot(tf.gather(labels, rows), classes)
        mixed = mix_up({"images": augment(coloured, training=True), "labels": targets})
        return mixed["images"], mixed["labels"]

    order = tf.data.Dataset.range(count).shuffle(count, seed)  # not of pixels, to save memory
    batches = order.batch(batch_size, drop_remainder=True).map(prepare)
    learning_rate = keras.optimizers.schedules.CosineDecay(
        3e-4, (epochs - 2) * steps, warmup_target=3e-3, warmup_steps=2 * steps
    )
    learner = keras.Model(network.inputs, network.outputs[-1])
    learner.compile(
        Adam(learning_rate, beta_2=0.99, weight_decay=0.05),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        metrics=["accuracy"],
        auto_scale_loss=False,
    )
    learner.optimizer.build(learner.trainable_variables)  # or its state could not be restored
    variables = [*learner.weights, *learner.optimizer.variables]
    begun = 0
    if unfinished and unfinished.exists():
        begun = _restore_unfinished(unfinished, variables)
        print(f"It was broken off, and goes on after epoch {begun}.")

    def keep(epoch: int, _: Any) -> None:
        if unfinished and (epoch + 1) % math.ceil(KEEP_STEPS / steps) == 0:
            with atomic_path(unfinished) as temporary:
                np.savez(temporary, *(each.numpy() for each in variables), epoch=epoch + 1)

    learner.fit(
        batches.prefetch(2),
        epochs=epochs,
        initial_epoch=begun,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=keep)],
        shuffle=False,
        verbose=2,
    )
    model = build("float32", classes)
    model.set_weights(network.get_weights())
    untested = Classifier(model)
    accuracy = float(np.mean(untested.predict(data.x_test).classes == data.y_test))
    print(f"{title}: {accuracy:.1%} of the {len(data.y_test):,} test images right")
    reference = feature_statistics(untested.predict(data.x_train).features)
    return Classifier(model, accuracy, reference)


def _restore_unfinished(path: Path, variables: list[keras.Variable]) -> int:
    """Restore the state of a training that was broken off, and return its number of epochs."""
    try:
        arrays = read_arrays(path)
        epoch = int(arrays.pop("epoch"))
        for number, variable in enumerate(variables):
            variable.assign(arrays.pop(f"arr_{number}"))
        if arrays:
            raise ValueError("it holds more than this network")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise RuntimeError(
            f"{path} is damaged or of another network: delete it, and this training starts over."
        ) from error
    return epoch


def fold_batch_norm(network: keras.Model, outputs: int, dtype: str) -> keras.Model:
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
    facts = {"accuracy": classifier.accuracy, "trained_on": classifier.trained_on}
    with atomic_path(path) as temporary:
        np.savez(temporary, **facts, **weights, **vars(classifier.reference))


def load_classifier(path: str | Path, build: Build = build_classifier) -> Classifier:
    """Read what `save_classifier` wrote; RuntimeError if missing, damaged or of another network."""
    try:
        arrays = read_arrays(path)
        trained_on = str(arrays.pop("trained_on", ""))
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("it holds NaN or infinity")
        weights = [arrays[name] for name in sorted(arrays) if name.startswith("weight_")]
        model = build("float32", weights[-1].size)
        model.set_weights(weights)
        reference = FeatureStatistics(arrays["mean"], arrays["covariance"])
        return Classifier(model, float(arrays["accuracy"]), reference, trained_on=trained_on)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise RuntimeError(
            f"{path} is damaged or of another network ({error}). Move it away to train one anew."
        ) from error


def restore_or_train_classifier(
    name: str,
    data: DataSet,
    output_dir: str | Path = ".",
    fast: bool = False,
    backup_dir: str | Path | None = None,
    **options: Any,
) -> Classifier:
    """Load a classifier that fits a data set, or train it and keep it.

    Labelled data have their own, trained with options of `train_classifier`, a `fast` one for three
    epochs. It is kept with the run in `output_dir` as training_checkpoints/NAME.npz, with a copy in
    `backup_dir` if there is one. CIFAR-10 has those that come with the repository, and data without
    labels borrow these. A training that was broken off goes on. Raises RuntimeError as for
    `load_classifier` and `train_classifier`, for a file or runs of other images than these, and if
    it cannot be kept.
    """
    shipped = data.source == "cifar10" or not data.labelled
    path = Path("." if shipped else output_dir, "training_checkpoints", f"{name}.npz")
    fast = fast and not shipped
    places = {path: "the current folder" if shipped else "OUTPUT_DIR"}
    if backup_dir and not shipped:
        places[backup.place(backup_dir, output_dir, f"{name}.npz")] = "BACKUP_DIR"
    unfinished = None
    trained_on = data.in_words + (" in a fast run" if fast else "")
    if found := [place for place in places if place.exists()]:
        path = found[0]
        classifier = load_classifier(path, options.get("build", build_classifier))
    else:
        for place, setting in places.items():
            require_folder(place.parent, setting)
        if not shipped:
            _refuse_runs_of_other_images(path.parent, data)
        training_data = load_data("cifar10") if shipped else data
        if not fast:  # in the backup, if there is one: this machine may be taken away
            last = [*places][-1]
            unfinished = last.with_name(f"{last.stem}_unfinished_{training_data.sha256}.npz")
        classifier = train_classifier(training_data, fast=fast, unfinished=unfinished, **options)
        classifier = replace(classifier, trained_on="" if shipped else trained_on)
    if not shipped and classifier.trained_on != trained_on:
        raise RuntimeError(
            f"{path} was trained on {classifier.trained_on or 'CIFAR-10'}, and here are "
            f"{trained_on}: choose another OUTPUT_DIR, or move this file away to train it anew."
        )
    for place in places:
        if not place.exists():
            save_classifier(classifier, place)
    if unfinished:
        unfinished.unlink(missing_ok=True)
    if not data.labelled:
        features = classifier.predict(data.x_train).features
        return replace(classifier, reference=feature_statistics(features))
    return classifier


def _refuse_runs_of_other_images(folder: Path, data: DataSet) -> None:
    """Raise RuntimeError if a folder of checkpoints holds a run on other images than these."""
    for file in folder.glob("*/settings.json"):
        if read_settings(file).get("IMAGES_SHA256") != data.sha256:
            raise RuntimeError(
                f"{file.parent} is a run on other images than {data.in_words}: choose another "
                "OUTPUT_DIR."
            )
