"""Distances and scores against closed forms."""

import tracemalloc

import numpy as np
import pytest

from dcgan import metrics
from dcgan.metrics import FeatureStatistics

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((400, 6)) @ RNG.standard_normal((6, 6))


def one_hot(classes: list[int], certainty: float = 1.0) -> np.ndarray:
    """Return probabilities of ten classes, what is left spread evenly."""
    probabilities = np.full((len(classes), 10), (1 - certainty) / 9)
    probabilities[np.arange(len(classes)), classes] = certainty
    return probabilities


def test_frechet_distance_of_a_set_with_itself_is_zero() -> None:
    statistics = metrics.feature_statistics(FEATURES)
    assert metrics.frechet_distance(statistics, statistics) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_a_shift_is_its_squared_length() -> None:
    shift = np.arange(6.0)
    first, second = (metrics.feature_statistics(f) for f in (FEATURES, FEATURES + shift))
    assert metrics.frechet_distance(first, second) == pytest.approx(shift @ shift)


def test_frechet_distance_of_diagonal_covariances() -> None:
    first = FeatureStatistics(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    second = FeatureStatistics(np.ones(3), np.diag([4.0, 4.0, 1.0]))
    # |m|^2 and the squared differences of the standard deviations
    assert metrics.frechet_distance(first, second) == pytest.approx(3 + 1 + 0 + 4)
    assert metrics.frechet_distance(second, first) == pytest.approx(8)


def test_frechet_distance_bears_a_singular_covariance() -> None:
    flat = metrics.feature_statistics(np.zeros((5, 6)))
    whole = metrics.feature_statistics(FEATURES)
    expected = whole.mean @ whole.mean + np.trace(whole.covariance)
    assert metrics.frechet_distance(flat, whole) == pytest.approx(expected)


def test_statistics_are_mean_and_covariance() -> None:
    statistics = metrics.feature_statistics([[0.0, 0.0], [2.0, 4.0]])
    assert statistics.mean.tolist() == [1, 2]
    assert statistics.covariance.tolist() == [[2, 4], [4, 8]]


@pytest.mark.parametrize(
    "features", [np.zeros(4), np.zeros((1, 4)), np.zeros((4, 0)), np.full((4, 2), np.nan)]
)
def test_bad_features_are_refused(features: np.ndarray) -> None:
    with pytest.raises(ValueError, match="features must be"):
        metrics.feature_statistics(features)


def test_features_of_another_network_are_refused() -> None:
    narrow = FEATURES[:, :3]
    with pytest.raises(ValueError, match="differ in size"):
        metrics.frechet_distance(*(metrics.feature_statistics(f) for f in (FEATURES, narrow)))
    with pytest.raises(ValueError, match="differ in size"):
        metrics.kid_formula(FEATURES, narrow, size=10)


def test_kid_formula_of_two_points_by_hand() -> None:
    # One dimension, subsets that are the whole sets {0, 1} and {0, 2}: kernel (x y + 1)^3.
    first, second = np.array([[0.0], [1.0]]), np.array([[0.0], [2.0]])
    within = 1 + 1  # off the diagonal: k(0, 1) = k(0, 2) = 1
    across = (1 + 1 + 1 + 27) / 4
    mean, spread = metrics.kid_formula(first, second, subsets=2, size=2)
    assert mean == pytest.approx(within - 2 * across)
    assert spread == pytest.approx(0, abs=1e-12)


def test_kid_formula_is_zero_on_average_for_equal_distributions_only() -> None:
    halves = RNG.standard_normal((2, 2000, 8))
    mean, spread = metrics.kid_formula(*halves, subsets=20, size=200)
    assert abs(mean) < spread
    shifted, _ = metrics.kid_formula(halves[0], halves[1] + 1, subsets=20, size=200)
    assert shifted > 10 * spread


@pytest.mark.parametrize("options", [{"subsets": 1}, {"size": 401}, {"size": 1}])
def test_impossible_subsets_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"too few for 401|must be a whole number of at least 2"):
        metrics.kid_formula(FEATURES, FEATURES, **{"size": 10} | options)


