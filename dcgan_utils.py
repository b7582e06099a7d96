"""What the notebook draws and keeps: pictures, GIF, history and its plots, runs.

An image batch is an array (N, height, width, 1 or 3), uint8 in 0..255 or float in [-1, 1]; a
picture is uint8 (height, width, 3). With a `path`, figures are written as PNG as well. Bad input
raises ValueError, and a file that cannot be written RuntimeError.
"""

import base64
import contextlib
import io
import json
import math
import mimetypes
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import matplotlib
import numpy as np
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dcgan import backup, checkpoints, devices, files
from dcgan.diagram import DISCRIMINATOR, GENERATED, REAL
from dcgan.files import atomic_path
from dcgan.folders import differences
from dcgan.gan import GAN
from dcgan.metrics import spearman_correlation
from dcgan.pictures import MAX_PICTURE_PIXELS, check_pictures, png_bytes, read_picture, save_png
from dcgan.pixels import as_array, check_whole, to_uint8
from dcgan.quiet import tf

File = str | Path
History = list[dict[str, float]]

matplotlib.rcdefaults()  # a reader's matplotlibrc may ask for TeX or cut margins
# Class names may be in any script; what a font lacks is drawn as a box.
warnings.filterwarnings("ignore", "Glyph .* missing from font")
DPI = 80  # of figures: a notebook embeds them, so size matters


def image_grid(
    images: np.ndarray, columns: int = 4, scale: int | None = None, gap: int = 2
) -> np.ndarray:
    """Lay an image batch out as one picture, row by row on white.

    All numbers are whole: images a row, enlargement of each pixel (None: 2 for images of less than
    64 pixels, else 1), white pixels around each image.
    """
    pixels = to_uint8(images)
    scale = (2 if pixels.shape[2] < 64 else 1) if scale is None else scale
    check_whole(columns=(columns, 1), scale=(scale, 1), gap=(gap, 0))
    height, width = pixels.shape[1] * scale + gap, pixels.shape[2] * scale + gap
    rows = math.ceil(len(pixels) / columns)
    if (rows * height + gap) * (columns * width + gap) > MAX_PICTURE_PIXELS:
        raise ValueError(f"{rows} x {columns} images of {height} x {width} pixels are too large")
    grid = np.full((rows * height + gap, columns * width + gap, 3), 255, np.uint8)
    for index, image in enumerate(pixels.repeat(scale, axis=1).repeat(scale, axis=2)):
        top, left = index // columns * height + gap, index % columns * width + gap
        grid[top : top + height - gap, left : left + width - gap] = image
    return grid


