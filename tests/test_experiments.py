"""Experiments train and score their rows once, with the notebook's own code."""

import importlib
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ablation
import baseline
import numpy as np
import peers
import pytest
import runner
from matplotlib.axes import Axes
from notebook import ROOT

import dcgan_utils as utils

TABLES = ("ablation", "ideas", "peers")
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Keep results away from the repository, and return the names of what is judged."""
    judged = []

    def judge(data: Any, samples: list[tuple]) -> dict[str, dict[str, float]]:
        judged.extend(name for name, *_ in samples)
        return {name: {"frechet": 99.5, "kid": 0.25} for name in ("real test images", *judged)}

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    (tmp_path / "experiments").mkdir()
    markers = [f"<!-- {name} -->\n<!-- end of {name} -->" for name in TABLES]
    (tmp_path / "experiments" / "README.md").write_text("\n".join(markers), encoding="utf-8")
    monkeypatch.setattr(runner.judge, "judge", judge)
    monkeypatch.setattr(runner.judge, "load_data", lambda name: None)
    monkeypatch.setattr(runner.judge, "COUNT", 256)
    return judged


@pytest.fixture
def quick_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train rows as in a fast try."""
    real = runner.train_row
    monkeypatch.setattr(runner, "train_row", lambda *row: real(*row[:-1], True))


@pytest.mark.parametrize("name", ["", "nonsense", "runner"])
def test_an_unknown_name_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("sys.argv", ["runner.py", f"--name={name}"])
    with pytest.raises(SystemExit) as end:
        runner.main()
    sentence = f"make experiment: NAME is one of ablation, baseline, .*, ideas, not '{name}'"
    assert re.fullmatch(sentence, str(end.value))


def test_ideas_are_all_experiments_under_the_common_budget() -> None:
    known = runner.experiments()
    assert known["peers"] == ["peers"]
    assert {*known} - {*known["ideas"]} == {"ablation", "ideas", "peers"}


