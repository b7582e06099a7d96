"""Distances between sets of images or features, and scores of class probabilities.

NumPy is enough for all of them: what networks say about images comes in as arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dcgan.pixels import as_array, check_whole, to_uint8


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean (d,) and covariance (d, d) of feature vectors, float64."""

    mean: np.ndarray
    covariance: np.ndarray


def feature_statistics(features: np.ndarray) -> FeatureStatistics:
    """Return mean and covariance of features (N, d), N at least 2; ValueError for all else."""
    (features,) = _check_features(features)
    if len(features) < 2:
        raise ValueError("features must be those of at least 2 images")
    mean = features.mean(axis=0, dtype=np.float64)
    deviations = features - mean
    return FeatureStatistics(mean, deviations.T @ deviations / (len(features) - 1))


def _check_features(*parts: np.ndarray) -> list[np.ndarray]:
    """Return arrays (N, d) of one width, whose squares float32 can hold, or raise ValueError."""
    parts = [as_array(part, "features") for part in parts]
    for part in parts:
        if part.ndim != 2 or not part.size:
            raise ValueError(f"features must be (N, d) and not empty, got shape {part.shape}")
        if not -1e15 < float(part.min()) <= float(part.max()) < 1e15:  # false for NaN as well
            raise ValueError("features must be finite and below 1e15; found others")
    widths = {part.shape[1] for part in parts}
    if len(widths) > 1:
        raise ValueError(f"features differ in size: {sorted(widths)}")
    return parts


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Return the squared Fréchet distance between two normal distributions, a float of at least 0.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Dowson & Landau, "The Fréchet distance between
    multivariate normal distributions", 1982. Heusel et al., "GANs Trained by a Two Time-Scale
    Update Rule", 2017, apply it to the features of an Inception network and call that FID; with
    other features the numbers are not comparable. Few samples make it larger, so compare equal
    counts only. Statistics of different features raise ValueError.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"features differ in size: {first.mean.shape} and {second.mean.shape}")
    # C1 C2 has the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2), which are safer to compute.
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ second.covariance @ root).clip(0)
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    distance = np.sum((first.mean - second.mean) ** 2) + traces - 2 * np.sqrt(product).sum()
    return max(0.0, float(distance))


