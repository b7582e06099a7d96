"""The committed notebook, READMEs and results: renderable, within budget, and of one piece."""

import ast
import base64
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import nbformat
import numpy as np
import pytest
from notebook import variants
from run import to_page
from test_classifier import NEEDS_DATA
from test_runs import OTHER_SETTINGS

import dcgan_utils as utils
from dcgan.dataset import load_data
from dcgan.pictures import read_picture
from dcgan.settings import RULES

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "cifar10_dcgan.ipynb"
READMES = [ROOT / "README.md", *sorted(ROOT.glob("*/*.md"))]
VARIANTS = ("baseline", "improved")
RUNS = {variant: utils.Run(ROOT, variant) for variant in VARIANTS}
HISTORIES = {variant: run.history for variant, run in RUNS.items()}
BASELINE, IMPROVED = HISTORIES.values()
CIFAR10_SHA256 = "72c15e60c081b70e"
PICTURE_TYPES = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8"}


def stored_settings(run: utils.Run) -> dict:
    """Return the settings that are kept with a run."""
    return json.loads((run.checkpoints / "settings.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    """The notebook as committed."""
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Its code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """Its text cells."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def embedded(code_cells: list[nbformat.NotebookNode]) -> list[tuple[str, bytes]]:
    """Return kind and content of each embedded picture."""
    return [
        (kind, base64.b64decode(data))
        for cell in code_cells
        for output in cell.outputs
        for kind, data in output.get("data", {}).items()
        if kind in PICTURE_TYPES
    ]


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
    pictures = embedded(code_cells)
    assert len(pictures) >= 12
    assert all(content.startswith(PICTURE_TYPES[kind]) for kind, content in pictures)


def test_pictures_have_a_text_for_readers_who_cannot_see_them(code_cells: list) -> None:
    for cell in code_cells:
        for output in cell.outputs:
            for kind in PICTURE_TYPES.keys() & output.get("data", {}).keys():
                assert len(output.metadata[kind]["alt"]) >= 20
                assert output.data["text/plain"] == output.metadata[kind]["alt"]


def test_no_output_is_empty(code_cells: list) -> None:
    for cell in code_cells:
        for output in cell.outputs:
            data = dict(output.get("data", {"text/plain": output.get("text")}))
            data["text/html"] = re.sub(r"<[^>]*>", "", data.get("text/html", "none"))
            assert all(content.strip() for content in data.values()), cell.source


def test_pictures_of_the_page_have_alternative_text(notebook: nbformat.NotebookNode) -> None:
    page = to_page(notebook, ROOT)
    tags = re.findall(r"<img\b[^>]*>", page)
    assert len(tags) >= 16
    assert all(re.search(r'alt="[^"]{10,}"', tag) for tag in tags)
    assert "No description has been provided" not in page


def test_plots_and_first_picture_are_embedded_as_shipped(code_cells: list) -> None:
    pictures = {content for _, content in embedded(code_cells)}
    shipped = [run.history_plot for run in RUNS.values()]
    shipped += [ROOT / "training_history" / "comparison.png", RUNS["improved"].sample(50)]
    for path in shipped:
        assert path.read_bytes() in pictures, path


def test_keeps_within_its_budget(code_cells: list, texts: list[str]) -> None:
    assert len(texts) <= 34
    assert len(code_cells) <= 44
    assert sum(len(text.split()) for text in texts) <= 2_600
    assert max(len(cell.source.splitlines()) for cell in code_cells) <= 35
    sources = [cell.source for cell in code_cells] + texts
    assert len(sources) == len({*sources})


def test_each_gif_of_a_text_is_shown_by_code_where_the_run_is_another(
    notebook: nbformat.NotebookNode,
) -> None:
    sources = [cell.source for cell in notebook.cells]
    texts = [k for k, source in enumerate(sources) if re.search(r"!\[.*\.gif\)", source)]
    assert len(texts) == 3
    assert all(re.search(r"^show_file\(", sources[k - 1], re.MULTILINE) for k in texts)


def test_has_the_eight_steps_in_order(texts: list[str]) -> None:
    headings = re.findall(r"^## Step (\d): (.+)$", "\n".join(texts), re.MULTILINE)
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


def test_cells_are_tagged(code_cells: list) -> None:
    tags = [tag for cell in code_cells for tag in cell.metadata.get("tags", [])]
    assert variants() == [*VARIANTS]
    once = ["parameters", *(f"train:{variant}" for variant in VARIANTS)]
    assert [tags.count(tag) for tag in once] == [1] * len(once)
    several = [f"{kind}:{variant}" for kind in ("variant", "plots") for variant in VARIANTS]
    assert {"setup", "data", "definitions", "instruments", *several} <= {*tags}


def test_holds_no_path_of_a_machine(notebook: nbformat.NotebookNode) -> None:
    everything = nbformat.writes(notebook)
    assert not re.search(r"/(root|tmp|work)/|/home/[a-z]|/Users/", everything)


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a text, and the empty one."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {""} | {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [NOTEBOOK, *READMES], ids=lambda p: f"{p.parent.name}-{p.name}")
def test_links_within_the_repository_lead_somewhere(page: Path, texts: list[str]) -> None:
    text = "\n".join(texts) if page == NOTEBOOK else page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)[^)]*\)|<img[^>]* src=\"([^\"]+)\"", text)
    local = [link for pair in links for link in pair if link and "://" not in link]
    for path, _, anchor in (link.partition("#") for link in local):
        target = page.parent / path if path else page
        assert target.exists(), path
        if target == page:
            assert anchor in anchors(text)
        elif anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{path}#{anchor}"


