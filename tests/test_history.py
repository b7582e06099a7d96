"""History: files that are whole or refused, the epoch's line, and trends."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from test_bad_pictures import EXAMPLES, fuzzed, result_or_error

import dcgan_utils as utils


def make_history(fake_acc: list[float], **more: float) -> utils.History:
    """Return a history whose fake accuracy is given, with further numbers."""
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
            **more,
        }
        for epoch, value in enumerate(fake_acc, start=1)
    ]


def test_history_round_trip_is_one_record_a_line(tmp_path: Path) -> None:
    history = make_history([0.8, 0.7, 0.6], penalty=0.02)
    path = tmp_path / "training_history" / "baseline.json"
    utils.save_history(history, path)
    assert utils.load_history(path) == history
    assert len(path.read_text(encoding="utf-8").splitlines()) == 5
    assert json.loads(path.read_bytes())[0]["penalty"] == 0.02
    assert utils.load_history(tmp_path / "none.json") == []


def test_bad_records_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    utils.save_history(make_history([0.8]), path)
    before = path.read_bytes()
    for history in (
        make_history([0.8, float("nan")]),
        make_history([0.8, 0.7])[1:],
        make_history([0.8], penalty=float("inf")),
        [{}],
        [None],
    ):
        with pytest.raises(ValueError, match="history"):
            utils.save_history(history, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[1]", '[{"epoch": 1}]', "[NaN]", "\x00", "[" * 100_000]
)
def test_bad_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"baseline\.json"):
        utils.load_history(path)


good_history = make_history([0.5, 0.5, 0.5])
any_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)


@pytest.mark.survives(
    "a changed history file", "hypothesis: any record, value or byte", times=EXAMPLES
)
@fuzzed
@given(data=st.data())
def test_histories_of_anything(tmp_path: Path, data: st.DataObject) -> None:
    history: Any = json.loads(json.dumps(good_history))
    kind = data.draw(st.sampled_from(["value", "key", "record", "whole", "bytes"]))
    number, key = data.draw(st.integers(0, 2)), data.draw(st.sampled_from(utils.HISTORY_KEYS))
    if kind == "value":
        history[number][key] = data.draw(any_json)
    elif kind == "key":
        del history[number][key]
    elif kind == "record":
        history[number] = data.draw(any_json)
    elif kind == "whole":
        history = data.draw(any_json)
    content = bytearray(json.dumps(history).encode())
    if kind == "bytes":
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "history.json"
    path.write_bytes(content)
    loaded = result_or_error(lambda: utils.load_history(path), names="history.json")
    if loaded:
        assert [record["epoch"] for record in loaded] == list(range(1, len(loaded) + 1))
        assert all(0 <= record["fake_acc"] <= 1 for record in loaded)
        for draw in (utils.draw_train_history, lambda h: utils.draw_comparison({"a": h})):
            assert isinstance(draw(loaded), Figure)
    else:
        result_or_error(lambda: utils.draw_train_history(history))


def test_column_and_its_errors() -> None:
    history = make_history([0.8, 0.7])
    assert utils.history_column(history, "fake_acc").tolist() == [0.8, 0.7]
    with pytest.raises(ValueError, match="empty"):
        utils.history_column([], "fake_acc")
    with pytest.raises(ValueError, match="'fid'"):
        utils.history_column(history, "fid")


def test_epoch_line_fits_into_a_terminal() -> None:
    record = make_history([0.8])[0]
    line = utils.format_epoch(record, 50)
    assert line == ("epoch  1/50  loss G 0.70 D 1.40  acc real 0.60 fake 0.80  distance  8.00  30s")
    longest = record | {"epoch": 100, "distance": 38.04, "seconds": 118.4}
    assert len(utils.format_epoch(longest, 100)) <= 80


def test_trend_of_a_rise_and_fall() -> None:
    values = [0.6, 0.9, *np.linspace(0.8, 0.5, 10)]
    trend = utils.summarise_trend(make_history(values), last=4)
    assert trend["peak"] == 0.9
    assert trend["peak_epoch"] == 2
    assert trend["spearman"] == pytest.approx(-1)
    assert trend["last_mean"] == pytest.approx(np.mean(values[-4:]))
    assert utils.summarise_trend(make_history([0.5, 0.9]))["spearman"] == 0
