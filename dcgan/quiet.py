"""TensorFlow and Keras, loaded without messages, and alike whatever a user's keras.json says."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["hidden_stderr", "keras", "tf"]


@contextlib.contextmanager
def hidden_stderr() -> Iterator[None]:
    """Hide what is written to the file descriptor of stderr in this block."""
    with contextlib.ExitStack() as afterwards:
        # A process may have been started without a stderr (`2>&-`): nothing to hide then.
        with contextlib.suppress(OSError):
            stderr = os.dup(2)
            afterwards.callback(os.close, stderr)
            afterwards.callback(os.dup2, stderr, 2)
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        yield


# Errors are not hidden: they reach Python as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
with hidden_stderr():
    import keras
    import tensorflow as tf

if keras.config.backend() != "tensorflow":  # loaded before us
    raise RuntimeError(
        f"Keras is loaded with {keras.config.backend()}, and this project computes with "
        "TensorFlow: restart Python (the kernel), and run the setup cells first."
    )
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
