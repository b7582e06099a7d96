"""The notebook alone, as Colab opens it: its versions, its drive, and an empty folder."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import papermill
import pytest

ROOT = Path(__file__).parent.parent
CONTENT = Path("/content")  # where Colab mounts a drive
BACKUP_DIR = CONTENT / "drive" / "MyDrive" / "gan"
DRIVE = """
from pathlib import Path

def mount(folder):
    Path(folder, "MyDrive").mkdir(parents=True, exist_ok=True)
"""


@pytest.fixture
def colab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a kernel of Colab's versions, a stand-in for its package, and a repository."""
    done = subprocess.run(
        ["make", "--silent", "-C", ROOT, ".venv-colab/ready"], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"Colab's versions cannot be installed: {done.stderr.strip()[-200:]}")
    command = [str(ROOT / ".venv-colab" / "bin" / "python"), "-m", "ipykernel_launcher"]
    files = {
        "kernels/colab/kernel.json": json.dumps(
            {
                "argv": [*command, "-f", "{connection_file}"],
                "display_name": "",
                "language": "python",
            }
        ),
        "google/colab/drive.py": DRIVE,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    # What is committed: the code that Colab would fetch.
    subprocess.run(["git", "clone", "--quiet", "--bare", ROOT, tmp_path / "origin.git"], check=True)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("DCGAN_REPOSITORY", f"file://{tmp_path}/origin.git")
    monkeypatch.setenv("DCGAN_FAST", "1")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    try:
        CONTENT.mkdir()
    except OSError as error:
        pytest.skip(f"{CONTENT} cannot be made: {error.strerror}")
    yield tmp_path
    shutil.rmtree(CONTENT)


def run_all(colab: Path, machine: str, epochs: int) -> str:
    """Run all cells in an empty folder; return what they printed."""
    folder = colab / machine
    folder.mkdir()
    notebook = papermill.execute_notebook(
        shutil.copy(ROOT / "cifar10_dcgan.ipynb", folder),
        folder / "executed.ipynb",
        parameters={"EPOCHS": epochs, "BACKUP_DIR": str(BACKUP_DIR)},
        kernel_name="colab",
        cwd=folder,
        progress_bar=False,
    )
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.slow
def test_run_all_and_again_on_a_new_machine(colab: Path) -> None:
    printed = run_all(colab, "first", epochs=1)
    assert re.search(r"Python 3\.1\d\.\d+, TensorFlow 2\.20\.\d, Keras 3\.13\.\d\n", printed)
    for variant in ("baseline", "improved"):
        backup = BACKUP_DIR / f"fast_{variant}.zip"
        assert f"{variant}: backed up epoch 1 in {backup}" in printed
    printed = run_all(colab, "second", epochs=2)
    for variant in ("baseline", "improved"):
        backup = BACKUP_DIR / f"fast_{variant}.zip"
        assert f"{variant}: fetched epoch 1 from {backup}" in printed
        assert f"{variant}: restored epoch 1" in printed
        assert f"{variant}: backed up epoch 2 in {backup}" in printed