def join_pictures(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Put pictures side by side, centred in height, on white."""
    check_pictures(*pictures)
    height, padded = max(map(len, pictures)), []
    for picture in pictures:
        above = (height - len(picture)) // 2
        margins = ((above, height - len(picture) - above), (8, 8), (0, 0))
        padded.append(np.pad(picture, margins, constant_values=255))
    return np.concatenate(padded, axis=1)


def generate_images(
    generator: Any, noise: np.ndarray, labels: Any = None, batch_size: int = 250
) -> np.ndarray:
    """Generate uint8 images (N, height, width, channels), `batch_size` at a time.

    The Keras model maps finite noise (N, latent_dim), or [noise, labels], to float images in
    [-1, 1]. Labels are classes (N,), which become one-hot vectors; a generator of one input ignores
    them.
    """
    noise = as_array(noise, "noise")
    if noise.ndim < 2 or not noise.size or not np.isfinite(noise).all():
        raise ValueError(f"noise must be finite numbers (N, latent_dim), got {noise.shape}")
    check_whole(batch_size=(batch_size, 1))
    inputs, batches = [noise], []
    if len(generator.inputs) > 1:
        labels, classes = as_array(labels, "labels"), generator.inputs[1].shape[-1]
        if labels.shape != noise.shape[:1] or not np.isin(labels, range(classes)).all():
            raise ValueError(f"labels must be {len(noise)} whole numbers from 0 to {classes - 1}")
        inputs.append(np.eye(classes, dtype=np.float32)[labels.astype(int)])
    for start in range(0, len(noise), batch_size):
        batch = [values[start : start + batch_size] for values in inputs]
        images = generator(batch if len(batch) > 1 else batch[0], training=False)
        batches.append(to_uint8(np.asarray(images)))
    return np.concatenate(batches)


def make_gif(frames: dict, path: File, frame_ms: int = 150, hold_ms: int = 2500) -> Path:
    """Animate pictures or picture files of one size by caption, looping, the last frame held.

    Milliseconds are at least 20 (browsers slow faster frames down) and at most 600,000.
    """
    check_whole(frame_ms=(frame_ms, 20), hold_ms=(hold_ms, frame_ms))
    if hold_ms > 600_000:
        raise ValueError(f"hold_ms must be at most 600,000, ten minutes, got {hold_ms}")
    captioned = _add_captions(frames)
    # Pillow takes no list of durations for a single frame.
    durations = [frame_ms] * (len(captioned) - 1) + [hold_ms] if captioned[1:] else hold_ms
    with atomic_path(path) as temporary:
        iio.imwrite(temporary, captioned, extension=".gif", duration=durations, loop=0)
    return Path(path)


def _add_captions(pictures: dict[str, Any], columns: int = 1) -> list[np.ndarray]:
    """Put a line of text above each picture or file, to be read `columns` pictures a row."""
    shown = [p if isinstance(p, np.ndarray) else read_picture(p) for p in pictures.values()]
    check_pictures(*shown)
    if len(sizes := {picture.shape for picture in shown}) > 1:
        raise ValueError(f"pictures differ in size: {sorted(sizes)}; use those of one run only")
    width = shown[0].shape[1]
    band = max(22, width * columns // 20)
    for index, caption in enumerate(pictures):
        canvas = FigureCanvasAgg(Figure(figsize=(width / DPI, band / DPI), dpi=DPI))
        style = {"fontsize": 0.6 * band * 72 / DPI, "ha": "center", "va": "center"}
        canvas.figure.text(0.5, 0.5, caption, parse_math=False, **style)
        canvas.draw()
        text = np.asarray(canvas.buffer_rgba())[:band, :width, :3]
        shown[index] = np.concatenate([text, shown[index]])
    return shown


def draw_panels(panels: dict[str, Any], columns: int = 3) -> Figure:
    """Draw pictures or picture files of one size in rows of `columns`, each below its title."""
    check_whole(columns=(columns, 1))
    columns = min(columns, len(panels))
    grid = image_grid(np.stack(_add_captions(panels, columns)), columns, scale=1, gap=8)
    return _paste(grid, grid.shape[1])


def draw_rows(images: Any, names: Sequence[str], path: File | None = None) -> Figure:
    """Draw an image batch in rows of equal length, the name of each at its left."""
    images = to_uint8(images)
    if len(names) == 0 or len(images) % len(names):
        raise ValueError(f"{len(images)} images do not fill {len(names)} rows")
    columns = len(images) // len(names)
    grid = image_grid(images, columns, scale=min(4, max(1, 640 // (columns * images.shape[2]))))
    font = max(12, grid.shape[1] / 32)  # pixels
    margin = round(0.62 * font * max(map(len, names)) + font)
    figure = _paste(grid, grid.shape[1] + margin)
    right = (margin - 0.5 * font) / (grid.shape[1] + margin)
    for row, name in enumerate(names):
        middle = 1 - (row + 0.5) / len(names)
        style = {"ha": "right", "va": "center", "fontsize": font * 72 / DPI}
        figure.text(right, middle, name, parse_math=False, **style)
    return _save_figure(figure, path)


def _paste(picture: np.ndarray, width: int) -> Figure:
    """Return a figure that ends in a picture, pixel by pixel: resampling would distort it."""
    figure = Figure(figsize=(width / DPI, len(picture) / DPI), dpi=DPI)
    share = picture.shape[1] / width
    axis = figure.add_axes((1 - share, 0, share, 1))
    axis.imshow(picture, interpolation="nearest", aspect="auto")
    axis.axis("off")
    return figure


class Picture:
    """A picture for a notebook's output, with a text for readers who cannot see it.

    The text is the output's plain text, and the alternative text in the image's metadata. (Markdown
    would carry it further, but GitHub shows no image that is embedded in Markdown.)
    """

    def __init__(self, picture: Figure | np.ndarray | File, alt: str) -> None:
        """Take a figure, a picture or a picture file; a figure becomes a JPEG, a third of a PNG."""
        self.alt = alt
        if isinstance(picture, Figure):
            jpeg = io.BytesIO()
            picture.savefig(jpeg, format="jpeg", pil_kwargs={"quality": 85})
            self.kind, self.content = "image/jpeg", jpeg.getvalue()
        elif isinstance(picture, np.ndarray):
            self.kind, self.content = "image/png", png_bytes(picture)
        else:
            path = Path(picture)
            self.kind, self.content = mimetypes.guess_type(path)[0], path.read_bytes()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """Return the output's data and metadata, as Jupyter asks for them."""
        content = base64.b64encode(self.content).decode()
        return {self.kind: content, "text/plain": self.alt}, {self.kind: {"alt": self.alt}}


def _save_figure(figure: Figure, path: File | None) -> Figure:
    """Write a figure as PNG if a path is given, and hand it on."""
    if path is not None:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
    return figure


HISTORY_KEYS = ("epoch", "g_loss", "d_loss", "real_acc", "fake_acc", "distance")
HISTORY_KEYS += ("seconds", "images_per_second")


def save_history(history: History, path: File) -> None:
    """Write one record an epoch as JSON: numbers for `HISTORY_KEYS`, and any further numbers."""
    _check_history(history, "history")
    lines = ",\n".join(json.dumps(record) for record in history)
    with atomic_path(path) as temporary:
        temporary.write_text(f"[\n{lines}\n]\n" if history else "[]\n", encoding="utf-8")


def load_history(path: File) -> History:
    """Read a history; a missing file is an empty one."""
    if not Path(path).exists():
        return []
    try:
        history = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}); bring it back, or move it away"
        ) from error
    _check_history(history, str(path))
    return history


