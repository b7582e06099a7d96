"""Train a variant in the terminal with the notebook's own cells: `make train`."""

import os

from command import NO, YES, Options, absolute, one_sentence
from notebook import run_cells, variants


def data_source(text: str) -> str:
    """Return the name of a data set as it is, and a path as seen from the reader's folder."""
    from dcgan.data import KNOWN

    return text if text in KNOWN else absolute(text)


@one_sentence("make train")
def main() -> None:
    """Read the options, run the notebook's training cells, then those that plot the results."""
    parser = Options("make train", description=__doc__)
    parser.add_argument("--variant", default="baseline", choices=variants())
    parser.add_argument("--data", type=data_source, help="cifar10, fashion_mnist, folder or .npz")
    parser.add_argument("--image-size", type=int, help="side of the pictures of a folder")
    parser.add_argument("--epochs", type=int, help="a total; the default is the notebook's")
    parser.add_argument("--output-dir", type=absolute, help="pictures, checkpoints and history")
    parser.add_argument("--backup-dir", type=absolute, help="a zip of the run is kept here")
    parser.add_argument("--fast", nargs="?", const="yes", default="no", choices=YES + NO)
    options = vars(parser.parse_args())
    variant = options.pop("variant")
    options["fast"] = options["fast"] in YES
    parameters = {name.upper(): value for name, value in options.items() if value is not None}
    tags = ("setup", "parameters", "data", "definitions", "instruments")
    tags += (f"variant:{variant}", f"train:{variant}")
    try:
        names = run_cells(*tags, **parameters)
    except Exception as error:
        if "TF_CONFIG" not in os.environ or "Collective" not in str(error):
            raise
        raise RuntimeError("a worker of the cluster is lost; start all workers again") from error
    if names["devices"].is_chief(names["strategy"]):
        run_cells(f"plots:{variant}", namespace=names)


if __name__ == "__main__":
    main()
