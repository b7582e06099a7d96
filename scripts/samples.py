"""Generate images by a trained variant and write them as one .npz file: `make samples`."""

import numpy as np
from command import one_sentence
from trained import choose_out, restore, trained_options

from dcgan.files import atomic_path
from dcgan.pixels import check_whole


@one_sentence("make samples")
def main() -> None:
    """Restore the variant, sample, and write the arrays."""
    parser = trained_options("make samples", __doc__, out="samples.npz")
    parser.add_argument("--count", type=int, default=10_000, help="number of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--class", dest="class_name", help="generate this class only")
    options = parser.parse_args()
    check_whole(N=(options.count, 1), SEED=(options.seed, 0))
    out = choose_out(options.out)
    out = out if out.suffix == ".npz" else choose_out(f"{out}.npz")

    gan, names = restore(options.variant, options.output_dir)
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
    if options.variant == "improved":
        noise *= names["TRUNCATION"]
    images = names["utils"].generate_images(gan.ema_generator, noise, labels)
    labels = labels.astype(np.int64) if labelled else np.full(options.count, -1)
    with atomic_path(out) as temporary:
        np.savez(temporary, images=images, labels=labels)
    print(f"{options.count} images uint8 {images.shape[1:]} are in {out}")


if __name__ == "__main__":
    main()