def _check_history(history: Any, name: str) -> None:
    """Raise ValueError unless `history` is a list of complete records in order."""
    if not isinstance(history, list):
        raise ValueError(f"{name} must be a list with one record an epoch, got {type(history)}")
    for number, record in enumerate(history, start=1):
        values = list(record.values()) if isinstance(record, dict) else [None]
        finite = all(isinstance(v, int | float) and abs(v) < 1e300 for v in values)  # not NaN
        if not (finite and record.keys() >= set(HISTORY_KEYS) and record["epoch"] == number):
            raise ValueError(f"{name}: epoch {number} needs finite numbers for {HISTORY_KEYS}")
        for key in ("real_acc", "fake_acc", "distance", "seconds", "images_per_second"):
            if record[key] < 0 or (key.endswith("_acc") and record[key] > 1):
                raise ValueError(f"{name}: {key} of epoch {number} cannot be {record[key]}")


def history_column(history: History, key: str) -> np.ndarray:
    """Return one quantity of all epochs, at least one, as float64 (epochs,)."""
    _check_history(history, "the history")
    if not history or any(key not in record for record in history):
        raise ValueError(f"the history is empty or has no {key!r} in a record")
    return np.array([record[key] for record in history], np.float64)


def format_epoch(record: dict[str, float], total: int) -> str:
    """Say what an epoch of `total` did, in a line for a terminal of 80 columns."""
    return (
        f"epoch {record['epoch']:{len(str(total))}d}/{total}"
        f"  loss G {record['g_loss']:.2f} D {record['d_loss']:.2f}"
        f"  acc real {record['real_acc']:.2f} fake {record['fake_acc']:.2f}"
        f"  distance {record['distance']:5.2f}  {record['seconds']:.0f}s"
    )


