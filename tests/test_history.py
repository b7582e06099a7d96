"""History and its numbers: files, trend, and closed forms of the metrics."""

import json
from pathlib import Path

import numpy as np
import pytest

import dcgan_utils as utils


def make_history(fake_acc: list[float]) -> utils.History:
    """Return a history whose fake accuracy is given."""
    return [
        {
            "epoch": epoch,
            "g_loss": 0.7,
            "d_loss": 1.4,
            "real_acc": 0.6,
            "fake_acc": value,
            "distance": 10 * value,
            "seconds": 30.0,
            "images_per_second": 1000.0,
        }
        for epoch, value in enumerate(fake_acc, start=1)
    ]


def test_history_round_trip_is_one_record_a_line(tmp_path: Path) -> None:
    history = make_history([0.8, 0.7, 0.6])
    path = tmp_path / "training_history" / "baseline.json"
    utils.save_history(history, path)
    assert utils.load_history(path) == history
    assert len(path.read_text().splitlines()) == 5
    assert utils.load_history(tmp_path / "none.json") == []


def test_bad_records_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    utils.save_history(make_history([0.8]), path)
    before = path.read_bytes()
    for history in (make_history([0.8, float("nan")]), make_history([0.8, 0.7])[1:], [{}], [None]):
        with pytest.raises(ValueError, match="history"):
            utils.save_history(history, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '[{"epoch": 1}]', "[NaN]", "\x00"])
def test_bad_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"baseline\.json"):
        utils.load_history(path)


def test_history_file_is_plain_json(tmp_path: Path) -> None:
    utils.save_history(make_history([0.5]), tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())[0]["fake_acc"] == 0.5


def test_column_and_its_errors() -> None:
    history = make_history([0.8, 0.7])
    assert utils.history_column(history, "fake_acc").tolist() == [0.8, 0.7]
    with pytest.raises(ValueError, match="empty"):
        utils.history_column([], "fake_acc")
    with pytest.raises(ValueError, match="'fid'"):
        utils.history_column(history, "fid")


def test_epoch_line_and_time_left() -> None:
    history = make_history([0.8, 0.7])
    line = utils.format_epoch(history[0], 50)
    assert line.startswith("epoch  1/50  loss g 0.700 d 1.400")
    assert "fake 0.800  distance  8.00   30 s  1000 images/s" in line
    assert len(line) < 100  # one line on a rendered page
    assert utils.format_time_left(history, 12) == "5 min left"
    assert utils.format_time_left(history, 2) == "0 min left"


def test_smooth_closed_forms() -> None:
    line = np.arange(20.0)
    assert utils.smooth(line, 7) == pytest.approx(line)
    assert utils.smooth([0, 0, 3, 0, 0], 3) == pytest.approx([0, 1, 1, 1, 0])
    assert utils.smooth([4.0], 9) == pytest.approx([4])


@pytest.mark.parametrize("window", [0, 4, -1])
def test_smooth_refuses_even_windows(window: int) -> None:
    with pytest.raises(ValueError, match=r"odd|whole number of at least 1"):
        utils.smooth([1.0, 2.0], window)


@pytest.mark.parametrize("values", [np.zeros((2, 2)), [0.5, np.nan], [np.inf]])
def test_smooth_refuses_tables_and_gaps(values: object) -> None:
    with pytest.raises(ValueError, match="finite and one-dimensional"):
        utils.smooth(values)


def test_spearman_closed_forms() -> None:
    x = np.arange(10)
    assert utils.spearman_correlation(x, np.exp(x)) == pytest.approx(1)
    assert utils.spearman_correlation(x, -(x**3)) == pytest.approx(-1)
    assert utils.spearman_correlation(x, np.ones(10)) == 0
    # Without ties: 1 - 6 * sum of squared rank differences / (n (n^2 - 1)) = 1 - 6 * 2 / 24.
    assert utils.spearman_correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
    # With ties: ranks 1.5, 1.5, 3 against 1, 2, 3.
    assert utils.spearman_correlation([5, 5, 9], [1, 2, 3]) == pytest.approx(np.sqrt(0.75))


@pytest.mark.parametrize(
    ("first", "second"),
    [([1], [1]), ([1, 2], [1, 2, 3]), ([1, np.nan], [1, 2]), ([[1, 2]] * 2,) * 2],
)
def test_spearman_refuses_bad_series(first: list, second: list) -> None:
    with pytest.raises(ValueError, match="series"):
        utils.spearman_correlation(first, second)


def test_trend_of_a_rise_and_fall() -> None:
    values = [0.6, 0.9, *np.linspace(0.8, 0.5, 10)]
    trend = utils.summarise_trend(make_history(values), last=4)
    assert trend["peak"] == 0.9
    assert trend["peak_epoch"] == 2
    assert trend["spearman"] == pytest.approx(-1)
    assert trend["last_mean"] == pytest.approx(np.mean(values[-4:]))
    assert utils.summarise_trend(make_history([0.5, 0.9]))["spearman"] == 0


def test_plot_is_written_and_needs_a_record(tmp_path: Path) -> None:
    figure = utils.draw_train_history(make_history([0.8, 0.7]), path=tmp_path / "plot.png")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["Losses", "Accuracy of the discriminator", "Distance from the photographs"]
    levels = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_ls() == ":"]
    assert levels == pytest.approx([np.log(2), np.log(4)])
    quality = figure.axes[2]
    assert [text.get_text() for text in quality.get_legend().get_texts()][1] == "best: epoch 2"
    assert utils.read_picture(tmp_path / "plot.png").std() > 10
    with pytest.raises(ValueError, match="empty"):
        utils.draw_train_history([], path=tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_comparison_shows_every_run(tmp_path: Path) -> None:
    runs = {"a": make_history([0.9, 0.8, 0.7]), "b": make_history([0.8, 0.6])}
    figure = utils.draw_comparison(runs, tmp_path / "comparison.png")
    accuracy, by_epoch, by_minute = figure.axes
    assert [line.get_label() for line in by_epoch.lines] == ["a", "b"]
    assert by_minute.lines[1].get_xdata().tolist() == [0.5, 1.0]
    assert accuracy.get_legend() is not None
    assert utils.read_picture(tmp_path / "comparison.png").std() > 10
    with pytest.raises(ValueError, match="nothing to compare"):
        utils.draw_comparison({})
