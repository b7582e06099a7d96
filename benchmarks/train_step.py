"""Time this project against the textbook loop and PyTorch: `make bench`, `make bench-torch`.

Same networks, batch and data for all; see `contest.py` for how they are timed. Results go to
`results.json` and, as tables, into the README.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contest import UNITS_PER_GB, Contender

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).with_name("results.json")
README = ROOT / "README.md"
TORCH_PYTHON = ROOT / ".venv-torch" / "bin" / "python"
TORCH_MODES = [(p, m) for p in ("float32", "bfloat16") for m in ("eager", "compile")]

ROUNDS = 7
EPOCH_IMAGES = 50_000
BATCH_SIZE = 256
EPOCH_STEPS = EPOCH_IMAGES // BATCH_SIZE
PICTURES_PER_EPOCH = EPOCH_STEPS // 50 + 1  # every 50 steps, and at the end of the epoch
GIF_EPOCHS = 50  # a run makes one GIF


def start_contenders() -> dict[str, Contender]:
    """Start all processes, one after the other."""
    here = Path(__file__).parent
    contenders = {}

    def start(name: str, python: str | Path, script: str, *arguments: str) -> None:
        print(f"warming up: {name}", flush=True)
        contenders[name] = Contender(python, here / script, *arguments)

    start("textbook", sys.executable, "textbook.py")
    start("project", sys.executable, "project.py", "auto")
    start("project float32", sys.executable, "project.py", "float32")
    if TORCH_PYTHON.exists():
        for precision, mode in TORCH_MODES:
            start(f"torch {precision} {mode}", TORCH_PYTHON, "pytorch.py", precision, mode)
    return contenders


def run_rounds(contenders: dict[str, Contender]) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Ask all contenders in turn, round by round; return seconds by name, and peak memory."""
    seconds: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    for number in range(1, ROUNDS + 1):
        print(f"round {number} of {ROUNDS}", flush=True)
        for name, contender in contenders.items():
            for measurement in contender.facts["measurements"]:
                result = contender.measure(measurement)
                seconds.setdefault(f"{name}: {measurement}", []).append(result["seconds"])
                memory[name] = result["peak_rss_gb"]
    return seconds, memory


def measure_training_memory() -> float:
    """Return the peak resident memory in GB of `make train` on all images, over one epoch."""
    print("one epoch of make train, for its memory", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / ".make" / "train.py"), "--epochs=1"]
        process = subprocess.Popen(
            [*command, f"--output-dir={folder}"], stdout=subprocess.DEVNULL, cwd=ROOT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"make train ended with code {process.returncode}")
    return usage.ru_maxrss / UNITS_PER_GB


def ratios(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Return the median of the ratios of measurements taken in the same rounds."""
    return statistics.median(s / f for s, f in zip(slow, fast, strict=True))


def evaluate(
    seconds: dict[str, list[float]], memory: dict[str, float], contenders: dict[str, Contender]
) -> dict[str, Any]:
    """Put the measurements in the numbers that the README shows."""
    steps = {}
    for name, contender in contenders.items():
        starts = [0.0] * ROUNDS
        if name.startswith("project"):  # whose measurement includes the start of an epoch
            starts = seconds[f"{name}: start of epoch"]
        series = zip(seconds[f"{name}: steps"], starts, strict=True)
        steps[name] = [(total - start) / contender.facts["steps"] for total, start in series]

    others = {
        name: seconds[f"project: {name}"]
        for name in ("start of epoch", "samples", "history", "checkpoint", "GIF")
    }
    others["GIF"] = [value / GIF_EPOCHS for value in others["GIF"]]
    other = [sum(values) for values in zip(*others.values(), strict=True)]
    measuring = seconds["project: distance"]
    project_parts = zip(steps["project"], other, measuring, strict=True)
    project_epoch = [EPOCH_STEPS * s + o + m for s, o, m in project_parts]
    textbook_parts = zip(
        seconds["textbook: start of epoch"],
        steps["textbook"],
        seconds["textbook: picture"],
        strict=True,
    )
    textbook_epoch = [f + EPOCH_STEPS * s + PICTURES_PER_EPOCH * p for f, s, p in textbook_parts]

    facts = contenders["project"].facts
    dtype = "bfloat16" if "bfloat16" in facts["policy"] else "float32"
    peaks = {
        name: 2 * 2048**3 / min(seconds[f"project: matmul {name}"]) / 1e9
        for name in ("float32", "bfloat16")
    }
    speeds = {name: BATCH_SIZE / statistics.median(values) for name, values in steps.items()}
    results = {
        "machine": describe_machine(),
        "policy": facts["policy"],
        "rounds": ROUNDS,
        "epoch_vs_textbook": ratios(textbook_epoch, project_epoch),
        "step_vs_textbook_fp32": ratios(steps["textbook"], steps["project"]),
        "fp32_step_vs_textbook_fp32": ratios(steps["textbook"], steps["project float32"]),
        "peak_fraction": speeds["project"] * facts["flops"] / 1e9 / peaks[dtype],
        "overhead_share": statistics.median(
            o / e for o, e in zip(other, project_epoch, strict=True)
        ),
        "measuring_share": statistics.median(
            m / e for m, e in zip(measuring, project_epoch, strict=True)
        ),
        "peak_rss_gb": measure_training_memory(),
        "rss_gb": memory,
        "images_per_second": speeds,
        "epoch_seconds": {
            "textbook": statistics.median(textbook_epoch),
            "project": statistics.median(project_epoch),
        },
        "matmul_gflops": peaks,
        "step_mflops_per_image": facts["flops"] / 1e6,
        "other_seconds": {name: statistics.median(values) for name, values in others.items()},
        "start_up_seconds": facts["start_up"],
        "kernels": {
            name.removeprefix("project: kernels: "): ratios(
                seconds["project: kernels: Keras' layers"], values
            )
            for name, values in seconds.items()
            if "kernels: " in name
        },
        "lesson_images_per_second": facts["lesson_steps"]
        * facts["lesson_batch"]
        / statistics.median(seconds["project: kernels: all four"]),
    }
    torch = [name for name in contenders if name.startswith("torch")]
    if torch:
        best = min(torch, key=lambda name: statistics.median(steps[name]))
        results["torch"] = {
            "version": contenders[best].facts["version"],
            "best": best.removeprefix("torch "),
        }
        results["step_vs_torch"] = ratios(steps[best], steps["project"])
    return results


def describe_machine() -> str:
    """Name processor, cores and versions."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        model = re.search(r"model name\s*: (.*)", information.read_text()).group(1)
    versions = f"TensorFlow {version('tensorflow')}, Keras {version('keras')}"
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}, {versions}"