def pixel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the pixel Fréchet distance of two sets of images."""
    return metrics.frechet_distance(*map(metrics.pixel_statistics, (first, second)))


def test_pixel_distance_of_a_brighter_set_is_the_shift() -> None:
    images = np.random.default_rng(0).integers(0, 200, (50, 16, 16, 3), dtype=np.uint8)
    assert pixel_distance(images, images) == pytest.approx(0, abs=1e-6)
    expected = 8 * 8 * 3 * (20 / 127.5) ** 2
    assert pixel_distance(images, images + 20) == pytest.approx(expected, rel=1e-4)
    as_float = images / np.float32(127.5) - 1
    assert pixel_distance(images, as_float) == pytest.approx(0, abs=1e-6)


def test_pixel_distance_sees_colours_and_no_detail() -> None:
    colours = np.random.default_rng(1).integers(50, 200, (50, 1, 1, 3), dtype=np.uint8)
    images = np.tile(colours, (1, 16, 16, 1))
    detailed = images.copy()
    detailed[:, ::2] += 50
    detailed[:, 1::2] -= 50
    assert pixel_distance(detailed, images) == pytest.approx(0, abs=1e-4)
    grey = np.repeat(images.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    assert pixel_distance(grey, images) > 1


def test_pixel_statistics_take_less_memory_than_the_images() -> None:
    images = np.zeros((20_000, 32, 32, 3), np.uint8)
    tracemalloc.start()
    metrics.pixel_statistics(images)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * images.nbytes


def test_pixel_distance_of_sides_that_blocks_do_not_divide() -> None:
    images = np.random.default_rng(0).integers(0, 200, (40, 28, 28, 1), dtype=np.uint8)
    distance = pixel_distance(images, images + 20)
    assert distance == pytest.approx(8 * 8 * (20 / 127.5) ** 2, rel=1e-4)


@pytest.mark.parametrize("side", [0, 32])
def test_pixel_distance_needs_a_pixel_a_block(side: int) -> None:
    images = np.zeros((4, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match=r"images must have 32 x 32 pixels|side must be"):
        metrics.pixel_statistics(images, side)


def test_scores_of_perfect_images() -> None:
    classes = list(range(10)) * 3
    scores = metrics.classifier_scores(one_hot(classes), np.array(classes))
    assert scores == pytest.approx(
        {"confident": 1, "entropy_score": 10, "rarest": 0.1, "commonest": 0.1, "intended": 1}
    )


def test_scores_of_a_collapsed_generator() -> None:
    scores = metrics.classifier_scores(one_hot([3] * 20))
    assert scores == pytest.approx(
        {"confident": 1, "entropy_score": 1, "rarest": 0, "commonest": 1}
    )


def test_scores_of_chance_level() -> None:
    scores = metrics.classifier_scores(one_hot([0, 1], certainty=0.4), np.array([0, 0]))
    assert scores["confident"] == 0
    assert scores["intended"] == 0.5
    rest = 0.6 / 9
    mutual = 0.4 * np.log(0.4) + rest * np.log(rest) - (0.4 + rest) * np.log((0.4 + rest) / 2)
    assert scores["entropy_score"] == pytest.approx(np.exp(mutual))


def test_scores_need_images_and_as_many_classes() -> None:
    with pytest.raises(ValueError, match=r"must be \(N, classes\)"):
        metrics.classifier_scores(one_hot([]))
    with pytest.raises(ValueError, match="2 images"):
        metrics.classifier_scores(one_hot([1, 2]), np.array([1]))


def test_nearest_neighbours_are_found() -> None:
    candidates = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = np.array([[9.0, 0.0], [3.0, 4.0], [0.0, 7.0]])
    found, distances = metrics.nearest_neighbours(points, candidates)
    assert found.tolist() == [1, 0, 2]
    assert distances.tolist() == [1, 5, 3]
    itself, distances = metrics.nearest_neighbours(FEATURES, FEATURES)
    assert itself.tolist() == list(range(400))
    assert (distances == 0).all()


@pytest.mark.parametrize("candidates", [np.zeros((0, 6)), np.zeros((3, 5)), np.zeros(6)])
def test_nearest_neighbours_need_candidates_of_the_same_kind(candidates: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be \(N, d\)|differ in size"):
        metrics.nearest_neighbours(FEATURES, candidates)


def test_spearman_correlation_of_ranks_by_hand() -> None:
    assert metrics.spearman_correlation([1, 5, 6], [2, 30, 400]) == pytest.approx(1)
    assert metrics.spearman_correlation([1, 2, 3, 4], [9, 7, 7, 1]) == pytest.approx(-(0.9**0.5))
    assert metrics.spearman_correlation([1, 2, 3], [4, 4, 4]) == 0
    with pytest.raises(ValueError, match="need 2 or more pairs of finite numbers"):
        metrics.spearman_correlation([1, 2], [np.nan, 1])
