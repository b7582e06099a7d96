"""Draw images from a trained variant and write them as one .npz file: `make samples`."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from notebook import run_cells, variants


def main() -> None:
    """Restore the variant with the notebook's own cells, sample, and write the arrays."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="baseline", choices=variants())
    parser.add_argument("--count", type=int, default=10_000, help="number of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="samples.npz")
    parser.add_argument("--output-dir", help="folder that holds the variant's checkpoint")
    options = parser.parse_args()
    if options.count < 1:
        parser.error(f"--count must be at least 1, got {options.count}")

    out = Path(options.out).resolve()
    parameters = {}
    if options.output_dir:
        parameters["OUTPUT_DIR"] = str(Path(options.output_dir).resolve())
    os.chdir(Path(__file__).parent.parent)
    sys.path.insert(0, str(Path.cwd()))

    try:
        tags = ("setup", "parameters", "definitions", f"variant:{options.variant}")
        names = run_cells(*tags, **parameters)
        utils, run = names["utils"], names[options.variant]
        folders = names[f"{options.variant}_folders"]
        if utils.restore_latest(utils.make_checkpoint_manager(run, folders)) is None:
            raise RuntimeError(f"no checkpoint in {folders.checkpoints}: train it with make train")
        noise, classes = names["draw_inputs"](options.count, options.seed)
        images = utils.generate_images(run.sampler, noise, classes)
        no_class = np.full_like(classes, -1, np.int64)
        labels = classes.astype(np.int64) if utils.takes_labels(run.sampler) else no_class
        with utils.atomic_path(out) as temporary:
            np.savez(temporary, images=images, labels=labels)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"make samples: {error}")
    print(f"{options.count} images uint8 {images.shape[1:]} are in {out}")


if __name__ == "__main__":
    main()