def kid_formula(
    first: np.ndarray, second: np.ndarray, subsets: int = 50, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the unbiased squared maximum mean discrepancy of features (N, d) and (M, d).

    It has the cubic kernel (x y / d + 1)^3 of Bińkowski et al., "Demystifying MMD GANs", 2018, who
    call it KID for Inception features. Unlike the Fréchet distance it does not depend on the number
    of samples; for equal distributions it is 0 on average, so it may be negative. Returns mean and
    standard deviation over `subsets` pairs, at least 2, of `size` random rows, at least 2.
    Different widths and too few rows or pairs raise ValueError.
    """
    first, second = _check_features(first, second)
    check_whole(subsets=(subsets, 2), size=(size, 2))
    if size > min(len(first), len(second)):
        raise ValueError(f"{len(first)} and {len(second)} features are too few for {size} a subset")
    rng = np.random.default_rng(seed)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    values = []
    for _ in range(subsets):
        a, b = (
            features[rng.choice(len(features), size, replace=False)].astype(np.float64)
            for features in (first, second)
        )
        within = sum(k.sum() - np.trace(k) for k in (kernel(a, a), kernel(b, b)))
        values.append(within / (size * (size - 1)) - 2 * kernel(a, b).mean())
    return float(np.mean(values)), float(np.std(values))


def pixel_statistics(images: np.ndarray, side: int = 8) -> FeatureStatistics:
    """Return mean and covariance of images reduced to side x side mean colours in [-1, 1].

    A network that was trained to tell classes apart sees shapes; this sees colours and layout: the
    Fréchet distance of two such statistics is the pixel Fréchet distance. Blocks whose sides `side`
    does not divide differ by a pixel. Images are as for `to_uint8`, at least two, of `side` pixels
    or more; ValueError for others.
    """
    check_whole(side=(side, 1))
    images = to_uint8(images)
    if min(images.shape[1:3]) < side:
        raise ValueError(f"images must have {side} x {side} pixels, got {images.shape}")
    # A part at a time: as float32, all training images of CIFAR-10 would take 600 MB.
    parts = (images[start : start + 1_000] for start in range(0, len(images), 1_000))
    return feature_statistics(np.concatenate([_mean_colours(part, side) for part in parts]))


def _mean_colours(means: np.ndarray, side: int) -> np.ndarray:
    """Reduce images to side x side mean colours in [-1, 1], float32 (N, channels * side**2)."""
    for axis in (1, 2):
        edges = np.linspace(0, means.shape[axis], side + 1).astype(int)
        lengths = np.diff(edges).astype(np.float32)
        sums = np.add.reduceat(means, edges[:-1], axis, dtype=np.float32)
        means = sums / np.expand_dims(lengths, [k for k in range(4) if k != axis])
    return means.reshape(len(means), -1) / 127.5 - 1


def classifier_scores(
    probabilities: np.ndarray, intended: np.ndarray | None = None
) -> dict[str, float]:
    """Score N images by a classifier's probabilities (N, classes), rows that add up to 1.

    Returns `confident`, the share of images whose class gets more than 0.9; `rarest` and
    `commonest`, the shares of the classes predicted least and most often; `intended`, the share of
    images predicted as the class that was asked for, if integers (N,) are given; `entropy_score`,
    exp of the mutual information of image and class, from 1 (all images alike or at chance level)
    to the number of classes (each image of one class, all classes equally often): the
    Inception-Score formula of Salimans et al., "Improved Techniques for Training GANs", 2016, with
    another network. Raises ValueError for other probabilities or intended classes of another shape.
    """
    probabilities = as_array(probabilities, "probabilities").astype(np.float64)
    valid = probabilities.ndim == 2 and probabilities.size and (probabilities >= 0).all()
    if not valid or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise ValueError("probabilities must be (N, classes), rows that add up to 1")
    predicted = probabilities.argmax(axis=1)
    shares = np.bincount(predicted, minlength=probabilities.shape[1]) / len(predicted)
    mean = probabilities.mean(axis=0)
    logarithms = np.log(probabilities.clip(1e-12)) - np.log(mean.clip(1e-12))
    scores = {
        "confident": float(np.mean(probabilities.max(axis=1) > 0.9)),
        "entropy_score": float(np.exp((probabilities * logarithms).sum(axis=1).mean())),
        "rarest": float(shares.min()),
        "commonest": float(shares.max()),
    }
    if intended is not None:
        intended = as_array(intended, "intended classes")
        if intended.shape != predicted.shape:
            raise ValueError(f"{len(predicted)} images, intended classes {intended.shape}")
        scores["intended"] = float(np.mean(predicted == intended))
    return scores


def nearest_neighbours(
    features: np.ndarray, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the row of candidates (M, d) that is nearest to each row of features (N, d).

    Returns the rows' numbers, int64 (N,), and Euclidean distances, float32 (N,).
    """
    parts = _check_features(features, candidates)
    features, candidates = (part.astype(np.float32) for part in parts)
    squares = np.sum(candidates**2, axis=1) - 2 * features @ candidates.T
    nearest = squares.argmin(axis=1)
    return nearest, np.linalg.norm(features - candidates[nearest], axis=1)


def spearman_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation of finite numbers in [-1, 1]; 0 if a side is constant."""
    first, second = (as_array(part, "series").astype(np.float64) for part in (first, second))
    equal = first.ndim == 1 and first.shape == second.shape and first.size > 1
    if not equal or not np.isfinite([first, second]).all():
        raise ValueError(f"need 2 or more pairs of finite numbers: {first.shape}, {second.shape}")
    # How many more numbers are below than above each one: its rank, equal ones sharing the mean.
    ranks = [np.sign(np.subtract.outer(part, part)).sum(axis=1) for part in (first, second)]
    return float(np.corrcoef(ranks)[0, 1]) if all(map(np.any, ranks)) else 0.0
