"""Bad data: whatever a metric is given, it returns a result or a ValueError of its own."""

import math
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dcgan import metrics
from dcgan.pixels import to_uint8

EXAMPLES = 300
OURS = Path(metrics.__file__).resolve().parent
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
survives_arrays = pytest.mark.survives(
    "arrays of any rank, type and value",
    "hypothesis, helpers for pictures, noise and metrics",
    times=EXAMPLES,
)

shapes = st.one_of(
    arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9),
    st.sampled_from([(2, 8, 8, 3), (1, 4, 6, 1), (3, 8, 8, 4), (8, 8, 3), (0, 8, 8, 3), (4, 5)]),
)
dtypes = st.one_of(arrays.scalar_dtypes(), st.sampled_from([np.uint8, np.float32, np.float64]))
matrices = arrays.arrays(np.float64, (5, 2), elements=st.floats())
any_input = st.one_of(
    arrays.arrays(dtypes, shapes),
    matrices,
    st.one_of(st.none(), st.text(max_size=5)),
    st.lists(st.lists(st.floats(), max_size=3), max_size=3),
)
any_number = st.one_of(st.integers(), st.floats(), st.none(), st.text(max_size=3), st.booleans())


def result_or_error(call: Callable[[], Any], names: str = "") -> Any:
    """Return what a call returns, or None for a ValueError that the project raised itself."""
    try:
        return call()
    except ValueError as error:
        problem = error
    last = Path(traceback.extract_tb(problem.__traceback__)[-1].filename).resolve()
    assert last.parent in (OURS, OURS.parent), f"raised in {last}: {problem}"
    assert len(str(problem)) > 10
    assert names in str(problem)
    return None


@survives_arrays
@fuzzed
@given(images=any_input)
def test_pixels_of_anything(images: Any) -> None:
    pixels = result_or_error(lambda: to_uint8(images))
    if pixels is not None:
        assert pixels.dtype == np.uint8
        assert pixels.shape == np.shape(images)


@survives_arrays
@fuzzed
@given(first=any_input, second=any_input, number=any_number)
def test_metrics_of_anything(first: Any, second: Any, number: Any) -> None:
    for statistics in (
        result_or_error(lambda: metrics.feature_statistics(first)),
        result_or_error(lambda: metrics.pixel_statistics(first, number)),
    ):
        if statistics is not None:
            assert math.isfinite(metrics.frechet_distance(statistics, statistics))
    for result in (
        result_or_error(lambda: metrics.kid_formula(first, second, 2, number)),
        result_or_error(lambda: metrics.spearman_correlation(first, second)),
    ):
        assert result is None or np.isfinite(result).all()
    nearest = result_or_error(lambda: metrics.nearest_neighbours(first, second))
    assert nearest is None or (nearest[0] < len(second)).all()
    scores = result_or_error(lambda: metrics.classifier_scores(first, second))
    assert scores is None or np.isfinite(list(scores.values())).all()
