"""Measure how the cost of an epoch grows: `make bench-growth`.

Trains the notebook's networks with the notebook's code on noise images, changing one thing at a
time: number of images, batch size, width of both networks, side of the images. Writes
`growth.json` and `growth.png`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from notebook import run_cells

import dcgan_utils as utils

HERE = Path(__file__).parent
ROUNDS = 3
EPOCH_IMAGES = 50_000
SAMPLE_IMAGES = 6_144  # a multiple of all batch sizes; costs are scaled up to an epoch
SERIES = {
    "images": (5_000, 10_000, 20_000, 50_000),
    "batch size": (32, 64, 128, 256, 512),
    "width": (0.5, 1, 2),
    "image side": (28, 32, 64),
}


def make_data(count: int, side: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return noise and labels: the cost does not depend on what the pixels show."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    return tf.constant(pixels), tf.zeros(count, tf.uint8)


def make_measurement(batch: int = 64, width: float = 1, side: int = 32) -> Callable[..., float]:
    """Build networks; return a function that gives the seconds an epoch of `count` takes."""
    tags = ("setup", "parameters", "definitions")
    names = SimpleNamespace(**run_cells(*tags, BATCH_SIZE=batch))  # and nothing is written
    shape = (side, side, 3)
    widths = round(width * names.GENERATOR_WIDTH), round(width * names.DISCRIMINATOR_WIDTH)
    run = names.start_run(
        names.build_generator(names.LATENT_DIM, shape, widths[0]),
        names.build_discriminator(shape, widths[1]),
    )
    step = names.make_train_step(run)

    def measure(count: int = SAMPLE_IMAGES, scale_to: int = EPOCH_IMAGES) -> float:
        progress = utils.EpochProgress()
        names.train_epoch(step, *make_data(count, side), 1, progress, utils.Interruption())
        return progress.seconds * scale_to / count

    measure(2 * batch)  # traces the step
    return measure


def measure_all() -> dict[str, dict[str, list[float]]]:
    """Return x and seconds an epoch for every series."""
    usual = make_measurement()
    measurements: dict[str, list[Callable[[], float]]] = {
        "images": [lambda n=n: usual(n, scale_to=n) for n in SERIES["images"]],
        "batch size": [make_measurement(batch=batch) for batch in SERIES["batch size"]],
        "width": [make_measurement(width=width) for width in SERIES["width"]],
        "image side": [make_measurement(side=side) for side in SERIES["image side"]],
    }
    seconds: dict[tuple[str, int], list[float]] = {}
    for number in range(1, ROUNDS + 1):
        print(f"round {number} of {ROUNDS}", flush=True)
        for name, series in measurements.items():
            for index, measure in enumerate(series):
                seconds.setdefault((name, index), []).append(measure())
    return {
        name: {
            "x": list(values),
            "seconds": [statistics.median(seconds[name, i]) for i in range(len(values))],
        }
        for name, values in SERIES.items()
    }


def exponent(x: list[float], seconds: list[float]) -> float:
    """Return p of the law seconds = constant * x**p that fits best."""
    return float(np.polyfit(np.log(x), np.log(seconds), 1)[0])


def draw(growth: dict[str, Any]) -> Figure:
    """Plot the four series side by side, both axes logarithmic."""
    figure = Figure(figsize=(13, 3.4), layout="tight")
    for axis, (name, series) in zip(figure.subplots(1, 4), growth.items(), strict=True):
        axis.loglog(series["x"], series["seconds"], "o-")
        axis.set_xticks(series["x"], [f"{x:,}" for x in series["x"]], fontsize=8)
        axis.set_xticks([], minor=True)
        axis.set(xlabel=name, title=f"grows like {name} to the power {series['exponent']:.2f}")
        axis.title.set_fontsize(9)
        axis.grid(alpha=0.25, which="both")
        axis.margins(x=0.12)
        axis.set_ylim(1.5, 250)
        for x, y in zip(series["x"], series["seconds"], strict=True):
            axis.annotate(f"{y:.0f}", (x, y), (0, 6), textcoords="offset points", ha="center")
    figure.axes[0].set_ylabel("seconds an epoch")
    return figure


def main() -> None:
    """Measure, print, write."""
    growth = measure_all()
    for name, series in growth.items():
        series["exponent"] = exponent(**{key: series[key] for key in ("x", "seconds")})
        points = ", ".join(
            f"{x}: {y:.1f} s" for x, y in zip(series["x"], series["seconds"], strict=True)
        )
        print(f"{name}: {points}; grows with power {series['exponent']:.2f}")
    (HERE / "growth.json").write_text(json.dumps(growth, indent=1) + "\n")
    draw(growth).savefig(HERE / "growth.png", dpi=100, metadata={"Software": None})
    print("growth.json and growth.png are written")


if __name__ == "__main__":
    main()
