"""The notebook as a whole in fast mode, the terminal commands, and the setup cell in Colab."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from notebook import run_cells, tagged_cells

import dcgan_utils as utils

ROOT = Path(__file__).parent.parent


def execute(tmp_path: Path, **parameters: object) -> str:
    """Execute the notebook in fast mode in an output folder; return what it printed."""
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
    return "".join(output.get("text", "") for output in outputs)


def command(script: str, *options: str, **environment: str) -> subprocess.CompletedProcess:
    """Run one of the scripts behind the Makefile."""
    return subprocess.run(
        [sys.executable, ROOT / ".make" / script, *options],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def test_fast_notebook_trains_restores_and_continues(tmp_path: Path) -> None:
    folders = utils.RunFolders(tmp_path, "baseline")

    assert "Nothing to train" not in execute(tmp_path, EPOCHS=2)
    first = utils.load_history(folders.history)
    written = folders.history.stat().st_mtime_ns
    assert len(first) == 2
    for path in (folders.gif, folders.strip, folders.history_plot, folders.sample(2)):
        assert path.stat().st_size > 1000

    assert "Nothing to train: EPOCHS = 2 and epoch 2 is done" in execute(tmp_path, EPOCHS=2)
    assert folders.history.stat().st_mtime_ns == written

    assert "restored epoch 2" in execute(tmp_path, EPOCHS=3)
    third = utils.load_history(folders.history)
    assert third[:2] == first
    assert len(third) == 3


def test_terminal_commands_train_and_sample(tmp_path: Path) -> None:
    options = ("--fast", "--output-dir", str(tmp_path))
    trained = command("train.py", "--epochs", "1", *options)
    assert trained.returncode == 0, trained.stderr
    assert "Traceback" not in trained.stderr
    assert sum(line.startswith("epoch") for line in trained.stdout.splitlines()) == 1

    folders = utils.RunFolders(tmp_path, "baseline")
    assert folders.gif.exists()
    assert folders.history_plot.exists()

    out = tmp_path / "out.npz"
    sampled = command(
        "samples.py", "--count", "5", "--out", str(out), "--output-dir", str(tmp_path)
    )
    assert sampled.returncode == 0, sampled.stderr
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["images"].shape == (5, 32, 32, 3)
        assert arrays["images"].dtype == np.uint8
        assert arrays["labels"].tolist() == [-1] * 5


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("train.py", ["--epochs", "0"], "EPOCHS must be a whole number of at least 1"),
        ("train.py", ["--variant", "nonsense"], "invalid choice: 'nonsense'"),
        ("samples.py", ["--count", "0"], "--count must be at least 1"),
        ("samples.py", ["--count", "1"], "no checkpoint in"),
        ("publish.py", ["owner"], "REPO=owner/name"),
    ],
)
def test_wrong_commands_end_in_one_sentence(
    tmp_path: Path, script: str, options: list[str], message: str
) -> None:
    if script != "publish.py":
        options = [*options, "--output-dir", str(tmp_path)]
    if script == "train.py":
        options = [*options, "--fast"]
    done = command(script, *options)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_notebooks_example_of_a_variant_trains(lesson, tmp_path: Path) -> None:
    names = lesson(OUTPUT_DIR=str(tmp_path), BATCH_SIZE=8)
    cells = nbformat.read(ROOT / "cifar10_dcgan.ipynb", as_version=4).cells
    (example,) = (cell.source for cell in cells if "def hinge_d_loss" in cell.source)
    code = example.split("```python\n")[1].split("```")[0]
    x_train, y_train = utils.draw_stand_in_images(16, names.IMAGE_SHAPE, seed=0)
    namespace = vars(names) | {"x_train": x_train, "y_train": y_train, "EPOCHS": 1}
    exec(code, namespace)
    assert len(namespace["hinge_history"]) == 1
    assert utils.RunFolders(tmp_path, "hinge").sample(1).exists()


def test_unknown_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="EPOCH"):
        run_cells("setup", "parameters", EPOCH=3)


def test_publish_writes_badge_and_address_together(tmp_path: Path) -> None:
    shutil.copytree(ROOT / ".make", tmp_path / ".make")
    for name in ("README.md", "cifar10_dcgan.ipynb"):
        shutil.copy(ROOT / name, tmp_path)
    for repository in ("someone/first-name", "other/second.name"):
        subprocess.run(
            [sys.executable, tmp_path / ".make" / "publish.py", repository], check=True, timeout=60
        )
        page = f"colab.research.google.com/github/{repository}/blob/main/cifar10_dcgan.ipynb"
        assert (tmp_path / "README.md").read_text().count(page) == 1
        notebook = nbformat.read(tmp_path / "cifar10_dcgan.ipynb", as_version=4)
        assert notebook.cells[0].source.count(page) == 1
        sources = "\n".join(cell.source for cell in notebook.cells)
        assert f'REPOSITORY = "https://github.com/{repository}.git"' in sources


def run_setup_cell(folder: Path, times: int, **environment: str) -> subprocess.CompletedProcess:
    """Run the cell that looks for dcgan_utils.py in an otherwise empty folder, as Colab would."""
    script = "\n".join([tagged_cells("setup")[0]] * times + ["import dcgan_utils"])
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DCGAN_REPOSITORY": "", **environment},
    )


def test_setup_cell_says_what_to_do_without_an_address(tmp_path: Path) -> None:
    if 'REPOSITORY = ""' not in tagged_cells("setup")[0]:
        pytest.skip("the repository's address has been published")
    done = run_setup_cell(tmp_path, 1)
    assert "dcgan_utils.py is not beside this notebook. Upload it" in done.stderr
    assert not any(tmp_path.iterdir())


def test_setup_cell_fetches_the_repository_once(tmp_path: Path) -> None:
    origin, colab = tmp_path / "origin", tmp_path / "content"
    colab.mkdir()
    subprocess.run(["git", "init", "--quiet", origin], check=True)
    shutil.copy(ROOT / "dcgan_utils.py", origin)
    git = ["git", "-C", origin, "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "Add the helpers"], check=True)
    done = run_setup_cell(colab, 2, DCGAN_REPOSITORY=f"file://{origin}")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in colab.iterdir()] == ["cifar10_dcgan"]
    wrong = run_setup_cell(tmp_path, 1, DCGAN_REPOSITORY=f"file://{tmp_path}/none")
    assert "cannot be fetched" in wrong.stderr


def test_import_is_quick_and_starts_no_devices() -> None:
    script = (
        "import sys, time; start = time.perf_counter(); import dcgan_utils;"
        "print(time.perf_counter() - start);"
        "import tensorflow as tf;"
        "tf.config.threading.set_inter_op_parallelism_threads(2)"  # an error once devices run
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 10
    assert done.stderr == ""


@pytest.mark.skipif(
    not utils.cifar10_cache_path().exists(),
    reason="CIFAR-10 is not in the cache; `make run` fetches it",
)
def test_a_few_steps_on_the_real_data_set(lesson, tmp_path: Path) -> None:
    names = lesson(OUTPUT_DIR=str(tmp_path), BATCH_SIZE=32)
    (x_train, y_train), _ = utils.load_cifar10()
    names.keras.utils.set_random_seed(names.SEED)
    run = names.start_run(
        names.build_generator(names.LATENT_DIM, names.IMAGE_SHAPE),
        names.build_discriminator(names.IMAGE_SHAPE),
    )
    step = names.make_train_step(run)
    metrics = [step(*batch) for batch in names.make_dataset(x_train[:1280], y_train[:1280], 1)]
    assert len(metrics) == 40
    assert all(np.isfinite(value) for record in metrics for value in record.values())
    d_losses = [float(record["d_loss"]) for record in metrics]
    assert np.mean(d_losses[-10:]) < np.mean(d_losses[:10])
