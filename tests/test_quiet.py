"""TensorFlow, Keras and matplotlib work alike on anybody's machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ANOTHER_MACHINE = pytest.mark.survives(
    "a reader's own set-up",
    "keras.json, KERAS_BACKEND, matplotlibrc, a C locale, no stderr, a home that cannot be written",
)


def run(script: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Run a script in a fresh process, with the shell's redirections."""
    return subprocess.run(
        ["sh", "-c", f'"$0" "$@" {shell}', sys.executable, "-c", script],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@ANOTHER_MACHINE
def test_keras_does_not_depend_on_its_settings(tmp_path: Path) -> None:
    theirs = {"backend": "jax", "image_data_format": "channels_first"}
    theirs |= {"floatx": "float64", "epsilon": 1e-7}
    (tmp_path / "keras.json").write_text(json.dumps(theirs), encoding="utf-8")
    script = (
        "from dcgan.quiet import keras\nconfig, layer = keras.config, keras.layers.Conv2D(1, 1)"
    )
    script += (
        "\nlayer.build((1, 2, 2, 3)); print(config.backend(), layer.data_format, config.floatx())"
    )
    script += "\nprint(config.dtype_policy().name, layer.kernel.shape, layer.kernel.dtype)"
    done = run(script, KERAS_HOME=str(tmp_path), KERAS_BACKEND="torch")
    assert (done.returncode, done.stderr) == (0, "")
    expected = "tensorflow channels_last float32\nfloat32 (1, 1, 3, 1) float32\n"
    assert done.stdout == expected


@ANOTHER_MACHINE
def test_keras_that_is_loaded_with_another_backend_is_named() -> None:
    loaded = "import keras; keras.config.backend = lambda: 'torch'; import dcgan.quiet"
    message = "RuntimeError: Keras is loaded with torch, and this project computes with TensorFlow"
    assert message in run(loaded).stderr


@ANOTHER_MACHINE
def test_figures_do_not_depend_on_a_matplotlibrc(tmp_path: Path) -> None:
    theirs = (
        "text.usetex: True\nsavefig.bbox: tight\naxes.facecolor: black\nfigure.autolayout: True"
    )
    (tmp_path / "matplotlibrc").write_text(theirs, encoding="utf-8")
    pictures = []
    for folder in ("", str(tmp_path)):
        path = tmp_path / f"plot{len(pictures)}.png"
        record = dict.fromkeys(
            ("g_loss", "d_loss", "distance", "seconds", "images_per_second"), 1.0
        )
        record |= {"epoch": 1, "real_acc": 0.5, "fake_acc": 0.4}
        script = f"import dcgan_utils as u; u.draw_train_history([{record}], path={str(path)!r})"
        done = run(script, MATPLOTLIBRC=folder)
        assert done.returncode == 0, done.stderr
        pictures.append(path.read_bytes())
    assert pictures[0] == pictures[1]


@ANOTHER_MACHINE
def test_no_stderr_and_no_home_are_needed() -> None:
    script = "import dcgan_utils\nfrom dcgan.data import load_few_images\n"
    script += "print(load_few_images('cifar10', 3, 0)[0].shape)"
    done = run(script, shell="2>&-", HOME="/proc/none", KERAS_HOME="/proc/none")
    assert (done.returncode, done.stdout) == (0, "(3, 32, 32, 3)\n")
