"""The door: what is taken as a data set, and what is refused in a sentence."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from own_pictures import COLOURS, add_junk, write_folder

import dcgan_utils as utils
from dcgan import data as known_data
from dcgan.dataset import SIDES, DataSet, find_data, load_data, without_images

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 20, 20, 1), dtype=np.uint8)
LABELS = np.arange(40) % 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 20 pictures of each of three classes, and junk."""
    write_folder(tmp_path / "mine", 20, [*COLOURS])
    add_junk(tmp_path / "mine" / "green")
    return tmp_path / "mine"


def write_npz(path: Path, **arrays: np.ndarray) -> Path:
    """Write arrays as a user would."""
    np.savez(path, **arrays)
    return path


def test_a_folder_is_described_without_reading_a_picture(folder: Path) -> None:
    found = find_data(folder, 64)
    assert found.image_shape == (64, 64, 3)
    assert found.class_names == ("blue", "green", "red")
    assert (found.name, found.labelled, len(found.x_train)) == ("mine", True, 0)


def test_subfolders_are_classes_and_junk_is_named(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    data = load_data(folder, 28)
    line, summary = capsys.readouterr().out.splitlines()
    assert summary == (
        "mine: 54 images for training and 6 for tests, of 3 classes: blue, green, red"
    )
    assert line.startswith("3 of 63 files left out: green/")
    for reason in ("cut off.png (", "empty.png (no picture", "notes.txt (no picture of a known f"):
        assert f"green/{reason}" in line
    assert data.x_train.shape == (54, 28, 28, 3)
    assert data.x_test.shape == (6, 28, 28, 3)
    for images, labels in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        # The colour of a class is its largest channel; some pictures have been grey palettes.
        assert np.array_equal(images.mean(axis=(1, 2)).argmax(axis=1), 2 - labels)


def test_a_tenth_is_held_out_by_the_seed(folder: Path) -> None:
    first, again, other = (load_data(folder, 20, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.x_train, again.x_train)
    assert np.array_equal(first.x_test, again.x_test)
    assert not np.array_equal(first.x_test, other.x_test)
    seen = {image.tobytes() for image in first.x_train}
    assert seen.isdisjoint(image.tobytes() for image in first.x_test)


def test_at_most_so_many_images_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcgan.picture_folder.AT_ONCE", 4)
    monkeypatch.setattr(
        "dcgan.picture_folder.read_square",
        lambda path, side: reads.append(path) or np.zeros((side, side, 3), np.uint8),
    )
    reads = []
    data = load_data(folder, 20, at_most=18, few=True)
    assert (len(data.x_train), len(data.x_test)) == (18, 2)
    assert len(reads) == 20
    assert {*data.y_train} == {0, 1, 2}


def test_pictures_without_subfolders_have_no_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for place, classes, name in (("plain", [], "plain"), ("nested", ["only"], "only")):
        data = load_data(write_folder(tmp_path / place, 30, classes), 20)
        assert data.class_names == (name,)
        assert not data.labelled
        assert {*data.y_train, *data.y_test} == {0}
        assert f"{place} has no labels: the improved variant learns no classes" in (
            capsys.readouterr().out
        )


def test_a_class_of_one_picture_is_trained_on(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", 60, ["many"])
    write_folder(tmp_path / "a", 1, ["one"])
    for seed in range(5):
        data = load_data(tmp_path / "a", 20, seed=seed)
        assert np.bincount(data.y_train).tolist() == [54, 1]


def test_a_hundred_classes_of_two_pictures(tmp_path: Path) -> None:
    names = [f"class {number:02d}" for number in range(100)]
    data = load_data(write_folder(tmp_path, 2, names), 20)
    assert data.class_names == tuple(names)
    assert (len(data.x_train), len(data.x_test)) == (180, 20)
    assert {*data.y_train} == {*range(100)}
    images, shown = data.examples(3)
    assert shown == tuple(names[:10])
    assert images.shape == (30, 20, 20, 3)
    assert (images[2] == 255).all()  # there is no third picture
    assert not (images[0] == 255).all()


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("empty", "the folder .*x holds no pictures"),
        ("hidden", "the folder .*x holds no pictures"),
        ("mixed", r"x holds pictures \(000.png\) beside subfolders \(red\): move"),
        ("deep", r"train holds the subfolder red: name the folder whose subfolders"),
        ("empty class", "nothing holds no pictures: fill or remove it"),
        ("junk class", "no file of junk can be read as a picture"),
        ("missing", "DATA is 'cifar10', 'fashion_mnist', an .npz file or a folder of pictures; "),
        ("file", "DATA is 'cifar10'"),
    ],
)
def test_folders_that_are_none(tmp_path: Path, kind: str, sentence: str) -> None:
    folder = tmp_path / "x"
    if kind != "missing":
        folder.mkdir()
    if kind == "hidden":
        (folder / ".DS_Store").touch()
    if kind in ("mixed", "empty class", "junk class"):
        write_folder(folder, 2, ["red"])
    if kind == "mixed":
        write_folder(folder, 1, [])
    if kind == "deep":
        write_folder(folder / "train", 2, ["red"])
    if kind.endswith("class"):
        (folder / kind.split()[0].replace("empty", "nothing")).mkdir()
    if kind == "junk class":
        (folder / "junk" / "a.png").write_text("junk")
    if kind == "file":
        folder.rmdir()
        folder.write_text("a")
    with pytest.raises(ValueError, match=sentence):
        load_data(folder, 20)


def test_a_folder_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ValueError, match=r"mine cannot be read \(Permission denied\): allow it"):
        find_data(folder, 20)


