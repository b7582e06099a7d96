"""Train and score one idea: `make experiment NAME=ablation`.

An experiment is a file that defines `build(lesson, **options) -> (gan, train_step)`: `lesson` has
all that the notebook's cells define, and `train_step` keeps to the notebook's contract. `ROWS` are
options by title, one for each row of its table; those in capitals are parameters of the notebook.
`PARAMETERS` of the notebook hold for all rows, in place of `BUDGET`.

Finished rows are kept, a row that was broken off goes on from its checkpoint, and samples are kept
for the independent judge: `make judge SAMPLES=runs/experiments/NAME/ROW.npz`.
"""

import importlib
import json
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from command import NO, YES, Options, one_sentence, write_table
from notebook import ROOT, run_cells

HERE = Path(__file__).parent
TAGS = ("setup", "parameters", "data", "definitions", "variant:baseline", "variant:improved")
# What an idea may spend: six epochs, and learning rates that fall within them.
BUDGET = {"EPOCHS": 6, "G_HALF_LIFE": 6, "D_HALF_LIFE": 2.4}
Row = dict[str, Any]


def evaluate(lesson: SimpleNamespace, images: np.ndarray, intended: np.ndarray | None) -> Row:
    """Return scores of images by the notebook's classifier."""
    metrics, predictions = lesson.metrics, lesson.classifier.predict(images)
    statistics = metrics.feature_statistics(predictions.features)
    pixels = [metrics.pixel_statistics(each) for each in (images, lesson.x_train)]
    return {
        "distance": metrics.frechet_distance(statistics, lesson.classifier.reference),
        "pixels": metrics.frechet_distance(*pixels),
    } | metrics.classifier_scores(predictions.probabilities, intended)


def train_row(experiment: ModuleType, title: str, options: Row, folder: Path, fast: bool) -> Row:
    """Train one row in a folder, keep its samples there, and return its scores and history."""
    parameters = dict(getattr(experiment, "PARAMETERS", BUDGET))
    parameters |= {name: value for name, value in options.items() if name.isupper()}
    parameters |= {"FAST": True, "EPOCHS": 1} if fast else {"FAST": False}
    lesson = SimpleNamespace(**run_cells(*TAGS, **parameters))

    lesson.keras.utils.set_random_seed(lesson.SEED)
    choices = {name: value for name, value in options.items() if not name.isupper()}
    gan, train_step = experiment.build(lesson, **choices)
    name = re.sub(r"\W+", "_", title).strip("_")
    run = lesson.utils.Run(folder, name, lesson.settings() | options)
    step = lesson.compile_step(train_step, gan, lesson.LATENT_DIM, lesson.SEED)
    history = lesson.train(gan, run, step, lesson.x_train, lesson.y_train, lesson.EPOCHS)

    noise, labels = lesson.draw_inputs(256 if fast else 10_000, lesson.SEED + 3)
    images = lesson.utils.generate_images(gan.ema_generator, noise, labels)
    labels = labels.astype(np.int64) if gan.conditional else np.full(len(labels), -1)
    np.savez(folder / f"{name}.npz", images=images, labels=labels)
    scores = evaluate(lesson, images, labels if gan.conditional else None)
    return {"seconds": sum(record["seconds"] for record in history)} | scores | {"history": history}


def run_experiment(name: str, fast: bool = False) -> str:
    """Train and score the rows that are missing; return the table in Markdown.

    A `fast` try takes one epoch of 256 images a row, in a new folder below runs/fast/. Raises
    ValueError if there is no experiment of this name.
    """
    names = sorted(p.stem for p in HERE.glob("*.py") if "\ndef build(" in p.read_text("utf-8"))
    if name not in names:
        raise ValueError(f"NAME is one of {', '.join(names)}, not {name!r}")
    experiment = importlib.import_module(name)
    import dcgan_utils as utils
    from dcgan import files

    folder = ROOT / "runs" / "experiments" / name
    file = ROOT / "training_history" / f"{name}.json"
    if fast:
        folder = files.next_free_folder(ROOT / "runs" / "fast", name)
        file = folder / "results.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"rows": {}}
    for title, options in getattr(experiment, "ROWS", {name: {}}).items():
        if title not in results["rows"]:
            print(f"\n{title}")
            results["rows"][title] = train_row(experiment, title, options, folder, fast)
            with files.atomic_path(file) as temporary:
                temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return utils.format_scores(results["rows"])


@one_sentence("make experiment")
def main() -> None:
    """Run the experiment of a name, print its table, and write it into this folder's README."""
    parser = Options("make experiment", description=__doc__)
    parser.add_argument("--name", default="")
    parser.add_argument("--fast", nargs="?", const="yes", default="no", choices=YES + NO)
    options = parser.parse_args()
    table = run_experiment(options.name, options.fast in YES)
    print(f"\n{table}")
    if options.fast in NO:
        write_table(HERE / "README.md", options.name, table)


if __name__ == "__main__":
    main()