def test_a_copy_takes_titles_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Beside a file that cannot be imported, which is no matter."""
    text = (runner.HERE / "label_smoothing.py").read_text(encoding="utf-8")
    for name in ("a_copy", "cannot_be_imported", "label_smoothing"):
        begin = "import nothere\n" * name.startswith("cannot")
        (tmp_path / f"{name}.py").write_text(begin + text, encoding="utf-8")
    monkeypatch.setattr(runner, "HERE", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sentence = "a_copy.py has a row .* and label noise, as has label_smoothing.py: choose another"
    with pytest.raises(ValueError, match=sentence):
        runner.run_experiment("a_copy")


def test_rows_are_checked_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ROWS", {})
    with pytest.raises(ValueError, match=r"^ROWS of peers.py is empty: add a row, or remove ROWS$"):
        runner.run_experiment("peers")
    monkeypatch.setattr(peers, "ROWS", {"clothes": {"DATA": "fashion_mnist"}})
    with pytest.raises(ValueError, match=r"^peers.py sets DATA, but experiments are judged by CIF"):
        runner.run_experiment("peers")
    for titles in (("beta 0.5", "beta: 0.5"), ("++",)):
        monkeypatch.setattr(peers, "ROWS", {title: {} for title in titles})
        with pytest.raises(ValueError, match=r"^titles of peers.py name files: let them differ"):
            runner.run_experiment("peers")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows": 1}', '{"rows": {"a": 1}}', '{"row'])
def test_a_damaged_table_is_named_before_the_work(tmp_path: Path, content: str) -> None:
    file = tmp_path / "training_history" / "ideas.json"
    file.parent.mkdir()
    file.write_text(content, encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"ideas\.json is damaged: move it away, or restore it"):
        runner.run_experiment("baseline")
    assert file.read_text(encoding="utf-8") == content


@pytest.mark.parametrize("name", TABLES)
def test_readme_shows_the_shipped_results(name: str) -> None:
    rows = runner.load_rows(ROOT / "training_history" / f"{name}.json")
    readme = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    between = readme.split(f"<!-- {name} -->")[1].split(f"<!-- end of {name} -->")[0]
    table = between.split("![")[0].strip()
    assert table == (utils.format_scores(rows) if rows else "*Not trained yet.*")
    files = runner.experiments()[name]
    titles = [getattr(importlib.import_module(each), "ROWS", [each]) for each in files]
    assert {*rows} <= {*itertools.chain(*titles)}


@pytest.mark.usefixtures("quick_rows")
def test_rows_are_trained_and_judged_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_folder: list[str]
) -> None:
    """The first row is there already; the second has classes and parameters of its own."""
    drawn, plot = [], Axes.plot

    def note(axis: Axes, x: Any, y: Any, *style: str, label: str) -> list:
        drawn.append((x, y, label))
        return plot(axis, x, y, *style, label=label)

    monkeypatch.setattr(Axes, "plot", note)
    file = tmp_path / "training_history" / "peers.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"rows": {"baseline, 3 minutes": {"distance": 1.25}}}))
    title = "hinge, SN, projection, 3 minutes"
    options = {"recipe": "hinge, SN, projection", "SEED": 7, "minutes": 3}
    monkeypatch.setattr(peers, "ROWS", {"baseline, 3 minutes": {}, title: options})
    for _ in range(2):
        results = runner.run_experiment("peers")
        assert "| baseline, 3 minutes | – | – | 1.25 |" in results
        assert f"| {title} | 99.5 | 0.2500 |" in results
    assert own_folder == [title]
    readme = (tmp_path / "experiments" / "README.md").read_text(encoding="utf-8")
    assert f"<!-- peers -->\n\n{results}\n\n<!-- end of peers -->" in readme
    for picture in ("generated_samples/peers.png", "training_history/peers.png"):
        assert f"](../{picture})" in results
    row = json.loads(file.read_text(encoding="utf-8"))["rows"][title]
    assert [record["epoch"] for record in row["history"]] == [1]
    assert row["distance"] > 0
    assert row["minutes"] == pytest.approx(row["history"][0]["seconds"] / 60)
    folder = tmp_path / "runs" / "experiments" / "peers"
    with np.load(folder / "hinge_SN_projection_3_minutes.npz") as arrays:
        assert arrays["images"].shape == (256, 32, 32, 3)
        assert arrays["labels"][:11].tolist() == [*range(10), 0]
        samples = arrays["images"][:10]
    settings = folder / "training_checkpoints" / "hinge_SN_projection_3_minutes" / "settings.json"
    assert json.loads(settings.read_text())["SEED"] == 7
    pictures = tmp_path / "generated_samples"
    strip = utils.read_picture(pictures / "peers" / "hinge_SN_projection_3_minutes.png")
    assert np.array_equal(strip, np.concatenate(samples, axis=1))
    assert utils.read_picture(pictures / "peers.png").shape[0] == 68  # one row
    assert ((row["minutes"],), (99.5,), "hinge, SN, projection") in drawn


def test_a_row_of_the_ablation_trains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_folder: list[str]
) -> None:
    monkeypatch.setattr(ablation, "ROWS", {"plain DCGAN": {"plain": True}})
    assert "| plain DCGAN |" in runner.run_experiment("ablation", fast=True)
    (results,) = tmp_path.glob("runs/fast/ablation_001/training_history/ablation.json")
    row = json.loads(results.read_text())["rows"]["plain DCGAN"]
    assert "intended" not in row
    assert row["distance"] > 0
    assert own_folder == []


def test_the_rows_of_the_ablation_differ_where_they_say() -> None:
    """The full row computes the numbers of the notebook's step."""
    parameters = runner.SHIPPED | {"FAST": True, "PRECISION": "float32", "GENERATOR_WIDTH": 8}
    lesson = SimpleNamespace(**runner.run_cells(*runner.TAGS, **parameters))
    lesson.keras.utils.set_random_seed(lesson.SEED)
    gan, step = ablation.build(lesson)
    dataset = lesson.make_dataset(lesson.x_train, lesson.y_train, 1)
    batch = [part[:8] for part in next(iter(dataset))]
    noise, labels = lesson.draw_inputs(10, 0)
    some_noise = lesson.tf.constant(noise[:8])
    for _ in range(2):  # the first of which has the penalty
        ours = step(gan, *batch, some_noise)
        theirs = lesson.improved_train_step(lesson.improved, *batch, some_noise)
    for key, value in ours.items():
        assert float(value) == pytest.approx(float(theirs[key]), rel=1e-4), key

    gan, step = ablation.build(lesson, conditional=False)
    step(gan, *batch, some_noise)
    for generator, same in ((gan.ema_generator, True), (lesson.improved.generator, False)):
        images = [lesson.utils.generate_images(generator, noise, k) for k in (labels, labels[::-1])]
        assert np.array_equal(*images) == same
    maps = lesson.feature_maps(batch[0])
    one_hot = lesson.tf.one_hot(batch[1], 10)
    logits = [gan.discriminator([*maps, k]) for k in (one_hot, one_hot[::-1])]
    assert np.array_equal(*logits)

    gan, step = ablation.build(lesson, feature_network=False, ema=False)
    assert gan.ema_generator is gan.generator
    assert all(np.isfinite(float(value)) for value in step(gan, *batch, some_noise).values())
    for seen in (True, False):
        changed = [part * ((k == 0) != seen) for k, part in enumerate(maps)]
        logits = [gan.discriminator([*each, one_hot]) for each in (maps, changed)]
        assert logits[0].shape == (8, 1, 16)
        assert np.array_equal(*logits) != seen


