"""The Makefile: which options reach a script, and which end make before any work."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_scripts import ODD_NAME, ROOT, assert_one_sentence
from test_settings import IGNORED

VALUES = (ODD_NAME, "it's", "$$x", "a,b (c", "#1", "--x", "a\\b", "$(shell touch expanded)")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with the Makefile and a Python that only prints its arguments."""
    folder = tmp_path / "the project's folder"
    for name in (".venv/bin", "scripts"):
        (folder / name).mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f"""#!/bin/sh
exec "{sys.executable}" -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"
""")
    python.chmod(0o755)
    (folder / ".venv" / "ready").touch()
    return folder


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run make in a folder, also where the tests themselves were started by make."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=outer | environment,
    )


def options_of(done: subprocess.CompletedProcess) -> list[str]:
    """Return the options that the script behind a target got."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])[1:]


def test_make_alone_lists_the_targets(project: Path) -> None:
    done = make(project)
    targets = [line.split()[1] for line in done.stdout.splitlines()]
    wanted = "run lab train samples export judge experiment test test-slow lint format bench"
    assert {*wanted.split(), "bench-torch", "notebook", "publish", "clean"} <= {*targets}
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines())


@pytest.mark.parametrize("value", VALUES)
def test_make_passes_values_as_they_were_typed(project: Path, value: str) -> None:
    assert options_of(make(project, "samples", f"OUTPUT_DIR={value}", "N=")) == [
        f"--output-dir={value}"
    ]
    assert not (project / "expanded").exists()


@IGNORED
def test_make_takes_options_from_its_command_line_only(project: Path) -> None:
    names = (
        "VARIANT N SEED CLASS OUT UINT8 OUTPUT_DIR EPOCHS BACKUP_DIR FAST REPO BRANCH NAME PYTHON"
    )
    environment = dict.fromkeys(names.split(), "x")
    for target in ("train", "samples", "export", "publish", "experiment"):
        assert options_of(make(project, target, **environment)) == []
    assert options_of(make(project, "export", "UINT8=1", "OUT=x")) == ["--out=x", "--uint8=1"]
    given = [f"{name}=y" for name in ("VARIANT", "EPOCHS", "FAST")]
    expected = ["--variant=y", "--epochs=y", "--fast=y"]
    assert options_of(make(project, "train", *given, **environment)) == expected


@pytest.mark.survives(
    "an option that a command lacks", "misspelt, or another target's, on make's command line"
)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["train", "OUTPUT=runs/mine", "EPOCHS=100"],
            "make train has no option OUTPUT; "
            "it has VARIANT DATA IMAGE_SIZE EPOCHS OUTPUT_DIR BACKUP_DIR FAST.",
        ),
        (["train", "SEED=7"], "make train has no option SEED; it has"),
        (["samples", "clas=horse"], "no option clas; it has VARIANT N SEED CLASS OUT OUTPUT_DIR."),
        (["run", "FAST=1"], "make run has no option FAST; it has none."),
        (["EPOCHS="], "make without a target has no option EPOCHS; it has none."),
        (
            ["export", "bench", "UINT8=1", "ROUNDS=7", "N=3"],
            "make export bench has no option N; it has VARIANT OUT UINT8 OUTPUT_DIR ROUNDS.",
        ),
        (["-C", "scripts", "-f", "../Makefile", "lint", "OUT=x"], "make lint has no option OUT"),
        *[
            (["judge", f"SAMPLE={value}"], "make judge has no option SAMPLE; it")
            for value in VALUES
        ],
    ],
)
def test_an_option_that_a_target_lacks_ends_make(
    project: Path, arguments: list[str], sentence: str
) -> None:
    done = make(project, *arguments)
    assert "python" not in done.stdout
    errors = [line for line in done.stderr.splitlines() if "Leaving" not in line]
    assert len(errors) == 1
    assert_one_sentence(done, sentence)
    assert not (project / "expanded").exists()


def test_every_target_takes_a_python_and_what_its_text_lists(project: Path) -> None:
    for line in make(project).stdout.splitlines():
        target, names = line.split()[1], line.partition(": ")[2].split()
        done = make(project, "-ni", target, *[f"{name}=1" for name in ("PYTHON", *names)])
        assert "has no option" not in done.stderr
        assert done.stdout.count("='1'") == len(names)


def test_pytorch_is_timed_where_it_is_asked_for(project: Path) -> None:
    for target, asked in (("bench", False), ("bench-torch", True)):
        assert ("train_step.py --torch" in make(project, "-ni", target).stdout) == asked


def test_make_leaves_it_to_the_judge_to_install_pytorch(project: Path) -> None:
    for target in ("judge", "experiment"):
        assert options_of(make(project, target)) == []
    assert not (project / ".venv-judge").exists()


def test_make_may_be_run_in_another_folder(project: Path) -> None:
    done = make(project.parent, "-f", str(project / "Makefile"), "samples", "OUT=x")
    assert options_of(done) == ["--out=x"]
    assert str(project / "scripts" / "samples.py") in done.stdout


def test_make_refuses_a_python_that_is_too_old_or_too_new(project: Path) -> None:
    (project / ".venv" / "ready").unlink()
    for version, refused in (("3, 10", True), ("3, 14", True), ("3, 13, 9", False)):
        script = project / "fake_python"
        script.write_text(f"""#!/bin/sh
test "$1" = -c || {{ echo "reached $*"; exit 7; }}
exec "{sys.executable}" -c "import sys; sys.version_info = ({version}); $2"
""")
        script.chmod(0o755)
        done = make(project, "run", "PYTHON=./fake_python")
        assert done.returncode != 0
        assert ("Python 3.11 to 3.13 is needed" in done.stderr) == refused
        assert ("reached -m venv" in done.stdout) != refused
    assert "3.11 to 3.13 is needed" in make(project, "run", "PYTHON=no_python").stderr