def summarise_trend(history: History, last: int = 10) -> dict[str, float]:
    """Put the curve of fake accuracy in four numbers.

    They are `peak` and `peak_epoch`, `last_mean` (over the `last` epochs), and `spearman` (rank
    correlation of epoch and value from the peak on; 0 if the peak is the last epoch).
    """
    values = history_column(history, "fake_acc")
    peak = int(values.argmax())
    after = values[peak:]
    return {
        "peak": float(values[peak]),
        "peak_epoch": peak + 1,
        "last_mean": float(values[-last:].mean()),
        "spearman": spearman_correlation(np.arange(after.size), after) if after.size > 1 else 0.0,
    }


def draw_train_history(
    history: History, chance_losses: Sequence[float] | None = None, path: File | None = None
) -> Figure:
    """Plot losses, accuracies, distance and further numbers of all epochs, at least one.

    `chance_losses` are those of generator and discriminator at chance level, for dotted lines. Of
    two equal accuracies, such as those of a critic, one hides the other.
    """
    epochs, distances = (history_column(history, key) for key in ("epoch", "distance"))
    others = sorted({key for record in history for key in record}.difference(HISTORY_KEYS))
    count = 4 if others else 3
    figure = Figure(figsize=(7.5, 3.3 * count), dpi=DPI, layout="constrained")
    losses, accuracies, quality, *further = axes = figure.subplots(count)
    curves = [
        (losses, "g_loss", "generator", GENERATED),
        (losses, "d_loss", "discriminator", DISCRIMINATOR),
        (accuracies, "real_acc", "real images", REAL),
        (accuracies, "fake_acc", "generated images (fake accuracy)", GENERATED),
    ]
    for axis, key, label, color in curves:
        axis.plot(epochs, history_column(history, key), ".-", color=color, label=label)
    levels = dict(zip(chance_losses or (), (GENERATED, DISCRIMINATOR), strict=False))
    for level, color in levels.items():
        style = {"color": color if len(levels) > 1 else "black", "ls": ":"}
        losses.axhline(level, label=f"chance level: {level:.2f}", **style)
    accuracies.axhline(0.5, color="black", ls=":", label="chance level: 0.5")
    best = int(distances.argmin())
    label = f"best: {distances[best]:.2f} in epoch {best + 1}"
    quality.plot(epochs, distances, color=GENERATED)
    quality.plot(best + 1, distances[best], "o", color=GENERATED, ms=8, label=label)
    for key in others:
        further[0].plot(epochs, [record.get(key, math.nan) for record in history], label=key)
    titles = ("Losses", "Accuracy of the discriminator", "Classifier's Fréchet distance")
    for axis, title in zip(axes, (*titles, "Other metrics"), strict=False):
        _finish_axis(axis, title, log=axis is quality)
    return _save_figure(figure, path)


def draw_comparison(histories: dict[str, History], path: File | None = None) -> Figure:
    """Plot the Fréchet distance of several named runs by epoch and by minute.

    Minutes are those of the run's median epoch: other work may have slowed single epochs down.
    """
    figure = Figure(figsize=(7.5, 6.6), dpi=DPI, layout="constrained")
    by_epoch, by_minute = figure.subplots(2)
    for name, history in histories.items():
        keys = ("epoch", "distance", "seconds")
        epochs, distances, seconds = (history_column(history, key) for key in keys)
        by_epoch.plot(epochs, distances, label=name)
        by_minute.plot(epochs * np.median(seconds) / 60, distances, label=name)
    _finish_axis(by_epoch, "Classifier's Fréchet distance by epoch", log=True)
    label = "minutes (of median epochs)"
    _finish_axis(by_minute, "Classifier's Fréchet distance by time", label, log=True)
    return _save_figure(figure, path)


