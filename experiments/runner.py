"""Train and score one idea: `make experiment NAME=vae_gan`.

An experiment is a file that defines `build(lesson, **options) -> (gan, train_step)`: `lesson` has
all that the notebook's cells define, and `train_step` keeps to the notebook's contract. It may also
define

- `ROWS`: options by title, one for each row of the table; those in capitals are parameters of the
  notebook. `minutes` are a budget in place of epochs: steps are timed, and rates fall within it.
- `PARAMETERS` of the notebook for all rows, in place of `BUDGET`. Experiments under the common
  budget share one table and one picture, "ideas".
- `show(lesson, gan, count) -> {name: images}`: images to show below the samples.
- `draw(rows, path)`: draws a figure of all rows.

Finished rows are kept, and a row that was broken off goes on from its checkpoint. The independent
judge scores the rows last.
"""

import importlib
import json
import re
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import judge
import numpy as np
from command import NO, YES, Options, one_sentence, write_table
from notebook import ROOT, run_cells

HERE = Path(__file__).parent
TAGS = ("setup", "parameters", "data", "definitions", "variant:baseline", "variant:improved")
# What an idea may spend: ten epochs, and learning rates that fall within them.
BUDGET = {"EPOCHS": 10, "G_HALF_LIFE": 10, "D_HALF_LIFE": 4}
PARTS, TIMED_STEPS = 15, 64  # where a budget is minutes: epochs, and steps that are timed first
SHOWN = 10  # samples of each row, the first ones of a fixed seed
Row = dict[str, Any]


def file_name(title: str) -> str:
    """Turn a title into the name of a run or file."""
    return re.sub(r"\W+", "_", title).strip("_")


def evaluate(lesson: SimpleNamespace, images: np.ndarray, intended: np.ndarray | None) -> Row:
    """Return scores of images by the notebook's classifier."""
    metrics, predictions = lesson.metrics, lesson.classifier.predict(images)
    statistics = metrics.feature_statistics(predictions.features)
    return {
        "distance": metrics.frechet_distance(statistics, lesson.classifier.reference),
        "pixels": metrics.pixel_frechet_distance(images, lesson.x_train),
    } | metrics.classifier_scores(predictions.probabilities, intended)


