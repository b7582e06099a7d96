"""Time this project against the textbook loop and PyTorch: `make bench`, `make bench-torch`.

Same networks and batch size for all. Results go to `results.json` and into this folder's README.
"""

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from command import Options, one_sentence, write_table
from contest import contend

from dcgan.pixels import check_whole

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
TORCH_VENV = HERE.parent / ".venv-torch"
TEXTBOOK = "textbook loop, float32"
FLOAT32, PROJECT = "this project, float32", "this project, automatic precision"
CONTENDERS = {
    TEXTBOOK: (sys.executable, HERE / "textbook.py"),
    FLOAT32: (sys.executable, HERE / "project.py", "float32"),
    PROJECT: (sys.executable, HERE / "project.py", "auto"),
}
TORCH = {
    f"PyTorch {mode}, {dtype}": (TORCH_VENV / "bin" / "python", HERE / "pytorch.py", dtype, mode)
    for dtype in ("float32", "bfloat16")
    for mode in ("eager", "compile")
}

BATCH_SIZE = 256
EPOCH_STEPS = 50_000 // BATCH_SIZE
PICTURES = EPOCH_STEPS // 50 + 1  # the textbook's: every 50 steps and after the epoch
Tables = dict[str, dict[str, float]]


def evaluate(seconds: dict[str, dict[str, np.ndarray]], about: dict[str, Any]) -> Tables:
    """Return the README's tables, medians over the rounds; `about` are the project's facts."""
    mine, book = seconds[PROJECT], seconds[TEXTBOOK]
    others = {name: mine[name] for name in ("start", "samples", "history", "checkpoint", "GIF")}
    other = sum(others.values())
    epoch = EPOCH_STEPS * mine["step"] + other + mine["distance"]
    book_epoch = EPOCH_STEPS * book["step"] + book["start"] + PICTURES * book["picture"]
    peak = about["matmul_flops"] / mine["matmul"].min()
    improved = about["improved_batch"] / mine["improved"]
    multiples = {
        "whole epoch against the textbook's": book_epoch / epoch,
        "step against the textbook's": book["step"] / mine["step"],
        "step in float32 against the textbook's": book["step"] / seconds[FLOAT32]["step"],
    }
    if torch := [its["step"] for name, its in seconds.items() if name in TORCH]:
        multiples["step against the fastest of PyTorch"] = min(torch, key=np.median) / mine["step"]
    percent = {
        "of the machine's matmul peak in a step": BATCH_SIZE / mine["step"] * about["flops"] / peak,
        "of that peak in a step of the improved variant": improved * about["improved_flops"] / peak,
        "of an epoch for the distance of 2,000 images": mine["distance"] / epoch,
        "of an epoch for all else that is not training": other / epoch,
    }
    kernels = {name: mine["Keras' layers"] / mine[name] for name in about["kernels"]}
    tables = {
        "training step, textbook networks, batch 256 | images/s": {
            name: BATCH_SIZE / its["step"] for name, its in seconds.items()
        },
        "training step of the improved variant, batch 64 | images/s": {PROJECT: improved},
        "whole epoch of 50,000 images | s": {
            f"{TEXTBOOK}, with its pictures": book_epoch,
            f"{PROJECT}, with distance and files": epoch,
        },
        "this project's speed | as a multiple": multiples,
        "share | %": {name: 100 * share for name, share in percent.items()},
        "besides training | ms an epoch": {name: 1000 * s for name, s in others.items()},
        "notebook's networks, batch 64, with | speed against Keras' layers": kernels,
    }
    return {
        title: {name: float(np.median(values)) for name, values in rows.items()}
        for title, rows in tables.items()
    }


def format_tables(tables: Tables) -> str:
    """Return the tables in Markdown."""
    lines = []
    for title, rows in tables.items():
        lines.append(f"\n| {title} |\n|---|---|")
        for name, value in rows.items():
            lines.append(f"| {name} | {value:,.{0 if value >= 100 else 2}f} |")
    return "\n".join(lines).strip()


@one_sentence("make bench")
def main() -> None:
    """Measure, print, write."""
    parser = Options("make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch", action="store_true", help="PyTorch too, from .venv-torch")
    options = parser.parse_args()
    rounds = options.rounds
    check_whole(ROUNDS=(rounds, 1))
    contenders, facts = {}, {}
    for name, command in (CONTENDERS | (TORCH if options.torch else {})).items():
        print(f"warming up: {name}")
        contenders[name] = contend(*command)
        facts[name] = next(contenders[name])
    answers = []
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}")
        answers.append({name: next(contender) for name, contender in contenders.items()})
    seconds = {
        name: {key: np.array([answer[name][key] for answer in answers]) for key in its}
        for name, its in answers[0].items()
    }
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    machine += f", TensorFlow {version('tensorflow')}, Keras {version('keras')}"
    tables = evaluate(seconds, facts[PROJECT])
    results = {"machine": machine, "rounds": rounds, "facts": facts, "tables": tables}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = format_tables(tables)
    print(f"\n{machine}\n\n{text}\n")
    write_table(HERE / "README.md", "benchmark", text)


if __name__ == "__main__":
    main()
