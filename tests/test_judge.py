"""The independent judge's own arithmetic, and its whole way on stand-in features."""

import functools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import judge
import numpy as np
import pytest

from dcgan import metrics
from dcgan.dataset import DataSet


def draw_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise images uint8 (count, 2, 2, 1) of two classes, 100 grey levels apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    noise = rng.normal(0, 10, (count, 2, 2, 1))
    return (noise + 70 + 100 * labels[:, None, None, None]).round().astype(np.uint8), labels


def as_features(images: np.ndarray) -> np.ndarray:
    """Stand in for the network: the pixels themselves."""
    return images.reshape(len(images), -1).astype(np.float32) / 10


EXTRACT = judge.extract_features
TRAIN, TEST = draw_images(3000, 0), draw_images(1000, 1)
DATA = DataSet("cifar10", *TRAIN, *TEST, ("dark", "bright"))


@pytest.fixture(autouse=True)
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace data set and network, and return how many images the network has read each time."""
    read = []

    def extract(images: np.ndarray) -> np.ndarray:
        read.append(len(images))
        return as_features(images)

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    load = judge.load_data
    monkeypatch.setattr(judge, "load_data", lambda *a, **b: DATA if len(a) == 1 else load(*a, **b))
    monkeypatch.setattr(judge, "extract_features", extract)
    few_subsets = functools.partial(metrics.kid_formula, subsets=3)
    monkeypatch.setattr(metrics, "kid_formula", few_subsets)
    return read


def test_probe_separates_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    features = np.eye(3, 5)[labels] * 10 + rng.normal(size=(600, 5)) * [1, 1, 1, 1, 0]
    features = (features + 50).astype(np.float32)  # the last is constant
    probe = judge.fit_probe(features, labels)
    assert ((features @ probe[:-1] + probe[-1]).argmax(axis=1) == labels).mean() > 0.99


def test_scores_of_shifted_training_images() -> None:
    images, labels = TRAIN
    no_class = np.full(len(images), -1)
    samples = [("same", images, labels), ("shifted", images + np.uint8(3), no_class)]
    samples += [("swapped", images, 1 - labels), ("unseen", DATA.x_test, DATA.y_test)]
    rows = judge.judge(DATA, samples)
    assert list(rows) == ["real test images", "same", "shifted", "swapped", "unseen"]
    assert rows["same"]["frechet"] == pytest.approx(0, abs=1e-3)
    assert rows["same"]["near_training"] == 1  # copies
    assert rows["unseen"]["near_training"] == 0
    assert "near_training" not in rows["real test images"]  # each is its own nearest image
    # Four features, each 0.3 larger: equal covariances leave the squared distance of the means.
    assert rows["shifted"]["frechet"] == pytest.approx(4 * 0.3**2, rel=1e-3)
    assert "intended" not in rows["shifted"]
    assert rows["same"]["intended_by_class"] == {"dark": 1, "bright": 1}
    assert rows["swapped"]["intended"] == 0


def test_kid_formula_tells_classes_apart() -> None:
    images, labels = TRAIN
    rows = judge.judge(DATA, [("dark", images[labels == 0], labels[labels == 0])])
    test_images, dark = rows.values()
    assert abs(test_images["kid"]) < 5 * test_images["kid_std"] < dark["kid"]
    assert dark["intended_by_class"] == {"dark": 1}


def write_settings(run: Path, **changes: object) -> None:
    """Write what the run in a folder was trained with: CIFAR-10 unless changed."""
    settings = {"DATA": "cifar10", "IMAGE_SHAPE": [32, 32, 3], "TRAIN_IMAGES": 50_000, "SEED": 42}
    (run / "settings.json").write_text(json.dumps(settings | changes), encoding="utf-8")


@pytest.fixture
def run_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs the command on stand-ins."""
    (tmp_path / "README.md").write_text("before\n<!-- judge -->old<!-- end of judge -->\nafter\n")
    for variant in ("baseline", "improved"):
        checkpoint = tmp_path / "training_checkpoints" / variant / "epoch-1.index"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        write_settings(checkpoint.parent)
    monkeypatch.setattr(judge, "ROOT", tmp_path)
    monkeypatch.setattr(judge, "variants", lambda: ["baseline", "improved"])
    monkeypatch.setattr(judge, "draw_samples", lambda variant, folder: draw_images(1200, 2))
    monkeypatch.chdir("/")

    def run(*options: str) -> None:
        monkeypatch.setattr(sys, "argv", ["judge.py", *options])
        judge.main()

    return run


