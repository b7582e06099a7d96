"""The committed notebook and README: renderable, complete, and in agreement with the history."""

import ast
import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import nbformat
import numpy as np
import pytest

import dcgan_utils as utils

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "cifar10_dcgan.ipynb"
README = (ROOT / "README.md").read_text()
VARIANTS = ("baseline", "improved")
FOLDERS = {variant: utils.RunFolders(ROOT, variant) for variant in VARIANTS}
HISTORIES = {variant: utils.load_history(FOLDERS[variant].history) for variant in VARIANTS}
HISTORY, IMPROVED = HISTORIES.values()
SHORT_RUNS = json.loads((ROOT / "training_history" / "improved_seeds.json").read_text())


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    """The notebook as committed."""
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Its code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook: nbformat.NotebookNode) -> str:
    """Join the notebook's Markdown and printed output."""
    parts = []
    for cell in notebook.cells:
        parts.append(cell.source if cell.cell_type == "markdown" else "")
        parts += [output.get("text", "") for output in cell.get("outputs", [])]
    return "\n".join(parts)


def test_is_valid_and_small_enough_for_github(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 2_000_000
    assert "widgets" not in notebook.metadata
    assert notebook.metadata.kernelspec.name == "python3"


def test_was_executed_top_to_bottom_without_complaints(code_cells: list) -> None:
    assert [cell.execution_count for cell in code_cells] == list(range(1, len(code_cells) + 1))
    for cell in code_cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text


def test_pictures_are_embedded(code_cells: list) -> None:
    starts = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8"}
    pictures = [
        (starts[kind], base64.b64decode(data))
        for cell in code_cells
        for output in cell.outputs
        for kind, data in output.get("data", {}).items()
        if kind in starts
    ]
    assert len(pictures) >= 14
    assert all(picture.startswith(start) for start, picture in pictures)


def test_graphs_and_first_picture_are_embedded_as_shipped(code_cells: list) -> None:
    embedded = {
        base64.b64decode(output.data["image/png"])
        for cell in code_cells
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    }
    plots = [folders.history_plot for folders in FOLDERS.values()]
    plots.append(ROOT / "training_history" / "comparison.png")
    for path in (*plots, FOLDERS["improved"].sample(len(IMPROVED))):
        assert path.read_bytes() in embedded, path


def test_has_the_eight_steps_in_order(notebook: nbformat.NotebookNode) -> None:
    headings = re.findall(r"^## Step (\d): (.+)$", texts(notebook), re.MULTILINE)
    assert headings == [
        ("1", "Data"),
        ("2", "Generator"),
        ("3", "Discriminator"),
        ("4", "Losses, accuracy and optimizers"),
        ("5", "Training step"),
        ("6", "Training"),
        ("7", "GIF"),
        ("8", "Improved variant"),
    ]


def test_cells_are_short_and_tagged(code_cells: list) -> None:
    tags = [tag for cell in code_cells for tag in cell.metadata.get("tags", [])]
    assert tags.count("parameters") == 1
    assert {"setup", "data", "definitions"} <= {*tags}
    for variant in VARIANTS:
        assert {f"variant:{variant}", f"train:{variant}"} <= {*tags}
    assert max(len(cell.source.splitlines()) for cell in code_cells) <= 35


def test_holds_no_path_of_a_machine(notebook: nbformat.NotebookNode) -> None:
    everything = nbformat.writes(notebook)
    assert not re.search(r"/(root|tmp|work)/|/home/[a-z]|/Users/", everything)


def test_links_to_files_of_the_repository_lead_somewhere(notebook: nbformat.NotebookNode) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README + texts(notebook))
    local = [link for link in links if "://" not in link]
    assert "generated_samples/baseline.gif" in local
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_badge_and_address_name_the_same_repository(notebook: nbformat.NotebookNode) -> None:
    (constant,) = re.findall(r'^REPOSITORY = "(.*)"$', nbformat_sources(notebook), re.MULTILINE)
    address = re.sub(r"^https://github\.com/|\.git$", "", constant)
    badge = r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/main/cifar10_dcgan\.ipynb"
    expected = [address] if address else []
    assert re.findall(badge, README) == expected
    assert re.findall(badge, notebook.cells[0].source) == expected


def nbformat_sources(notebook: nbformat.NotebookNode) -> str:
    """Join all sources."""
    return "\n".join(cell.source for cell in notebook.cells)


def test_history_meets_its_target() -> None:
    trend = utils.summarise_trend(HISTORY)
    assert len(HISTORY) >= 50
    assert 0.45 <= trend["last_mean"] <= 0.65
    assert trend["spearman"] <= -0.6
    assert trend["peak_epoch"] <= 10


