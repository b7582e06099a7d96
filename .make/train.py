"""Train a variant in the terminal with the notebook's own cells: `make train`."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from notebook import run_cells, variants


def draw_results(names: dict[str, Any], variant: str) -> None:
    """Draw the history plot and the GIF of the whole run."""
    utils, folders = names["utils"], names[f"{variant}_folders"]
    history = utils.load_history(folders.history)
    rules = names.get(f"{variant}_rules", names["PLAIN_RULES"])
    utils.draw_train_history(history, names["undecided_losses"](rules), folders.history_plot)
    utils.make_gif(folders.frames(record["epoch"] for record in history), folders.gif)
    print(f"plot and GIF: {folders.history_plot} and {folders.gif}")


def main() -> None:
    """Read the options, run the notebook's training cells, and end errors in one sentence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="baseline", choices=variants())
    parser.add_argument("--epochs", type=int, help="a total; the default is the notebook's")
    parser.add_argument("--output-dir", help="folder of pictures, checkpoints and history")
    parser.add_argument("--fast", action="store_true", help="a smoke run on a few hundred images")
    options = parser.parse_args()

    if options.fast:
        os.environ["DCGAN_FAST"] = "1"
    parameters = {}
    if options.epochs is not None:
        parameters["EPOCHS"] = options.epochs
    if options.output_dir:
        parameters["OUTPUT_DIR"] = str(Path(options.output_dir).resolve())

    os.chdir(Path(__file__).parent.parent)
    sys.path.insert(0, str(Path.cwd()))
    sys.stdout.reconfigure(line_buffering=True)
    try:
        tags = ("setup", "parameters", "data", "definitions")
        variant = (f"variant:{options.variant}", f"train:{options.variant}")
        names = run_cells(*tags, *variant, **parameters)
        if names["utils"].is_chief(names["strategy"]):
            draw_results(names, options.variant)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"make train: {error}")
    except Exception as error:
        if "TF_CONFIG" not in os.environ or "Collective" not in str(error):
            raise
        sys.exit("make train: a worker of the cluster is lost. Start all workers again to go on.")
    except KeyboardInterrupt as interrupt:
        sys.exit(f"make train: {str(interrupt) or 'stopped; all finished epochs are kept'}")


if __name__ == "__main__":
    main()
