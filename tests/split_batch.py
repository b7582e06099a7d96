"""Train small networks on one or several logical CPU devices, in a process of its own.

Logical devices have to be set up before TensorFlow computes anything, so that `test_devices.py`
runs this file: python split_batch.py DEVICES OUTPUT_DIR EPOCHS DROPOUT PRECISION SIDE
"""

import sys

import keras
import numpy as np
import tensorflow as tf
from notebook import run_cells

import dcgan_utils as utils


def main() -> None:
    """Restore, train, and keep the weights beside the history."""
    devices, output_dir, epochs, dropout, precision, side = sys.argv[1:]
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * int(devices),
    )
    names = run_cells(
        "setup",
        "parameters",
        "definitions",
        OUTPUT_DIR=output_dir,
        PRECISION=precision,
        DROPOUT=float(dropout),
        BATCH_SIZE=8,
        TRAIN_IMAGES=24,
    )
    image_shape = (int(side), int(side), 3)
    options = {} if side == "32" else {"width": 4}  # 32: the networks of the notebook
    data = utils.draw_stand_in_images(24, image_shape, seed=0)
    keras.utils.set_random_seed(1)
    generator = names["build_generator"](names["LATENT_DIM"], image_shape, **options)
    run = names["start_run"](generator, names["build_discriminator"](image_shape, **options))
    folders = utils.prepare_run_folders(output_dir, "split")
    names["train"](run, folders, names["make_train_step"](run), *data, int(epochs))
    weights = [np.ravel(weight.numpy()) for weight in generator.weights]
    np.save(folders.history.with_suffix(".npy"), np.concatenate(weights))


if __name__ == "__main__":
    main()