def test_improved_history_meets_its_target() -> None:
    baseline, improved = (utils.history_column(h, "distance") for h in (HISTORY, IMPROVED))
    assert len(improved) >= 50
    assert improved[-1] <= 0.3 * baseline[-1]
    minutes = utils.history_column(IMPROVED, "seconds").cumsum() / 60
    assert minutes[(improved < baseline.min()).argmax()] < 60
    trend = utils.summarise_trend(IMPROVED)
    assert trend["spearman"] <= -0.6
    assert trend["peak_epoch"] <= 10
    assert trend["last_mean"] <= 0.65


@pytest.mark.parametrize("variant", VARIANTS)
def test_notebook_and_readme_quote_the_history(
    notebook: nbformat.NotebookNode, variant: str
) -> None:
    history = HISTORIES[variant]
    trend = utils.summarise_trend(history)
    real = utils.summarise_trend(history, "real_acc")
    minutes = sum(record["seconds"] for record in history) / 60
    distances = utils.history_column(history, "distance")
    numbers = [
        f"{distances[-1]:.2f}",
        f"{distances.min():.2f}",
        f"epoch {distances.argmin() + 1}",
        f"{trend['peak']:.3f}",
        f"{trend['last_mean']:.3f}",
        f"{trend['spearman']:.2f}",
        f"{real['last_mean']:.3f}",
        f"{minutes:.0f} minutes",
    ]
    for number in numbers:
        assert number in texts(notebook), number
        assert number.replace("-", "−") in README.replace("-", "−"), number
    lines = [utils.format_epoch(record, len(history)) for record in history]
    assert "\n".join(lines) in texts(notebook)


