"""What the commands share: options, errors in one sentence, tables in a README."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

# A script that is stopped while it still imports needs no traceback either.
sys.excepthook = lambda kind, *rest: (
    sys.exit("stopped") if kind is KeyboardInterrupt else sys.__excepthook__(kind, *rest)
)
YES, NO = ("1", "true", "yes"), ("0", "false", "no")  # the values of a switch


class Options(argparse.ArgumentParser):
    """Options of a command; a wrong one ends it in one sentence."""

    def error(self, message: str) -> NoReturn:
        """End the process."""
        sys.exit(f"{self.prog}: {message}")


def absolute(text: str) -> str:
    """Return a path as seen from the reader's folder and home; an empty one stays empty."""
    return text and str(Path(text).expanduser().resolve())


@contextlib.contextmanager
def one_sentence(command: str) -> Iterator[None]:
    """End a command that fails, or that the reader stops, in one sentence; print line by line."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="replace", line_buffering=True)  # not every terminal has UTF-8
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{command}: {error}")
    except Exception as error:
        # Known by its name, for TensorFlow may not be loaded; its text fills a page.
        tensorflow = type(error).__name__ == "ResourceExhaustedError"
        if not (tensorflow or isinstance(error, MemoryError)):
            raise
        reason = "" if tensorflow or not str(error) else f" ({error})"
        sys.exit(f"{command}: there is not enough memory{reason}: free some, or ask for less")
    except KeyboardInterrupt as interrupt:
        sys.exit(f"{command}: {str(interrupt) or 'stopped'}")


def write_table(path: Path, name: str, table: str) -> None:
    """Put a table between the lines `<!-- NAME -->` and `<!-- end of NAME -->` of a file."""
    from dcgan.files import atomic_path

    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(f"<!-- {name} -->")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not end:
        print(f"{path} has no lines <!-- {name} --> and <!-- end of {name} -->: nothing written")
        return
    with atomic_path(path) as temporary:
        temporary.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}", encoding="utf-8")
