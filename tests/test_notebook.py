"""The committed notebook and README: renderable, complete, and in agreement with the history."""

import base64
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

import dcgan_utils as utils

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "cifar10_dcgan.ipynb"
README = (ROOT / "README.md").read_text()
HISTORY = utils.load_history(ROOT / "training_history" / "baseline.json")
FOLDERS = utils.RunFolders(ROOT, "baseline")


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
    pictures = [
        output.data["image/png"]
        for cell in code_cells
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 6
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)


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
    assert {"setup", "data", "definitions", "variant:baseline", "train:baseline"} <= {*tags}
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


def test_notebook_and_readme_quote_the_history(notebook: nbformat.NotebookNode) -> None:
    trend = utils.summarise_trend(HISTORY)
    real = utils.summarise_trend(HISTORY, "real_acc")
    minutes = sum(record["seconds"] for record in HISTORY) / 60
    distances = utils.history_column(HISTORY, "distance")
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
    lines = [utils.format_epoch(record, len(HISTORY)) for record in HISTORY]
    assert "\n".join(lines) in texts(notebook)


def test_the_second_seed_is_quoted_as_it_ran(notebook: nbformat.NotebookNode) -> None:
    second = utils.load_history(ROOT / "training_history" / "baseline_seed_7.json")
    assert f"{utils.summarise_trend(second)['peak']:.3f}" in texts(notebook)
    for record in (second[-1], HISTORY[len(second) - 1]):
        assert f"{record['fake_acc']:.3f}" in README
        assert f"{record['fake_acc']:.3f}" in texts(notebook)


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


def test_every_epoch_left_its_picture() -> None:
    expected = [FOLDERS.sample(record["epoch"]) for record in HISTORY]
    assert sorted(FOLDERS.samples.iterdir()) == expected
    shapes = {utils.read_picture(path).shape for path in expected}
    assert shapes == {(266, 266, 3)}


def test_shipped_gif_has_a_frame_an_epoch() -> None:
    import imageio.v3 as iio

    assert len(iio.imread(FOLDERS.gif)) == len(HISTORY)
    for path in (FOLDERS.strip, FOLDERS.history_plot):
        assert utils.read_picture(path).std() > 10


def test_shipped_checkpoint_draws_the_last_picture(lesson) -> None:
    """The checkpoint, the pictures and the notebook's networks belong together."""
    names = lesson(OUTPUT_DIR=str(ROOT))
    run = names.start_run(
        names.build_generator(names.LATENT_DIM, names.IMAGE_SHAPE),
        names.build_discriminator(names.IMAGE_SHAPE),
    )
    manager = utils.make_checkpoint_manager(run, FOLDERS)
    assert utils.resume(manager, FOLDERS) == HISTORY
    images = run.generator(names.fixed_noise, training=False).numpy()
    shipped = utils.read_picture(FOLDERS.sample(len(HISTORY))).astype(float)
    # Training may have used bfloat16, this test uses float32: a few grey levels apart.
    assert np.abs(utils.image_grid(images) - shipped).mean() < 4
    assert utils.smallest_pair_distance(images) > 20


def test_notebook_is_plain_json_with_one_cell_an_idea() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    assert len(sources) == len(set(sources))
