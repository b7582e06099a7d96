"""Experiments train and score their rows once, with the notebook's own code."""

import itertools
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import ablation
import baseline
import numpy as np
import peers
import pytest
import runner
from notebook import ROOT

import dcgan_utils as utils

RESULTS = ROOT / "training_history" / "ablation.json"
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Keep results away from the repository, and return the names of what is judged."""
    judged = []

    def judge(samples: list[tuple]) -> dict[str, dict[str, float]]:
        judged.extend(name for name, *_ in samples)
        return {name: {"frechet": 99.5, "kid": 0.25} for name in ("real test images", *judged)}

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner.judge, "judge", judge)
    monkeypatch.setattr(runner.judge, "COUNT", 256)
    return judged


@pytest.fixture
def quick_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train rows as in a fast try."""
    real = runner.train_row
    monkeypatch.setattr(runner, "train_row", lambda *row: real(*row[:-1], True))


def test_an_unknown_name_ends_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^NAME is one of ablation, baseline.*, not 'nonsense'$"):
        runner.run_experiment("nonsense")
    with pytest.raises(ValueError, match="not 'runner'"):
        runner.run_experiment("runner")


@pytest.mark.parametrize(("fast", "judged"), [("1", False), ("yes", False), ("0", True)])
def test_only_a_fast_try_does_without_the_judges_environment(fast: str, judged: bool) -> None:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--dry-run", "experiment", "NAME=baseline", f"FAST={fast}"]
    planned = subprocess.run(command, cwd=ROOT, env=outer, capture_output=True, text=True).stdout
    assert "experiments/runner.py --name='baseline'" in planned
    assert (".venv-judge/ready" in planned) == judged


def test_readme_shows_the_shipped_results_of_all_rows() -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    assert [*rows] == [*ablation.ROWS]
    readme = (runner.HERE / "README.md").read_text(encoding="utf-8")
    between = readme.split("<!-- ablation -->")[1].split("<!-- end of ablation -->")[0]
    assert between.strip() == utils.format_scores(rows)


@pytest.mark.usefixtures("quick_rows")
def test_rows_are_trained_and_judged_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_folder: list[str]
) -> None:
    """The first row is there already; the second has classes and parameters of its own."""
    file = tmp_path / "training_history" / "peers.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"rows": {"baseline, 3 minutes": {"distance": 1.25}}}))
    options = {"recipe": "hinge, SN, projection", "SEED": 7}
    monkeypatch.setattr(peers, "ROWS", {"baseline, 3 minutes": {}, "seed 7": options})
    for _ in range(2):
        name, table = runner.run_experiment("peers")
        assert name == "peers"
        assert "| baseline, 3 minutes | – | – | 1.25 |" in table
        assert "| seed 7 | 99.5 | 0.2500 |" in table
    assert own_folder == ["seed 7"]
    row = json.loads(file.read_text(encoding="utf-8"))["rows"]["seed 7"]
    assert [record["epoch"] for record in row["history"]] == [1]
    assert row["distance"] > 0
    assert row["minutes"] == pytest.approx(row["history"][0]["seconds"] / 60)
    folder = tmp_path / "runs" / "experiments" / "peers"
    with np.load(folder / "seed_7.npz") as arrays:
        assert arrays["images"].shape == (256, 32, 32, 3)
        assert arrays["labels"][:11].tolist() == [*range(10), 0]
        samples = arrays["images"][:10]
    settings = folder / "training_checkpoints" / "seed_7" / "settings.json"
    assert json.loads(settings.read_text())["SEED"] == 7
    pictures = tmp_path / "generated_samples"
    strip = utils.read_picture(pictures / "peers" / "seed_7.png")
    assert np.array_equal(strip, np.concatenate(samples, axis=1))
    assert utils.read_picture(pictures / "peers.png").shape[0] == 68  # one row
    assert utils.read_picture(file.with_suffix(".png")).std() > 10


