"""The data set that everything follows from: a name, an .npz file or a folder of pictures."""

import functools
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dcgan.data import KNOWN, Split, load_few_images
from dcgan.files import read_arrays
from dcgan.picture_folder import find_classes, read_pictures, shuffle
from dcgan.pixels import as_array

# Sides that the networks halve and double between the images and maps of 3 to 7 pixels.
SIDES = sorted({smallest * 2**k for smallest in (5, 6, 7, 8) for k in range(2, 6)})
MOST_CLASSES = 10_000  # of an .npz file: labels above are no classes
DEFAULT_SIDE = 32  # of the pictures of a folder


@dataclass(frozen=True)
class DataSet:
    """Images for training and for tests; there may be none of them yet.

    Attributes:
        source: the notebook's DATA that this is of.
        x_train, x_test: uint8 (N, side, side, 1 or 3).
        y_train, y_test: integers (N,), places in `class_names`.
        class_names: one name for images without labels, which are all of class 0.
    """

    source: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check all arrays, or raise ValueError in one sentence."""
        for images, labels in ((self.x_train, self.y_train), (self.x_test, self.y_test)):
            check_images(images)
            check_labels(labels, len(images), len(self.class_names))
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            shapes = self.x_train.shape[1:], self.x_test.shape[1:]
            raise ValueError("images for training are {} and those for tests {}".format(*shapes))

    @property
    def name(self) -> str:
        """What the data are called: the last part of a path."""
        return Path(self.source).expanduser().resolve().name.removesuffix(".npz")

    @property
    def title(self) -> str:
        """What the data are called in a text."""
        return KNOWN[self.source].title if self.source in KNOWN else self.name

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of each image."""
        return self.x_train.shape[1:]

    @property
    def labelled(self) -> bool:
        """Whether there are classes to tell apart."""
        return len(self.class_names) > 1

    @functools.cached_property
    def sha256(self) -> str:
        """The beginning of the SHA-256 of the training images and labels, in hexadecimal."""
        digest = hashlib.sha256(np.ascontiguousarray(self.x_train))
        digest.update(self.y_train.astype("<i4").tobytes())
        return digest.hexdigest()[:16]

    @property
    def in_words(self) -> str:
        """What a network that was trained on these data has seen."""
        side, _, channels = self.image_shape
        return (
            f"{len(self.x_train):,} images of {self.title} ({side} x {side} x {channels}, classes "
            f"{', '.join(self.class_names)}; SHA-256 {self.sha256})"
        )

    def examples(self, count: int = 10) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return `count` training images of each of the first ten classes, and their names.

        Where a class has fewer, the rest is white.
        """
        names = self.class_names[:10]
        images = np.full((len(names), count, *self.image_shape), 255, np.uint8)
        for label, row in enumerate(images):
            found = self.x_train[self.y_train == label][:count]
            row[: len(found)] = found
        return images.reshape(-1, *self.image_shape), names


def find_data(source: str | Path, image_size: int = DEFAULT_SIDE) -> DataSet:
    """Find out what the images of a source are like, without those of a folder being read.

    Args:
        source: "cifar10", "fashion_mnist", an .npz file with `images` uint8 (N, side, side, 1 or 3)
            and, if there are any, `labels` (N,) and `class_names`, or a folder of pictures, whose
            subfolders are classes.
        image_size: side of the pictures of a folder.

    Returns a data set without images. Raises ValueError for all else, for a side of the images that
    the networks cannot build, and for one that is asked of images that have another.
    """
    source, path = str(source), Path(source).expanduser()
    if source not in KNOWN and path.is_dir():
        check_side(image_size, "IMAGE_SIZE")
        return without_images(source, (image_size, image_size, 3), [*find_classes(path)])
    if source in KNOWN:
        found = without_images(source, KNOWN[source].image_shape, KNOWN[source].class_names)
    elif path.is_file() and path.suffix == ".npz":
        images, _, class_names = _read_npz(path)
        found = without_images(source, images.shape[1:], class_names)
    else:
        known = ", ".join(map(repr, KNOWN))
        raise ValueError(f"DATA is {known}, an .npz file or a folder of pictures; {path} is none")
    side = found.image_shape[0]
    if image_size not in (DEFAULT_SIDE, side):
        raise ValueError(
            f"IMAGE_SIZE is for folders of pictures, and {source} has images of {side} x {side}: "
            f"leave it at {DEFAULT_SIDE}"
        )
    return found


def without_images(source: str, image_shape: Any, class_names: Any) -> DataSet:
    """Return a data set that has no images."""
    images, labels = np.empty((0, *image_shape), np.uint8), np.empty(0, np.int32)
    return DataSet(source, images, labels, images, labels, tuple(class_names))


def load_data(
    source: str | Path,
    image_size: int = DEFAULT_SIDE,
    at_most: int = 50_000,
    at_least: int = 1,
    seed: int = 0,
    few: bool = False,
) -> DataSet:
    """Load the images of a source, described at `find_data`.

    Of a folder or a file a tenth, drawn from the seed, is kept for tests. There are `at_most` so
    many images for training; fewer than `at_least` raise ValueError. With `few`, what has a name is
    not fetched: if it is not in the cache, stand-ins are drawn. What is special about the data is
    printed.
    """
    found = find_data(source, image_size)
    if found.source in KNOWN:
        train, test = _load_known(found.source, at_most, seed, few)
    else:
        train, test = _load_own(Path(source).expanduser(), image_size, at_most, seed)
    (x_train, y_train), (x_test, y_test) = [part[:at_most] for part in train], test
    if len(x_train) < at_least:
        raise ValueError(
            f"{found.title} has {len(x_train)} images for training here, fewer than BATCH_SIZE = "
            f"{at_least}: add pictures, or make BATCH_SIZE smaller"
        )
    data = replace(found, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    if data.source not in KNOWN:
        classes = f", of {len(data.class_names)} classes: {', '.join(data.class_names)}"
        print(
            f"{data.name}: {len(x_train):,} images for training and {len(x_test):,} for tests"
            f"{classes if data.labelled else ''}"
        )
    if not data.labelled:
        print(
            f"{data.name} has no labels: the improved variant learns no classes, and the "
            "classifier that measures is that of CIFAR-10."
        )
    return data


def _load_known(name: str, at_most: int, seed: int, few: bool) -> tuple[Split, Split]:
    """Load data that have a name, or a few of them without fetching any."""
    if not few:
        return KNOWN[name].load()
    images, labels = load_few_images(name, 2 * at_most, seed)
    return (images, labels), (images[at_most:], labels[at_most:])


def _load_own(path: Path, image_size: int, at_most: int, seed: int) -> tuple[Split, Split]:
    """Load the images of a folder or a file, and hold out a tenth."""
    wanted = at_most + max(2, at_most // 9)
    if path.is_dir():
        images, labels = read_pictures(find_classes(path), image_size, wanted, seed)
    else:
        images, labels, _ = _read_npz(path)
        order = shuffle(labels, seed)[:wanted]
        images, labels = images[order], labels[order]
    rest = max(0, len(images) - max(2, len(images) // 10))
    return (images[:rest], labels[:rest]), (images[rest:], labels[rest:])


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return checked images and labels of a file, and names of its classes."""
    try:
        arrays = read_arrays(path)
        if "images" not in arrays:
            raise ValueError(f"it holds no array images, only {', '.join(arrays) or 'nothing'}")
        images = arrays["images"]
        check_images(images)
        check_side(images.shape[1], "the side of the images")
        if "labels" not in arrays:
            return images, np.zeros(len(images), np.int32), [path.stem]
        labels = as_array(arrays["labels"], "labels")
        classes = int(min(MOST_CLASSES - 1, labels.max(initial=0))) + 1  # NaN gives the most
        names = arrays.get("class_names", np.arange(classes).astype(str))
        if names.ndim != 1 or names.dtype.kind != "U":
            raise ValueError(
                f"class_names must be texts (classes,), got {names.dtype} {names.shape}: write "
                "np.array(['first', 'second', ...])"
            )
        unique, counts = np.unique(names, return_counts=True)
        if twice := ", ".join(unique[counts > 1]):
            raise ValueError(f"class_names holds {twice} twice: give each class its own name")
        check_labels(labels, len(images), len(names))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return images, labels.astype(np.int32), names.tolist()


