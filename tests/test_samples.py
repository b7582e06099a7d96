"""`make samples`: where the arrays go, and which run they are of; see also test_scripts.py."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import samples
import trained
from test_files import cannot_be_written
from test_settings import IGNORED


@cannot_be_written
def test_samples_go_where_they_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    assert trained.choose_out("a.b") == tmp_path / "a.b"
    assert trained.choose_out("~/a") == tmp_path / "home" / "a"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"no folder .* that you may write to"):
        trained.choose_out("a.npz")


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("x", r"^make samples: OUT names a folder that exists, .*/x\.npz: choose another"),
        ("file/x", r"^make samples: OUT: there is no folder .*/file that you may write to"),
    ],
)
def test_what_is_in_the_way_of_samples_is_named_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, sentence: str
) -> None:
    monkeypatch.setattr(samples, "restore", None)
    (tmp_path / "x.npz").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["samples.py", f"--out={tmp_path / out}"])
    with pytest.raises(SystemExit, match=sentence):
        samples.main()


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    """Where the settings of the baseline in `tmp_path` are; not there yet."""
    file = tmp_path / "training_checkpoints" / "baseline" / "settings.json"
    file.parent.mkdir(parents=True)
    return file


def test_settings_may_be_missing_or_saved_by_an_editor(tmp_path: Path, settings_file: Path) -> None:
    assert trained.run_settings(str(tmp_path), "baseline") == {}
    settings_file.write_text('{"SEED": 3}', encoding="utf-8-sig")
    assert trained.run_settings(str(tmp_path), "baseline") == {"SEED": 3}


@pytest.mark.parametrize(
    "content",
    [
        *("[1]", '{"IMAGE_SHAPE": 32}', '{"IMAGE_SHAPE": [32]}', '{"CLASS_NAMES": 3}'),
        '{"LATENT_DIM": "a"}',
    ],
)
def test_damaged_settings_end_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings_file: Path, content: str
) -> None:
    settings_file.write_text(content, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["samples.py", f"--output-dir={tmp_path}"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SystemExit, match=r"^make samples: .*settings\.json .*is damaged .*; bring it"
    ):
        samples.main()


@pytest.mark.parametrize(("variant", "scale"), [("baseline", 1.0), ("improved", 0.5)])
def test_the_noise_of_the_improved_variant_is_scaled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, scale: float
) -> None:
    gan = SimpleNamespace(conditional=False, ema_generator=None)
    names = {"draw_inputs": lambda count, seed: (np.ones((count, 2)), np.zeros(count))}
    names["utils"] = SimpleNamespace(generate_images=lambda generator, noise, labels: noise)
    names |= {"TRUNCATION": 0.5, "data": SimpleNamespace(labelled=False)}
    monkeypatch.setattr(samples, "restore", lambda *run: (gan, names))
    monkeypatch.setattr(
        sys, "argv", ["samples.py", f"--variant={variant}", f"--out={tmp_path / 'x'}"]
    )
    samples.main()
    with np.load(tmp_path / "x.npz") as arrays:
        assert (arrays["images"] == scale).all()


def test_a_run_without_labels_has_no_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gan = SimpleNamespace(conditional=True, ema_generator=None)
    names = {"draw_inputs": lambda count, seed: (np.ones((count, 2)), np.zeros(count))}
    names["utils"] = SimpleNamespace(generate_images=lambda generator, noise, labels: noise)
    names |= {"TRUNCATION": 1, "data": SimpleNamespace(labelled=False), "CLASS_NAMES": ["mine"]}
    monkeypatch.setattr(samples, "restore", lambda *run: (gan, names))
    arguments = ["samples.py", "--variant=improved", f"--out={tmp_path / 'x'}", "--count=3"]
    monkeypatch.setattr(sys, "argv", arguments)
    samples.main()
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["labels"].tolist() == [-1] * 3
    monkeypatch.setattr(sys, "argv", [*arguments, "--class=mine"])
    with pytest.raises(SystemExit, match="improved knows no classes: its data have no labels"):
        samples.main()


def test_a_generator_needs_no_classifier() -> None:
    assert "classifier" not in trained.restore("baseline", None)[1]


@IGNORED
def test_samples_come_from_the_run_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from a fresh folder, although the reader may have set FROM_SCRATCH in the notebook."""

    def run_cells(*tags: str, **parameters: object) -> None:
        raise RuntimeError(f"{parameters['OUTPUT_DIR']}, {parameters['FROM_SCRATCH']}")

    monkeypatch.setattr(trained, "run_cells", run_cells)
    monkeypatch.setattr(sys, "argv", ["samples.py", "--output-dir=/none"])
    with pytest.raises(SystemExit, match=r"^make samples: /none, False$"):
        samples.main()
