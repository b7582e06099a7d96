"""Score generated images by a network that shares nothing with the project's own: `make judge`.

samples.py generates images by each trained variant, judge_features.py, in an environment of its
own, turns them into features, and these are compared with those of the training images.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from command import Options, absolute, one_sentence, write_table
from notebook import ROOT, variants
from trained import run_settings

from dcgan import metrics
from dcgan.data import cache_path
from dcgan.dataset import DataSet, load_data
from dcgan.files import atomic_path, read_arrays, require_folder

COUNT = 10_000  # of images in each row: a Fréchet distance depends on it
SCRIPTS = Path(__file__).parent
EXTRACTOR = SCRIPTS / "judge_features.py"
PACKAGES = (SCRIPTS / "judge_requirements.txt").read_text().split()
SETUP = {
    "features": ["EfficientNet-Lite2, trained on ImageNet", *PACKAGES],
    "samples": COUNT,
}
COLUMNS = ("frechet", "kid", "intended")  # of the table
Row = dict[str, Any]


def run_script(*command: str | Path) -> None:
    """Run a script that says itself what goes wrong."""
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise RuntimeError(f"{Path(command[1]).name} failed, for the reason printed above")


def find_runs(folder: Path, wanted: list[str]) -> list[str]:
    """Return the wanted variants that were trained in a folder; ValueError if there is none."""
    checkpoints = folder / "training_checkpoints"
    found = [name for name in wanted if any((checkpoints / name).glob("epoch-[1-9]*.index"))]
    if not found:
        raise ValueError(f"no checkpoint of {' or '.join(wanted)} in {checkpoints}: make train")
    return found


def data_options(output_dir: str | None, variant: str) -> tuple[Any, ...]:
    """Return what loads the images that a run was trained on; of CIFAR-10 always all."""
    settings = run_settings(output_dir, variant)
    try:
        source, (side, *_) = str(settings["DATA"]), settings["IMAGE_SHAPE"]
        numbers = int(side), int(settings["TRAIN_IMAGES"]), 1, int(settings["SEED"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"settings.json of {variant} does not tell the images that it saw: bring the file back"
        ) from error
    return (source,) if source == "cifar10" else (source, *numbers)


def load_run_data(output_dir: str | None, names: list[str]) -> DataSet:
    """Load the images that runs were trained on; ValueError unless these are the same ones."""
    first, *rest = [data_options(output_dir, name) for name in names]
    if any(options != first for options in rest):
        choices = " or ".join(f"VARIANT={name}" for name in names)
        raise ValueError(f"{' and '.join(names)} were trained on different images: add {choices}")
    data = load_data(*first)
    known = {name: run_settings(output_dir, name).get("IMAGES_SHA256") for name in names}
    others = [name for name, sha256 in known.items() if sha256 not in ("", None, data.sha256)]
    if others and data.source != "cifar10":  # of which a run may see a part only
        raise ValueError(
            f"{data.source} holds other images or labels than {' and '.join(others)} saw: bring "
            "those back, or name another VARIANT"
        )
    return data


def draw_samples(variant: str, output_dir: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Let samples.py generate images uint8 and labels, -1 where the variant has no classes."""
    print(f"Generating {COUNT:,} images of {variant}, which takes up to a minute …")
    with tempfile.TemporaryDirectory(prefix="judge_") as folder:
        out = Path(folder, "samples.npz")
        options = f"--variant={variant}", f"--count={COUNT}", f"--output-dir={output_dir or ''}"
        run_script(sys.executable, SCRIPTS / "samples.py", *options, f"--out={out}")
        return read_samples(out)