def check_images(images: Any) -> None:
    """Raise ValueError unless these are square images uint8 (N, side, side, 1 or 3)."""
    images = as_array(images, "images")
    if images.dtype != np.uint8:
        low, high = (images.min(), images.max()) if images.size else (0, 0)
        raise ValueError(
            f"images must be uint8 pixels in 0..255, got {images.dtype} from {low:.3g} to "
            f"{high:.3g}: scale them to 0..255, round them and convert them with astype(np.uint8)"
        )
    if images.ndim == 3:
        raise ValueError(
            f"images have no channel axis, got {images.shape}: add it with images[..., None]"
        )
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.shape[1] != images.shape[2]:
        raise ValueError(f"images must be (N, side, side, 1 or 3), got {images.shape}")


def check_labels(labels: Any, count: int, classes: int) -> None:
    """Raise ValueError unless these are integers (count,) from 0 to classes - 1."""
    labels = as_array(labels, "labels")
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be {count} integers, one an image, got {labels.dtype} {labels.shape}"
        )
    if count and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"labels must lie in 0 to {classes - 1}, one for each class name, got "
            f"{labels.min()} to {labels.max()}"
        )


def check_side(side: Any, name: str) -> None:
    """Raise ValueError, which names the nearest ones, unless the networks can build this side."""
    if side not in SIDES:
        whole = isinstance(side, int | np.integer)
        nearest = sorted(SIDES, key=lambda possible: abs(possible - side))[:2] if whole else SIDES
        raise ValueError(
            f"{name} must be 5, 6, 7 or 8 times 4, 8, 16 or 32, got {side!r}; possible are "
            f"{', '.join(map(str, sorted(nearest)))}"
        )