def test_broken_links_are_named(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "red" / "gone.png").symlink_to("nowhere.png")
    load_data(folder, 20)
    out = capsys.readouterr().out
    assert "4 of 64 files left out: " in out
    assert "red/gone.png ([Errno 2] No such file" in out


def test_a_text_beside_the_subfolders_does_no_harm(folder: Path) -> None:
    (folder / "LICENSE.txt").touch()
    assert find_data(folder, 20).class_names == ("blue", "green", "red")


def test_arrays_of_a_file_are_a_data_set(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "mine.npz", images=PIXELS, labels=LABELS)
    data = load_data(path)
    assert (data.name, data.class_names) == ("mine", ("0", "1", "2", "3"))
    assert data.x_train.shape == (36, 20, 20, 1)
    before = {image.tobytes(): label for image, label in zip(PIXELS, LABELS, strict=True)}
    assert [before[image.tobytes()] for image in data.x_test] == data.y_test.tolist()
    write_npz(path, images=PIXELS, labels=LABELS, class_names=np.array([*"abcde"]))
    assert find_data(path).class_names == ("a", "b", "c", "d", "e")
    write_npz(path, images=PIXELS)
    assert load_data(path).class_names == ("mine",)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"images": PIXELS / 255.0}, r"must be uint8 .*, got float64 from 0 to 1: scale them"),
        ({"images": PIXELS / 127.5 - 1}, r"got float64 from -1 to 1: scale them to 0..255, round"),
        ({"images": PIXELS[..., 0]}, r"no channel axis, got \(40, 20, 20\): add it with images"),
        ({"images": PIXELS.repeat(4, axis=3)}, r"must be \(N, side, side, 1 or 3\), got"),
        ({"images": PIXELS[:, :8]}, r"must be \(N, side, side, 1 or 3\), got \(40, 8, 20, 1\)"),
        (
            {"images": PIXELS[:, :17, :17]},
            r"side of the images must be .* got 17; possible are 20, 24",
        ),
        ({"images": PIXELS, "labels": LABELS[:9]}, r"labels must be 40 integers, .* int64 \(9,\)"),
        ({"images": PIXELS, "labels": LABELS / 2}, r"labels must be 40 integers, .* float64"),
        *[
            ({"images": PIXELS, "labels": LABELS + x}, r"labels must be 40 integers, .* float64")
            for x in (np.inf, np.nan)
        ],
        ({"images": PIXELS, "labels": LABELS.astype(str)}, r"labels must be an array of numbers"),
        ({"images": PIXELS, "labels": LABELS - 1}, r"labels must lie in 0 to 2, .* got -1 to 2"),
        (
            {"images": PIXELS, "labels": LABELS, "class_names": np.array(["a", "b"])},
            r"labels must lie in 0 to 1, one for each class name, got 0 to 3",
        ),
        ({"photos": PIXELS}, r"mine.npz: it holds no array images, only photos"),
        ({"images": PIXELS, "labels": LABELS + 2**45}, r"labels must lie in 0 to 9999, .* got 35"),
        (
            {"images": PIXELS, "labels": LABELS, "class_names": 4},
            r"must be texts \(classes,\), got",
        ),
        (
            {"images": PIXELS, "labels": LABELS, "class_names": np.array(["cat", "b", "c", "cat"])},
            r"mine.npz: class_names holds cat twice: give each class its own name$",
        ),
        ({"images": PIXELS, "labels": LABELS, "class_names": "abcd"}, r"must be texts .* got <U4 "),
        (
            {"images": PIXELS, "labels": LABELS, "class_names": np.array([["a"], ["b"]])},
            r"class_names must be texts \(classes,\), got <U1 \(2, 1\)",
        ),
        (
            {"images": PIXELS, "labels": LABELS, "class_names": np.array([*"abcd"], object)},
            r"mine.npz: it holds other things than arrays of numbers and texts",
        ),
    ],
)
def test_arrays_that_are_none(tmp_path: Path, arrays: dict, sentence: str) -> None:
    path = write_npz(tmp_path / "mine.npz", **arrays)
    for load in (find_data, load_data):
        with pytest.raises(ValueError, match=sentence):
            load(path)


