"""A folder of pictures: its subfolders are classes, and what cannot be read is left out by name."""

import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dcgan.pictures import has_picture_suffix, read_square

AT_ONCE = 64  # files read before the next are begun, so that no more are read than wanted
HIDDEN = (".", "__MACOSX", "Thumbs.db", "desktop.ini")  # what systems add by themselves
NAMED = 5  # files that are left out by name; of further ones only the number is told


def find_classes(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each class by the name of its subfolder, both sorted.

    Without subfolders all files are of one class, named as the folder. Files that are hidden or
    that systems add by themselves do not count, nor do files beside the subfolders unless they are
    pictures by their suffix. Raises ValueError for a folder that is empty, may not be read, mixes
    pictures and subfolders, or has subfolders within them.
    """
    files, folders = _list(folder)
    if not folders:
        if not files:
            raise ValueError(f"the folder {folder} holds no pictures")
        return {_printable(folder.resolve().name): files}
    if pictures := [file.name for file in files if has_picture_suffix(file)]:
        raise ValueError(
            f"{folder} holds pictures ({pictures[0]}) beside subfolders ({folders[0].name}): move "
            "the pictures into subfolders, one a class, or the subfolders away"
        )
    classes = {}
    for subfolder in folders:
        name = _printable(subfolder.name)
        classes[name], deeper = _list(subfolder)
        if deeper:
            raise ValueError(
                f"{subfolder} holds the subfolder {deeper[0].name}: name the folder whose "
                "subfolders are the classes and hold pictures only"
            )
        if not classes[name]:
            raise ValueError(f"{subfolder} holds no pictures: fill or remove it")
    return classes


def _printable(text: str) -> str:
    """Return a text that may name a file whose name is not in UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _list(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return files, broken links too, and folders in a folder, sorted, without hidden ones."""
    try:
        entries = sorted(p for p in folder.iterdir() if not p.name.startswith(HIDDEN))
        files = [p for p in entries if p.is_file() or (p.is_symlink() and not p.exists())]
        return files, [p for p in entries if p.is_dir()]
    except OSError as error:
        raise ValueError(
            f"the folder {folder} cannot be read ({error.strerror}): allow it, or move it away"
        ) from error


def shuffle(labels: Sequence[int], seed: int) -> np.ndarray:
    """Return an order drawn from the seed, in which one of each class comes before all others."""
    order = np.random.default_rng(seed).permutation(len(labels))
    firsts = np.unique(np.asarray(labels)[order], return_index=True)[1]
    return np.concatenate([order[firsts], np.delete(order, firsts)])


def read_pictures(
    classes: dict[str, list[Path]], side: int, at_most: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read pictures in an order drawn from the seed, one of each class before all others.

    Returns images uint8 (N, side, side, 3), N `at_most`, and labels int32 (N,). Prints which files
    are left out, and the progress. Raises ValueError if no file of a class can be read.
    """
    files = [(path, label) for label, paths in enumerate(classes.values()) for path in paths]
    files = [files[index] for index in shuffle([label for _, label in files], seed)]

    images = np.empty((min(len(files), at_most), side, side, 3), np.uint8)
    labels, left_out = [], []
    started = told = time.monotonic()
    for number, (path, label, result) in enumerate(_read(files, side), start=1):
        if isinstance(result, ValueError):
            left_out.append(_printable(f"{path.parent.name}/{path.name} ({result})"))
        else:
            images[len(labels)] = result
            labels.append(label)
        if len(labels) == at_most:
            break
        if time.monotonic() - told > 5:
            told = time.monotonic()
            left = (told - started) / number * (len(images) - len(labels))
            print(f"  {number:,} of {len(files):,} files, {left:.0f} s left", flush=True)
    if left_out:
        more = f" and {len(left_out) - NAMED:,} more" if left_out[NAMED:] else ""
        print(
            f"{len(left_out):,} of {number:,} files left out: {', '.join(left_out[:NAMED])}{more}"
        )
    missing = [name for label, name in enumerate(classes) if label not in labels]
    if missing and number == len(files):
        raise ValueError(f"no file of {', '.join(missing)} can be read as a picture")
    return images[: len(labels)], np.array(labels, np.int32)


def _read(
    files: list[tuple[Path, int]], side: int
) -> Iterator[tuple[Path, int, np.ndarray | ValueError]]:
    """Read files side by side; give out path, label and pixels or what is wrong, in order."""

    def read(file: tuple[Path, int]) -> tuple[Path, int, np.ndarray | ValueError]:
        try:
            return *file, read_square(file[0], side)
        except ValueError as error:
            return *file, error

    with ThreadPoolExecutor() as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures and odd metadata
        for start in range(0, len(files), AT_ONCE):
            yield from pool.map(read, files[start : start + AT_ONCE])
