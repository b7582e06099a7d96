"""Train and score one idea: `make experiment NAME=vae_gan`, or all of them: `NAME=ideas`.

An experiment is a file that defines `build(lesson, **options) -> (gan, train_step)`: `lesson` has
all that the notebook's cells define, and `train_step` keeps to the notebook's contract. It may also
define

- `ROWS`: options by title, one for each row of the table; those in capitals are parameters of the
  notebook, but not DATA: the judge compares with CIFAR-10. `minutes` are a budget in place of
  epochs: steps are timed, and as many epochs are trained as fit, but at least one; the table says
  how many minutes they took.
- `PARAMETERS` of the notebook for all rows, in place of `BUDGET`. Experiments under the common
  budget share one table and one picture, "ideas", so no two of them may have a title in common.
- `show(lesson, gan, count) -> {name: images}`: images to show below the samples.
- `draw(rows, path)`: draws a figure of all rows.

Each row is scored, by the independent judge too, before the next one begins; table and strips of
samples are written, and the table goes into the README. A row that was broken off goes on with the
same command, from its checkpoint. A finished one is kept: to train it anew, delete it in
training_history/ and its run in runs/experiments/.
"""

import contextlib
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
from notebook import ROOT, SHIPPED, run_cells
from trained import run_settings

import dcgan_utils as utils
from dcgan import files
from dcgan.quiet import tf

HERE = Path(__file__).parent
TAGS = ("setup", "parameters", "data", "definitions", "instruments", "variant:improved")
# What an idea may spend: ten epochs, and learning rates that fall within them. The precision is
# that of every row of the table, whatever the machine computes with.
BUDGET = {"EPOCHS": 10, "G_HALF_LIFE": 10, "D_HALF_LIFE": 4, "PRECISION": "float32"}
TIMED_STEPS = 64  # where a budget is minutes
SHOWN = 10  # samples of each row, the first ones of a fixed seed
Row = dict[str, Any]


def file_name(title: str) -> str:
    """Turn a title into the name of a run or file."""
    return re.sub(r"\W+", "_", title).strip("_")


def evaluate(lesson: SimpleNamespace, images: np.ndarray) -> Row:
    """Return scores of images by the notebook's classifier; their classes are left to the judge."""
    metrics, predictions = lesson.metrics, lesson.classifier.predict(images)
    statistics = metrics.feature_statistics(predictions.features)
    pixels = [metrics.pixel_statistics(each) for each in (images, lesson.x_train)]
    return {
        "distance": metrics.frechet_distance(statistics, lesson.classifier.reference),
        "pixels": metrics.frechet_distance(*pixels),
    } | metrics.classifier_scores(predictions.probabilities)


def fit_minutes(experiment: ModuleType, minutes: int, choices: Row, parameters: Row) -> Row:
    """Time a row's training step; return as many epochs as fit, and rates that fall within them."""
    lesson = SimpleNamespace(**run_cells(*TAGS, **SHIPPED | parameters))
    gan, train_step = experiment.build(lesson, **choices)
    step = lesson.compile_step(train_step, gan, lesson.LATENT_DIM, lesson.SEED)
    batch = next(iter(lesson.make_dataset(lesson.x_train, lesson.y_train, 1)))
    for number in range(5 + TIMED_STEPS):
        if number == 5:  # the first ones are slow
            start = time.perf_counter()
        float(step(*batch)["g_loss"])  # waits for a GPU
    seconds = (time.perf_counter() - start) / TIMED_STEPS
    steps = lesson.TRAIN_IMAGES // lesson.BATCH_SIZE
    epochs = max(1, int(60 * minutes / (seconds * steps)))
    return {"EPOCHS": epochs, "G_HALF_LIFE": epochs, "D_HALF_LIFE": 0.4 * epochs}


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
    minutes = choices.pop("minutes", None)
    if fast:
        parameters["EPOCHS"] = 1
    elif minutes:
        budget = run_settings(folder, name)  # a row that was broken off goes on with its own
        budget = budget or fit_minutes(experiment, minutes, choices, parameters)
        parameters |= {key: budget[key] for key in ("EPOCHS", "G_HALF_LIFE", "D_HALF_LIFE")}
    lesson = SimpleNamespace(**run_cells(*TAGS, **SHIPPED | parameters))

    lesson.keras.utils.set_random_seed(lesson.SEED)
    gan, train_step = experiment.build(lesson, **choices)
    kept = lesson.settings() | parameters | choices | ({"minutes": minutes} if minutes else {})
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
    scores = evaluate(lesson, images)
    if minutes:  # of median epochs: other work may have slowed some down, and compiling the first
        seconds = float(np.median([record["seconds"] for record in history[1:] or history]))
        scores["minutes"] = len(history) * seconds / 60
    return scores | {"pictures": [*pictures], "history": history}