def test_training_goes_on_where_the_judge_fails(
    monkeypatch: pytest.MonkeyPatch, own_folder: list[str], capsys: pytest.CaptureFixture
) -> None:
    def fail(data: Any, samples: list[tuple]) -> None:
        raise RuntimeError("judge_features.py failed")

    def train_row(experiment, title, options, folder, strips, fast) -> dict:
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"images": IMAGES.repeat(22, axis=0)[:256], "labels": np.full(256, -1)}
        np.savez(folder / f"{runner.file_name(title)}.npz", **arrays)
        return {"distance": 1.5}

    judge = runner.judge.judge
    monkeypatch.setattr(runner, "train_row", train_row)
    monkeypatch.setattr(runner.judge, "judge", fail)
    assert "| label noise | 1.50 |" in runner.run_experiment("label_smoothing")
    monkeypatch.setattr(runner.judge, "judge", judge)
    assert "| label noise | 99.5 | 0.2500 | 1.50 |" in runner.run_experiment("label_smoothing")
    assert own_folder == ["one-sided label smoothing", "label noise"]
    assert capsys.readouterr().out.count(": trained already; to do it anew, ") == 2


def test_other_rows_are_trained_where_one_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_folder: list[str]
) -> None:
    def train_row(experiment, title, *others) -> dict:
        if title == "label noise":
            return {"distance": 1.5}
        raise RuntimeError("g_loss is not finite")

    monkeypatch.setattr(runner, "train_row", train_row)
    for _ in range(2):  # the row that failed is tried again, the other one kept
        with pytest.raises(RuntimeError, match=r"reasons above: one-sided label smoothing$"):
            runner.run_experiment("label_smoothing")
        rows = runner.load_rows(tmp_path / "training_history" / "ideas.json")
        assert rows == {"label noise": {"distance": 1.5}}


def test_other_files_are_trained_where_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []

    def run_experiment(name: str, fast: bool) -> str:
        trained.append(name)
        raise RuntimeError("not trained, for the reasons above: a row")

    monkeypatch.setattr(runner, "run_experiment", run_experiment)
    monkeypatch.setattr("sys.argv", ["runner.py", "--name=ideas"])
    with pytest.raises(SystemExit, match=r"not trained, for the reasons above: a row$"):
        runner.main()
    assert trained == runner.experiments()["ideas"]


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
    results = runner.run_experiment("label_smoothing")
    assert results.endswith("](../generated_samples/ideas.png)")
    titles = re.findall(r"(?m)^\| (\w[^|]*) \|", results)
    assert titles == ["other", "one-sided label smoothing", "label noise"]
    assert own_folder == []  # their samples are not here
    assert (tmp_path / "generated_samples" / "ideas.png").exists()


def test_minutes_become_epochs_and_rates_that_fall_within_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock that says a tenth of a second a step, where four steps show all images."""
    monkeypatch.setattr(runner, "TIMED_STEPS", 2)
    clock = itertools.count(step=0.1 * runner.TIMED_STEPS)
    monkeypatch.setattr(runner, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    parameters = {"FAST": True, "PRECISION": "float32"}
    cells = runner.run_cells(*runner.TAGS, **runner.SHIPPED | parameters)
    parts = []
    monkeypatch.setattr(runner, "run_cells", lambda *tags, **given: parts.append(given) or cells)
    for minutes, epochs in ((2, 300), (0.001, 1)):
        budget = runner.fit_minutes(baseline, minutes, {}, parameters)
        assert budget == {"EPOCHS": epochs, "G_HALF_LIFE": epochs, "D_HALF_LIFE": 0.4 * epochs}
    assert parts == 2 * [runner.SHIPPED | parameters]


def test_a_row_that_was_broken_off_keeps_its_budget(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "training_checkpoints" / "a_row" / "settings.json"
    settings.parent.mkdir(parents=True)
    budget = {"EPOCHS": 15, "G_HALF_LIFE": 1.4, "D_HALF_LIFE": 0.6}
    settings.write_text(json.dumps(budget | {"SEED": 1}))
    parameters = {}

    def run_cells(*tags: str, **given: Any) -> None:
        parameters.update(given)
        raise NotImplementedError

    monkeypatch.setattr(runner, "run_cells", run_cells)
    with pytest.raises(NotImplementedError):
        runner.train_row(baseline, "a row", {"minutes": 3}, tmp_path, tmp_path, False)
    assert parameters == runner.SHIPPED | runner.BUDGET | budget
