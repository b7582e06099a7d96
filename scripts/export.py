"""Write a trained generator as a file that needs nothing of this project: `make export`."""

from command import NO, YES, one_sentence
from trained import choose_out, restore, trained_options

from dcgan.export import check_format, export_generator


@one_sentence("make export")
def main() -> None:
    """Restore the variant, write its EMA generator, and say what it takes and gives."""
    parser = trained_options("make export", __doc__, out="generator.keras")
    parser.add_argument("--uint8", nargs="?", const="yes", default="no", choices=YES + NO)
    options = parser.parse_args()
    out = choose_out(options.out)
    check_format(out)
    if not out.suffix and out.exists():
        raise ValueError(
            f"OUT names a file, {out}, where a SavedModel is a folder: choose another name"
        )

    gan, names = restore(options.variant, options.output_dir)
    model = export_generator(gan.ema_generator, out, options.uint8 in YES)
    inputs = " and ".join(f"{x.name} {x.dtype} {x.shape}" for x in model.inputs)
    print(f"{out} turns {inputs} into images {model.output.dtype} {model.output.shape}")
    if gan.conditional:
        print(", ".join(f"{label} {name}" for label, name in enumerate(names["CLASS_NAMES"])))


if __name__ == "__main__":
    main()
