"""Train short runs of the improved variant from two seeds, to see what hangs on luck: `make seeds`.

Each run has ten epochs. The shortened ones go through the schedule of the full run, falling rates
and growing handicap, in these ten; those cut off are its first ten epochs. Runs and their scores,
on three times 10,000 pictures, go to `training_history/improved_seeds.json` as they are finished;
what is there is not trained again, and a run that was interrupted goes on from its checkpoint.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from notebook import run_cells

import dcgan_utils as utils

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "training_history" / "improved_seeds.json"
RUNS = ROOT / "runs" / "seeds"
EPOCHS = 10
SEEDS = (42, 7)
NOISE_SEEDS = (45, 46, 47)  # the first is that of the full run's scores

SCHEDULES: dict[str, dict[str, Any]] = {
    "shortened": {"G_HALF_LIFE": 10, "D_HALF_LIFE": 4, "HANDICAP_EPOCHS": (1, 10)},
    "cut off": {},
}


def train_and_score(title: str, seed: int) -> dict[str, Any]:
    """Train one run; return its history and its scores for each seed of noise."""
    tags = ("setup", "parameters", "data", "definitions", "variant:improved", "train:improved")
    folder = RUNS / f"{title}, seed {seed}"
    parameters = {"SEED": seed, "EPOCHS": EPOCHS, "OUTPUT_DIR": str(folder)}
    names = SimpleNamespace(**run_cells(*tags, **parameters, **SCHEDULES[title]))
    photographs = names.recogniser.read(names.x_train)
    scores = {}
    for noise_seed in NOISE_SEEDS:
        noise, labels = names.draw_inputs(names.SAMPLES, noise_seed)
        images = utils.generate_images(names.improved.sampler, noise, labels)
        readings = names.recogniser.read(images)
        scores[noise_seed] = names.evaluate(images, readings, photographs, labels)
    return {"scores": scores, "history": names.improved_history}


def main() -> None:
    """Train and score the runs that are missing."""
    sys.stdout.reconfigure(line_buffering=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for title in SCHEDULES:
        for seed in SEEDS:
            runs = results.setdefault(title, {})
            if str(seed) in runs:
                continue
            print(f"\n{title}, seed {seed}")
            runs[str(seed)] = train_and_score(title, seed)
            with utils.atomic_path(RESULTS) as temporary:
                temporary.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