def _finish_axis(axis: Axes, title: str, xlabel: str = "epoch", log: bool = False) -> None:
    """Give a plot its title, axes and legend; distances fall by orders of magnitude (log)."""
    axis.set_title(title, loc="left", fontsize=16, fontweight="bold")
    axis.set_xlabel(xlabel, fontsize=14)
    axis.xaxis.get_major_locator().set_params(integer=True)
    low, high = axis.dataLim.minposy, axis.dataLim.y1
    if log and high > 0:
        factors = (1, 2, 5) if high < 1e4 * low else (1,)
        powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        axis.set_yscale("log")
        axis.set_ylabel("logarithmic", fontsize=14)
        axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ylim(max(t for t in ticks if t < low), min(t for t in ticks if t > high))
        axis.minorticks_off()
    for line in axis.lines:
        line.set_linewidth(max(2.5, line.get_linewidth()))
    axis.tick_params(labelsize=14, length=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
    for text in axis.legend(fontsize=14, frameon=False).get_texts():
        text.set_parse_math(False)


SCORE_NAMES = {
    "frechet": ("Fréchet distance", ".1f"),
    "kid": ("KID formula", ".4f"),
    "distance": ("classifier's Fréchet distance", ".2f"),
    "pixels": ("pixel Fréchet distance (8\u00a0x\u00a08)", ".2f"),
    "intended": ("class as intended", ".1%"),
    "confident": ("confident (>\u00a090\u00a0%)", ".1%"),
    "entropy_score": ("Inception-Score formula", ".2f"),
    "rarest": ("rarest class", ".1%"),
    "commonest": ("commonest class", ".1%"),
    "minutes": ("minutes", ".1f"),
}


def format_scores(
    rows: dict[str, dict[str, float]], columns: Sequence[str] = tuple(SCORE_NAMES)
) -> str:
    """Return scores by title as a Markdown table; `columns` no row has are left out."""
    columns = [key for key in columns if any(key in scores for scores in rows.values())]
    if not columns:
        raise ValueError("there is no score to show")
    lines = [["", *(SCORE_NAMES[key][0] for key in columns)], ["---"] * (len(columns) + 1)]
    for title, scores in rows.items():
        shown = (format(scores[k], SCORE_NAMES[k][1]) if k in scores else "–" for k in columns)
        lines.append([title, *shown])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


BACKUP_SECONDS = 300  # from one backup to the next: a drive needs a while for 100 MB


class Stopped(KeyboardInterrupt):
    """The reader has stopped a training; the sentence says what is kept."""


def show_interrupt(
    shell: Any, kind: type, error: KeyboardInterrupt, traceback: Any, tb_offset: int | None = None
) -> None:
    """Show a stopped cell as one sentence instead of a traceback; for `shell.set_custom_exc`."""
    error._render_traceback_ = lambda: [str(error) or "Stopped. Run this cell again to go on."]
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)


if shell := get_ipython():
    shell.set_custom_exc((KeyboardInterrupt,), show_interrupt)


