"""The notebook as a whole in fast mode, and the setup cell in Colab."""

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import papermill
import pytest
from notebook import NOTEBOOK, code_cells

import dcgan_utils as utils
from dcgan.data import cache_path, load_cifar10

ROOT = Path(__file__).parent.parent


def execute(tmp_path: Path, **parameters: object) -> tuple[str, list[dict]]:
    """Execute the notebook in fast mode in an output folder; return what it printed and showed."""
    executed = papermill.execute_notebook(
        ROOT / "cifar10_dcgan.ipynb",
        tmp_path / "executed.ipynb",
        parameters={"FAST": True, "OUTPUT_DIR": str(tmp_path), **parameters},
        kernel_name="python3",
        cwd=ROOT,
        progress_bar=False,
    )
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    shown = [output.data for output in outputs if "data" in output]
    return "".join(output.get("text", "") for output in outputs), shown


@pytest.mark.survives(
    "a run that is not the shipped one",
    "the notebook with FAST and OUTPUT_DIR: shows the GIFs of this run, says whose the text is",
)
def test_fast_notebook_trains_and_shows_its_run(tmp_path: Path) -> None:
    runs = [utils.Run(tmp_path, variant) for variant in ("baseline", "improved")]
    shipped = sorted((path, path.stat().st_mtime_ns) for path in shipped_files())

    output, shown = execute(tmp_path, EPOCHS=1)
    assert "Nothing to train" not in output
    sentence = "*The text and the pictures in it are of the shipped run, not of this one.*"
    assert [data.get("text/markdown") for data in shown].count(sentence) == 1
    gifs = [base64.b64decode(data["image/gif"]) for data in shown if "image/gif" in data]
    names = ("baseline.gif", "comparison.gif", "improved_walk.gif")
    assert gifs == [(tmp_path / "generated_samples" / name).read_bytes() for name in names]
    assert re.search(r"\{'g_loss': -?[\d.]+, 'd_loss': ", output)  # the example of Step 8
    for run in runs:
        assert len(run.history) == 1
        for path in (run.picture(".gif"), run.history_plot, run.sample(1)):
            assert path.stat().st_size > 1000
    assert runs[1].picture("_classes.png").stat().st_size > 1000
    assert sorted((path, path.stat().st_mtime_ns) for path in shipped_files()) == shipped


@pytest.mark.slow
def test_fast_notebook_restores_and_continues(tmp_path: Path) -> None:
    runs = [utils.Run(tmp_path, variant) for variant in ("baseline", "improved")]
    execute(tmp_path, EPOCHS=1)
    first = [run.history for run in runs]
    output, _ = execute(tmp_path, EPOCHS=2)
    for run, history in zip(runs, first, strict=True):
        assert f"{run.name}: restored epoch 1" in output
        assert run.history[:1] == history
        assert len(run.history) == 2


def shipped_files() -> list[Path]:
    """Return the shipped results, which no run elsewhere may touch."""
    folders = ("generated_samples", "training_checkpoints", "training_history")
    return [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]


def run_setup_cell(
    folder: Path, times: int, published: str = "", branch: str = "", **environment: str
) -> subprocess.CompletedProcess:
    """Run the cell that looks for dcgan_utils.py in a folder, as Colab would."""
    cell, _ = code_cells(NOTEBOOK)[0]
    cell = re.sub(r'REPOSITORY = ".*"', f'REPOSITORY = "{published}"', cell)
    cell = re.sub(r'BRANCH = ".*"', f'BRANCH = "{branch}"', cell)
    imports = "import dcgan.data, dcgan_utils\nprint(dcgan.data.__file__)"
    return subprocess.run(
        [sys.executable, "-c", "\n".join([cell] * times + [imports])],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DCGAN_REPOSITORY": "", **environment},
    )


def test_setup_cell_says_what_to_do_without_an_address(tmp_path: Path) -> None:
    done = run_setup_cell(tmp_path, 1)
    assert "dcgan_utils.py is not beside this notebook. Clone the repository" in done.stderr
    assert "training_checkpoints/baseline (28), training_checkpoints/improved (138)." in done.stderr
    assert not any(tmp_path.iterdir())


def test_setup_cell_says_what_training_costs_where_only_the_code_is(tmp_path: Path) -> None:
    shutil.copy(ROOT / "dcgan_utils.py", tmp_path)
    shutil.copytree(ROOT / "dcgan", tmp_path / "dcgan")
    (tmp_path / "training_checkpoints" / "baseline").mkdir(parents=True)
    done = run_setup_cell(tmp_path, 1)
    assert done.returncode == 0, done.stderr
    assert "Trained networks are missing. Clone the repository" in done.stdout
    assert "classifier.npz (10), training_checkpoints/feature_network.npz (24), " in done.stdout
    assert "baseline" not in done.stdout


def test_setup_cell_fetches_the_repository_once(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    subprocess.run(["git", "init", "--quiet", origin], check=True)
    shutil.copy(ROOT / "dcgan_utils.py", origin)
    shutil.copytree(ROOT / "dcgan", origin / "dcgan")
    git = ["git", "-C", origin, "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "Add the helpers"], check=True)
    subprocess.run([*git, "branch", "topic"], check=True)
    address = f"file://{origin}"
    for name, options in (
        ("environment", {"DCGAN_REPOSITORY": address, "branch": "none"}),
        ("published", {"published": address, "branch": "topic"}),
    ):
        colab = tmp_path / name
        colab.mkdir()
        done = run_setup_cell(colab, 2, **options)
        assert done.returncode == 0, done.stderr
        assert str(colab / "cifar10_dcgan" / "dcgan" / "data.py") in done.stdout
        assert [path.name for path in colab.iterdir()] == ["cifar10_dcgan"]
    assert "ref: refs/heads/topic" in (colab / "cifar10_dcgan" / ".git" / "HEAD").read_text()
    wrong = run_setup_cell(tmp_path, 1, DCGAN_REPOSITORY=f"file://{tmp_path}/none")
    assert "cannot be fetched; check the address in REPOSITORY" in wrong.stderr


def test_import_is_quick_silent_and_starts_no_devices() -> None:
    script = (
        "import os, sys, time; start = time.process_time(); import dcgan_utils;"
        "print(time.process_time() - start);"
        "import tensorflow as tf;"
        "tf.config.threading.set_inter_op_parallelism_threads(2);"  # an error once devices run
        "os.write(2, b'shown')"  # stderr is silent for as long as TensorFlow is loaded only
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert float(done.stdout) < 10
    assert done.stderr == "shown"


@pytest.mark.skipif(
    not cache_path("cifar10").exists(),
    reason="CIFAR-10 is not in the cache; `make run` fetches it",
)
def test_a_few_steps_on_the_real_data_set(lesson: Callable[..., SimpleNamespace]) -> None:
    names = lesson(BATCH_SIZE=32)
    (x_train, y_train), _ = load_cifar10()
    gan = names.make_baseline()
    step = names.compile_step(names.train_step, gan, names.LATENT_DIM, names.SEED)
    metrics = [step(*batch) for batch in names.make_dataset(x_train[:1280], y_train[:1280], 1)]
    assert len(metrics) == 40
    assert all(np.isfinite(value) for record in metrics for value in record.values())
    d_losses = [float(record["d_loss"]) for record in metrics]
    assert np.mean(d_losses[-10:]) < np.mean(d_losses[:10])