def keep_torch(results: dict[str, Any]) -> None:
    """Take the comparison with PyTorch over from the last run that made one."""
    if "step_vs_torch" in results or not RESULTS.exists():
        return
    previous = json.loads(RESULTS.read_text())
    if "step_vs_torch" in previous:
        results["torch"] = {**previous["torch"], "from_an_earlier_run": True}
        results["step_vs_torch"] = previous["step_vs_torch"]
        for name, speed in previous["images_per_second"].items():
            if name.startswith("torch"):
                results["images_per_second"][name] = speed


def format_tables(results: dict[str, Any]) -> str:
    """Return the README's section in Markdown."""
    speeds, epochs = results["images_per_second"], results["epoch_seconds"]
    textbook = speeds["textbook"]
    rows = [
        "| training step, textbook networks, batch 256 | images/s | against the textbook |",
        "|---|---|---|",
        f"| textbook loop, float32 | {textbook:,.0f} | 1.00 |",
    ]
    earlier = " (an earlier run)" if results.get("torch", {}).get("from_an_earlier_run") else ""
    titles = {f"torch {p} {m}": f"PyTorch {m}, {p}{earlier}" for p, m in TORCH_MODES}
    titles["project float32"] = "this project, float32"
    titles["project"] = f"**this project, {results['policy']}**"
    exact = {
        "project": results["step_vs_textbook_fp32"],
        "project float32": results["fp32_step_vs_textbook_fp32"],
    }
    rows += [
        f"| {title} | {speeds[name]:,.0f} | {exact.get(name, speeds[name] / textbook):.2f} |"
        for name, title in titles.items()
        if name in speeds
    ]
    others = results["other_seconds"]
    start_up = results["start_up_seconds"]
    rows += [
        "",
        "| whole epoch of 50,000 images | textbook, with pictures | this project | ratio |",
        "|---|---|---|---|",
        f"| seconds | {epochs['textbook']:.1f} | {epochs['project']:.1f} "
        f"| **{results['epoch_vs_textbook']:.2f}** |",
        "",
        "| | |",
        "|---|---|",
    ]
    if "step_vs_torch" in results:
        best = f"{results['torch']['best'].replace(' ', ', ')}, {results['torch']['version']}"
        ratio = results["step_vs_torch"]
        rows.append(f"| step against PyTorch's best ({best}){earlier} | {ratio:.2f} |")
    dtype = "bfloat16" if "bfloat16" in results["policy"] else "float32"
    rows += [
        f"| share of the machine's {dtype} matmul peak ({results['matmul_gflops'][dtype]:.0f} "
        f"GFLOP/s) | {results['peak_fraction']:.0%} |",
        "| measuring the distance of 2,000 pictures, share of an epoch | "
        f"{results['measuring_share']:.1%} |",
        f"| all else that is not training, share of an epoch | {results['overhead_share']:.1%} |",
        "| of that, a time each epoch | "
        + ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in others.items())
        + " |",
        f"| peak memory of `make train` | {results['peak_rss_gb']:.2f} GB |",
        f"| from the command to the first step | {sum(start_up.values()):.0f} s ("
        + ", ".join(f"{name} {value:.1f}" for name, value in start_up.items())
        + ") |",
        "",
        "| the notebook's networks, batch 64, with | speed against Keras' layers |",
        "|---|---|",
    ]
    rows += [f"| {name} | {ratio:.2f} |" for name, ratio in results["kernels"].items()]
    return "\n".join(rows)


def write_readme(tables: str) -> None:
    """Replace the README's tables."""
    text = README.read_text()
    marks = "<!-- benchmark -->", "<!-- end of benchmark -->"
    before, _, rest = text.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    README.write_text(f"{before}{marks[0]}\n\n{tables}\n\n{marks[1]}{after}")


def main() -> None:
    """Measure, print, write."""
    contenders = start_contenders()
    seconds, memory = run_rounds(contenders)
    for contender in contenders.values():
        contender.close()
    results = evaluate(seconds, memory, contenders)
    keep_torch(results)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    tables = format_tables(results)
    print(f"\n{results['machine']}\n\n{tables}\n")
    write_readme(tables)
    print("results.json and the README's tables are written")


if __name__ == "__main__":
    main()