@pytest.mark.parametrize("title", ["+ random flips", "+ deeper networks"])
def test_kinds_of_rows_of_the_ablation_train(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, title: str
) -> None:
    monkeypatch.setattr(ablation, "ROWS", {title: ablation.ROWS[title]})
    assert f"| {title} |" in runner.run_experiment("ablation", fast=True)[1]
    (results,) = tmp_path.glob("runs/fast/ablation_001/training_history/ablation.json")
    row = json.loads(results.read_text())["rows"][title]
    assert ("intended" in row) == bool(ablation.ROWS[title].get("maps"))
    assert row["distance"] > 0


def test_ideas_share_a_table_and_a_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_folder: list[str]
) -> None:
    """Also where another experiment adds its rows in the meantime."""

    def train_row(experiment, title, options, folder, strips, fast) -> dict:
        for name in (title, "shown beside"):
            strip = utils.image_grid(IMAGES[:10], 10, scale=1, gap=0)
            utils.save_png(strip, strips / f"{runner.file_name(name)}.png")
        runner.save_rows(tmp_path / "training_history" / "ideas.json", {"other": {"distance": 2}})
        return {"distance": 1.5, "pictures": [title, "shown beside"]}

    monkeypatch.setattr(runner, "train_row", train_row)
    name, table = runner.run_experiment("label_smoothing")
    assert name == "ideas"
    titles = [line.split(" | ")[0][2:] for line in table.splitlines()[2:]]
    assert titles == ["other", "one-sided label smoothing", "label noise"]
    assert own_folder == []  # their samples are not here
    assert (tmp_path / "generated_samples" / "ideas.png").exists()


def test_minutes_become_steps_and_rates_that_fall_within_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock that says a tenth of a second a step, where four steps show all images."""
    monkeypatch.setattr(runner, "TIMED_STEPS", 2)
    clock = itertools.count(step=0.1 * runner.TIMED_STEPS)
    monkeypatch.setattr(runner.time, "perf_counter", lambda: next(clock))
    budget = runner.fit_minutes(baseline, 2, {}, {"FAST": True, "PRECISION": "float32"})
    epochs = 1200 / 4
    rates = {"G_HALF_LIFE": pytest.approx(epochs), "D_HALF_LIFE": pytest.approx(0.4 * epochs)}
    assert budget == {"steps": 80, "EPOCHS": 15} | rates


@pytest.mark.parametrize("steps", [2, 7])
def test_epochs_have_as_many_steps_as_are_set(
    lesson: Callable[..., SimpleNamespace], steps: int
) -> None:
    names = lesson(TRAIN_IMAGES=24)
    runner.set_steps(names, steps)
    batches = names.train.__globals__["make_dataset"](IMAGES.repeat(2, 0), np.arange(24), 1)
    labels = [batch[1].numpy() for batch in batches]
    assert len(batches) == len(labels) == steps
    assert len({*np.concatenate(labels[:3])}) == 8 * min(3, steps)


def test_a_row_that_was_broken_off_keeps_its_budget(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "training_checkpoints" / "a_row" / "settings.json"
    settings.parent.mkdir(parents=True)
    budget = {"EPOCHS": 15, "G_HALF_LIFE": 1.4, "D_HALF_LIFE": 0.6}
    settings.write_text(json.dumps(budget | {"steps": 70, "SEED": 1}))
    parameters = {}
    monkeypatch.setattr(runner, "run_cells", lambda *tags, **given: parameters.update(given))
    with pytest.raises(TypeError):  # there are no cells to go on with
        runner.train_row(baseline, "a row", {"minutes": 3}, tmp_path, tmp_path, False)
    assert parameters == {"FAST": False} | budget


def test_the_full_row_of_the_ablation_is_the_improved_variant() -> None:
    """Its step and the notebook's compute the same numbers."""
    names = runner.run_cells(*runner.TAGS, FAST=True, PRECISION="float32")
    lesson = SimpleNamespace(**names)
    lesson.keras.utils.set_random_seed(lesson.SEED)
    gan, step = ablation.build(lesson, **ablation.IMPROVED)
    batch = next(iter(lesson.make_dataset(lesson.x_train, lesson.y_train, 1)))
    numbers = [
        lesson.compile_step(train_step, trained, lesson.LATENT_DIM, lesson.SEED)(*batch)
        for trained, train_step in ((gan, step), (lesson.improved, lesson.improved_train_step))
    ]
    for key, value in numbers[0].items():
        assert float(value) == float(numbers[1][key]), key