def score_tables(notebook: nbformat.NotebookNode) -> list[str]:
    """The Markdown tables of scores that the notebook has computed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [o.data["text/markdown"] for o in outputs if "text/markdown" in o.get("data", {})]


def test_readme_repeats_the_scores_of_the_notebook(notebook: nbformat.NotebookNode) -> None:
    scores, ablation = score_tables(notebook)
    assert scores in README
    assert ablation in README
    rows = json.loads((ROOT / "training_history" / "ablation.json").read_text())["rows"]
    assert ablation == utils.format_scores(rows)


def test_scores_meet_their_targets(notebook: nbformat.NotebookNode) -> None:
    names = [name for name, _ in utils.SCORE_NAMES.values()]
    scores = {}
    for line in score_tables(notebook)[0].splitlines()[2:]:
        title, *cells = (cell.strip(" *") for cell in line.strip("|").split("|"))
        values = (float(cell.rstrip("%")) if cell != "–" else None for cell in cells)
        scores[title] = dict(zip(names, values, strict=True))
    photographs, baseline, improved = scores.values()
    assert improved["Fréchet distance"] <= 0.15 * baseline["Fréchet distance"]
    assert improved["read as intended"] >= 0.9 * photographs["read as intended"]
    assert improved["read with > 90 %"] >= 0.6 * photographs["read with > 90 %"]
    assert improved["rarest class"] >= 6
    assert improved["commonest class"] <= 14


def test_the_second_seed_is_quoted_as_it_ran(notebook: nbformat.NotebookNode) -> None:
    second = utils.load_history(ROOT / "training_history" / "baseline_seed_7.json")
    assert f"{utils.summarise_trend(second)['peak']:.3f}" in texts(notebook)
    for record in (second[-1], HISTORY[len(second) - 1]):
        assert f"{record['fake_acc']:.3f}" in README
        assert f"{record['fake_acc']:.3f}" in texts(notebook)


def short_distances(schedule: str) -> list[float]:
    """The distances of the short runs, one a seed: means over three times 10,000 pictures."""
    draws = [run["scores"].values() for run in SHORT_RUNS[schedule].values()]
    return [np.mean([scores["distance"] for scores in of_run]) for of_run in draws]


def percent_apart(first: float, second: float) -> float:
    """How far the second of two numbers is from the first, in percent of the first."""
    return 100 * abs(second / first - 1)


@pytest.mark.parametrize("schedule", SHORT_RUNS)
def test_short_runs_of_two_seeds_are_quoted_as_they_ran(
    schedule: str, notebook: nbformat.NotebookNode
) -> None:
    first, second = short_distances(schedule)
    quoted = f"{first:.2f} and {second:.2f}, {percent_apart(first, second):.0f} % apart"
    assert quoted in texts(notebook)
    assert quoted in README


def test_the_second_seed_is_near_the_first_on_enough_pictures(
    notebook: nbformat.NotebookNode,
) -> None:
    assert percent_apart(*short_distances("shortened")) < 15
    first, second = (run["history"][-1]["distance"] for run in SHORT_RUNS["shortened"].values())
    quoted = f"({first:.2f} and {second:.2f}) the first two are"
    assert f"{quoted} {percent_apart(first, second):.0f} % apart" in texts(notebook)


def test_a_short_run_begins_as_the_shipped_one() -> None:
    shipped = utils.history_column(IMPROVED[:10], "distance")
    short = utils.history_column(SHORT_RUNS["cut off"]["42"]["history"], "distance")
    np.testing.assert_allclose(short, shipped)


def test_every_trial_is_in_the_table(notebook: nbformat.NotebookNode) -> None:
    trials = json.loads((ROOT / "training_history" / "baseline_trials.json").read_text())["trials"]
    table = texts(notebook).split("### What was tried")[1].split("## Step 7")[0]
    rows = [line for line in table.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == len(trials)
    for row, trial in zip(rows, trials, strict=True):
        real, fake = trial["real_acc"], trial["fake_acc"]
        assert row.startswith(f"| {trial['discriminator_width']}-")
        assert f"| {len(fake)} | {real[-1]:.2f} | {fake[-1]:.2f} | {trial['pictures']} |" in row


def test_the_comparison_of_layers_is_quoted_as_it_ran(notebook: nbformat.NotebookNode) -> None:
    runs = json.loads((ROOT / "training_history" / "baseline_layers.json").read_text())["runs"]
    third = {(run["layers"], run["seed"]): f"{run['fake_acc'][2]:.2f}" for run in runs}
    keras, faster = (
        [third[layers, seed] for seed in (42, 7)] for layers in ("Keras", "dcgan_utils")
    )
    sentence = f"{keras[0]} and {keras[1]} with the former, {faster[0]} and {faster[1]} with the"
    assert sentence in texts(notebook)
    shipped = next(run for run in runs if (run["layers"], run["seed"]) == ("dcgan_utils", 42))
    assert shipped["fake_acc"] == [round(record["fake_acc"], 4) for record in HISTORY[:4]]


@pytest.mark.parametrize(("variant", "shape"), [("baseline", (266, 266)), ("improved", (266, 662))])
def test_every_epoch_left_its_picture(variant: str, shape: tuple[int, int]) -> None:
    folders = FOLDERS[variant]
    expected = [folders.sample(record["epoch"]) for record in HISTORIES[variant]]
    assert sorted(folders.samples.iterdir()) == expected
    assert {utils.read_picture(path).shape for path in expected} == {(*shape, 3)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_shipped_gif_has_a_frame_an_epoch(variant: str) -> None:
    assert len(iio.imread(FOLDERS[variant].gif)) == len(HISTORIES[variant])
    assert utils.read_picture(FOLDERS[variant].history_plot).std() > 10


def test_shipped_pictures_are_pictures() -> None:
    for path in (FOLDERS["baseline"].strip, FOLDERS["improved"].class_grid):
        assert utils.read_picture(path).std() > 10
    assert len(iio.imread(FOLDERS["improved"].walk)) > 20


@pytest.mark.parametrize("variant", VARIANTS)
def test_shipped_checkpoint_draws_the_last_picture(
    lesson: Callable[..., SimpleNamespace], variant: str
) -> None:
    """The checkpoint, the pictures and the notebook's networks belong together."""
    names = lesson(f"variant:{variant}", OUTPUT_DIR=str(ROOT))
    run, folders = getattr(names, variant), FOLDERS[variant]
    manager = utils.make_checkpoint_manager(run, folders)
    assert utils.resume(manager, folders) == (HISTORIES[variant], utils.EpochProgress())
    shipped = utils.read_picture(folders.sample(len(HISTORIES[variant]))).astype(float)
    noise, labels = names.draw_inputs(16 if variant == "baseline" else 40, names.SEED)
    images = utils.generate_images(run.sampler, noise, labels)
    columns = 4 if variant == "baseline" else 10
    # Training may have used bfloat16, this test uses float32: a few grey levels apart.
    assert np.abs(utils.image_grid(images, columns) - shipped).mean() < 4
    assert utils.smallest_pair_distance(images) > 20


def test_readme_lists_all_that_a_run_survives() -> None:
    """The rows that `make test-slow` prints, except for the number of times, which it measures."""
    tried = set()
    for file in (ROOT / "tests").glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.survives":
                tried.add(tuple(ast.literal_eval(argument) for argument in node.args))
    section = README.split("## What it survives")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+) \| (.+) \| (\d+) \| (.+) \|$", section, re.MULTILINE)
    assert {row[:2] for row in rows} == tried
    assert {row[3] for row in rows} == {"survived"}
    assert len(rows) == len(tried)


def test_notebook_is_plain_json_with_one_cell_an_idea() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    assert len(sources) == len(set(sources))
