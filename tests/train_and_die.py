"""Train a variant of the notebook in a process of its own that may send itself a signal.

`test_reliability.py` runs this file with one argument, a JSON object:

    variant, output_dir, epochs: as for `make train`
    planned: the notebook's EPOCHS, toward which rates fall, if the process ends before them
    images: number of training images (real ones, the first of CIFAR-10), or 0 for the fast run
    signal, event, count, delay: which signal to send, so many seconds after an event has begun for
        the count-th time; an event is a name in EVENTS
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from notebook import run_cells

import dcgan_utils as utils
from dcgan import checkpoints

EVENTS = {
    "step": None,  # the compiled step is no attribute of anything; `main` wraps it
    "picture": (utils, "save_png"),
    "history": (utils, "save_history"),
    "checkpoint": (checkpoints, "save"),
    "gif": (utils, "make_gif"),
}


def alarmed(call: Callable, number: int, count: int, delay: float) -> Callable:
    """Return `call`, except that its count-th time starts the clock of a signal."""
    calls = []

    def send() -> None:
        time.sleep(delay)
        os.kill(os.getpid(), number)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == count:
            threading.Thread(target=send).start()
        return call(*arguments, **options)

    return wrapped


def main() -> None:
    """Restore, train, and animate the pictures."""
    task = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even if the tests ignore Ctrl-C
    settings = {"OUTPUT_DIR": task["output_dir"], "EPOCHS": task.get("planned", task["epochs"])}
    if task["images"]:
        settings["TRAIN_IMAGES"] = task["images"]
    else:
        os.environ["DCGAN_FAST"] = "1"
    variant = task["variant"]
    tags = ("setup", "parameters", "data", "definitions", "instruments", f"variant:{variant}")
    names = run_cells(*tags, **settings)
    gan, run = names[variant], names[f"{variant}_run"]
    train_step = names["train_step" if variant == "baseline" else f"{variant}_train_step"]
    step = names["compile_step"](train_step, gan, names["LATENT_DIM"], names["SEED"])

    if event := task.get("event"):
        alarm = signal.Signals[task["signal"]], task["count"], task["delay"]
        if event == "step":
            step = alarmed(step, *alarm)
        else:
            owner, name = EVENTS[event]
            setattr(owner, name, alarmed(getattr(owner, name), *alarm))

    names["train"](gan, run, step, names["x_train"], names["y_train"], task["epochs"])
    utils.make_gif(run.frames, run.picture(".gif"))


if __name__ == "__main__":
    main()
