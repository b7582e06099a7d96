"""The benchmark measures what it says, and the README shows what it measured."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import growth
import networks
import numpy as np
import project
import pytest
import seeds
import textbook
import train_step
from contest import Contender
from keras import layers

import dcgan_utils as utils

ROOT = Path(__file__).parent.parent
RESULTS = json.loads(train_step.RESULTS.read_text())
GROWTH = json.loads((growth.HERE / "growth.json").read_text())


def test_products_and_operations_are_counted_by_hand() -> None:
    generator = networks.build_generator(layers)
    discriminator = networks.build_discriminator(layers)
    dense, doubling, last = 100 * 4096, 16 * 25 * 256 * 128, 256 * 25 * 64 * 3
    assert networks.layer_products(generator) == [dense, doubling, doubling, last]
    assert networks.layer_products(discriminator) == [last, doubling, 8 * 8 * 128]
    generator_passes = 2 * dense + 3 * (2 * doubling + last)
    discriminator_passes = 5 * last + 7 * (doubling + 8192)
    assert networks.step_flops(generator, discriminator) == 2 * (
        generator_passes + discriminator_passes
    )


def test_all_contenders_have_the_same_networks() -> None:
    for build in (networks.build_generator, networks.build_discriminator):
        ours, theirs = build(utils), build(layers)
        assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
        assert ours.count_params() == theirs.count_params()


def test_textbook_loop_trains_and_draws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(textbook, "STEPS", 2)
    monkeypatch.setattr(textbook, "BATCH_SIZE", 8)
    monkeypatch.setattr(textbook.tempfile, "gettempdir", lambda: str(tmp_path))
    pixels, _ = utils.draw_stand_in_images(24, (32, 32, 3), seed=0)
    loop = textbook.Textbook(pixels)
    before = [weight.numpy() for weight in loop.generator.trainable_weights]
    assert loop.start_epoch() > 0
    assert loop.run_steps() > 0
    assert loop.draw_picture() > 0
    assert np.isfinite(loop.history).all()
    assert len(loop.history) == 2
    after = [weight.numpy() for weight in loop.generator.trainable_weights]
    assert any((a != b).any() for a, b in zip(after, before, strict=True))
    assert utils.read_picture(tmp_path / "textbook.png").shape == (400, 400, 3)


def test_contenders_answer_requests(tmp_path: Path) -> None:
    script = tmp_path / "contender.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
        "from contest import serve\n"
        "print('chatter')\n"
        "serve({'a': lambda: 1.5, 'b': lambda: 2.5}, {'steps': 3})\n"
    )
    contender = Contender(sys.executable, script)
    assert contender.facts == {"measurements": ["a", "b"], "steps": 3}
    assert contender.measure("b")["seconds"] == 2.5
    assert contender.measure("a")["peak_rss_gb"] > 0.001
    contender.close()
    assert contender.process.returncode == 0


def test_a_contender_that_fails_is_named(tmp_path: Path) -> None:
    script = tmp_path / "contender.py"
    script.write_text("raise SystemExit(3)")
    with pytest.raises(RuntimeError, match=r"contender\.py ended with code 3"):
        Contender(sys.executable, script)


def test_ratios_are_those_of_the_same_round() -> None:
    assert train_step.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == 3.0


@pytest.mark.parametrize(
    "key",
    [
        "epoch_vs_textbook",
        "step_vs_textbook_fp32",
        "step_vs_torch",
        "peak_fraction",
        "overhead_share",
        "measuring_share",
        "peak_rss_gb",
    ],
)
def test_results_are_numbers(key: str) -> None:
    assert isinstance(RESULTS[key], float)
    assert math.isfinite(RESULTS[key])
    assert RESULTS[key] > 0


def test_readme_shows_the_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert train_step.format_tables(RESULTS) in readme
    assert RESULTS["machine"] in readme
    for series in GROWTH.values():
        assert f"{series['exponent']:.2f}" in readme


def test_growth_is_a_power_of_its_numbers(tmp_path: Path) -> None:
    for series in GROWTH.values():
        assert growth.exponent(series["x"], series["seconds"]) == pytest.approx(series["exponent"])
    assert growth.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    drawn = tmp_path / "growth.png"
    growth.draw(GROWTH).savefig(drawn, dpi=100, metadata={"Software": None})
    shipped = utils.read_picture(growth.HERE / "growth.png")
    assert utils.read_picture(drawn).shape == shipped.shape


def test_an_epoch_of_the_lesson_is_timed(lesson: Callable) -> None:
    steps = []
    measure = project.time_epoch(
        lesson().train_epoch, lambda *batch: steps.append(batch) or {}, np.zeros((24, 4, 4, 3))
    )
    assert measure() > 0
    assert len(steps) == 3


def test_short_runs_of_all_seeds_are_trained_and_scored_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DCGAN_FAST", "1")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(seeds, "RESULTS", tmp_path / "seeds.json")
    monkeypatch.setattr(seeds, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(seeds, "EPOCHS", 1)
    monkeypatch.setattr(seeds, "SCHEDULES", {"shortened": {"HANDICAP_EPOCHS": (1, 2)}})
    (tmp_path / "seeds.json").write_text('{"shortened": {"42": "kept"}}')
    seeds.main()
    runs = json.loads((tmp_path / "seeds.json").read_text())["shortened"]
    assert runs["42"] == "kept"
    assert [record["epoch"] for record in runs["7"]["history"]] == [1]
    distances = [scores["distance"] for scores in runs["7"]["scores"].values()]
    assert len(distances) == 3
    assert min(distances) > 0
    assert sorted(tmp_path.iterdir()) == [tmp_path / "runs", tmp_path / "seeds.json"]
