"""Plots and tables: what they show, by the field's names."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from test_history import make_history

import dcgan_utils as utils
from dcgan.diagram import draw_flow
from dcgan.pictures import read_picture


def legend(axis: Axes) -> list[str]:
    """Return the names in a legend."""
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_history_shows_losses_accuracies_and_distance(tmp_path: Path) -> None:
    history = make_history([0.8, 0.7])
    figure = utils.draw_train_history(history, (np.log(2), np.log(4)), tmp_path / "plot.png")
    losses, accuracies, quality = figure.axes
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == [
        "Losses",
        "Accuracy of the discriminator",
        "Classifier's Fréchet distance",
    ]
    levels = [line.get_ydata()[0] for line in losses.lines if line.get_ls() == ":"]
    assert levels == pytest.approx([np.log(2), np.log(4)])
    assert legend(losses)[2:] == ["chance level: 0.69", "chance level: 1.39"]
    assert legend(accuracies)[1] == "generated images (fake accuracy)"
    assert legend(quality) == ["best: 7.00 in epoch 2"]
    shown = read_picture(tmp_path / "plot.png")
    assert shown.std() > 10
    assert shown.shape[1] == 600


def test_history_needs_a_record_but_no_chance_losses(tmp_path: Path) -> None:
    figure = utils.draw_train_history(make_history([0.8]))
    assert legend(figure.axes[0]) == ["generator", "discriminator"]
    with pytest.raises(ValueError, match="empty"):
        utils.draw_train_history([], path=tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("distances", "shown"),
    [
        ([38.0, 7.0], "5 10 20 50"),
        ([10.0], "5 10 20"),
        ([100.0, 10.0, 0.0], "5 10 20 50 100 200"),
        ([11_000.0, 0.011], "0.01 0.1 1 10 100 1000 10000 100000"),
        ([3e-9, 1e-9], "5e-10 1e-09 2e-09 5e-09"),
    ],
)
def test_axis_of_distances_has_ticks_beyond_them(distances: list[float], shown: str) -> None:
    history = make_history([0.8] * len(distances))
    for record, distance in zip(history, distances, strict=True):
        record["distance"] = distance
    figure = utils.draw_train_history(history)
    figure.draw_without_rendering()
    axis = figure.axes[2]
    low, high = axis.get_ylim()
    ticks = zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
    assert " ".join(label.get_text() for tick, label in ticks if low <= tick <= high) == shown


@pytest.mark.filterwarnings("error")
def test_distances_of_zero_are_drawn() -> None:
    history = make_history([0.8, 0.7])
    for record in history:
        record["distance"] = 0.0
    utils.draw_train_history(history).draw_without_rendering()


def test_further_metrics_get_a_panel_of_their_own() -> None:
    history = make_history([0.8, 0.7], penalty=0.1)
    history[1]["gradient_norm"] = 3.0
    figure = utils.draw_train_history(history)
    assert figure.axes[3].get_title(loc="left") == "Other metrics"
    assert legend(figure.axes[3]) == ["gradient_norm", "penalty"]
    figure.draw_without_rendering()


def test_comparison_shows_every_run(tmp_path: Path) -> None:
    runs = {"a": make_history([0.9, 0.8, 0.7]), "b": make_history([0.8, 0.6])}
    figure = utils.draw_comparison(runs, tmp_path / "comparison.png")
    by_epoch, by_minute = figure.axes
    assert legend(by_epoch) == legend(by_minute) == ["a", "b"]
    assert by_minute.lines[1].get_xdata().tolist() == [0.5, 1.0]
    assert read_picture(tmp_path / "comparison.png").std() > 10


def test_flow_names_every_step_and_shape() -> None:
    figure = draw_flow(64, (28, 28, 1))
    words = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert words[:4] == [
        "noise\n(N, 64)",
        "generator",
        "generated images\n(N, 28, 28, 1)",
        "real images\n(N, 28, 28, 1)",
    ]
    assert words.count("logits\n(N, 1)") == words.count("update") == 2
    assert figure.get_size_inches()[0] == 7.5


def test_scores_become_a_table() -> None:
    rows = {
        "real": {"distance": 0.11, "pixels": 0.05},
        "improved": {"distance": 1.234, "entropy_score": 0.5, "confident": 1.0, "pixels": 0.76},
    }
    assert utils.format_scores(rows).splitlines() == [
        "|  | classifier's Fréchet distance | pixel Fréchet distance (8\u00a0x\u00a08) "
        "| confident (>\u00a090\u00a0%) | Inception-Score formula |",
        "| --- | --- | --- | --- | --- |",
        "| real | 0.11 | 0.05 | – | – |",
        "| improved | 1.23 | 0.76 | 100.0% | 0.50 |",
    ]
    narrow = utils.format_scores(rows, columns=("confident", "distance", "rarest")).splitlines()
    assert narrow[0] == "|  | confident (>\u00a090\u00a0%) | classifier's Fréchet distance |"
    assert narrow[3] == "| improved | 100.0% | 1.23 |"
    with pytest.raises(ValueError, match="no score"):
        utils.format_scores({})
