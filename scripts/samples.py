"""Generate images by a trained variant and write them as one .npz file: `make samples`."""

import json
import os
from pathlib import Path

import numpy as np
from command import Options, absolute, one_sentence
from notebook import ROOT, run_cells, variants

from dcgan.files import atomic_path
from dcgan.pixels import check_whole


def choose_file(text: str) -> Path:
    """Return where the samples go, with the suffix .npz, or raise ValueError."""
    path = Path(absolute(text))
    if path.is_dir():
        raise ValueError(f"OUT names a folder, {path}, where a file is needed")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"OUT: there is no folder {path.parent} that you may write to")
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def read_settings(output_dir: str | None, variant: str) -> dict:
    """Return the parameters that a run was trained with; none if they cannot be read."""
    file = Path(output_dir or ROOT, "training_checkpoints", variant, "settings.json")
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # missing or damaged, as the restoring will say
        return {}


@one_sentence("make samples")
def main() -> None:
    """Restore the variant with the notebook's own cells, sample, and write the arrays."""
    parser = Options("make samples", description=__doc__)
    parser.add_argument("--variant", default="baseline", choices=variants())
    parser.add_argument("--count", type=int, default=10_000, help="number of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--class", dest="class_name", help="generate this class only")
    parser.add_argument("--out", default="samples.npz")
    parser.add_argument("--output-dir", type=absolute, help="folder that holds the checkpoint")
    options = parser.parse_args()
    check_whole(N=(options.count, 1), SEED=(options.seed, 0))
    out = choose_file(options.out)

    parameters = read_settings(options.output_dir, options.variant)
    parameters |= {"FAST": False, "FROM_SCRATCH": False, "OUTPUT_DIR": options.output_dir or ""}
    tags = ("setup", "parameters", "definitions", f"variant:{options.variant}")
    names = run_cells(*tags, **parameters)
    gan, run = names[options.variant], names[f"{options.variant}_run"]
    noise, labels = names["draw_inputs"](options.count, options.seed)
    if options.class_name:
        classes = list(names["CIFAR10_CLASSES"])
        if not gan.conditional:
            raise ValueError(f"CLASS: {options.variant} knows no classes, try VARIANT=improved")
        if options.class_name not in classes:
            raise ValueError(f"CLASS is one of {', '.join(classes)}, not {options.class_name!r}")
        labels = np.full_like(labels, classes.index(options.class_name))
    if not run.restore(gan):
        raise RuntimeError(
            f"no checkpoint in {run.checkpoints}: train it with make train VARIANT={run.name}"
        )
    images = names["utils"].generate_images(gan.ema_generator, noise, labels)
    labels = labels.astype(np.int64) if gan.conditional else np.full(options.count, -1)
    with atomic_path(out) as temporary:
        np.savez(temporary, images=images, labels=labels)
    print(f"{options.count} images uint8 {images.shape[1:]} are in {out}")


if __name__ == "__main__":
    main()