def test_results_are_kept_and_shown(
    run_judge: Callable[..., None], stand_ins: list[int], tmp_path: Path
) -> None:
    """One variant after the other; features of real images are extracted once."""
    run_judge("--variant", "baseline")
    assert stand_ins == [3000, 1000, 1200]
    run_judge("--variant", "improved")
    assert stand_ins[3:] == [1200]
    result = json.loads((tmp_path / "training_history" / "judge.json").read_text())
    assert list(result["rows"]) == ["real test images", "baseline", "improved"]
    assert result["samples"] == judge.COUNT
    table = judge.format_table(result["rows"])
    assert "| improved | " in table
    readme = (tmp_path / "README.md").read_text()
    assert readme == f"before\n<!-- judge -->\n\n{table}\n\n<!-- end of judge -->\nafter\n"


@pytest.mark.parametrize("kept", [0, 5, 200])
def test_damaged_features_are_extracted_again(stand_ins: list[int], kept: int) -> None:
    features = judge.load_or_extract(TEST[0])
    (path,) = judge.cache_path("cifar10").parent.glob("judge_*.npy")
    path.write_bytes(path.read_bytes()[:kept])
    for _ in range(2):
        assert np.array_equal(judge.load_or_extract(TEST[0]), features)
    assert stand_ins == [1000, 1000]


def test_rows_that_were_scored_otherwise_go(
    run_judge: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_judge("--variant", "baseline")
    monkeypatch.setitem(judge.SETUP, "samples", 5)
    run_judge("--variant", "improved")
    result = json.loads((tmp_path / "training_history" / "judge.json").read_text())
    assert list(result["rows"]) == ["real test images", "improved"]


def test_a_file_of_samples_is_scored(
    run_judge: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(judge, "COUNT", 1200)
    images, labels = draw_images(1200, 2)
    file = tmp_path / "my_idea.npz"
    np.savez(file, images=images, labels=labels)
    run_judge("--samples", str(file))
    assert "| my_idea | " in capsys.readouterr().out
    assert not (tmp_path / "training_history").exists()
    np.savez(file, images=images, labels=labels[:, None])  # as Keras gives labels
    run_judge("--samples", str(file))
    table = capsys.readouterr().out
    assert "| my_idea | " in table
    assert "100.0%" in table.splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"labels": None},
            r"^make judge: .*my_idea.npz needs 1,200 images uint8 .* and has images",
        ),
        (
            {"images": TEST[0][:9], "labels": TEST[1][:9]},
            r"has images uint8 \(9, 2, 2, 1\), labels",
        ),
        ({"images": None, "labels": None, "x": 1}, r"and has x int64 \(\)$"),
        ({"images": np.zeros((1200, 2, 2, 4), np.uint8)}, r"has images uint8 \(1200, 2, 2, 4\),"),
        ({"images": np.zeros((1200, 2, 2), np.uint8)}, r"has images uint8 \(1200, 2, 2\),"),
        (
            {"labels": np.zeros(1200)},
            r"integer labels as make samples .* labels float64 \(1200,\)$",
        ),
        ({"labels": np.zeros((600, 2), int)}, r"labels int64 \(600, 2\)$"),
        (
            {"labels": np.full(1200, 2)},
            "samples have labels up to 2, and CIFAR-10 has classes 0 to 1",
        ),
    ],
)
def test_samples_of_a_wrong_kind_are_named_before_the_work(
    run_judge: Callable[..., None],
    stand_ins: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    sentence: str,
) -> None:
    monkeypatch.setattr(judge, "COUNT", 1200)
    arrays = dict(zip(("images", "labels"), draw_images(1200, 2), strict=True)) | changes
    file = tmp_path / "my_idea.npz"
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(SystemExit, match=sentence):
        run_judge("--samples", str(file))
    with pytest.raises(SystemExit, match=r"^make judge: .*No such file"):
        run_judge("--samples", str(tmp_path / "none.npz"))
    assert stand_ins == []


@pytest.mark.parametrize("with_samples", [True, False])
def test_runs_are_judged_by_their_own_data(
    run_judge: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_samples: bool,
) -> None:
    """Runs that differ and one whose data are unknown are refused, and an improved one may do."""
    judged = []
    row = {"kid": 0.0}
    monkeypatch.setattr(judge, "judge", lambda data, _: judged.append(data.name) or {"a": row})
    monkeypatch.setattr(judge, "COUNT", 60)
    images = np.random.default_rng(0).integers(0, 256, (60, 20, 20, 1), np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.zeros(60, int))
    options = [f"--output-dir={tmp_path}"] + [f"--samples={tmp_path}/mine.npz"] * with_samples
    baseline = tmp_path / "training_checkpoints" / "baseline"
    mine = {"DATA": f"{tmp_path}/mine.npz", "IMAGE_SHAPE": [20, 20, 1], "TRAIN_IMAGES": 54}
    write_settings(baseline.with_name("improved"), **mine)

    sentence = "baseline and improved were trained on different images: add VARIANT=baseline or"
    with pytest.raises(SystemExit, match=sentence):
        run_judge(*options)
    (baseline / "settings.json").unlink()
    with pytest.raises(
        SystemExit, match=r"settings.json of baseline does not tell the images .*: bring"
    ):
        run_judge(*options)
    assert judged == []
    run_judge(*options, "--variant=improved")
    (baseline / "epoch-1.index").unlink()
    run_judge(*options)
    assert judged == ["mine", "mine"]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"rows": 1}', '{"rows": {"a": 1}}', '{"rows": {"a": {"kid": "1"}}}'],
)
def test_damaged_results_are_named_before_the_work(
    run_judge: Callable[..., None], stand_ins: list[int], tmp_path: Path, content: str
) -> None:
    file = tmp_path / "training_history" / "judge.json"
    file.parent.mkdir()
    file.write_text(content, encoding="utf-8")
    with pytest.raises(
        SystemExit, match=r"^make judge: .*judge\.json is damaged: bring it back, or"
    ):
        run_judge()
    assert file.read_text(encoding="utf-8") == content
    assert stand_ins == []


