"""A trained generator as a file that needs nothing of this project.

Layers of `dcgan.layers` become those of Keras with the same name, all else is Keras' own already or
refused, and everything computes in float32. So the file draws what the notebook draws with
PRECISION = "float32": up to rounding, by which about one pixel value in 50,000 is off by a grey
level. Where the notebook computes in bfloat16, a third of the pixel values of the improved variant
differ, most of them by one grey level.
"""

import copy
import importlib
import inspect
import tempfile
from pathlib import Path
from typing import Any

from dcgan.checkpoints import reason_of
from dcgan.files import atomic_path
from dcgan.quiet import hidden_stderr, keras, tf

FORMATS = (".keras", ".tflite", ".onnx", "")  # of a file by its suffix; none: a SavedModel


def export_generator(generator: keras.Model, path: str | Path, uint8: bool = False) -> keras.Model:
    """Write the model that `plain_generator` returns, whole or not at all, and return it.

    The suffix of `path` says how: `.keras` for Keras, from 3.10 on, `.tflite` for LiteRT, `.onnx`
    for ONNX, none for TensorFlow's SavedModel, a folder that must not exist. Raises ValueError for
    a generator or format that is not possible, RuntimeError if the file cannot be written.
    """
    path = Path(path)
    check_format(path)
    model = plain_generator(generator, uint8)
    with atomic_path(path) as temporary, hidden_stderr():
        if path.suffix == ".keras":
            model.save(temporary)
        elif path.suffix == ".tflite":
            with tempfile.TemporaryDirectory() as folder:
                model.export(folder, verbose=False)
                converter = tf.lite.TFLiteConverter.from_saved_model(folder)
                temporary.write_bytes(converter.convert())
        elif path.suffix == ".onnx":
            # Keras exports so no model that has never been called.
            model({x.name: tf.zeros((1, *x.shape[1:]), x.dtype) for x in model.inputs})
            model.export(str(temporary), format="onnx", verbose=False)
        else:
            try:
                model.export(str(temporary), verbose=False)
            except tf.errors.OpError as error:
                reason = f"{reason_of(error)}. Free some disk space or choose another folder."
                raise RuntimeError(f"Cannot write {path}: {reason}") from error
    return model


def check_format(path: Path) -> None:
    """Raise ValueError unless the suffix of a path is that of a format that can be written."""
    if path.suffix not in FORMATS:
        raise ValueError(
            "the name of an exported generator ends in .keras, .tflite or .onnx, or has no suffix "
            f"for a SavedModel: {path.name} does not"
        )
    if path.suffix == ".onnx" and not importlib.util.find_spec("tf2onnx"):
        raise ValueError("ONNX needs the package tf2onnx: install it with pip install tf2onnx")


def plain_generator(generator: keras.Model, uint8: bool = False) -> keras.Model:
    """Return a copy of a generator that consists of Keras' own classes and computes in float32.

    Args:
        generator: maps noise (N, latent_dim), or noise and one-hot labels (N, classes), to images
            in [-1, 1]; a functional or sequential model, under any precision.
        uint8: whether images are uint8 pixels instead of float32 in [-1, 1].

    Returns:
        A model with the inputs `noise` and, if the generator takes labels, `label`: integers (N,)
        from 0 to classes - 1. Negative ones count from the end; others raise an error on a CPU.

    Raises ValueError for other inputs, and for layers or functions that are not Keras' own.
    """
    shapes = [x.shape[1:] for x in generator.inputs]
    if len(shapes) > 2 or any(len(shape) != 1 for shape in shapes[1:]):
        raise ValueError(f"a generator takes noise and perhaps one-hot labels, not inputs {shapes}")
    try:
        plain = keras.saving.deserialize_keras_object(_plain_config(generator))
    except TypeError as error:
        raise ValueError(
            f"Keras cannot rebuild the model {generator.name} from its configuration, perhaps for "
            "a lambda: write it as layers"
        ) from error
    plain.set_weights(generator.get_weights())

    noise = images = keras.Input(shapes[0], name="noise")
    inputs = [noise]
    if shapes[1:]:
        (classes,) = shapes[1]
        label = keras.Input((), dtype="int32", name="label")
        one_hot = keras.layers.Embedding(
            classes, classes, "identity", trainable=False, dtype="float32", name="one_hot"
        )
        inputs, images = [noise, label], [noise, one_hot(label)]
    images = plain(images)
    if uint8:  # a cast cuts decimals off, so that the half that is added makes it round
        images = keras.layers.Rescaling(127.5, 127.5 + 0.5, dtype="float32")(images)
        images = keras.layers.ReLU(max_value=255, dtype="float32")(images)
        images = keras.layers.Rescaling(1, dtype="uint8")(images)
    model = keras.Model(inputs, images, name="generator")
    # Keras would write every option, also those that an earlier Keras does not know.
    config = _plain_config(model)["config"]
    model.get_config = lambda: config
    return model


def _plain_config(model: keras.Model) -> dict[str, Any]:
    """Serialise a model as Keras' own classes in float32, without options at their defaults."""
    foreign: set[str] = set()
    try:
        config = _to_plain(keras.saving.serialize_keras_object(model), foreign)
    except NotImplementedError as error:  # "Object NAME …" does not say what it was made with
        foreign.add(str(error).split()[1])
    if foreign:
        raise ValueError(
            f"{', '.join(sorted(foreign))} of the model {model.name} would not be found where the "
            "file is loaded: use layers and functions of Keras, or layers of dcgan.layers"
        )
    return config


def _to_plain(value: Any, foreign: set[str]) -> Any:
    """Do this for a part of a serialised model; note classes and functions that are not Keras'."""
    if isinstance(value, list | tuple):
        return [_to_plain(part, foreign) for part in value]
    if not isinstance(value, dict):
        return value
    value = {key: _to_plain(part, foreign) for key, part in value.items()}
    if isinstance(value.get("dtype"), str) and "float" in value["dtype"]:
        value["dtype"] = "float32"
    if "class_name" not in value:
        return value
    name, module = value["class_name"], str(value.get("module", "keras"))
    if module == "dcgan.layers" and hasattr(keras.layers, name):
        module = "keras.layers"
        value |= {"module": module, "registered_name": None}
    if name == "DTypePolicy" and "float" in value["config"]["name"]:
        value["config"] = {"name": "float32"}
    elif name == "function":
        foreign |= {value["config"]} - set(dir(keras.activations))
    elif name == "Lambda" or module.split(".")[0] != "keras":
        foreign.add(name)
    elif module.startswith("keras.") and not module.startswith("keras.src."):
        kind = getattr(importlib.import_module(module), name)
        value["config"] = _without_defaults(kind, value["config"])
    return value


def _without_defaults(kind: type, config: dict[str, Any]) -> dict[str, Any]:
    """Leave out options at their defaults, which an earlier Keras may not know, if that is safe."""
    known = inspect.signature(kind).parameters
    changed = {k: v for k, v in config.items() if k not in known or v != known[k].default}
    try:
        kind.from_config(copy.deepcopy(changed))
    except Exception:  # some classes look every option up; a foreign part is told of elsewhere
        return config
    return changed
