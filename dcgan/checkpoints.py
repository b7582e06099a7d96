"""Checkpoints of whole epochs in a folder: `epoch-7.index` and `epoch-7.data-…`.

TensorFlow takes brackets, stars and question marks in the name of a folder for a pattern: its
CheckpointManager then neither finds nor deletes checkpoints. Hence relative paths, and no manager.
"""

import contextlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from dcgan.gan import GAN
from dcgan.quiet import tf

KEPT = 2  # the newest checkpoint, and the one before it in case that one is damaged


def epochs_among(names: Iterable[str]) -> list[int]:
    """Return the epochs whose checkpoint's index is among these file names, the newest first."""
    matches = (re.fullmatch(r"epoch-(\d+)\.index", name) for name in names)
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def saved_epochs(folder: Path) -> list[int]:
    """Return the epochs that have a checkpoint in a folder, the newest first."""
    return epochs_among(path.name for path in folder.iterdir()) if folder.is_dir() else []


def save(gan: GAN, folder: Path, epoch: int) -> None:
    """Write the checkpoint of an epoch, then delete all but the newest two.

    Raises RuntimeError if it cannot be written (read-only, disk full); the earlier ones are intact.
    """
    _remove_unfinished(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A relative path, because TensorFlow writes no others that it cannot encode (C locale).
        with contextlib.chdir(folder):
            gan.checkpoint.write(f"./epoch-{epoch}")
    except (OSError, tf.errors.OpError) as error:
        _remove_unfinished(folder)
        raise RuntimeError(
            f"Cannot write a checkpoint to {folder}: {reason_of(error)}. "
            "Free some disk space or choose another OUTPUT_DIR; the last checkpoint is intact."
        ) from error
    for old in saved_epochs(folder)[KEPT:]:
        (folder / f"epoch-{old}.index").unlink()  # first: without it the rest is no checkpoint
        for path in folder.glob(f"epoch-{old}.data-*"):
            path.unlink()


def reason_of(error: Exception) -> str:
    """Return the reason in TensorFlow's message "{{node}} file; reason [Op:name]"."""
    return str(error).rsplit("; ", 1)[-1].split(" [Op:")[0]


def restore(gan: GAN, folder: Path) -> int:
    """Restore the newest readable checkpoint and return its epoch, or 0 if there is none.

    Raises RuntimeError if it is of other networks, or none can be read; `gan` is then unchanged.
    """
    epochs = saved_epochs(folder)
    for epoch in epochs:
        with contextlib.chdir(folder):
            if _can_be_read(f"./epoch-{epoch}", folder):
                _restore_all(gan, f"./epoch-{epoch}", folder)
                return epoch
    if epochs:
        raise RuntimeError(
            f"No checkpoint in {folder} can be read. Bring the folder back from a backup, or name "
            "a new one in OUTPUT_DIR to train anew."
        )
    return 0


def _can_be_read(path: str, folder: Path) -> bool:
    """Read all of a checkpoint, which proves it whole; print why it cannot be read."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except Exception as error:  # TensorFlow's reader raises errors of many kinds
        reason = str(error).splitlines()[0][:200]
        print(f"Checkpoint {folder / path} cannot be read and is passed over: {reason}")
        return False
    return True


def _restore_all(gan: GAN, path: str, folder: Path) -> None:
    """Restore every variable, or none: RuntimeError if the checkpoint is of other networks."""
    before = [variable.numpy() for variable in gan.variables]
    try:
        gan.checkpoint.restore(path).assert_consumed()
    except (AssertionError, ValueError) as error:
        for variable, value in zip(gan.variables, before, strict=True):
            variable.assign(value)
        raise RuntimeError(
            f"The checkpoint in {folder} is of other networks: names or shapes of its variables "
            "differ. To train these networks, name a new folder in OUTPUT_DIR."
        ) from error


def _remove_unfinished(folder: Path) -> None:
    """Delete what TensorFlow leaves of a checkpoint whose writing was broken off."""
    for path in folder.glob("*_temp"):
        shutil.rmtree(path, ignore_errors=True)
