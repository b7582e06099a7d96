"""How the benchmark talks to its contenders, each a process of its own.

Frameworks that share a process spoil each other's thread pools. Contenders warm up and sleep until
they are asked, in turn, to measure: whatever else the machine does hits all of them alike.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

Measurements = dict[str, Callable[[], float]]


def timed(action: Callable[[], Any], times: int = 1) -> Callable[[], float]:
    """Return a measurement: the seconds that an action takes, divided by `times`."""

    def measure() -> float:
        started = time.perf_counter()
        action()
        return (time.perf_counter() - started) / times

    return measure


def serve(measurements: Measurements, **facts: Any) -> None:
    """Be a contender: warm up, say what is worth knowing, measure at each line from stdin."""
    for measure in measurements.values():
        measure()
    print("@" + json.dumps(facts), flush=True)
    for _ in sys.stdin:
        seconds = {name: measure() for name, measure in measurements.items()}
        print("@" + json.dumps(seconds), flush=True)


def contend(*command: str | Path) -> Iterator[dict[str, Any]]:
    """Start a process that `serve`s; yield its facts, then its seconds at every request."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with TemporaryFile("w+") as log, subprocess.Popen(command, stderr=log, **pipes) as process:
        for line in process.stdout:
            if line.startswith("@"):  # what it prints besides is passed over
                yield json.loads(line[1:])
                process.stdin.write("\n")
                process.stdin.flush()
        code = process.wait()
        log.seek(0)
        raise RuntimeError(f"{Path(command[1]).name} ended with code {code}:\n{log.read()}")