def test_training_and_test_images_are_alike() -> None:
    other = np.zeros((3, 28, 28, 1), np.uint8)
    with pytest.raises(ValueError, match=r"training are \(20, 20, 1\) and .* tests \(28, 28, 1\)"):
        DataSet("mine", PIXELS, LABELS, other, LABELS[:3], ("a", "b", "c", "d"))


@pytest.mark.parametrize(("size", "nearest"), [(50, "48, 56"), (36, "32, 40"), (1000, "224, 256")])
def test_impossible_sizes_name_the_nearest(folder: Path, size: int, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"IMAGE_SIZE must be .* got {size}; .* are {nearest}$"):
        find_data(folder, size)


def test_a_size_is_not_ignored(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "mine.npz", images=PIXELS)
    for source, side in (("cifar10", 32), ("fashion_mnist", 28), (path, 20)):
        assert find_data(source, side).image_shape == find_data(source).image_shape
        with pytest.raises(ValueError, match=f"IMAGE_SIZE is for .* has images of {side} x {side}"):
            find_data(source, 64)


def test_the_sizes_that_are_asked_for_are_possible() -> None:
    assert {28, 32, 48, 64, 96, 128} <= {*SIDES}


def test_fewer_images_than_a_batch_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"mine has 54 images for training .*BATCH_SIZE = 64: "):
        load_data(folder, 20, at_least=64)


@pytest.mark.parametrize("name", known_data.KNOWN)
def test_named_data_are_described_and_a_few_of_them_need_no_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    found, data = find_data(name), load_data(name, at_most=16, few=True)
    assert found.image_shape == data.image_shape
    assert found.class_names == data.class_names
    assert (len(data.x_train), len(data.x_test), len(found.class_names)) == (16, 16, 10)


def test_a_description_may_come_from_a_file_of_settings() -> None:
    data = without_images("/gone/nebulae", [64, 64, 3], ["a", "b"])
    assert (data.name, data.image_shape, data.class_names) == ("nebulae", (64, 64, 3), ("a", "b"))


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_may_be_in_any_script_and_encoding(tmp_path: Path, capsys) -> None:
    write_folder(tmp_path, 5, ["강아지"])
    other = tmp_path / os.fsdecode(b"\xb0\xad")  # EUC-KR, as old archives have it
    (tmp_path / "강아지").rename(other)
    write_folder(tmp_path, 5, ["강아지"])
    (other / "\udcb0.txt").touch()
    data = load_data(tmp_path, 20)
    assert data.class_names == ("강아지", "\\udcb0\\udcad")
    json.dumps(data.class_names).encode()
    capsys.readouterr().out.encode()
    utils.draw_rows(*data.examples(2), tmp_path / "rows.png")
