"""Folders of pictures as people have them: sizes and kinds mixed, and junk among them."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def write_folder(folder: Path, count: int, classes: list[str], seed: int = 0) -> Path:
    """Write so many pictures of each class below a folder, or beside each other for no class."""
    rng = np.random.default_rng(seed)
    colours = [*COLOURS.values()]
    for label, name in enumerate(classes or [""]):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            height, width = rng.integers(20, 90, 2)
            pixels = rng.integers(0, 60, (height, width, 3)) + colours[label % 3]
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            suffix, mode = KINDS[number % len(KINDS)]
            picture.convert(mode).save(place / f"{number:03d}{suffix}")
    return folder


KINDS = [
    (".png", "RGB"),
    (".jpg", "RGB"),
    (".jpeg", "CMYK"),
    (".png", "P"),
    (".gif", "P"),
    (".png", "RGBA"),
    (".webp", "RGB"),
    (".bmp", "RGB"),
    (".tiff", "RGB"),
]


def add_junk(folder: Path) -> int:
    """Add files that are no pictures, and hidden ones; return the number of the former."""
    (folder / "notes.txt").write_text("no picture")
    (folder / "empty.png").touch()
    whole = next(folder.glob("*.png")).read_bytes()
    (folder / "cut off.png").write_bytes(whole[: len(whole) // 2])
    for name in (".hidden.png", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(whole[:9])
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._000.png").write_bytes(whole[:9])
    return 3
