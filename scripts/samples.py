"""Generate images by a trained variant and write them as one .npz file: `make samples`."""

import os
from pathlib import Path

import numpy as np
from command import Options, absolute, one_sentence
from notebook import read_settings, run_cells, variants

from dcgan.dataset import without_images
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

    names = run_cells("setup", "parameters", FAST=False, OUTPUT_DIR=options.output_dir or "")
    names.update(read_settings(options.output_dir, options.variant))
    described = (names[name] for name in ("DATA", "IMAGE_SHAPE", "CLASS_NAMES"))
    names["data"] = without_images(*described)  # they may be gone, and are not needed
    run_cells("definitions", f"variant:{options.variant}", namespace=names)
    gan, run = names[options.variant], names[f"{options.variant}_run"]
    labelled = gan.conditional and names["data"].labelled
    noise, labels = names["draw_inputs"](options.count, options.seed)
    if options.class_name:
        classes = list(names["CLASS_NAMES"])
        if not labelled:
            reason = "its data have no labels" if gan.conditional else "try VARIANT=improved"
            raise ValueError(f"CLASS: {options.variant} knows no classes: {reason}")
        if options.class_name not in classes:
            raise ValueError(f"CLASS is one of {', '.join(classes)}, not {options.class_name!r}")
        labels = np.full_like(labels, classes.index(options.class_name))
    if not run.restore(gan):
        raise RuntimeError(
            f"no checkpoint in {run.checkpoints}: train it with make train VARIANT={run.name}"
        )
    images = names["utils"].generate_images(gan.ema_generator, noise, labels)
    labels = labels.astype(np.int64) if labelled else np.full(options.count, -1)
    with atomic_path(out) as temporary:
        np.savez(temporary, images=images, labels=labels)
    print(f"{options.count} images uint8 {images.shape[1:]} are in {out}")


if __name__ == "__main__":
    main()