class Run:
    """One training of a variant: where its files are, and what has been trained so far.

    Below `output_dir` are the folders `samples` (the picture of each epoch) and `checkpoints` (the
    two newest, and the settings) and the JSON file `history_file`. `backup` is a zip that keeps the
    run elsewhere, or None. File names have the variant's `name`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        name: str,
        settings: dict[str, Any] | None = None,
        backup_dir: str | Path | None = None,
    ) -> None:
        """Describe a run; nothing is read or written.

        `settings` give a training step its meaning (batch size, seed, rates, …); they are kept with
        the run, which goes on under the same ones only. `backup_dir` is a folder that outlives this
        machine, or empty. Raises ValueError unless `name` has letters, digits, "-" and "_" only.
        """
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"a run's name has letters, digits, '-' and '_' only, got {name!r}")
        self.output_dir = Path(output_dir).expanduser()
        self.name = name
        # As they come back from the file.
        self.settings = json.loads(json.dumps(settings or {}, default=np.generic.item))
        self.samples = self.output_dir / "generated_samples" / name
        self.checkpoints = self.output_dir / "training_checkpoints" / name
        self.history_file = self.output_dir / "training_history" / f"{name}.json"
        self.backup = backup.place(backup_dir, output_dir, f"{name}.zip") if backup_dir else None

    def sample(self, epoch: int) -> Path:
        """Return where the picture of an epoch is."""
        return self.samples / f"epoch_{epoch:04d}.png"

    def picture(self, ending: str) -> Path:
        """Return where a picture of the whole run is: its name and an ending such as ".gif"."""
        return self.samples.with_name(self.name + ending)

    @property
    def history_plot(self) -> Path:
        """Where the plot of the history is."""
        return self.history_file.with_suffix(".png")

    @property
    def history(self) -> History:
        """The records of all epochs, read from their file."""
        return load_history(self.history_file)

    @property
    def epoch(self) -> int:
        """The newest epoch that has a checkpoint, or 0."""
        return max(checkpoints.saved_epochs(self.checkpoints), default=0)

    @property
    def frames(self) -> dict[str, Path]:
        """The pictures of all epochs, but for lost ones, by caption, as `make_gif` takes them."""
        frames = {f"epoch {k}": self.sample(k) for k in range(1, len(self.history) + 1)}
        return {caption: path for caption, path in frames.items() if path.exists()}

    def restore(self, gan: GAN) -> int:
        """Restore the newest readable checkpoint and return its epoch, or 0 if there is none.

        Raises RuntimeError if the run has other settings, the checkpoint is of other networks, or
        none can be read; `gan` is then unchanged.
        """
        self._require_same_run()
        return checkpoints.restore(gan, self.checkpoints)

    def _require_same_run(self) -> None:
        """Raise RuntimeError if the folder holds a run of other settings, or of unknown ones."""
        file = self.checkpoints / "settings.json"
        if (settings := files.read_settings(file)) is not None:
            self._check_settings(settings, file)
        elif self.epoch:
            raise RuntimeError(
                f"{file} is missing, so what {self.name} was trained on is not known. Bring it "
                "back, or name a new OUTPUT_DIR."
            )

    def require_settings(self, names: dict[str, Any]) -> None:
        """Raise RuntimeError if `names` give parameters other values than the run has."""
        kept = {name: value for name, value in self.settings.items() if name.isupper()}
        given = {name: names.get(name, value) for name, value in kept.items()}
        given = json.loads(json.dumps(given, default=np.generic.item))
        if changed := differences(kept, given):
            raise RuntimeError(
                f"{self.name} was built with {changed}. Run all cells from Step 1 on again."
            )

    @contextlib.contextmanager
    def training(self, gan: GAN, epochs: int) -> "Iterator[Training]":
        """Surround a training loop: lock, backup and restore before it, backup after it.

        `epochs` is a total: with a checkpoint at epoch k the loop goes on at k + 1. Raises
        ValueError if it is no whole number of at least 1, or the history is damaged; RuntimeError
        as for `restore`, if another process trains here, the history lacks epochs, or a file or the
        last backup cannot be written; Stopped for Ctrl-C or Jupyter's stop button, with finished
        epochs kept.
        """
        check_whole(EPOCHS=(epochs, 1))
        chief = devices.is_chief(tf.distribute.get_strategy())
        if chief:
            files.require_folder(self.output_dir, "OUTPUT_DIR")
        with files.lock_file(self.checkpoints / ".lock", wanted=chief):
            if chief:
                self._fetch_backup()
            training = Training(self, gan, epochs, self._begin(gan, chief), chief)
            if chief and self.backup and training.epochs:
                checkpoint = sum(variable.numpy().nbytes for variable in gan.variables)
                files.require_folder(
                    self.backup.parent, "BACKUP_DIR", checkpoints.KEPT * checkpoint
                )
            devices.require_same_epoch(gan.epoch)
            training.print_history()
            try:
                yield training
            except KeyboardInterrupt:
                training.back_up()
                sentence = f"Stopped; {self.epoch} epochs of {self.name} are kept."
                raise Stopped(f"{sentence} Run this again to go on.") from None
            if chief:
                self.write_backup()

    def _begin(self, gan: GAN, chief: bool) -> History:
        """Restore what there is, or keep the untrained networks; return the history so far."""
        epoch = 0
        if self.epoch or int(gan.step):  # fresh networks begin, whatever an earlier try has left
            try:
                epoch = self.restore(gan)
            except RuntimeError:
                if self.epoch:
                    raise
        if epoch:
            history = self.history
            if len(history) < epoch:
                raise RuntimeError(
                    f"The checkpoint is that of epoch {epoch}, but {self.history_file} ends at "
                    f"epoch {len(history)}. Bring this file back, or name a new OUTPUT_DIR."
                )
            if chief and len(history) > epoch:
                save_history(history[:epoch], self.history_file)
            print(f"{self.name}: restored epoch {epoch} from {self.checkpoints}")
            return history[:epoch]
        if int(gan.step):
            raise RuntimeError(
                f"{self.name} is to start in {self.output_dir}, but its networks are trained "
                "already: run the cell that builds them again."
            )
        if chief:  # so that a first epoch that is broken off begins again with the same weights
            self.save(gan, 0)
        return []

    def save(self, gan: GAN, epoch: int) -> None:
        """Write settings and checkpoint of an epoch; keep the checkpoint before it."""
        with files.atomic_path(self.checkpoints / "settings.json") as temporary:
            temporary.write_text(json.dumps(self.settings, indent=1) + "\n", encoding="utf-8")
        checkpoints.save(gan, self.checkpoints, epoch)

    def _check_settings(self, settings: dict[str, Any], place: Path) -> None:
        """Raise RuntimeError if the run was trained under other settings than its own."""
        if changed := differences(settings, self.settings):
            raise RuntimeError(
                f"By {place}, {self.name} is trained with {changed}. Set this back, or train in a "
                "folder of its own: FROM_SCRATCH = True, or another OUTPUT_DIR."
            )

    def _fetch_backup(self) -> None:
        """Unpack the backup if it has more epochs than the folder."""
        contents, epoch = self._read_backup()
        if stored := contents.get(f"training_checkpoints/{self.name}/settings.json"):
            self._check_settings(files.read_settings(self.backup, stored), self.backup)
        if epoch > self.epoch:
            if self.epoch:
                self._require_same_run()
            backup.unpack(contents, self.output_dir)
            print(f"{self.name}: fetched epoch {epoch} from {self.backup}")

    def _read_backup(self) -> tuple[dict[str, bytes], int]:
        """Return the files in the backup and its newest epoch."""
        return backup.read_run(self.backup, self.name) if self.backup else ({}, 0)

    def write_backup(self) -> None:
        """Back the run up, unless its backup has as many epochs already."""
        if self.backup and self.epoch > self._read_backup()[1]:
            parts = (self.samples, self.history_file, self.checkpoints)
            backup.write_zip(self.backup, self.output_dir, parts)
            print(f"{self.name}: backed up epoch {self.epoch} in {self.backup}")


class Training:
    """What a training loop reports to, see `Run.training`; `history` has the records so far."""

    def __init__(self, run: Run, gan: GAN, total: int, history: History, chief: bool) -> None:
        """Go on after `history` until there are `total` epochs; the chief writes the files."""
        self.run, self.gan, self.total, self.history, self.chief = run, gan, total, history, chief
        self.backed_up = time.monotonic()
        self.values: dict[str, np.ndarray] = {}  # metrics of an epoch whose batches are all done

    @property
    def epochs(self) -> range:
        """The epochs to train, counted from 1."""
        return range(len(self.history) + 1, self.total + 1)

    def print_history(self) -> None:
        """Print the lines of the first, every tenth and the last epoch so far."""
        done = len(self.history)
        for record in self.history:
            if record["epoch"] in (1, done) or record["epoch"] % 10 == 0:
                print(format_epoch(record, max(self.total, done)))
        if not self.epochs:
            print(f"Nothing to train: EPOCHS = {self.total} and epoch {done} is done.")

    def batches(self, dataset: tf.data.Dataset) -> Iterator[Any]:
        """Give out the batches of one epoch, shared out among devices, and take the time.

        `dataset` has whole batches whose first part is the images. Raises ValueError if it has
        none, RuntimeError if a metric is not finite.
        """
        self.metrics: list[dict[str, tf.Tensor]] = []
        self.values = {}
        started = shown = time.perf_counter()
        for batch in tf.distribute.get_strategy().experimental_distribute_dataset(dataset):
            yield batch
            if time.perf_counter() - shown > 5:
                shown = time.perf_counter()
                line = f"\repoch {len(self.history) + 1:2d}/{self.total}"
                print(f"{line}  step {len(self.metrics)}/{len(dataset)}", end=" " * 9, flush=True)
        if not self.metrics:
            raise ValueError("an epoch had no step: it takes BATCH_SIZE images at least")
        # Fetched at the end of an epoch only, so that no step waits for a device.
        self.values = {k: np.array([float(s[k]) for s in self.metrics]) for k in self.metrics[0]}
        self.seconds = time.perf_counter() - started
        for name, values in self.values.items():
            broken = np.flatnonzero(~np.isfinite(values))
            if broken.size:
                place = f"epoch {len(self.history) + 1}, step {broken[0] + 1}"
                raise RuntimeError(
                    f"{place}: {name} is {values[broken[0]]}, the training diverged. The last "
                    "checkpoint is intact; try lower learning rates or float32."
                )
        self.images = len(self.metrics) * dataset.element_spec[0].shape[0]

    def record(self, metrics: dict[str, tf.Tensor]) -> None:
        """Note losses and accuracies of one step."""
        self.metrics.append(metrics)

    def end_epoch(self, picture: np.ndarray, distance: float) -> None:
        """Save picture, history and checkpoint of an epoch, in this order, and print its line.

        `picture` is uint8 (height, width, 3), drawn from the same noise in every epoch; `distance`
        is that of generated from real images, at least 0.
        """
        epoch = len(self.history) + 1
        if not self.values:
            raise RuntimeError(f"epoch {epoch} was left before its last batch, so it is not kept")
        record = {"epoch": epoch} | {name: float(v.mean()) for name, v in self.values.items()}
        record |= {"seconds": self.seconds, "images_per_second": self.images / self.seconds}
        self.history.append(record | {"distance": float(distance)})
        self.gan.epoch.assign(epoch)
        if self.chief:
            save_png(picture, self.run.sample(epoch))
            save_history(self.history, self.run.history_file)
            self.run.save(self.gan, epoch)
        seconds = history_column(self.history, "seconds")[-3:].mean() * len(self.epochs)
        line = format_epoch(self.history[-1], self.total)
        print(f"\r{line}  {seconds / 60:.0f} min left", flush=True)
        if time.monotonic() - self.backed_up > BACKUP_SECONDS:
            self.back_up()

    def back_up(self) -> None:
        """Back the run up; if that fails, say so: the run itself is kept, and may go on."""
        try:
            if self.chief:
                self.run.write_backup()
        except RuntimeError as error:
            print(f"{self.run.name}: no backup was written. {error}")
        self.backed_up = time.monotonic()