def test_badge_and_address_name_the_same_repository(code_cells: list, texts: list[str]) -> None:
    sources = "\n".join(cell.source for cell in code_cells)
    (constant,) = re.findall(r'^REPOSITORY = "(.*)"$', sources, re.MULTILINE)
    address = re.sub(r"^https://github\.com/|\.git$", "", constant)
    badge = r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/[^)]+/cifar10_dcgan\.ipynb"
    expected = [address] if address else []
    assert re.findall(badge, READMES[0].read_text(encoding="utf-8")) == expected
    assert re.findall(badge, texts[0]) == expected


def test_first_cell_knows_what_training_costs(code_cells: list) -> None:
    (costs,) = re.findall(r"^MINUTES = (.+)$", code_cells[0].source, re.MULTILINE)
    seconds = {v: np.median([record["seconds"] for record in HISTORIES[v]]) for v in VARIANTS}
    assert ast.literal_eval(costs) == {
        "classifier.npz": 10,
        "feature_network.npz": 24,
        **{variant: round(len(HISTORIES[variant]) * seconds[variant] / 60) for variant in VARIANTS},
    }


def test_fake_accuracy_of_the_baseline_falls_toward_a_half() -> None:
    trend = utils.summarise_trend(BASELINE)
    assert len(BASELINE) >= 50
    assert 0.45 <= trend["last_mean"] <= 0.65
    assert trend["spearman"] <= -0.6
    assert trend["peak_epoch"] <= 10


def test_the_improved_variant_is_far_better() -> None:
    assert len(IMPROVED) >= 50
    assert IMPROVED[-1]["distance"] <= 0.15 * BASELINE[-1]["distance"]


def test_scores_of_the_independent_judge_agree() -> None:
    rows = json.loads((ROOT / "training_history" / "judge.json").read_text())["rows"]
    real, baseline, improved = (rows[name]["frechet"] for name in ("real test images", *VARIANTS))
    assert real < improved <= 0.5 * baseline