def read_samples(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read images and labels as `make samples` writes them, or raise ValueError."""
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    images, labels = (arrays.get(name, np.empty(0)) for name in ("images", "labels"))
    pictures = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] in (1, 3)
    places = labels.dtype.kind in "iu" and labels.shape[1:] in ((), (1,))  # Keras' are (N, 1)
    if not (pictures and places and len(images) == labels.size == COUNT):
        found = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
        raise ValueError(
            f"{path} needs {COUNT:,} images uint8 (N, height, width, 1 or 3) and integer labels as "
            f"make samples writes them, and has {found or 'no arrays'}"
        )
    return images, labels.reshape(-1)


def check_classes(labels: np.ndarray, data: DataSet) -> None:
    """Raise ValueError if there are labels of classes that the data lack."""
    classes = len(data.class_names)
    if data.labelled and labels.max() >= classes:
        raise ValueError(
            f"the samples have labels up to {labels.max()}, and {data.title} has classes 0 to "
            f"{classes - 1}: mend the labels, or name the run of the samples by OUTPUT_DIR"
        )


def read_earlier(path: Path) -> dict[str, Any]:
    """Return the results in a file, if there is one; ValueError if it is damaged."""
    if not path.exists():
        return {}
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        for row in earlier["rows"].values():
            _ = [format(row.get(name, 0), ".1f") for name in COLUMNS]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: bring it back, or delete it") from error
    return earlier


def extract_features(images: np.ndarray) -> np.ndarray:
    """Let judge_features.py, once it has its packages, return features float32 (N, d) of images."""
    make = "make", "--silent", "--no-print-directory", "-C", ROOT, ".venv-judge/ready"
    if subprocess.run(make).returncode:
        raise RuntimeError("the judge's packages cannot be installed, for the reason printed above")
    with tempfile.TemporaryDirectory(prefix="judge_") as folder:
        source, target = Path(folder, "images.npy"), Path(folder, "features.npy")
        np.save(source, images)
        run_script(ROOT / ".venv-judge" / "bin" / "python", EXTRACTOR, source, target)
        return np.load(target)


def load_or_extract(images: np.ndarray) -> np.ndarray:
    """Return features of images that never change; they are kept in the Keras cache."""
    key = hashlib.sha256(np.ascontiguousarray(images))
    key.update(f"{images.shape} {PACKAGES} {EXTRACTOR.read_text()}".encode())
    path = cache_path("cifar10").with_name(f"judge_{key.hexdigest()[:16]}.npy")
    with contextlib.suppress(OSError, EOFError, ValueError):  # there is none, or a damaged one
        return np.load(path)
    require_folder(path.parent, "the environment variable KERAS_HOME", 6_000 * len(images))
    features = extract_features(images)
    with atomic_path(path) as temporary:
        np.save(temporary, features)
    return features


def fit_probe(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fit a linear probe by ridge regression; return weights (d + 1, classes), bias last."""
    inputs = np.pad(features, ((0, 0), (0, 1)), constant_values=1)
    targets = np.eye(labels.max() + 1, dtype=np.float32)[labels]
    return np.linalg.solve(inputs.T @ inputs + np.eye(inputs.shape[1]), inputs.T @ targets)


def judge(data: DataSet, samples: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> dict[str, Row]:
    """Score the real test images and sets of generated ones against the training images.

    Each of the `samples` is a name, images and labels, -1 where no class was asked for. Returns by
    name `frechet`, `kid` and `kid_std`; of generated images `near_training`, the share of 1,000
    whose nearest real image is a training image and not a test image: all of them if they are
    copies; and where classes were asked for, `intended` and `intended_by_class`: shares of images
    for which a linear probe predicts them.
    """
    print(f"Features of the {len(data.x_train):,} training images of {data.title} …")
    train = load_or_extract(data.x_train)
    statistics = metrics.feature_statistics(train)
    probe = fit_probe(train, data.y_train)
    print("Features of the real test images …")
    test = load_or_extract(data.x_test)
    real = np.concatenate([train, test])

    def score(features: np.ndarray, labels: np.ndarray) -> Row:
        print("  comparing them with the training images …")
        own = metrics.feature_statistics(features)
        row = {"frechet": metrics.frechet_distance(statistics, own)}
        size = min(1000, len(train), len(features))
        row["kid"], row["kid_std"] = metrics.kid_formula(train, features, size=size)
        if features is not test:
            few = features[:: max(1, len(features) // 1000)]
            nearest, _ = metrics.nearest_neighbours(few, real)
            row["near_training"] = float((nearest < len(train)).mean())
        if data.labelled and (labels >= 0).all():
            right = (features @ probe[:-1] + probe[-1]).argmax(axis=1) == labels
            row["intended"] = float(right.mean())
            row["intended_by_class"] = {
                data.class_names[label]: float(right[labels == label].mean())
                for label in np.unique(labels)
            }
        return row

    rows = {"real test images": score(test, data.y_test)}
    for name, images, labels in samples:
        print(f"Features of {name} …")
        rows[name] = score(extract_features(images), labels)
    return rows


def format_table(rows: dict[str, Row]) -> str:
    """Return the scores in Markdown, as the notebook shows them."""
    from dcgan_utils import format_scores  # loads TensorFlow, so it comes last

    return format_scores(rows, COLUMNS)


@one_sentence("make judge")
def main() -> None:
    """Judge the variants, write judge.json and, for the shipped checkpoints, the README's table."""
    parser = Options("make judge", description=__doc__)
    parser.add_argument("--variant", choices=variants(), help="score this one only")
    parser.add_argument("--output-dir", type=absolute, help="folder that holds the checkpoints")
    parser.add_argument("--samples", type=absolute, help="score this .npz file, and keep no result")
    options = parser.parse_args()
    os.chdir(ROOT)  # a run's DATA may be a path from here
    folder = Path(options.output_dir or ROOT)
    trained = find_runs(folder, [options.variant] if options.variant else variants())
    if options.samples:
        images, labels = read_samples(options.samples)
        data = load_run_data(options.output_dir, trained)
        check_classes(labels, data)
        print(format_table(judge(data, [(Path(options.samples).stem, images, labels)])))
        return

    file = folder / "training_history" / "judge.json"
    require_folder(file.parent, "OUTPUT_DIR")
    earlier = read_earlier(file)
    data = load_run_data(options.output_dir, trained)
    rows = judge(data, ((name, *draw_samples(name, options.output_dir)) for name in trained))
    reference = f"{len(data.x_train):,} training images of {data.title}, SHA-256 {data.sha256}"
    setup = SETUP | {"reference": reference}
    if earlier == earlier | setup:  # other variants that were scored in the same way stay
        rows = earlier["rows"] | rows
    elif gone := ", ".join(earlier.get("rows", {}).keys() - rows.keys()):
        print(f"{file} loses what was scored in another way: {gone}")
    result = json.dumps(setup | {"rows": rows}, indent=1, ensure_ascii=False)
    with atomic_path(file) as temporary:
        temporary.write_text(result, encoding="utf-8")
    table = format_table(rows)
    print(table)
    if not options.output_dir:
        write_table(ROOT / "README.md", "judge", table)


if __name__ == "__main__":
    main()
