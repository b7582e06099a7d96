"""Experiments train and score their rows once, with the notebook's own code."""

import json
from pathlib import Path
from types import SimpleNamespace

import ablation
import numpy as np
import pytest
import runner
from notebook import ROOT

import dcgan_utils as utils

RESULTS = ROOT / "training_history" / "ablation.json"


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep what experiments write away from the repository."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(runner, "ROOT", tmp_path)


def test_an_unknown_name_ends_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^NAME is one of ablation.*, not 'nonsense'$"):
        runner.run_experiment("nonsense")
    with pytest.raises(ValueError, match="not 'runner'"):
        runner.run_experiment("runner")


def test_readme_shows_the_shipped_results_of_all_rows() -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    assert [*rows] == [*ablation.ROWS]
    readme = (runner.HERE / "README.md").read_text(encoding="utf-8")
    between = readme.split("<!-- ablation -->")[1].split("<!-- end of ablation -->")[0]
    assert between.strip() == utils.format_scores(rows)


def test_rows_are_trained_and_scored_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first row is there already; the second has parameters of its own."""
    file = tmp_path / "training_history" / "ablation.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"rows": {"plain DCGAN": {"distance": 1.25}}}))
    rows = {"plain DCGAN": {}, "seed 7": ablation.IMPROVED | {"SEED": 7}}
    monkeypatch.setattr(ablation, "ROWS", rows)
    real = runner.train_row
    monkeypatch.setattr(runner, "train_row", lambda *row: real(*row[:-1], True))
    for _ in range(2):
        assert "| plain DCGAN | 1.25 |" in runner.run_experiment("ablation")
    row = json.loads(file.read_text(encoding="utf-8"))["rows"]["seed 7"]
    assert [record["epoch"] for record in row["history"]] == [1]
    assert row["distance"] > 0
    folder = tmp_path / "runs" / "experiments" / "ablation"
    with np.load(folder / "seed_7.npz") as arrays:
        assert arrays["images"].shape == (256, 32, 32, 3)
        assert arrays["labels"][:11].tolist() == [*range(10), 0]
    settings = folder / "training_checkpoints" / "seed_7" / "settings.json"
    assert json.loads(settings.read_text())["SEED"] == 7


@pytest.mark.parametrize("title", ["+ random flips", "+ deeper networks"])
def test_kinds_of_rows_of_the_ablation_train(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, title: str
) -> None:
    monkeypatch.setattr(ablation, "ROWS", {title: ablation.ROWS[title]})
    assert f"| {title} |" in runner.run_experiment("ablation", fast=True)
    (results,) = tmp_path.glob("runs/fast/ablation_001/results.json")
    row = json.loads(results.read_text())["rows"][title]
    assert ("intended" in row) == bool(ablation.ROWS[title].get("maps"))
    assert row["distance"] > 0


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
