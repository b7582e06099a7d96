"""The terminal commands: what they accept, what they write, and errors in one sentence."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import publish
import pytest
from command import Options, one_sentence, write_table
from notebook import ROOT, run_cells
from test_quiet import ANOTHER_MACHINE

ODD_NAME = 'a b [v2]\'s "$HOME" $(x) 한글'
C_LOCALE = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


def command(
    script: str, *options: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess:
    """Run one of the scripts behind the Makefile."""
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / f"{script}.py", *options],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        cwd=cwd,
        env=os.environ | environment,
    )


def assert_one_sentence(done: subprocess.CompletedProcess, sentence: str) -> None:
    """Hold that a command has failed and said why in the last line of its stderr."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert sentence in done.stderr.splitlines()[-1]


def write_notebook(path: Path, *cells: tuple[str, str]) -> None:
    """Write a notebook of code cells, given as tag and source."""
    new = nbformat.v4
    made = [new.new_code_cell(source, metadata={"tags": [tag]}) for tag, source in cells]
    nbformat.write(new.new_notebook(cells=made), path)


@pytest.fixture
def small_notebook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Replace the notebook by a small one."""
    monkeypatch.chdir(ROOT)
    path = tmp_path / "small.ipynb"
    monkeypatch.setattr("notebook.NOTEBOOK", path)
    write_notebook(
        path,
        ("parameters", "SIZE, OTHER = 2, 3"),
        ("use", "from IPython.display import display\ntotal = SIZE + OTHER"),
        ("plots:a", "display(total)\nprint('printed')\ntotal"),
    )


@pytest.mark.usefixtures("small_notebook")
def test_cells_run_with_other_parameters_and_display_nothing(
    capsys: pytest.CaptureFixture,
) -> None:
    names = run_cells("parameters", "use", SIZE=5)
    assert names["total"] == 8
    assert run_cells("plots:a", namespace=names) is names
    assert capsys.readouterr().out == "printed\n"
    with pytest.raises(ValueError, match="the notebook has no parameter WIDTH"):
        run_cells("parameters", WIDTH=1)


def test_errors_and_interruptions_are_one_sentence() -> None:
    for error in (ValueError("no"), RuntimeError("no"), PermissionError("no")):
        with pytest.raises(SystemExit, match=r"^make it: no$"), one_sentence("make it"):
            raise error
    with pytest.raises(SystemExit, match=r"^make it: stopped$"), one_sentence("make it"):
        raise KeyboardInterrupt
    exhausted = type("ResourceExhaustedError", (Exception,), {})("a page of text")
    errors = {MemoryError("1 TiB"): r" \(1 TiB\)", MemoryError(): "", exhausted: ""}
    for error, reason in errors.items():
        sentence = f"^make it: there is not enough memory{reason}: free some, or ask for less$"
        with pytest.raises(SystemExit, match=sentence), one_sentence("make it"):
            raise error
    with pytest.raises(TypeError), one_sentence("make it"):  # a fault of the program
        raise TypeError
    with pytest.raises(SystemExit, match=r"^make it: unrecognized arguments: --x$"):
        Options("make it").parse_args(["--x"])


@pytest.mark.parametrize(
    ("error", "told"), [("KeyboardInterrupt", "stopped"), ("OSError", "Trace")]
)
def test_a_script_is_stopped_while_it_imports(error: str, told: str) -> None:
    code = f"import command; raise {error}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, check=False
    )
    assert done.returncode != 0
    assert done.stderr.decode().splitlines()[0].startswith(told)


def test_a_table_is_written_between_its_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "README.md"
    path.write_text("a\n<!-- t -->old<!-- end of t -->\nä\n", encoding="utf-8")
    for _ in range(2):
        write_table(path, "t", "| new |")
    expected = "a\n<!-- t -->\n\n| new |\n\n<!-- end of t -->\nä\n"
    assert path.read_text(encoding="utf-8") == expected
    write_table(path, "u", "| new |")
    assert path.read_text(encoding="utf-8") == expected
    assert "has no lines <!-- u -->" in capsys.readouterr().out


@ANOTHER_MACHINE
def test_a_variant_is_trained_and_sampled(tmp_path: Path) -> None:
    """Environment variables and the locale do not matter; see also test_own_data.py."""
    folder = tmp_path / "plain"
    ignored = {"EPOCHS": "9", "OUTPUT_DIR": str(tmp_path / "ignored"), "DCGAN_FAST": "0"}
    options = ("--fast=true", "--epochs=1", "--variant=baseline", f"--output-dir={folder}")
    trained = command("train", *options, **ignored, **C_LOCALE)
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""
    assert "Figure(" not in trained.stdout
    history = (folder / "training_history" / "baseline.json").read_text(encoding="utf-8")
    assert len(json.loads(history)) == 1
    assert (folder / "training_history" / "baseline.png").stat().st_size > 1000
    assert (folder / "generated_samples" / "baseline.gif").stat().st_size > 1000

    options = ("--variant=baseline", "--count=5", "--out=few", "--output-dir=~/plain")
    drawn = command("samples", *options, cwd=tmp_path, HOME=str(tmp_path), **C_LOCALE)
    assert drawn.returncode == 0, drawn.stderr
    with np.load(tmp_path / "few.npz", allow_pickle=False) as arrays:
        assert arrays["images"].shape == (5, 32, 32, 3)
        assert arrays["images"].dtype == np.uint8
        assert arrays["labels"].tolist() == [-1] * 5
    assert not (tmp_path / "ignored").exists()


@pytest.mark.parametrize(
    ("script", "options", "sentence"),
    [
        ("train", ["--variant", "nonsense"], "make train: argument --variant: invalid choice"),
        ("train", ["--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        ("train", ["--fast", "2"], "argument --fast: invalid choice: '2'"),
        ("train", ["--fast", "--epochs=0", "--output-dir=OUT"], "EPOCHS must be a whole number"),
        ("samples", ["--count", "0"], "make samples: N must be a whole number of at least 1"),
        ("samples", ["--seed=-1"], "make samples: SEED must be a whole number of at least 0"),
        ("samples", ["--output-dir", "OUT/none"], "train it with make train VARIANT=baseline"),
        ("samples", ["--class", "horse"], "CLASS: baseline knows no classes"),
        ("samples", ["--class", "cow", "--variant=improved"], "horse, ship, truck, not 'cow'"),
        ("export", ["--out", "OUT/x.h5"], "or has no suffix for a SavedModel: x.h5 does not"),
        ("export", ["--out", "OUT"], "make export: OUT names a folder that exists"),
        ("export", ["--uint8", "2"], "argument --uint8: invalid choice: '2'"),
        ("publish", ["--repo", "nonsense"], "REPO is owner/name or an address on github.com"),
        ("publish", ["--repo=a/b", "--branch", "a b"], "BRANCH is no name of a branch: 'a b'"),
    ],
)
def test_wrong_options_end_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    options: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(ROOT)
    options = [option.replace("OUT", str(tmp_path)) for option in options]
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *options])
    with pytest.raises(SystemExit, match=re.escape(sentence)) as end:
        importlib.import_module(script).main()
    assert "\n" not in end.value.code
    assert not (tmp_path / "none").exists()


def test_the_notebook_is_executed_with_its_copy_and_page(tmp_path: Path) -> None:
    """In any locale; a cell that fails ends in one sentence."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("dcgan", "dcgan_utils.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    notebook, executed = tmp_path / "cifar10_dcgan.ipynb", tmp_path / "executed"
    run = [sys.executable, tmp_path / "scripts" / "run.py"]
    options = {"capture_output": True, "encoding": "utf-8", "check": False}
    options["env"] = os.environ | C_LOCALE
    write_notebook(notebook, ("a", "print('한글 …')"), ("b", "2 + 3"))
    text = nbformat.v4.new_markdown_cell("[a](tests/a.md) [b](#b) [c](https://c.example/c)")
    contents = nbformat.read(notebook, as_version=4)
    contents.cells.append(text)
    nbformat.write(contents, notebook)
    done = subprocess.run(run, **options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    page = (executed / "cifar10_dcgan.html").read_text(encoding="utf-8")
    assert "한글 …" in page
    assert 'href="../tests/a.md"' in page
    *cells, text = nbformat.read(executed / notebook.name, as_version=4).cells
    assert [cell.execution_count for cell in cells] == [1, 2]
    assert text.source == "[a](../tests/a.md) [b](#b) [c](https://c.example/c)"
    write_notebook(notebook, ("a", "raise ValueError('a sentence')"))
    done = subprocess.run(run, **options)
    assert_one_sentence(done, "make run: ValueError: a sentence (the cell is in ")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the command write a copy of README and notebook; return their folder."""
    (tmp_path / "README.md").write_text("ä\n<!-- colab badge -->\n", encoding="utf-8")
    shutil.copy(ROOT / "cifar10_dcgan.ipynb", tmp_path)
    monkeypatch.setattr(publish, "README", tmp_path / "README.md")
    monkeypatch.setattr(publish, "NOTEBOOK", tmp_path / "cifar10_dcgan.ipynb")
    return tmp_path


@pytest.mark.parametrize(
    ("address", "repository", "branch"),
    [
        ("some-one/first.name", "some-one/first.name", "main"),
        ("https://github.com/owner/name", "owner/name", "main"),
        ("https://github.com/owner/name.git", "owner/name", "main"),
        ("https://github.com/owner/name/?tab=readme-ov-file#start", "owner/name", "main"),
        ("git@github.com:owner/name.git", "owner/name", "main"),
        (" github.com/owner/na_me ", "owner/na_me", "main"),
        ("owner/.github", "owner/.github", "main"),
        ("https://github.com/owner/name/tree/topic/one", "owner/name", "topic/one"),
        ("https://github.com/o/n/blob/v2/cifar10_dcgan.ipynb", "o/n", "v2"),
    ],
)
@pytest.mark.parametrize("chosen", ["", "a.b-c/locks"])
def test_publish_writes_badge_and_address(
    published: Path,
    address: str,
    repository: str,
    branch: str,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    before = (published / "cifar10_dcgan.ipynb").read_bytes()
    for repo in ("first/first", address):
        monkeypatch.setattr(sys, "argv", ["publish.py", f"--repo={repo}", f"--branch={chosen}"])
        publish.main()
    branch = chosen or branch
    page = f"google.com/github/{repository}/blob/{branch}/cifar10_dcgan.ipynb"
    assert (published / "README.md").read_text(encoding="utf-8").count(page) == 1
    notebook = nbformat.read(published / "cifar10_dcgan.ipynb", as_version=4)
    assert notebook.cells[0].source.count(page) == 1
    sources = "\n".join(cell.source for cell in notebook.cells)
    assert f'REPOSITORY = "https://github.com/{repository}.git"\nBRANCH = "{branch}"' in sources
    assert "first/first" not in sources
    printed = capsys.readouterr().out
    assert f"git push https://github.com/{repository}.git HEAD:refs/heads/{branch}" in printed
    assert printed.endswith(f"{page}\n")
    lines = (published / "cifar10_dcgan.ipynb").read_bytes().splitlines()
    assert len(set(lines) - set(before.splitlines())) == 3


BRANCHES = ("@", "HEAD", "-", "-a", ".a", "a/.b", "a.", "a/", "/a", "a//b", "a..b", "a@{b")
BRANCHES += ("a.lock", "a.lock/b", "a~", "a^", "a:b", "a?", "a*", "a[", "a b", "a\\b", "a\x7fb")
BRANCHES += ("a\1b", 'a"b')


def test_publish_takes_no_branch_that_git_refuses(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for branch in BRANCHES:
        monkeypatch.setattr(sys, "argv", ["publish.py", "--repo=a/b", f"--branch={branch}"])
        sentence = re.escape(f"make publish: BRANCH is no name of a branch: {branch!r}")
        with pytest.raises(SystemExit, match=f"^{sentence}"):
            publish.main()
    assert "badge.svg" not in (published / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["..", ".", ".git", "..git", "../tree/main", ".?tab=x", "../"])
def test_publish_takes_no_repository_of_dots(
    published: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["publish.py", f"--repo=o/{name}"])
    with pytest.raises(SystemExit, match=r"^make publish: REPO is owner/name or an address on git"):
        publish.main()


def test_publish_writes_all_or_nothing(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_notebook(published / "cifar10_dcgan.ipynb", ("setup", 'REPOSITORY = ""'))
    monkeypatch.setattr(sys, "argv", ["publish.py", "--repo=a/b"])
    with pytest.raises(SystemExit, match=r"ipynb needs exactly one .*colab badge.*, found 0"):
        publish.main()
    assert "badge.svg" not in (published / "README.md").read_text(encoding="utf-8")