def fit_minutes(experiment: ModuleType, minutes: float, choices: Row, parameters: Row) -> Row:
    """Time a row's training step; return steps an epoch and rates that fill so many minutes."""
    lesson = SimpleNamespace(**run_cells(*TAGS, **parameters))
    gan, train_step = experiment.build(lesson, **choices)
    step = lesson.compile_step(train_step, gan, lesson.LATENT_DIM, lesson.SEED)
    batch = next(iter(lesson.make_dataset(lesson.x_train, lesson.y_train, 1)))
    for number in range(5 + TIMED_STEPS):
        if number == 5:  # the first ones are slow
            start = time.perf_counter()
        step(*batch)
    steps = 60 * minutes * TIMED_STEPS / (time.perf_counter() - start)
    epochs = steps / (lesson.TRAIN_IMAGES // lesson.BATCH_SIZE)
    rates = {"G_HALF_LIFE": epochs, "D_HALF_LIFE": 0.4 * epochs}
    return {"steps": max(1, round(steps / PARTS)), "EPOCHS": PARTS} | rates


def set_steps(lesson: SimpleNamespace, steps: int) -> None:
    """Let each of the notebook's epochs have so many steps."""
    whole = lesson.make_dataset
    # The notebook's loop looks the function up in the notebook's own namespace.
    lesson.train.__globals__["make_dataset"] = lambda *given: whole(*given).repeat().take(steps)


def train_row(
    experiment: ModuleType, title: str, options: Row, folder: Path, strips: Path, fast: bool
) -> Row:
    """Train one row; return its scores, history and pictures.

    Its run and its samples are kept in a folder, a strip of samples among the `strips`.
    """
    name = file_name(title)
    parameters = dict(getattr(experiment, "PARAMETERS", BUDGET)) | {"FAST": fast}
    parameters |= {key: value for key, value in options.items() if key.isupper()}
    choices = {key: value for key, value in options.items() if not key.isupper()}
    minutes, steps = choices.pop("minutes", None), None
    settings = folder / "training_checkpoints" / name / "settings.json"
    if fast:
        parameters["EPOCHS"] = 1
    elif minutes:
        if settings.exists():  # a row that was broken off goes on with its budget
            budget = json.loads(settings.read_text(encoding="utf-8"))
        else:
            budget = fit_minutes(experiment, minutes, choices, parameters)
        steps = budget["steps"]
        parameters |= {key: budget[key] for key in BUDGET}
    lesson = SimpleNamespace(**run_cells(*TAGS, **parameters))
    if steps:
        set_steps(lesson, steps)

    lesson.keras.utils.set_random_seed(lesson.SEED)
    gan, train_step = experiment.build(lesson, **choices)
    kept = lesson.settings() | parameters | choices | {"steps": steps}
    run = lesson.utils.Run(folder, name, kept)
    step = lesson.compile_step(train_step, gan, lesson.LATENT_DIM, lesson.SEED)
    history = lesson.train(gan, run, step, lesson.x_train, lesson.y_train, lesson.EPOCHS)

    noise, labels = lesson.draw_inputs(256 if fast else 10_000, lesson.SEED + 3)
    images = lesson.utils.generate_images(gan.ema_generator, noise, labels)
    labels = labels.astype(np.int64) if gan.conditional else np.full(len(labels), -1)
    np.savez(folder / f"{name}.npz", images=images, labels=labels)
    pictures = {title: images[:SHOWN]}
    if hasattr(experiment, "show"):
        pictures |= experiment.show(lesson, gan, SHOWN)
    for caption, shown in pictures.items():
        strip = lesson.utils.image_grid(shown, SHOWN, scale=1, gap=0)
        lesson.utils.save_png(strip, strips / f"{file_name(caption)}.png")
    scores = evaluate(lesson, images, labels if gan.conditional else None)
    minutes = sum(record["seconds"] for record in history) / 60
    return scores | {"minutes": minutes, "pictures": [*pictures], "history": history}


def load_rows(file: Path) -> dict[str, Row]:
    """Read the rows of a table by title; there may be none yet."""
    return json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else {}


def save_rows(file: Path, rows: dict[str, Row]) -> None:
    """Add rows to a table, or scores to its rows; another process may have added some, too."""
    from dcgan import files

    known = load_rows(file)
    known |= {title: known.get(title, {}) | row for title, row in rows.items()}
    with files.atomic_path(file) as temporary:
        temporary.write_text(json.dumps({"rows": known}, indent=1) + "\n", encoding="utf-8")


def judge_rows(file: Path, folder: Path) -> None:
    """Let the independent judge score those rows of a table that have samples, but no score."""
    samples = {
        title: folder / f"{file_name(title)}.npz"
        for title, row in load_rows(file).items()
        if "frechet" not in row
    }
    read = [(title, *judge.read_samples(path)) for title, path in samples.items() if path.exists()]
    if read:
        scores = judge.judge(read)
        save_rows(file, {title: scores[title] for title, *_ in read})


def draw_strips(rows: dict[str, Row], strips: Path) -> None:
    """Draw the strips of all rows, their names at the left, as one picture beside their folder."""
    import dcgan_utils as utils

    names = [name for row in rows.values() for name in row.get("pictures", ())]
    pictures = [utils.read_picture(strips / f"{file_name(name)}.png") for name in names]
    if pictures:
        images = np.concatenate([np.split(picture, SHOWN, axis=1) for picture in pictures])
        utils.draw_class_rows(images, names, strips.with_suffix(".png"))


def run_experiment(name: str, fast: bool = False) -> tuple[str, str]:
    """Train and score the rows that are missing; return the table's name, and it in Markdown.

    A `fast` try takes one epoch of 256 images a row, in a new folder below runs/fast/, and no
    independent judge. Raises ValueError if there is no experiment of this name.
    """
    names = sorted(path.stem for path in HERE.glob("*.py") if path != Path(__file__))
    if name not in names:
        raise ValueError(f"NAME is one of {', '.join(names)}, not {name!r}")
    experiment = importlib.import_module(name)
    import dcgan_utils as utils
    from dcgan import files
    from dcgan.quiet import tf

    tf.get_logger().setLevel("ERROR")  # or it takes the rows for one function, compiled too often
    base, folder = ROOT, ROOT / "runs" / "experiments" / name
    if fast:
        base = folder = files.next_free_folder(ROOT / "runs" / "fast", name)
    table = name if hasattr(experiment, "PARAMETERS") else "ideas"
    file, strips = base / "training_history" / f"{table}.json", base / "generated_samples" / table
    for title, options in getattr(experiment, "ROWS", {name: {}}).items():
        if title not in load_rows(file):
            print(f"\n{title}")
            row = train_row(experiment, title, options, folder, strips, fast)
            save_rows(file, {title: row})
    if not fast:
        judge_rows(file, folder)
    rows = load_rows(file)
    draw_strips(rows, strips)
    if hasattr(experiment, "draw"):
        experiment.draw(rows, file.with_suffix(".png"))
    return table, utils.format_scores(rows)


@one_sentence("make experiment")
def main() -> None:
    """Run the experiment of a name, print its table, and write it into this folder's README."""
    parser = Options("make experiment", description=__doc__)
    parser.add_argument("--name", default="")
    parser.add_argument("--fast", nargs="?", const="yes", default="no", choices=YES + NO)
    options = parser.parse_args()
    name, table = run_experiment(options.name, options.fast in YES)
    print(f"\n{table}")
    if options.fast in NO:
        write_table(HERE / "README.md", name, table)


if __name__ == "__main__":
    main()
