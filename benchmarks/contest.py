"""How the benchmark talks to its contenders, each a process of its own.

Frameworks spoil each other's thread pools when they share a process. So every contender builds and
warms up its networks in a process that then sleeps until it is asked for a measurement, and the
benchmark asks them in turn: whatever else the machine is doing hits all of them alike.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNITS_PER_GB = 1e9 / (1024 if sys.platform == "linux" else 1)  # ru_maxrss is in KiB on Linux


def serve(measurements: dict[str, Callable[[], float]], facts: dict[str, Any]) -> None:
    """Be a contender: warm up, then answer requests from standard input until it ends.

    Args:
        measurements: functions that return seconds, by name.
        facts: anything worth knowing; sent once, with the names.
    """
    for measure in measurements.values():
        measure()
    answer({"measurements": list(measurements), **facts})
    for line in sys.stdin:
        seconds = measurements[line.strip()]()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer({"seconds": seconds, "peak_rss_gb": peak / UNITS_PER_GB})


def answer(message: dict[str, Any]) -> None:
    """Send one line."""
    print("@" + json.dumps(message), flush=True)


class Contender:
    """A process that `serve`s."""

    def __init__(self, python: str | Path, script: Path, *arguments: str) -> None:
        """Start it and wait until it is warm."""
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            [str(python), str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.facts = self._read()

    def _read(self) -> dict[str, Any]:
        """Return the next message; other output is passed over."""
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        code = self.process.wait()
        self.log.seek(0)
        raise RuntimeError(f"{self.process.args[1]} ended with code {code}:\n{self.log.read()}")

    def measure(self, name: str) -> dict[str, float]:
        """Take one measurement."""
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.log.close()