@pytest.mark.parametrize(("variant", "shape"), [("baseline", (266, 266)), ("improved", (266, 662))])
def test_every_epoch_left_its_picture(variant: str, shape: tuple[int, int]) -> None:
    run = RUNS[variant]
    assert sorted(run.samples.iterdir()) == list(run.frames.values())
    assert {read_picture(path).shape for path in run.frames.values()} == {(*shape, 3)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_shipped_gif_has_a_frame_an_epoch(variant: str) -> None:
    run = RUNS[variant]
    assert len(iio.imread(run.picture(".gif"))) == len(HISTORIES[variant])
    assert read_picture(run.history_plot).std() > 10


def test_shipped_pictures_are_pictures() -> None:
    baseline, improved = RUNS.values()
    assert read_picture(improved.picture("_classes.png")).std() > 10
    for path in (improved.picture("_walk.gif"), baseline.samples.with_name("comparison.gif")):
        assert len(iio.imread(path)) >= 20


@pytest.mark.parametrize("variant", VARIANTS)
def test_shipped_checkpoint_draws_the_shipped_last_picture(
    lesson: Callable[..., SimpleNamespace], variant: str
) -> None:
    """Checkpoint, settings, history, pictures and the notebook's networks belong together."""
    names = lesson(f"variant:{variant}", OUTPUT_DIR=str(ROOT), BATCH_SIZE=64)
    gan, run = getattr(names, variant), getattr(names, f"{variant}_run")
    run.settings["IMAGES_SHA256"] = stored_settings(run)["IMAGES_SHA256"]  # none are loaded here
    assert run.restore(gan) == run.epoch == int(gan.epoch) == len(run.history)
    assert int(gan.step) == run.epoch * (names.TRAIN_IMAGES // names.BATCH_SIZE)
    shipped = read_picture(run.sample(run.epoch)).astype(float)
    # Training used bfloat16, this test uses float32: a few grey levels apart.
    assert np.abs(names.sample_grid(gan) - shipped).mean() < 4
    images = utils.generate_images(gan.ema_generator, *names.draw_inputs(16, names.SEED))
    pairs = itertools.combinations(images.astype(np.float64), 2)
    assert min(np.sqrt(np.mean((a - b) ** 2)) for a, b in pairs) > 20  # no two are alike


@pytest.mark.parametrize("variant", VARIANTS)
def test_shipped_settings_are_the_notebooks(
    lesson: Callable[..., SimpleNamespace], variant: str
) -> None:
    run = getattr(lesson(f"variant:{variant}", BATCH_SIZE=64), f"{variant}_run")
    shipped = stored_settings(RUNS[variant])
    assert [*shipped.items()] == [*(run.settings | {"IMAGES_SHA256": CIFAR10_SHA256}).items()]


@NEEDS_DATA
def test_shipped_runs_were_trained_on_these_images() -> None:
    assert load_data("cifar10").sha256 == CIFAR10_SHA256


@OTHER_SETTINGS
@pytest.mark.parametrize("variant", VARIANTS)
def test_shipped_runs_do_not_go_on_under_other_settings(variant: str) -> None:
    stored = stored_settings(RUNS[variant])
    for name, value in stored.items():
        shown = re.escape(f"{value!r:.80}")
        message = rf"{variant} is trained with {name} = {shown} \(here 7\.5\)\. Set this back, or"
        with pytest.raises(RuntimeError, match=message):
            utils.Run(ROOT, variant, stored | {name: 7.5}).restore(None)


def test_every_parameter_belongs_to_a_run_or_only_to_this_try() -> None:
    settings = [stored_settings(run) for run in RUNS.values()]
    tries = {"FAST", "EPOCHS", "FROM_SCRATCH", "OUTPUT_DIR", "BACKUP_DIR"}
    tries |= {"PRECISION", "DETERMINISTIC"}  # restored under any of them
    tries |= {"TRUNCATION"}  # of samples of whatever was trained
    tries |= {"IMAGE_SIZE"}  # by which data are read; their shape belongs to the run
    found = {"IMAGES_SHA256", "IMAGE_SHAPE", "CLASS_NAMES"}
    assert {*settings[0], *settings[1]} - found == {n for n in RULES if n.isupper()} - tries


def test_readme_lists_all_that_a_run_survives() -> None:
    """The rows that `make test-slow` writes, except for the number of times, which it measures."""
    tried = set()
    for file in (ROOT / "tests").glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.survives":
                tried.add(tuple(ast.literal_eval(argument) for argument in node.args))
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    table = text.split("<!-- survives -->")[1].split("<!-- end of survives -->")[0]
    rows = re.findall(r"^\| (.+) \| (.+) \| (\d+) \| (.+) \|$", table, re.MULTILINE)
    assert {row[:2] for row in rows} == tried
    assert {row[3] for row in rows} == {"survived"}
    assert len(rows) == len(tried)
