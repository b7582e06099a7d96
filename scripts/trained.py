"""What the commands that use a trained variant share: options, where they write, the variant."""

import os
from pathlib import Path
from typing import Any

from command import Options, absolute
from notebook import ROOT, SHIPPED, run_cells, variants

from dcgan import files
from dcgan.dataset import without_images


def trained_options(command: str, description: str, out: str) -> Options:
    """Return options for the variant, its folder, and the file to write."""
    parser = Options(command, description=description)
    parser.add_argument("--variant", default="baseline", choices=variants())
    parser.add_argument("--out", default=out)
    parser.add_argument("--output-dir", type=absolute, help="folder that holds the checkpoint")
    return parser


def choose_out(text: str) -> Path:
    """Return where to write as an absolute path, or raise ValueError."""
    path = Path(absolute(text))
    if path.is_dir():
        raise ValueError(f"OUT names a folder that exists, {path}: choose another name")
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise ValueError(f"OUT: there is no folder {path.parent} that you may write to")
    return path


def run_settings(output_dir: str | Path | None, variant: str) -> dict[str, Any]:
    """Return the parameters that a run was trained with, none if their file is missing.

    Raises RuntimeError if it is damaged.
    """
    file = Path(output_dir or ROOT, "training_checkpoints", variant, "settings.json")
    return files.read_settings(file) or {}


def restore(variant: str, output_dir: str | None) -> tuple[Any, dict[str, Any]]:
    """Restore a variant with the notebook's own cells; return its GAN and what they define.

    The parameters are those that it was trained with; its data are not needed, and may be gone.
    Raises RuntimeError if there is no checkpoint, or its settings are damaged.
    """
    names = run_cells("setup", "parameters", **SHIPPED | {"OUTPUT_DIR": output_dir or ""})
    names |= run_settings(output_dir, variant)
    try:
        names["check_settings"](names | {"DATA": "cifar10"})  # its own may be gone
        class_names = map(str, names["CLASS_NAMES"])
        names["data"] = data = without_images(str(names["DATA"]), names["IMAGE_SHAPE"], class_names)
    except (TypeError, ValueError) as error:
        raise RuntimeError(
            f"settings.json of {variant} is damaged ({error}); bring it back."
        ) from error
    names |= {"IMAGE_SHAPE": data.image_shape, "CLASS_NAMES": data.class_names}
    run_cells("definitions", f"variant:{variant}", namespace=names)
    gan, run = names[variant], names[f"{variant}_run"]
    if not run.restore(gan):
        raise RuntimeError(
            f"no checkpoint in {run.checkpoints}: train it with make train VARIANT={variant}"
        )
    return gan, names