def load_rows(file: Path) -> dict[str, Row]:
    """Read the rows of a table by title; there may be none yet. RuntimeError if it is damaged."""
    if not file.exists():
        return {}
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return {title: dict(row) for title, row in rows.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RuntimeError(
            f"{file} is damaged: move it away, or restore it with git checkout"
        ) from error


def save_rows(file: Path, rows: dict[str, Row]) -> None:
    """Add rows to a table, or scores to its rows.

    It is read again first, for another process may have added some during a training. Nothing is
    locked: of two processes that write at the same moment, one may lose its rows.
    """
    known = load_rows(file)
    known |= {title: known.get(title, {}) | row for title, row in rows.items()}
    with files.atomic_path(file) as temporary:
        temporary.write_text(json.dumps({"rows": known}, indent=1) + "\n", encoding="utf-8")


def judge_rows(file: Path, folder: Path) -> None:
    """Let the independent judge score those rows of a table that have samples, but no score.

    Where it fails, a sentence says so: hours of training may be still to come.
    """
    samples = {
        title: folder / f"{file_name(title)}.npz"
        for title, row in load_rows(file).items()
        if "frechet" not in row
    }
    try:
        read = [
            (title, *judge.read_samples(path)) for title, path in samples.items() if path.exists()
        ]
        scores = judge.judge(judge.load_data("cifar10"), read) if read else {}
        save_rows(file, {title: scores[title] for title, *_ in read})
    except (OSError, RuntimeError, ValueError) as error:
        print(f"not judged yet: {error}")


def draw_strips(rows: dict[str, Row], strips: Path) -> None:
    """Draw the strips of all rows, their names at the left, as one picture beside their folder."""
    named = {
        name: strips / f"{file_name(name)}.png"
        for row in rows.values()
        for name in row.get("pictures", ())
    }
    pictures = {name: utils.read_picture(path) for name, path in named.items() if path.exists()}
    if pictures:
        images = np.concatenate([np.split(each, SHOWN, axis=1) for each in pictures.values()])
        utils.draw_rows(images, [*pictures], strips.with_suffix(".png"))


def write_results(experiment: ModuleType, file: Path, strips: Path) -> str:
    """Draw the pictures of a table, and return it in Markdown with links to them."""
    rows, plot = load_rows(file), file.with_suffix(".png")
    draw_strips(rows, strips)
    if hasattr(experiment, "draw"):
        experiment.draw(rows, plot)
    links = {
        f"The first {SHOWN} samples of each row": strips.with_suffix(".png"),
        "All rows as a figure": plot,
    }
    shown = [f"![{alt}](../{p.parent.name}/{p.name})" for alt, p in links.items() if p.exists()]
    return "\n\n".join([utils.format_scores(rows), *shown])


def experiments() -> dict[str, list[str]]:
    """Return the files that each name stands for: its own, or all ideas."""
    texts = {path.stem: path.read_text("utf-8") for path in sorted(HERE.glob("*.py"))}
    files = [name for name, text in texts.items() if "\ndef build(" in text]
    ideas = [name for name in files if not re.search(r"^PARAMETERS\b", texts[name], re.M)]
    return {name: [name] for name in files} | {"ideas": ideas}


def find_rows(name: str) -> dict[str, Row]:
    """Return the options of an experiment's rows by title."""
    return getattr(importlib.import_module(name), "ROWS", {name: {}})


def check_rows(name: str, rows: dict[str, Row], others: list[str]) -> None:
    """Raise ValueError for no rows, other data, or titles that cannot be told apart."""
    if not rows:
        raise ValueError(f"ROWS of {name}.py is empty: add a row, or remove ROWS")
    if len({file_name(title) for title in rows} - {""}) < len(rows):
        raise ValueError(f"titles of {name}.py name files: let them differ in letters or digits")
    shared = getattr(importlib.import_module(name), "PARAMETERS", {})
    if any("DATA" in options for options in (shared, *rows.values())):
        raise ValueError(f"{name}.py sets DATA, but experiments are judged by CIFAR-10")
    for other in others:
        taken = []
        with contextlib.suppress(Exception):  # a file that cannot be imported trains nothing
            taken = [*find_rows(other)]
        taken = {file_name(title) for title in taken}
        if shared := " and ".join(title for title in rows if file_name(title) in taken):
            raise ValueError(
                f"{name}.py has a row {shared}, as has {other}.py: choose another title in ROWS"
            )


def run_experiment(name: str, fast: bool = False) -> str:
    """Train and score the rows that are missing, and write the results; return them in Markdown.

    A `fast` try takes one epoch of 256 images a row, in a new folder below runs/fast/, without the
    independent judge and the README. Raises ValueError for rows that `check_rows` refuses, and
    RuntimeError, once all others are trained, for rows that fail: their losses may be infinite.
    """
    experiment = importlib.import_module(name)
    tf.get_logger().setLevel("ERROR")  # or it takes the rows for one function, compiled too often
    base, folder = ROOT, ROOT / "runs" / "experiments" / name
    if fast:
        base = folder = files.next_free_folder(ROOT / "runs" / "fast", name)
    rows, ideas = find_rows(name), experiments()["ideas"]
    table = "ideas" if name in ideas else name
    check_rows(name, rows, [other for other in ideas if table == "ideas" and other != name])
    file, strips = base / "training_history" / f"{table}.json", base / "generated_samples" / table
    results, failed = "", []
    for title, options in rows.items():
        if title in load_rows(file):
            print(f"\n{title}: trained already; to do it anew, delete its row in {file}")
            print(f"and, where it was trained here, its run in {folder}")
        else:
            print(f"\n{title}")
            try:
                row = train_row(experiment, title, options, folder, strips, fast)
            except RuntimeError as error:
                print(error)
                failed.append(title)
                continue
            save_rows(file, {title: row})
        if not fast:
            judge_rows(file, folder)
        results = write_results(experiment, file, strips)
        if not fast:
            write_table(ROOT / "experiments" / "README.md", table, results)
    if failed:
        raise RuntimeError(f"not trained, for the reasons above: {', '.join(failed)}")
    return results


@one_sentence("make experiment")
def main() -> None:
    """Run the experiments of a name, print their results, and write them into the README."""
    parser = Options("make experiment", description=__doc__)
    parser.add_argument("--name", default="")
    parser.add_argument("--fast", nargs="?", const="yes", default="no", choices=YES + NO)
    options = parser.parse_args()
    known = experiments()
    if options.name not in known:
        raise ValueError(f"NAME is one of {', '.join(known)}, not {options.name!r}")
    failed = []
    for name in known[options.name]:
        try:
            print(f"\n{run_experiment(name, options.fast in YES)}")
        except RuntimeError as error:
            failed.append(str(error))
    if failed:
        raise RuntimeError("; ".join(dict.fromkeys(failed)))


if __name__ == "__main__":
    main()