def test_own_results_stay_in_their_folder(run_judge: Callable[..., None], tmp_path: Path) -> None:
    readme = (tmp_path / "README.md").read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "training_checkpoints").rename(tmp_path / "mine" / "training_checkpoints")
    run_judge("--output-dir", str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "training_history" / "judge.json").exists()
    assert not (tmp_path / "training_history").exists()
    assert (tmp_path / "README.md").read_text() == readme


@pytest.mark.parametrize(("labelled", "place"), [(True, ""), (False, "{}/")])
def test_a_run_on_other_data_is_compared_with_these(
    run_judge: Callable[..., None],
    stand_ins: list[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    labelled: bool,
    place: str,
) -> None:
    """Wherever make is run."""
    images = np.random.default_rng(0).integers(0, 256, (60, 20, 20, 1), dtype=np.uint8)
    arrays = {"labels": np.arange(60) % 2} if labelled else {}
    np.savez(tmp_path / "mine.npz", images=images, **arrays)
    settings = {"DATA": place.format(tmp_path) + "mine.npz", "IMAGE_SHAPE": [20, 20, 1]}
    settings |= {"TRAIN_IMAGES": 54, "SEED": 7, "IMAGES_SHA256": ""}
    for variant in ("baseline", "improved"):
        write_settings(tmp_path / "training_checkpoints" / variant, **settings)
    drawn = images.repeat(4, axis=0), np.arange(240) % 2
    monkeypatch.setattr(judge, "draw_samples", lambda variant, folder: drawn)
    run_judge("--output-dir", str(tmp_path))
    assert stand_ins == [54, 6, 240, 240]
    result = json.loads((tmp_path / "training_history" / "judge.json").read_text())
    assert re.fullmatch("54 training images of mine, SHA-256 [0-9a-f]{16}", result["reference"])
    for row in result["rows"].values():
        assert ("intended" in row) == labelled
    write_settings(
        tmp_path / "training_checkpoints" / "improved", **settings | {"IMAGES_SHA256": "0"}
    )
    with pytest.raises(SystemExit, match=r"mine\.npz holds other images or labels than improved"):
        run_judge("--output-dir", str(tmp_path))


def test_wrong_use(run_judge: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^make judge: argument --variant: invalid choice"):
        run_judge("--variant", "best")
    empty = str(tmp_path / "empty")
    begun = tmp_path / "empty" / "training_checkpoints" / "improved"
    begun.mkdir(parents=True)
    (begun / "epoch-0.index").touch()  # broken off in its first epoch
    with pytest.raises(SystemExit, match=r"^make judge: no checkpoint of improved in .*make train"):
        run_judge("--variant", "improved", "--output-dir", empty)
    with pytest.raises(SystemExit, match=r"^make judge: no checkpoint of baseline or improved in"):
        run_judge("--output-dir", empty)
    with pytest.raises(SystemExit, match=r"^make judge: no checkpoint of baseline or improved in"):
        run_judge("--output-dir", empty, "--samples", "few.npz")


def test_the_networks_packages_are_installed_where_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "Makefile").write_text(".venv-judge/ready:\n\t@echo Installing; false\n")
    monkeypatch.setattr(judge, "ROOT", tmp_path)
    with pytest.raises(RuntimeError, match=r"^the judge's packages cannot be installed, for the"):
        EXTRACT(TEST[0])
    assert capfd.readouterr().out == "Installing\n"


def test_a_script_that_fails(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("raise SystemExit(3)")
    with pytest.raises(RuntimeError, match=r"^fails\.py failed"):
        judge.run_script(sys.executable, script)


def test_samples_are_drawn_by_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "COUNT", 4)
    images, labels = judge.draw_samples("improved", None)
    assert (images.shape, labels.tolist()) == ((4, 32, 32, 3), [0, 1, 2, 3])
